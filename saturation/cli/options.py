"""Options that several commands share, each with its help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

R = TypeVar("R")

MODEL = "'demo', a named model such as smollm2, a GGUF file, a folder in Hugging Face format, or a hub id"
Model = Annotated[str, typer.Argument(help=MODEL)]
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
POLICY = "such as ffnskip:threshold=0.999,warmup=0 or static:layers=3+4, or JSON, or a file of it"
PolicyText = Annotated[
    str | None,
    typer.Option("--policy", help=POLICY),
]
PolicyTexts = Annotated[
    list[str] | None,
    typer.Option("--policy", help=f"{POLICY}; several times if you like, the dense model is always run"),
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


@dataclass(frozen=True)
class Opening:
    """How a command opens the model that it is given."""

    device: Device = None
    dtype: Dtype = None
    device_map: DeviceMap = None
    revision: Revision = None
    trust_remote_code: Trust = False


@dataclass(frozen=True)
class Scoring:
    """How a command scores policies on tasks."""

    examples: Examples = None
    chat: TaskChat = None
    stride: Stride = None
    batch_size: BatchSize = 16

    def how(self) -> dict[str, Any]:
        """The options that `evaluate` and `sweep` take under the same names."""
        return {"chat": self.chat, "stride": self.stride, "batch_size": self.batch_size}


OPENING, SCORING = Opening(), Scoring()


def grouped(command: Callable[..., R]) -> Callable[..., R]:
    """A command whose parameters of a dataclass appear on the command line as one option per field.

    typer reads the options of a command from its signature; the one that is returned names each field.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @wraps(command)
    def run(**named: Any) -> R:
        filled = {name: group(**{f.name: named.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        return command(**named, **filled)

    own = inspect.signature(command).parameters.values()
    parts = [part for one in own for part in _spread(one.replace(annotation=hints[one.name]))]
    run.__signature__ = inspect.Signature(parts)  # type: ignore[attr-defined]
    run.__annotations__ = {part.name: part.annotation for part in parts}
    return run


def _spread(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """A parameter itself, or one for each field of its dataclass."""
    if not is_dataclass(parameter.annotation):
        yield parameter
        return
    hints = get_type_hints(parameter.annotation, include_extras=True)
    for field in fields(parameter.annotation):
        yield parameter.replace(name=field.name, annotation=hints[field.name], default=field.default)
