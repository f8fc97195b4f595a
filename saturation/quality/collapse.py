"""Collapse of generated text, as distinct from wrong answers: texts that loop or do not end."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

LOOPS = 0.5  # share of repeated 4-grams from which a text loops
ENOUGH = 8  # least new tokens of a text that counts as looping
RUNS_AWAY = 2  # a text without an end is a runaway if the dense text ended within 1 / RUNS_AWAY of its length


def distinct(ids: Sequence[int], n: int) -> float:
    """Share of the n-grams of a text that are different, in (0, 1]; 1 for a text shorter than n.

    Li et al., NAACL 2016 (distinct-n), over token ids and within one text.
    """
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def repetition(ids: Sequence[int], n: int = 4) -> float:
    """Share of the n-grams of a text that occurred in it before, in [0, 1); 0 for a text shorter than n.

    A text that loops tends to 1. Welleck et al., ICLR 2020 (seq-rep-n).
    """
    return 1 - distinct(ids, n)


def shape(ids: Sequence[int]) -> dict[str, float | bool]:
    """Repetition and diversity of a text, from its token ids without the end token: columns of `evaluate`."""
    repeated = repetition(ids)
    return {
        "repetition": repeated,
        "distinct_1": distinct(ids, 1),
        "distinct_2": distinct(ids, 2),
        "collapsed": len(ids) >= ENOUGH and repeated > LOOPS,
    }


def runaway(rows: pd.DataFrame, dense: pd.DataFrame) -> pd.Series:
    """Find texts that reached the limit without an end, where the dense text ended within half of it.

    Parameters
    ----------
    rows, dense
        Rows of the same examples in the same order, as `evaluate` gives them.

    Returns
    -------
    Series of bool
    """
    ended_early = dense["ended"] & (dense["answer_tokens"] * RUNS_AWAY <= rows["answer_tokens"])
    return ended_early & ~rows["ended"].astype(bool)


def outcome(rows: pd.DataFrame) -> pd.Series:
    """Outcome of each answer: "right", "collapsed" (not right, and looping or a runaway), or "wrong"."""
    failed = rows["collapsed"].map({True: "collapsed", False: "wrong"})
    return failed.where(~rows["correct"].astype(bool), "right")
