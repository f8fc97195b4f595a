"""What leaving one block out does to the next token: ``python -m data.harm MODEL`` (``--write``: into data/README.md).

Harm of every feed-forward block at every token past the attention sink, on bundled validation texts or on WikiText-2;
how it ranks with what a trace holds, and with its own estimate from one backward pass.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import saturation as st
from data.page import put, table
from data.texts import MOST, held_out
from saturation.quality import losses
from saturation.trace import Harm, rank_correlations

TEXTS = {"bundled": 64, "wikitext": 12}  # how many
DRAWS = 4  # labels per position of the estimate
LAYERS = {"layer": ">", "mean": ">", "median": ">", "9 in 10 under": ">", "estimate": ">", "mean cosine": ">"}
RANKS = {"Spearman's rho of harm with": "<", "within a layer": ">", "interval": "<", "pooled": ">", "its interval": "<"}


def number(value: float) -> str:
    return f"{value:#.3g}"


def by_layer(exact: Harm, estimate: Harm, trace: st.Trace) -> list[list[str]]:
    rows, past = [], exact.measured
    for layer in range(exact.layers):
        kl = exact.kl[past, layer].astype(float)
        shown = kl.mean(), np.median(kl), np.quantile(kl, 0.9), estimate.kl[past, layer].mean()
        rows.append([str(layer), *map(number, shown), f"{trace.similarity[past, layer].mean():.4f}"])
    return rows


def ranked(found: pd.DataFrame) -> list[list[str]]:
    rows = []
    for name, pair in found.groupby("predictor", sort=False):
        shown = [str(name)]
        for scope in ("within a layer", "pooled"):
            one = pair.set_index("scope").loc[scope]
            shown += [f"{one['rho']:.2f}", f"{one['low']:.2f} to {one['high']:.2f}"]
        rows.append(shown)
    return rows


def report(name: str, texts: str, count: int, tokens: int, keep: Path | None) -> str:
    """The tables of one model, in Markdown."""
    model, tokenizer = st.load(name)
    given = [ids[:tokens] for ids in held_out(texts, tokenizer, count)]
    exact = st.harm(model, tokenizer, given)
    estimate = st.harm(model, tokenizer, given, estimate=True, draws=DRAWS)
    trace = st.record(model, tokenizer, given)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for what, one in {"harm": exact, "estimate": estimate, "trace": trace}.items():
            one.save(keep / f"{what}.parquet")
    own = rank_correlations(exact, other=estimate.kl).assign(predictor="its estimate from one backward pass")
    ranks = pd.concat([rank_correlations(exact, trace), own])
    what = "paragraphs of WikiText-2" if texts == "wikitext" else "bundled validation texts"
    what += f" (at most {tokens} tokens of each)" if tokens < MOST else ""
    means = [one.kl[exact.measured].mean(axis=0) for one in (exact, estimate)]
    order = float(pd.Series(means[0]).corr(pd.Series(means[1]), method="spearman"))
    dense, sink = losses(model, tokenizer, given, progress=False), exact.provenance["sink"]
    return "\n".join(
        [
            f"{len(given)} {what}, {int(exact.measured.sum()):,} tokens past the sink (the first {sink} of each text); "
            f"dense loss {dense['nll'].sum() / dense['tokens'].sum():.3f} nats a token. Harm is in nats; the estimate "
            f"is from one backward pass with {DRAWS} drawn labels a position. Layers by their mean estimate rank as by "
            f"their mean harm with rho {order:.2f}.",
            "",
            *table(LAYERS, by_layer(exact, estimate, trace)),
            "",
            *table(RANKS, ranked(ranks)),
            "",
            "Intervals: 95 %, bootstrap over texts, 1,000 resamples.",
        ]
    )


def main(argv: list[str] | None = None) -> None:
    """Measure one model."""
    parser = argparse.ArgumentParser(prog="python -m data.harm", description=__doc__)
    parser.add_argument("model", help="what saturation.load takes, such as demo or smollm2")
    parser.add_argument("--texts", choices=tuple(TEXTS), default="bundled")
    parser.add_argument("--count", type=int, help=f"of texts; by default {TEXTS['bundled']} bundled ones, else 12")
    parser.add_argument("--tokens", type=int, default=MOST, help="of each text that are read at most")
    parser.add_argument("--threads", type=int, help="of torch; its own choice by default")
    parser.add_argument("--keep", type=Path, help="folder for the harm, its estimate and the trace")
    parser.add_argument("--write", action="store_true", help="put the tables into data/README.md")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    text = report(options.model, options.texts, options.count or TEXTS[options.texts], options.tokens, options.keep)
    print(text)
    if options.write:
        put(f"harm {options.model}", text)


if __name__ == "__main__":
    main()
