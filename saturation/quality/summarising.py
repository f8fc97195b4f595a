"""From rows to a number with an interval, and to a comparison with the dense run, paired on examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from .intervals import ratio_interval

SHARES = ("correct", "correct_norm", "collapsed")  # each example is right or wrong
SCORES = (*SHARES, "rouge_1", "rouge_2", "rouge_L", "chrf", "repetition")


def summarise(
    table: pd.DataFrame, *, by: Sequence[str] = ("task", "policy"), confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Mean of every score with its number of examples and an interval.

    Parameters
    ----------
    table
        Rows as `evaluate` gives them, of one or more runs.
    by
        Columns to group by, such as "kind" in addition.
    confidence
        Of the intervals: Wilson's (JASA 22:209, 1927) for shares, percentile bootstrap over examples (2,000
        resamples) for other scores.
    seed
        Of the resampling.

    Returns
    -------
    DataFrame
        One row per group and score: the group's columns, `score`, `n`, `mean`, `low`, `high`, and the share of FFN
        blocks that was skipped over `decode` tokens and on the `answer`'s own. Loss per token is the score "nll".
    """
    rows = []
    for group, own in table.groupby(list(by), sort=False, dropna=False):
        ratios = {"decode": _share(own, "skipped", "blocks"), "answer": _share(own, "answer_skipped", "answer_blocks")}
        for score in _scores(own):
            n, mean, low, high = _estimate(own, score, confidence, seed)
            found = {"score": score, "n": n, "mean": mean, "low": low, "high": high}
            rows.append(dict(zip(by, group, strict=True)) | found | ratios)
    return pd.DataFrame(rows)


def compare(sparse: pd.DataFrame, dense: pd.DataFrame, score: str = "correct") -> dict[str, float]:
    """A run against the dense one on the same examples.

    Parameters
    ----------
    sparse, dense
        Rows of one task as `evaluate` gives them.
    score
        Column to compare.

    Returns
    -------
    dict
        `n`; `difference` of the means; `p`, two-sided: of McNemar's exact test for right and wrong, of Wilcoxon's
        signed-rank test for other scores (1 where no example differs); for shares also how many examples were
        `lost` and `won`.

    Raises
    ------
    ValueError
        Where the two are not of the same examples.
    """
    ours, theirs = (table.set_index(["task", "example"])[score] for table in (sparse, dense))
    if len(ours) != len(theirs) or not ours.index.sort_values().equals(theirs.index.sort_values()):
        raise ValueError(
            f"expected both tables to hold the same examples once each, got {len(ours)} and {len(theirs)} rows with "
            f"{len(ours.index.intersection(theirs.index))} examples in common; evaluate both on one task"
        )
    theirs = theirs.loc[ours.index]
    difference = ours.astype(float) - theirs.astype(float)
    result = {"n": len(ours), "difference": float(difference.mean())}
    if ours.dtype == bool:
        won, lost = int((difference > 0).sum()), int((difference < 0).sum())
        p = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
        return result | {"lost": lost, "won": won, "p": float(p)}
    differs = bool((difference != 0).any())
    return result | {"p": float(stats.wilcoxon(difference).pvalue) if differs else 1.0}


def _scores(own: pd.DataFrame) -> list[str]:
    found = [score for score in SCORES if score in own and own[score].notna().any()]
    return ["nll", *found] if "nll" in own and own["nll"].notna().any() else found


def _estimate(own: pd.DataFrame, score: str, confidence: float, seed: int) -> tuple[int, float, float, float]:
    own = own[own[score].notna()]
    n = len(own)
    weight = own["tokens"].to_numpy() if score == "nll" else np.ones(n)
    value = own[score].to_numpy(dtype=float)
    mean = float(value.sum() / weight.sum())
    if score in SHARES:
        low, high = stats.binomtest(int(value.sum()), n).proportion_ci(confidence, method="wilson")
    elif n < 2 or (np.ptp(value) == 0 and np.ptp(weight) == 0):
        low = high = mean
    else:
        low, high = ratio_interval(value, weight, confidence=confidence, seed=seed)
    return n, mean, float(low), float(high)


def _share(own: pd.DataFrame, part: str, whole: str) -> float:
    total = own[whole].sum()
    return float(own[part].sum() / total) if total else 0.0
