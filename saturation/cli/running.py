"""`saturation record` and `saturation generate`: a model and some prompts."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .app import (
    BatchSize,
    Chat,
    Device,
    DeviceMap,
    Dtype,
    Model,
    NewTokens,
    PolicyText,
    PromptFile,
    Prompts,
    Revision,
    Trust,
    app,
    open_model,
    plainly,
    read_policy,
    writable,
)


class Also(StrEnum):
    """More that can be recorded."""

    attention = "attention"
    block = "block"
    naive = "naive"


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
    writable(out, "the trace", ".parquet")
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
        writable(out, "the trace", ".parquet")
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


def _texts(prompt: list[str] | None, file: Path | None) -> list[str]:
    """Prompts from the command line and from a file."""
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
            text = row.get("prompt") or row.get("text", row.get("prompt"))
            if not isinstance(text, str) or not text.strip():
                raise ValueError(
                    f"expected 'prompt' or 'text' in line {number} of {file} to be a text, not empty, got {text!r}; "
                    "correct it or remove the line"
                )
            texts.append(text)
    if not texts:
        raise ValueError("expected a prompt, got none; give --prompt TEXT, or --prompts FILE")
    return texts
