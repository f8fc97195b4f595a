"""The command `saturation`. Errors end as one sentence, without a traceback."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

app = typer.Typer(
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
BatchSize = Annotated[int, typer.Option(help="prompts per batch")]
Device = Annotated[str | None, typer.Option(help="such as cuda or cpu")]
Dtype = Annotated[str | None, typer.Option(help="such as bfloat16; default: float32 on a CPU")]
DeviceMap = Annotated[str | None, typer.Option(help="such as auto, to spread the model over several GPUs")]
Revision = Annotated[str | None, typer.Option(help="branch, tag or commit on the hub")]
Trust = Annotated[bool, typer.Option(help="run model code that comes with the checkpoint")]
PolicyText = Annotated[
    str | None,
    typer.Option("--policy", help='JSON, or a file of it: \'{"policy": "FFNSkip", "threshold": 0.999}\''),
]


P = ParamSpec("P")
R = TypeVar("R")


class Also(StrEnum):
    """More that can be recorded."""

    attention = "attention"
    block = "block"
    naive = "naive"


def plainly(command: Callable[P, R]) -> Callable[P, R]:
    """End with the error's sentence instead of a traceback."""

    @wraps(command)
    def run(*args: P.args, **named: P.kwargs) -> R:
        try:
            return command(*args, **named)
        except typer.Exit:  # a RuntimeError, but no error
            raise
        except (OSError, ValueError, RuntimeError) as error:
            logging.getLogger(__name__).debug("failed", exc_info=True)
            typer.echo(f"saturation: {error}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            typer.echo("saturation: interrupted", err=True)
            raise typer.Exit(130) from stop

    return run


@app.command()
@plainly
def record(
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="the trace, a .parquet file")],
    prompt: Prompts = None,
    prompts: PromptFile = None,
    max_new_tokens: NewTokens = 0,
    start: Annotated[int, typer.Option(help="position from which given text counts as decode")] = 0,
    also: Annotated[list[Also] | None, typer.Option(help="record this too")] = None,
    chat: Chat = False,
    batch_size: BatchSize = 8,
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
) -> None:
    """Record a trace: distance and growth of every feed-forward block at every token."""
    from .. import recording

    texts = _texts(prompt, prompts)
    _writable(out)
    loaded, tokenizer = open_model(model, device, dtype, device_map, revision, trust_remote_code)
    options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "start": start, "chat": chat}
    try:
        trace = recording.record(
            loaded, tokenizer, texts, also=[str(name) for name in also or ()], batch_size=batch_size, **options
        )
    except KeyboardInterrupt as stop:
        partial = getattr(stop, "trace", None)
        if partial is not None and len(partial):
            partial.save(out)
            typer.echo(f"saturation: interrupted; {len(partial)} tokens are in {out}, marked incomplete", err=True)
        raise typer.Exit(130) from stop
    trace.save(out)
    typer.echo(f"{out}: {len(trace)} tokens x {trace.layers} layers, mean cosine per layer")
    typer.echo(" ".join(f"{cosine:.3f}" for cosine in trace.similarity.mean(axis=0)))


@app.command()
@plainly
def generate(
    model: Model,
    prompt: Prompts = None,
    prompts: PromptFile = None,
    policy: PolicyText = None,
    max_new_tokens: NewTokens = 64,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="keep the trace, a .parquet file")] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy")] = 0.0,
    seed: Annotated[int, typer.Option(help="of the sampling")] = 0,
    chat: Chat = False,
    batch_size: BatchSize = 8,
    device: Device = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
) -> None:
    """Write on after each prompt, dense or skipping; the new text goes to stdout, the numbers to stderr."""
    from .. import generation

    texts = _texts(prompt, prompts)
    rule = read_policy(policy)
    if out is not None:
        _writable(out)
    loaded, tokenizer = open_model(model, device, dtype, device_map, revision, trust_remote_code)
    runs = generation.generate(
        loaded,
        tokenizer,
        texts,
        policy=rule,
        max_new_tokens=max_new_tokens,
        sampling=generation.Sampling(temperature=temperature, seed=seed),
        chat=chat,
        batch_size=batch_size,
        record=out is not None,
    )
    for text in runs.texts:
        typer.echo(text)
    if out is not None and runs.trace is not None:
        runs.trace.save(out)
    what = f"{runs.ledger!r}, ideal speed-up {runs.ledger.ideal:.2f}x" if runs.ledger else "dense"
    typer.echo(f"{what}; {runs.tokens_per_second:.0f} tokens/s", err=True)


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
    typer.echo(table.to_string(index=False, float_format=lambda value: f"{value:.4f}"))
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


def _texts(prompt: list[str] | None, file: Path | None) -> list[str]:
    """Prompts from the command line and from a file."""
    import json

    texts = list(prompt or ())
    if file is not None:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            if file.suffix != ".jsonl":
                texts.append(line)
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"expected JSON in every line of {file}, but line {number} is not: {error}") from None
            if not isinstance(row, dict) or not ({"prompt", "text"} & set(row)):
                raise ValueError(f"expected a field 'prompt' or 'text' in line {number} of {file}, found none; add it")
            texts.append(row.get("prompt") or row["text"])
    if not texts:
        raise ValueError("expected a prompt, got none; give --prompt TEXT, or --prompts FILE")
    return texts


def read_policy(given: str | None) -> Any:
    """A policy from JSON text or from a file of it; None stays None."""
    import json

    from ..policies import from_json

    if given is None:
        return None
    text = given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8")
    try:
        return from_json(text)
    except json.JSONDecodeError:
        example = '{"policy": "FFNSkip", "threshold": 0.999}'
        raise ValueError(f"expected a policy as JSON, got {text!r}; write it like {example!r}") from None


def _writable(path: Path, suffix: str = ".parquet") -> None:
    """Fail before the work, not after it."""
    if path.suffix != suffix:
        raise ValueError(f"expected a name that ends in {suffix} for the trace, got {path.name}; rename it")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"expected a folder to write {path.name} into, but {path.parent} does not exist; make it first"
        )
