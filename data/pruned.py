"""What pruning costs SmolLM2: ``python -m data.pruned neurons`` or ``study`` (``--write``: into data/README.md).

*neurons*: whole neurons of its feed-forward blocks, 10 and 20 % of them, chosen on some long paragraphs of WikiText-2
and judged on others. *study*: a slice of the study on calibration data, four sources, Wanda and SparseGPT at 50 %,
judged on WikiText-2 and on CommonsenseQA. Both read the files that SATURATION_REAL_DATA names; nothing judged is
calibrated on.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import saturation as st
from data.page import put, table
from data.texts import held_out, paragraphs, wikitext
from saturation.calibration import Source
from saturation.pruning import prune
from saturation.quality import losses, rise
from saturation.study import contrast, recipes, rises, study
from saturation.tasks import Example, Task, published

MODEL = "smollm2"
SHARES = (0.1, 0.2)
WAYS = (("ranked", "energy"), ("ranked", "relative"), ("ranked", "fisher"), ("one", "energy"))  # widths, score
TEXTS, TOKENS = 12, 128  # paragraphs that are judged, and how much of each
METHODS, SPARSITY, BUDGET, QUESTIONS = ("wanda", "sparsegpt"), 0.5, 4096, 64


def neurons(model: Any, tokenizer: Any) -> str:
    """The table of neurons taken out, in Markdown."""
    scored = [ids[:TOKENS] for ids in held_out("wikitext", tokenizer, TEXTS)]
    fitted = [ids[:TOKENS] for ids in held_out("wikitext", tokenizer, 2 * TEXTS, skip=TEXTS)]
    dense = losses(model, tokenizer, scored, progress=False)
    rows = []
    for widths, score in WAYS:
        for share in SHARES:
            own = copy.deepcopy(model)
            how = {"widths": widths, "score": score, "progress": False}
            report = prune(own, calibration=fitted, method="neurons", sparsity=share, **how)
            mean, low, high = rise(losses(own, tokenizer, scored, progress=False), dense)
            kept = report.table["kept"]
            rows.append(
                [f"{100 * share:.0f} %", score, widths, f"{kept.min()} .. {kept.max()}", f"{mean:+.3f}",
                 f"{low:.3f} to {high:.3f}"]
            )  # fmt: skip
            print(*rows[-1], flush=True)
    head = (
        f"{len(fitted)} paragraphs of WikiText-2 to choose on, {len(scored)} others judged ({TOKENS} tokens of each, "
        f"{dense['tokens'].sum():,} predicted; dense loss {dense['nll'].sum() / dense['tokens'].sum():.3f} nats)."
    )
    columns = {"taken out": ">", "score": "<", "widths": "<", "neurons left": "<", "rise of loss": ">", "95 %": "<"}
    return "\n".join([head, "", *table(columns, rows)])


def sources() -> list[Source]:
    """Texts of WikiText-2, worked problems, questions, and a control."""
    real = Path(os.environ["SATURATION_REAL_DATA"])
    texts = paragraphs(wikitext())[2 * TEXTS :]
    read = Task("wikitext-2", "text", tuple(Example(id=f"{n}", text=text) for n, text in enumerate(texts)))
    asked = published("commonsense_qa", real / "commonsense_qa" / "cqa_test.json")
    rest = replace(asked, examples=asked.examples[QUESTIONS:])
    sums = published("gsm8k", real / "gsm8k" / "test.jsonl")
    return [Source("wikitext-2", read), Source("commonsense_qa", rest), Source("gsm8k", sums), Source("random-tokens")]


def judged(tokenizer: Any) -> list[Task]:
    """The first paragraphs, cut, and the first questions."""
    texts = [tokenizer.decode(ids[:TOKENS]) for ids in held_out("wikitext", tokenizer, TEXTS)]
    asked = published("commonsense_qa", Path(os.environ["SATURATION_REAL_DATA"]) / "commonsense_qa" / "cqa_test.json")
    read = Task("wikitext-2", "text", tuple(Example(id=f"{n}", text=text) for n, text in enumerate(texts)))
    return [read, asked.head(QUESTIONS)]


def slice_of_study(model: Any, tokenizer: Any, out: Path) -> str:
    """The table of the study's slice, in Markdown."""
    asked = recipes(
        sources(), methods=METHODS, sparsity=(SPARSITY,), seeds=(0,), tokens=(BUDGET,), length=512, whole=False
    )
    rows = study(model, tokenizer, asked, judged(tokenizer), out=out / "cells", batch_size=8)
    out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(out / "rows.csv", index=False)
    found = rises(rows).set_index(["task", "method", "source"])
    right = rows[rows["task"] == "commonsense_qa"].groupby(["method", "source"])["correct"].sum()
    read = found.loc["wikitext-2"]
    best = {method: read.loc[method]["rise"].idxmin() for method in METHODS}
    lines = [["dense", "", f"{np.exp(read['dense'].iloc[0]):.1f}", "", "", f"{right['', 'dense']:.0f}"]]
    for (method, source), one in read.iterrows():
        own = rows[rows["method"] == method]
        behind = contrast(own, {"source": source}, {"source": best[method]}, tasks=["wikitext-2"])
        interval = f"{one['rise']:+.3f} [{one['low']:.3f}, {one['high']:.3f}]"
        lines.append(
            [source, method, f"{np.exp(one['mean']):.1f}", interval, "" if source == best[method] else f"{behind}",
             f"{right[method, source]:.0f}"]
        )  # fmt: skip
    columns = {"calibrated on": "<", "method": "<", "perplexity of WikiText-2": ">", "rise of loss": "<",
               "over the best source": "<", f"CommonsenseQA, right of {QUESTIONS}": ">"}  # fmt: skip
    counts = rows[rows["source"] != "dense"].groupby("source")["calibrated"].first()
    head = (
        f"{100 * SPARSITY:.0f} % of the weights gone, one seed, {counts.min():,} to {counts.max():,} real tokens of "
        f"calibration; {TEXTS} paragraphs of {TOKENS} tokens are judged."
    )
    return "\n".join([head, "", *table(columns, lines)])


def main(argv: list[str] | None = None) -> None:
    """Measure one of the two."""
    parser = argparse.ArgumentParser(prog="python -m data.pruned", description=__doc__)
    parser.add_argument("what", choices=("neurons", "study"))
    parser.add_argument("--out", type=Path, default=Path("runs/pruned"), help="folder for the cells of the study")
    parser.add_argument("--threads", type=int, help="of torch; its own choice by default")
    parser.add_argument("--write", action="store_true", help="put the table into data/README.md")
    given = parser.parse_args(argv)
    if given.threads:
        torch.set_num_threads(given.threads)
    began, spent = time.perf_counter(), time.process_time()
    model, tokenizer = st.load(MODEL)
    text = neurons(model, tokenizer) if given.what == "neurons" else slice_of_study(model, tokenizer, given.out)
    wall, own = time.perf_counter() - began, time.process_time() - spent
    text += f"\n\n`python -m data.pruned {given.what}`: {wall:.0f} s, of the processor {own:.0f} s."
    print(text)
    if given.write:
        put(f"pruned {given.what}", text)


if __name__ == "__main__":
    main()
