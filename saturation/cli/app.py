"""The command `saturation`. Errors end as one sentence, without a traceback."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    import pandas as pd

ORDER = ("record", "generate", "replay", "sweep", "eval", "figure", "doctor", "demo")  # in the help; others follow


class _Ordered(TyperGroup):
    """Commands in the order of work, whichever file they are in."""

    def list_commands(self, ctx: Any) -> list[str]:
        named = super().list_commands(ctx)
        return sorted(named, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(
    cls=_Ordered,
    help="Measure which feed-forward blocks of a language model are saturated, and what skipping them costs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Model = Annotated[str, typer.Argument(help="'demo', a folder in Hugging Face format, or a hub id")]
Prompts = Annotated[list[str] | None, typer.Option("--prompt", "-p", help="a prompt; may be given several times")]
PromptFile = Annotated[
    Path | None, typer.Option("--prompts", help="a file with a prompt per line, or .jsonl with 'prompt' or 'text'")
]
NewTokens = Annotated[int, typer.Option("--max-new-tokens", "-n", help="tokens to write after each prompt")]
Chat = Annotated[bool, typer.Option(help="wrap each prompt in the tokenizer's chat template")]
BatchSize = Annotated[int, typer.Option(min=1, help="prompts per batch")]
Device = Annotated[str | None, typer.Option(help="such as cuda or cpu")]
Dtype = Annotated[str | None, typer.Option(help="such as bfloat16; default: float32 on a CPU")]
DeviceMap = Annotated[str | None, typer.Option(help="such as auto, to spread the model over several GPUs")]
Revision = Annotated[str | None, typer.Option(help="branch, tag or commit on the hub")]
Trust = Annotated[bool, typer.Option(help="run model code that comes with the checkpoint")]
PolicyText = Annotated[
    str | None,
    typer.Option("--policy", help='JSON, or a file of it: \'{"policy": "FFNSkip", "threshold": 0.999}\''),
]
PolicyTexts = Annotated[
    list[str] | None, typer.Option("--policy", help="JSON, or a file of it; the dense model is always run")
]
TASKS = typer.Option(
    "--task", "-t", help="a bundled task, a .jsonl file, or a published set with its file: gsm8k=test.jsonl"
)
Examples = Annotated[int | None, typer.Option(min=1, help="of each task at most")]
TaskChat = Annotated[
    bool | None,
    typer.Option(
        help="wrap prompts in the tokenizer's chat template; default: those of conversations, where it has one"
    ),
]
Stride = Annotated[
    int | None, typer.Option(min=1, help="read plain texts longer than the context in windows that move on by so many")
]

P = ParamSpec("P")
R = TypeVar("R")


def plainly(command: Callable[P, R]) -> Callable[P, R]:
    """End with the error's sentence instead of a traceback."""

    @wraps(command)
    def run(*args: P.args, **named: P.kwargs) -> R:
        try:
            return command(*args, **named)
        except typer.Exit:  # a RuntimeError, but no error
            raise
        except Exception as error:
            logging.getLogger(__name__).debug("failed", exc_info=True)
            said = isinstance(error, (OSError, ValueError, RuntimeError, ImportError))  # else not meant for a reader
            typer.echo(f"saturation: {error if said else f'failed with {type(error).__name__}: {error}'}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            typer.echo("saturation: interrupted", err=True)
            raise typer.Exit(130) from stop

    return run


@app.command()
@plainly
def replay(
    trace: Annotated[Path, typer.Argument(help="a recorded trace")],
    policy: PolicyText = None,
    thresholds: Annotated[str, typer.Option(help="cosines, separated by commas")] = "0.99,0.995,0.998,0.999,0.9995",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="also write the table as CSV")] = None,
) -> None:
    """Predict skip ratios from a recorded trace: of one policy, or of its rule at several thresholds."""
    import pandas as pd

    from ..policies import FFNSkip, replay_thresholds
    from ..policies import replay as replayed
    from ..trace import Trace, writing

    recorded = Trace.load(trace)
    rule = read_policy(policy) or FFNSkip(threshold=None, warmup=0)
    if isinstance(rule, FFNSkip) and rule.threshold is None:
        table = replay_thresholds(rule, recorded, [float(value) for value in thresholds.split(",")])
    else:
        ratios = replayed(rule, recorded).ratios
        table = pd.DataFrame([{"policy": rule.describe(), **ratios._asdict()}])
    typer.echo(as_text(table))
    if out is not None:
        with writing(out, "the table") as part:
            table.to_csv(part, index=False)


@app.command()
@plainly
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for what it writes")] = Path("runs/demo"),
) -> None:
    """Record, skip and draw on the bundled model; ends by naming what it wrote."""
    from .demo import demonstrate

    demonstrate(out, say=typer.echo)


def open_model(
    model: str, device: str | None, dtype: str | None, device_map: str | None, revision: str | None, trust: bool
) -> tuple[Any, Any]:
    """Model and tokenizer, by the options that every command on a model has."""
    from ..loading import load

    return load(model, device=device, dtype=dtype, device_map=device_map, revision=revision, trust_remote_code=trust)


def read_policy(given: str | None) -> Any:
    """A policy from JSON text or from a file of it; None stays None."""
    import json

    from ..policies import from_json

    if given is None:
        return None
    inline = given.lstrip().startswith("{")
    if not inline and not Path(given).is_file():
        raise FileNotFoundError(f"expected a policy as JSON or a file of it, got {given!r}, and there is no such file")
    text = given if inline else Path(given).read_text(encoding="utf-8")
    try:
        return from_json(text)
    except json.JSONDecodeError:
        example = '{"policy": "FFNSkip", "threshold": 0.999}'
        raise ValueError(f"expected a policy as JSON, got {text!r}; write it like {example!r}") from None


def writable(path: Path, what: str, *suffixes: str) -> None:
    """Fail before the work, not after it."""
    if path.suffix not in suffixes:
        raise ValueError(f"expected a name that ends in {' or '.join(suffixes)} for {what}, got {path.name}; rename it")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"expected a folder to write {path.name} into, but {path.parent} does not exist; make it first"
        )


_FORMS = {"p": ".2g", "lost": ".0f", "won": ".0f"}  # column -> format; others have four decimals


def as_text(table: pd.DataFrame) -> str:
    """A table for the terminal; what is missing is left empty."""
    forms: Any = {name: partial(_printed, form=form) for name, form in _FORMS.items() if name in table}
    return table.to_string(index=False, float_format=lambda value: f"{value:.4f}", formatters=forms, na_rep="")


def _printed(value: float, form: str) -> str:
    return "" if value != value else f"{value:{form}}"
