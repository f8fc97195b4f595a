"""Options that several commands share, each with its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
