"""Summaries of rows with intervals, and paired comparisons with the dense run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from .intervals import ratio_interval, share_interval
from .skip_counts import RATIOS

SHARES = ("correct", "correct_norm", "wrong", "collapsed")  # yes or no for each example
SCORES = (
    *SHARES,
    *("rouge_1", "rouge_2", "rouge_L", "chrf", "judge"),
    *("agreement", "kl", "dense_nll", "repetition", "distinct_1", "distinct_2"),
)


def summarise(
    table: pd.DataFrame, *, by: Sequence[str] = ("task", "policy"), confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Summarise every score by its mean, number of examples and interval.

    Parameters
    ----------
    table
        Rows as `evaluate` gives them, of one or more runs.
    by
        Columns to group by, such as "kind" in addition.
    confidence
        Of the intervals: Wilson's (JASA 22:209, 1927) for shares, percentile bootstrap over examples (2,000
        resamples) for other scores. Rows that share an example (the turns of a conversation, seeds) are no
        observations of their own: they are resampled together, and a share counts their examples.
    seed
        Of the resampling.

    Returns
    -------
    DataFrame
        One row per group and score: the group's columns, `score`, `n` (rows), `mean`, `low`, `high`, and the share of
        FFN blocks that was skipped: `nominal`, `decode` and `total` as `SkipRatios` defines them, and `answer` on
        the decode steps that wrote the scored answer (0 for a dense run, and where prefill wrote all of it, as it
        does an answer of one token, whatever it skipped; NaN where the table lacks the counts); and `unread`, the
        share of their bytes that decode tokens left unread, less than `decode` where blocks run narrow. Loss per
        token is the score "nll". Where answers are right or wrong, the scores "correct", "wrong" and "collapsed" are
        those of `outcome` and add up to 1. Of a single example a score that is no share has no interval (NaN).
    """
    table = _outcomes(table)
    rows = []
    for group, own in table.groupby(list(by), sort=False, dropna=False):
        ratios = {name: _share(own, *columns) for name, columns in RATIOS.items()}
        for score in _scores(own):
            n, mean, low, high = _estimate(own, score, confidence, seed)
            found = {"score": score, "n": n, "mean": mean, "low": low, "high": high}
            rows.append(dict(zip(by, group, strict=True)) | found | ratios)
    return pd.DataFrame(rows)


def compare(sparse: pd.DataFrame, dense: pd.DataFrame, score: str = "correct") -> dict[str, float]:
    """Compare a run with the dense run on the same examples.

    Parameters
    ----------
    sparse, dense
        Rows of one task as `evaluate` gives them.
    score
        Column to compare, or a share of `outcome` ("wrong", "collapsed").

    Returns
    -------
    dict
        `n`, the examples that both have a value for; `difference` of the means, of "nll" per token; `p`, two-sided:
        of McNemar's exact test for right and wrong, of Wilcoxon's signed-rank test for other scores (1 where no
        example differs); for shares also how many examples were `lost` (had it in the dense run only) and `won`.
        The turns of a conversation are one observation, their mean, in either test and in `lost` and `won`.

    Raises
    ------
    ValueError
        Where the two are not of the same examples, or have no value in common.
    """
    ours, theirs = (_outcomes(table).set_index(["task", "example"]) for table in (sparse, dense))
    if len(ours) != len(theirs) or not ours.index.sort_values().equals(theirs.index.sort_values()):
        raise ValueError(
            f"expected both tables to hold the same examples once each, got {len(ours)} and {len(theirs)} rows with "
            f"{len(ours.index.intersection(theirs.index))} examples in common; evaluate both on one task"
        )
    if score not in ours or score not in theirs:
        both = [name for name in dict.fromkeys((*_scores(ours), *_scores(theirs))) if name in ours and name in theirs]
        raise ValueError(f"expected a score that both tables have, {', '.join(both)}, got {score!r}; name one of them")
    every = ours[score].astype(float) - theirs[score].loc[ours.index].astype(float)
    difference = every.dropna()  # a judge may have failed on one of the two
    if difference.empty:
        raise ValueError(f"expected {score!r} of the same examples in both tables, got no example that has both")
    weight = ours["tokens"][every.notna()].sum() if score == "nll" else len(difference)
    result = {"n": len(difference), "difference": float(difference.sum() / weight)}
    means = difference.groupby(_units(sparse)[every.notna()]).mean()
    if score in SHARES:
        won, lost = int((means > 0).sum()), int((means < 0).sum())
        p = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
        return result | {"lost": lost, "won": won, "p": float(p)}
    return result | {"p": float(stats.wilcoxon(means).pvalue) if (means != 0).any() else 1.0}


def _outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """Add the shares of `outcome` as columns."""
    if "outcome" not in table:
        return table
    told = table["outcome"].notna()
    shares = {name: (table["outcome"] == name).astype(float).where(told) for name in ("wrong", "collapsed")}
    alarms = table.get("collapsed", pd.Series(index=table.index, dtype=float)).astype(float)
    return table.assign(wrong=shares["wrong"], collapsed=shares["collapsed"].fillna(alarms))


def _scores(own: pd.DataFrame) -> list[str]:
    found = [score for score in SCORES if score in own and own[score].notna().any()]
    return ["nll", *found] if "nll" in own and own["nll"].notna().any() else found


def _estimate(own: pd.DataFrame, score: str, confidence: float, seed: int) -> tuple[int, float, float, float]:
    own = own[own[score].notna()]
    weight = own["tokens"].to_numpy() if score == "nll" else np.ones(len(own))
    summed = pd.DataFrame({"value": own[score].to_numpy(dtype=float), "weight": weight}).groupby(_units(own)).sum()
    value, weight = summed["value"].to_numpy(), summed["weight"].to_numpy()  # [example]
    mean = float(value.sum() / weight.sum())
    if score in SHARES:
        return len(own), mean, *share_interval(mean, len(value), confidence=confidence)
    if len(value) < 2:
        return len(own), mean, float("nan"), float("nan")
    if np.ptp(value) == 0 and np.ptp(weight) == 0:
        return len(own), mean, mean, mean
    return len(own), mean, *ratio_interval(value, weight, confidence=confidence, seed=seed)


def _units(own: pd.DataFrame) -> np.ndarray:
    """Number of the example of each row; the turns of a conversation are one example."""
    unit = own["example"]
    if "conversation" in own:
        unit = own["conversation"].fillna(unit)
    return pd.DataFrame({"task": own["task"], "unit": unit}).groupby(["task", "unit"], sort=False).ngroup().to_numpy()


def _share(own: pd.DataFrame, part: str, whole: str) -> float:
    if part not in own or whole not in own:
        return float("nan")
    total = own[whole].sum()
    return float(own[part].sum() / total) if total else 0.0
