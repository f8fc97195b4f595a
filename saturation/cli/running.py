"""`saturation record`, `saturation generate` and `saturation harm`: commands that run a model on prompts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .app import app, example, plainly
from .arguments import open_model, read_action, read_policy, read_prompts, read_texts, writable


class Also(StrEnum):
    """Optional measures to record."""

    attention = "attention"
    block = "block"
    naive = "naive"
    magnitude = "magnitude"


@app.command(epilog=example('record demo -p "Once upon a time" -n 64 --out trace.parquet'))
@plainly
def record(
    model: options.Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="the trace, a .parquet file")],
    prompt: options.Prompts = None,
    prompts: options.PromptFile = None,
    max_new_tokens: options.NewTokens = 0,
    start: Annotated[int, typer.Option(help="position from which given text counts as decode")] = 0,
    also: Annotated[list[Also] | None, typer.Option(help="record this too")] = None,
    chat: options.Chat = False,
    batch_size: options.BatchSize = 8,
    opening: options.Opening = options.OPENING,
) -> None:
    """Record a trace: distance and growth of every feed-forward block at every token."""
    from .. import recording

    texts = read_prompts(prompt, prompts)
    writable(out, "the trace", ".parquet")
    loaded, tokenizer = open_model(model, opening)
    how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "start": start, "chat": chat}
    try:
        trace = recording.record(
            loaded, tokenizer, texts, also=[str(name) for name in also or ()], batch_size=batch_size, **how
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


@app.command(epilog=example('generate demo -p "Once" --policy ffnskip:threshold=0.999,warmup=0'))
@plainly
def generate(
    model: options.Model,
    prompt: options.Prompts = None,
    prompts: options.PromptFile = None,
    policy: options.PolicyText = None,
    max_new_tokens: options.NewTokens = 64,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="keep the trace, a .parquet file")] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy")] = 0.0,
    seed: Annotated[int, typer.Option(help="of the sampling")] = 0,
    chat: options.Chat = False,
    batch_size: options.BatchSize = 8,
    opening: options.Opening = options.OPENING,
) -> None:
    """Write on after each prompt, dense or skipping; the new text goes to stdout, the numbers to stderr."""
    from .. import generation

    texts = read_prompts(prompt, prompts)
    rule = read_policy(policy)
    if out is not None:
        writable(out, "the trace", ".parquet")
    loaded, tokenizer = open_model(model, opening)
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


@app.command(epilog=example('harm demo -p "Once upon a time there was a cat." -o harm.parquet'))
@plainly
def harm(
    model: options.Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="the harm, a .parquet file")],
    prompt: options.Prompts = None,
    prompts: options.PromptFile = None,
    attention: Annotated[bool, typer.Option("--attention", help="leave attention out likewise")] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="a quick estimate from one backward pass")] = False,
    sink: Annotated[
        int | None, typer.Option(help="first positions of each text, where every block runs; default: as for policies")
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(help="run this in the block's place: narrow:0.5 (width), mean, scale or map:64 (rank)"),
    ] = None,
    fit: Annotated[
        str | None, typer.Option(help="texts to fit the action on: a file or a bundled kind; default: the same texts")
    ] = None,
    batch_size: options.BatchSize = 8,
    opening: options.Opening = options.OPENING,
) -> None:
    """Measure what leaving one feed-forward block out does to the next token: one pass over the texts per layer."""
    from .. import ablation

    texts = read_prompts(prompt, prompts)
    fitting = read_action(action, fit)
    calibration = texts if fit is None else read_texts(fit)
    writable(out, "the harm", ".parquet")
    loaded, tokenizer = open_model(model, opening)
    how: dict[str, Any] = {} if sink is None else {"sink": sink}
    if fitting is not None:
        how["action"] = fitting(loaded, tokenizer, calibration, batch_size=batch_size, **how)
    found = ablation.harm(
        loaded, tokenizer, texts, attention=attention, estimate=estimate, batch_size=batch_size, **how
    )
    found.save(out)
    count = int(found.measured.sum())
    what = f"with '{how['action'].describe()}'" if "action" in how else "without"
    typer.echo(f"{out}: {count} tokens x {found.layers} layers, mean KL(dense || {what}) per layer, nats")
    for name, array in found.groups.items():
        means = " ".join(f"{mean:.2g}" for mean in array[found.measured].mean(axis=0))
        typer.echo(means if name == "kl" else f"attention: {means}")
