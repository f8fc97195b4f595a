"""What leaving the first positions alone is worth: ``python -m data.sinks MODEL`` (``--write``, into data/README.md).

Each rule skips the same share of FFN blocks at given text, read teacher-forced from its first token on, once for every
number of positions that it leaves alone. Rules are fitted on other texts than those that are scored.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch

import saturation as st
from data.page import put, table
from data.texts import held_out
from saturation.policies import Policy
from saturation.quality import losses
from saturation.quality.likelihood import rise

SINKS = (0, 1, 2, 4, 8)
SHARE = 0.05  # of all FFN blocks
FITTED, SCORED = 6, 10  # texts of WikiText-2; four times as many of the bundled ones, which are shorter


def policies(trace: st.Trace, sink: int) -> Iterator[tuple[str, Policy]]:
    """The rules by name, fitted to the share; cold layers are found for each sink."""
    paper = st.FFNSkip.fit(trace, ratio=SHARE, warmup=0, sink=sink)
    cold = {"cold_start": paper.cold_start, "cold_end": paper.cold_end}
    yield "FFN-SkipLLM", paper
    yield "FFN-SkipLLM, next block only", st.FFNSkip.fit(trace, ratio=SHARE, warmup=0, horizon=1, sink=sink, **cold)
    yield "static by similarity", st.StaticFFN.fit(trace, ratio=SHARE, sink=sink, **cold)
    yield "random", st.RandomFFN(SHARE, sink=sink, **cold)


def report(name: str, texts: str, *, say=print) -> str:
    """The table in Markdown, one row per rule and share, one column per sink."""
    model, tokenizer = st.load(name)
    many = 1 if texts == "wikitext" else 4
    fit = held_out(texts, tokenizer, FITTED * many, skip=SCORED * many)
    scored = held_out(texts, tokenizer, SCORED * many)
    trace = st.record(model, tokenizer, fit, progress=False)
    dense = losses(model, tokenizer, scored, progress=False)
    rows: dict[str, list[str]] = {}
    for sink in SINKS:
        for rule, policy in policies(trace, sink):
            found = losses(model, tokenizer, scored, policy=policy, progress=False)
            mean, low, high = rise(found, dense)
            skipped = found["skipped"].sum() / found["blocks"].sum()
            cell = f"{mean:+.3f} [{low:.3f}, {high:.3f}] at {100 * skipped:.1f} %"
            rows.setdefault(rule, []).append(cell)
            say(sink, cell, policy.describe(), flush=True)
    total = f"{dense['nll'].sum() / dense['tokens'].sum():.3f}"
    where = "WikiText-2 paragraphs" if texts == "wikitext" else "bundled validation texts"
    head = f"{name}, {len(scored)} {where}, {dense['tokens'].sum():,} tokens predicted, dense loss {total} nats:"
    columns = {"rule": "<"} | {f"sink {sink}": ">" for sink in SINKS}
    return "\n".join([head, "", *table(columns, [[rule, *cells] for rule, cells in rows.items()])])


def main(argv: list[str] | None = None) -> None:
    """Measure one model."""
    parser = argparse.ArgumentParser(prog="python -m data.sinks", description=__doc__)
    parser.add_argument("model", help="what saturation.load takes, such as demo or smollm2")
    parser.add_argument("--texts", choices=("bundled", "wikitext"), default="bundled")
    parser.add_argument("--threads", type=int, help="of torch; its own choice by default")
    parser.add_argument("--write", action="store_true", help="put the table into data/README.md")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    text = report(options.model, options.texts)
    print(text)
    if options.write:
        put(f"sink {options.model}", text)


if __name__ == "__main__":
    main()
