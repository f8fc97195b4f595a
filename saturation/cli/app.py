"""The command-line app `saturation`, whose errors are one sentence without a traceback."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer
from typer.core import TyperGroup

from ..progress import lines
from . import options
from .arguments import read_policy, writable

if TYPE_CHECKING:
    import pandas as pd

ORDER = (
    "fetch",
    "record",
    "generate",
    "harm",
    "replay",
    "sweep",
    "tune",
    "eval",
    "prune",
    "study",
    "export",
    "figure",
    "doctor",
    "demo",
)  # in the help; others follow


def example(words: str) -> str:
    """An example line for the end of a command's help."""
    return f"\b\nExample:\n  saturation {words}"


class _Ordered(TyperGroup):
    """A command group that lists its commands in the order of work."""

    def list_commands(self, ctx: Any) -> list[str]:
        named = super().list_commands(ctx)
        return sorted(named, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List each command with its whole sentence."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in found if command is not None])


app = typer.Typer(
    cls=_Ordered,
    help="Measure which feed-forward blocks of a language model are saturated, and what skipping them costs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's tables cut words in narrow terminals
    add_completion=False,
)

P = ParamSpec("P")
R = TypeVar("R")

SKIPPED = (
    "share of FFN blocks skipped: nominal, of those that the policy may skip, past its warm-up; decode, of all at "
    "decoded\ntokens; total, of all, the prompt's included"
)
SKIPPED_ANSWER = f"{SKIPPED}; answer, of all at the decode steps that wrote the scored answer"


def plainly(command: Callable[P, R]) -> Callable[..., R]:
    """Wrap a command: expand `~` in paths, and print errors as one sentence instead of a traceback."""

    @wraps(command)
    def run(*args: P.args, **named: P.kwargs) -> R:
        try:
            with lines(partial(typer.echo, err=True)):
                return command(*args, **{name: _meant(value) for name, value in named.items()})
        except (typer.Exit, BrokenPipeError):  # no errors: typer exits silently when the reader is gone
            raise
        except Exception as error:
            logging.getLogger(__name__).debug("failed", exc_info=True)
            told = str(error)
            if not isinstance(
                error, (OSError, ValueError, RuntimeError, ImportError)
            ):  # its message is not written for users
                told = f"failed with {type(error).__name__}: {error}; where what you gave is right, please report this"
            typer.echo(f"saturation: {told}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stop:
            typer.echo("saturation: interrupted", err=True)
            raise typer.Exit(130) from stop

    return options.grouped(run)


def _meant(value: Any) -> Any:
    """A value of the command line, with `~` in paths expanded."""
    from ..atomic import located

    if isinstance(value, list):
        return [_meant(one) for one in value]
    return located(value) if isinstance(value, Path) else value


@app.command(epilog=example("replay trace.parquet --thresholds 0.99,0.995,0.999"))
@plainly
def replay(
    trace: Annotated[Path, typer.Argument(help="a recorded trace")],
    policy: options.PolicyText = None,
    thresholds: Annotated[str, typer.Option(help="cosines, separated by commas")] = "0.99,0.995,0.998,0.999,0.9995",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="also write the table as CSV")] = None,
) -> None:
    """Predict skip ratios from a recorded trace: of one policy, or of its rule at several thresholds."""
    import pandas as pd

    from ..policies import FFNSkip, replay_thresholds
    from ..policies import replay as replayed
    from ..trace import Trace

    if out is not None:
        writable(out, "the table")
    rule = read_policy(policy) or FFNSkip(threshold=None, warmup=0)
    cosines = _numbers(thresholds)
    recorded = Trace.load(trace)
    if isinstance(rule, FFNSkip) and rule.threshold is None:
        table = replay_thresholds(rule, recorded, cosines)
        begins = f"warm-up {rule.warmup}, cold layers {rule.cold_start} and {rule.cold_end}"
        typer.echo(f"FFN-SkipLLM with {begins}; --policy gives another rule, its threshold null")
    else:
        ratios = replayed(rule, recorded).ratios
        table = pd.DataFrame([{"policy": rule.describe(), **ratios._asdict()}])
    typer.echo(f"{as_text(table)}\n{SKIPPED}")
    if out is not None:
        write_csv(table, out)


def _numbers(given: str) -> list[float]:
    try:
        return [float(value) for value in given.split(",")]
    except ValueError:
        raise ValueError(
            f"expected --thresholds to be numbers with commas between them, such as 0.99,0.999, got {given!r}; "
            "correct them"
        ) from None


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all."""
    from ..atomic import writing

    with writing(path, "the table") as part:
        table.to_csv(part, index=False)


_FORMS = {"p": ".2g", "lost": ".0f", "won": ".0f"}  # column -> format; others have four decimals


def as_text(table: pd.DataFrame) -> str:
    """A table for the terminal, with missing values left empty."""
    forms: Any = {name: partial(_printed, form=form) for name, form in _FORMS.items() if name in table}
    return table.to_string(index=False, float_format=lambda value: f"{value:.4f}", formatters=forms, na_rep="")


def _printed(value: float, form: str) -> str:
    return "" if value != value else f"{value:{form}}"
