"""What the bundled study measured, as Markdown: the tables and sentences that `data.study --write` puts on the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.page import table
from saturation.study import findings, masks, overlaps, rises

PRUNED, SKIPPED = ("wanda", "sparsegpt"), ("static", "ffnskip")
NAMES = {"wanda": "Wanda", "sparsegpt": "SparseGPT", "static": "static", "ffnskip": "FFN-SkipLLM"}
GENERAL = "mixture"  # stands for C4: the text that the model was trained on
CORPORA = ("entries", "stories", "conversations", "entailment", "problems")
ARITHMETIC, OWN = ("problems",), ("problems", "entailment", "stories", "conversations")


def page(rows: pd.DataFrame, plain: pd.DataFrame, shaped: pd.DataFrame, ranked: pd.DataFrame, cells: Path) -> str:
    """The whole text.

    Parameters
    ----------
    rows
        Of the study.
    plain
        Those of every source in the format in which it is usually read.
    shaped
        Those of the sources in several formats.
    ranked
        `ranking` of every task and method.
    cells
        Folder of the masks.
    """
    return "\n".join(
        line
        for part in (
            [_head(rows)],
            *(_matrix(plain, method, "rise of loss after pruning with") for method in PRUNED),
            _right(plain),
            _best(ranked),
            *(_formats(shaped, method) for method in PRUNED),
            _shared(plain, cells),
            *(_matrix(plain, method, "rise of loss, blocks skipped by") for method in SKIPPED),
            _found(plain, shaped),
        )
        for line in (*part, "")
    ).rstrip()


def _head(rows: pd.DataFrame) -> str:
    dense = rows[rows["source"] == "dense"]
    counts = dense.groupby("task", sort=False)["example"].nunique()
    loss = dense.groupby("task", sort=False)[["nll", "tokens"]].sum()
    level = loss["nll"] / loss["tokens"]
    told = ", ".join(f"{task} {n} ({level[task]:.3f})" for task, n in counts.items())
    given = rows.loc[rows["source"] != "dense", "calibrated"]
    seeds = rows.loc[rows["source"] != "dense", "seed"].nunique()
    return (
        f"{seeds} seeds, {given.min():,} to {given.max():,} real tokens of calibration each; examples of a task, and "
        f"the dense model's loss in nats a token: {told}."
    )


def _matrix(plain: pd.DataFrame, method: str, label: str) -> list[str]:
    """Sources by tasks: the rise, and its standard deviation over seeds."""
    found = rises(plain)
    found = found[found["method"] == method]
    share = found["sparsity"].astype(float).iloc[0]
    title = f"**{label.capitalize()} {NAMES[method]}, {100 * share:.0f} %** (± standard deviation over seeds)"
    return [title, "", *_grid(found, _rise)]


def _rise(one: pd.Series) -> str:
    return f"{one['rise']:.3f}" + ("" if np.isnan(one["spread"]) else f" ± {one['spread']:.3f}")


def _grid(found: pd.DataFrame, cell: Callable[[pd.Series], str], by: str = "source") -> list[str]:
    """One line for each name, its cells in the order of the tasks; the best mean first."""
    tasks = list(dict.fromkeys(found["task"]))
    order = found.groupby(by, sort=False)["rise"].mean().sort_values().index
    at = found.set_index([by, "task"])
    lines = [[str(name), *(cell(at.loc[(name, task)]) for task in tasks)] for name in order]
    return table({by: "<"} | dict.fromkeys(tasks, ">"), lines)


def _right(plain: pd.DataFrame) -> list[str]:
    """How many answers are right, of every source and method."""
    judged = plain[plain["correct"].notna() & plain["method"].isin(["", *PRUNED])]
    if judged.empty:
        return []
    tasks = list(dict.fromkeys(judged["task"]))
    mean = judged.groupby(["source", "method", "task"], sort=False)["correct"].mean().unstack("task")[tasks]
    lines = [
        [source, NAMES.get(method, ""), *(f"{value:.2f}" for value in own)]
        for (source, method), own in zip(mean.index, mean.to_numpy(), strict=True)
    ]
    columns = {"source": "<", "method": "<"} | dict.fromkeys(tasks, ">")
    return ["**Share of answers that are right**", "", *table(columns, lines)]


def _best(ranked: pd.DataFrame) -> list[str]:
    """The best source of each task, and those that are as good as far as can be told."""
    lines = []
    for (task, method), own in ranked[ranked["method"].isin(PRUNED)].groupby(["task", "method"], sort=False):
        tied = own["source"].iloc[1:][own["q"].iloc[1:] >= 0.05]
        lines.append([str(task), NAMES[str(method)], own["source"].iloc[0], ", ".join(tied) or "none"])
    columns = {"task": "<", "method": "<", "best source": "<", "no worse as far as can be told (q ≥ .05)": "<"}
    return ["**Which source for which task**", "", *table(columns, lines)]


def _formats(shaped: pd.DataFrame, method: str) -> list[str]:
    """Sources in their formats."""
    found = rises(shaped[shaped["method"].isin(["", method])])
    found = found.assign(calibrated=found["source"] + ", " + found["format"])
    return [f"**Formats, {NAMES[method]}**: rise of loss", "", *_grid(found, _rise, "calibrated")]


def _shared(plain: pd.DataFrame, cells: Path) -> list[str]:
    """How much of what is gone two prunings share."""
    lines = []
    for method in PRUNED:
        own = plain[plain["method"] == method]
        held = masks(cells, own)
        source = own.drop_duplicates("pruning").set_index("pruning").loc[list(held), "source"].to_numpy()
        share = overlaps(held, list(held))
        apart = ~np.eye(len(share), dtype=bool)
        same = (source[:, None] == source) & apart
        told = [f"two sources {share[apart & ~same].mean():.2f}"]
        for name in dict.fromkeys(source[same.any(axis=1)]):
            told.append(f"two drawings of {name} {share[same & (source == name)].mean():.2f}")
        lines.append(f"{NAMES[method]}: {', '.join(told)}.")
    return ["**Of the weights that either of two prunings took, both took** (Jaccard's index)", "", " ".join(lines)]


def _found(plain: pd.DataFrame, shaped: pd.DataFrame) -> list[str]:
    """The paper's findings, each for both methods."""
    there = set(plain["source"])
    if GENERAL not in there:
        return []
    parts: dict[str, Any] = {
        "general": GENERAL,
        "corpora": [name for name in CORPORA if name in there],
        "arithmetic": [name for name in ARITHMETIC if name in there],
        "own": {name: name for name in OWN if name in there},
    }
    lines: list[str] = []
    for method in PRUNED:
        own, formats = (part[part["method"].isin(["", method])] for part in (plain, shaped))
        for one in findings(own, formats, **parts).itertuples():
            lines.append(f"- ({one.finding}) {one.claim}: **{one.verdict}** with {NAMES[method]}: {one.sentence}.")
    return ["**The paper's findings, held against this measurement**", "", *sorted(lines)]
