"""Comparison of calibration sources: rises over the dense model, rankings with intervals, paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from ..pruning.report import Packed, gone
from ..quality.intervals import ratio_interval
from .cell_recipes import DENSE

BY = ("source", "format", "shots", "method", "sparsity", "budget", "policy")
SCORES = {"nll": "loss, nats a token", "correct": "share right"}


def rises(table: pd.DataFrame, *, score: str = "nll", by: Sequence[str] = BY, seed: int = 0) -> pd.DataFrame:
    """Compute the rise of each recipe over the dense model on each task.

    Parameters
    ----------
    table
        Rows of `study`.
    score
        "nll" (loss per token: a rise is worse) or "correct" (share right: a rise is better).
    by
        Columns that tell recipes apart; seeds are averaged within.
    seed
        Of the bootstrap.

    Returns
    -------
    DataFrame
        One row per recipe and task: the columns `by`, `task`, `n` (examples), `seeds`, `dense`, `mean`, `rise` and the
        ends of its 95 % interval `low` and `high` (examples resampled, each with all its seeds), and `spread` (standard
        deviation of the rise over seeds; NaN for one).

    Raises
    ------
    ValueError
        For a score that the table lacks, and for a table without the dense model.
    """
    value, weight = _columns(table, score)
    plain = table[(table["source"] == DENSE) & (table["policy"] == "")]
    if plain.empty:
        raise ValueError("expected rows of the dense model in the table, got none; give the whole table of a study")
    dense = plain.set_index(["task", "example"])
    rows = []
    others = table[(table["source"] != DENSE) | (table["policy"] != "")]
    for group, own in others.groupby(["task", *by], sort=False, dropna=False):
        own = own[own[score].notna()]
        if own.empty:
            continue
        base = dense.loc[pd.MultiIndex.from_frame(own[["task", "example"]])]
        lost = own[value].to_numpy() - base[value].to_numpy()
        size = np.ones(len(own)) if weight is None else own[weight].to_numpy(dtype=float)
        frame = pd.DataFrame({"example": own["example"], "seed": own["seed"], "lost": lost, "size": size})
        units = frame.groupby("example", sort=False)[["lost", "size"]].sum()
        seeds = frame.groupby("seed")[["lost", "size"]].sum()
        each = seeds["lost"] / seeds["size"]
        low, high = _interval(units, seed)
        level = float(base[value].sum() / size.sum())
        rise = float(units["lost"].sum() / units["size"].sum())
        found = {"n": len(units), "seeds": len(each), "dense": level, "mean": level + rise, "rise": rise}
        spread = float(each.std()) if len(each) > 1 else float("nan")
        rows.append(dict(zip(["task", *by], group, strict=True)) | found | {"low": low, "high": high, "spread": spread})
    return pd.DataFrame(rows)


def _columns(table: pd.DataFrame, score: str) -> tuple[str, str | None]:
    if score not in SCORES or score not in table or table[score].isna().all():
        there = [name for name in SCORES if name in table and table[name].notna().any()]
        raise ValueError(f"expected a score among {', '.join(there)}, got {score!r}; name one that the table has")
    return score, "tokens" if score == "nll" else None


def _interval(units: pd.DataFrame, seed: int) -> tuple[float, float]:
    if len(units) < 2:
        return float("nan"), float("nan")
    lost, size = units["lost"].to_numpy(), units["size"].to_numpy()
    if np.ptp(lost) == 0 and np.ptp(size) == 0:
        return float(lost[0] / size[0]), float(lost[0] / size[0])
    return ratio_interval(lost, size, seed=seed)


def ranking(
    table: pd.DataFrame, task: str, *, score: str = "nll", across: Sequence[str] = ("source", "format"), seed: int = 0
) -> pd.DataFrame:
    """Rank the sources for a task, with paired tests against the best one.

    Parameters
    ----------
    table
        Rows of `study`, of one method and sparsity and one policy.
    task
        The task to rank on.
    score
        As for `rises`.
    across
        Columns that identify the ranked entries.
    seed
        Of the bootstrap.

    Returns
    -------
    DataFrame
        Best first: the columns `across`, `rise`, `low`, `high`, `spread`; and against the best one, paired on examples
        (each the mean over its seeds): `behind` (difference of the rises), `p` (Wilcoxon's signed-rank test, two-sided)
        and `q`, adjusted for as many comparisons (Benjamini and Hochberg, JRSS B 57:289, 1995).

    Raises
    ------
    ValueError
        For a task that the table lacks; for several methods, sparsities, budgets or policies.
    """
    own = table[(table["task"] == task) & (table["source"] != DENSE)]
    if own.empty:
        tasks = ", ".join(map(str, table["task"].unique()))
        raise ValueError(f"expected a task among {tasks}, got {task!r}; name one that was judged on")
    for column in ("method", "sparsity", "budget", "policy"):
        if column not in across and own[column].nunique() > 1:
            several = ", ".join(map(str, own[column].unique()))
            raise ValueError(f"expected rows of one {column}, got {several}; select one, or name it in across=")
    both = pd.concat([own, table[(table["source"] == DENSE) & (table["task"] == task) & (table["policy"] == "")]])
    found = rises(both, score=score, by=across, seed=seed)
    found = found.sort_values("rise", ascending=score == "nll", ignore_index=True)
    units = {
        key: part.groupby("example")[score].mean() for key, part in own.groupby(list(across), sort=False, dropna=False)
    }
    names = [tuple(row) for row in found[list(across)].itertuples(index=False)]
    best = units[names[0]]
    p = [1.0, *(_paired(units[name], best) for name in names[1:])]
    q = [1.0, *stats.false_discovery_control(p[1:])] if len(p) > 1 else p
    behind = found["rise"] - found["rise"].iloc[0]
    return found[[*across, "rise", "low", "high", "spread", "n", "seeds"]].assign(behind=behind, p=p, q=q)


def _paired(one: pd.Series, other: pd.Series) -> float:
    difference = (one - other.loc[one.index]).to_numpy()
    return float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0


def overlaps(masks: Mapping[str, Packed], names: Sequence[str]) -> np.ndarray:
    """Jaccard's index of the pruned weights for every two prunings, [pruning, pruning].

    Parameters
    ----------
    masks
        As `study.masks` gives them.
    names
        Names of prunings, in the order of the rows.
    """
    lost = [gone(masks[name]) for name in names]
    count = np.array([[np.bitwise_count(one & other).sum() for other in lost] for one in lost], dtype=float)
    size = np.diag(count)
    return count / (size[:, None] + size[None, :] - count)
