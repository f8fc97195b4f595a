"""Tests of the four findings of Bandari et al. (arXiv 2410.07461) on a study's table, each with a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .cell_recipes import DENSE

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
CLAIMS = {
    1: "the usual text is not the best of those to train on",
    2: "arithmetic does as well as it, or better",
    3: "text of the task itself does not always help that task more",
    4: "several questions in a text help throughout, reasoning on some tasks only",
}
_RESAMPLES = 2000


class Contrast(NamedTuple):
    """Difference in loss between two choices of calibration texts, in nats per token.

    Attributes
    ----------
    difference, low, high
        Mean difference over the tasks, with the ends of its interval.
    agree
        Whether every seed has the difference's sign.
    """

    difference: float
    low: float
    high: float
    agree: bool

    @property
    def sign(self) -> int:
        """-1 where the first has the lower loss, 1 where it has the higher, 0 where undecided."""
        return int(self.agree) * ((self.low > 0) - (self.high < 0))

    def __str__(self) -> str:
        return f"{self.difference:+.3f} [{self.low:.3f}, {self.high:.3f}]".replace("-", "−")


def contrast(
    table: pd.DataFrame,
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    *,
    tasks: Sequence[str] | None = None,
    comparisons: int = 1,
    seed: int = 0,
) -> Contrast:
    """Compare two choices on the same examples.

    Parameters
    ----------
    table
        Rows of `study`, of one method and sparsity and one policy.
    one, other
        Values of columns, such as ``{"source": "problems", "format": "icl"}``.
    tasks
        Tasks to compare on, with equal weights; by default all in the table.
    comparisons
        Number of simultaneous comparisons: the intervals hold jointly with 95 % (Bonferroni).
    seed
        Of the bootstrap: examples are resampled within each task, 2,000 times, each with all its seeds.

    Returns
    -------
    Contrast

    Raises
    ------
    ValueError
        Where the table has no rows of a choice, several of an example and seed, or no seed of both.
    """
    names = list(dict.fromkeys(table["task"])) if tasks is None else list(tasks)
    mine, theirs = (_chosen(table[table["task"].isin(names)], values) for values in (one, other))
    seeds = mine["nll"].columns.intersection(theirs["nll"].columns)
    if seeds.empty:
        raise ValueError(
            f"expected a seed that both choices have, got {list(mine['nll'])} and {list(theirs['nll'])}; run the same "
            "seeds for both"
        )
    rng = np.random.default_rng(seed)
    parts, drawn = [], []
    for task in names:
        if set(mine["nll"].loc[task].index) != set(theirs["nll"].loc[task].index):
            raise ValueError(
                f"expected the same examples of {task} in both choices, got others; judge both on the same examples"
            )
        lost = (mine["nll"].loc[task] - theirs["nll"].loc[task])[seeds].to_numpy(dtype=float)  # [example, seed]
        size = mine["tokens"].loc[task, seeds].to_numpy(dtype=float)
        parts.append(lost.sum(axis=0) / size.sum(axis=0))  # [seed]
        again = rng.integers(len(lost), size=(_RESAMPLES, len(lost)))
        drawn.append(lost.sum(axis=1)[again].sum(axis=1) / size.sum(axis=1)[again].sum(axis=1))
    each = np.mean(parts, axis=0)  # [seed]
    tail = 0.025 / comparisons
    low, high = np.quantile(np.mean(drawn, axis=0), [tail, 1 - tail])
    difference = float(np.mean(each))
    return Contrast(difference, float(low), float(high), bool((np.sign(each) == np.sign(difference)).all()))


def _chosen(table: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    """Loss and tokens of one choice, [(task, example), (what, seed)]."""
    own = table
    for column, value in values.items():
        own = own[own[column] == value]
    said = ", ".join(f"{column} {value}" for column, value in values.items())
    if own.empty:
        raise ValueError(f"expected rows of {said}, got none; name what the table has")
    if own.duplicated(["task", "example", "seed"]).any():
        raise ValueError(
            f"expected one row of {said} for each example and seed, got several; select one method, sparsity, format, "
            "budget and policy"
        )
    return own.pivot(index=["task", "example"], columns="seed", values=["nll", "tokens"]).dropna(axis=1)


def findings(
    table: pd.DataFrame,
    formats: pd.DataFrame,
    *,
    general: str = "mixture",
    corpora: Sequence[str] = (),
    arithmetic: Sequence[str] = (),
    own: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Test the findings of the paper on a study's table.

    Parameters
    ----------
    table
        Rows of `study` of one method and sparsity, each source in one format.
    formats
        Rows of the same of sources in the formats "qa", "icl" and perhaps "cot".
    general
        The source that stands for the usual text: C4 in the paper.
    corpora, arithmetic
        Sources like the texts that the model was trained on, and arithmetic ones.
    own
        Task -> the source of its kind.

    Returns
    -------
    DataFrame
        A row for each finding that there are sources for: `finding` (its number), `claim`, `verdict` ("supported",
        "contradicted" or "undecided") and `sentence`, with differences of loss in nats per token: the mean over the
        tasks with an interval that holds all comparisons of the finding with 95 %.

    Raises
    ------
    ValueError
        As for `contrast`.

    Notes
    -----
    A difference counts where its interval leaves out zero and every seed has its sign. 1 is supported by one corpus
    that is better than the usual text, 2 by one arithmetic source, and they are contradicted where all are worse. 3 is
    supported by one task that its own kind serves worse than the usual text, and contradicted where its own kind is
    better for each. 4 is supported where several questions are better than one in every source, and reasoning better
    than none on some tasks and not on others; contradicted where several questions are worse in some source.
    """
    rivals = [source for source in corpora if source != general]
    rows = [_rivals(table, 1, rivals, general), _rivals(table, 2, arithmetic, general)]
    rows += [_own(table, own or {}, general), _formats(formats)]
    found = pd.DataFrame([row for row in rows if row], columns=["finding", "verdict", "sentence"])
    return found.assign(claim=found["finding"].map(CLAIMS))[["finding", "claim", "verdict", "sentence"]]


def _rivals(table: pd.DataFrame, number: int, rivals: Sequence[str], general: str) -> tuple[int, str, str] | None:
    """Test whether one of several sources is better than the general text."""
    against = {name: contrast(table, {"source": name}, {"source": general}, comparisons=len(rivals)) for name in rivals}
    if not against:
        return None
    signs = [one.sign for one in against.values()]
    verdict = SUPPORTED if -1 in signs else CONTRADICTED if set(signs) == {1} else UNDECIDED
    told = ", ".join(f"{name} {one}" for name, one in sorted(against.items(), key=lambda pair: pair[1].difference))
    return number, verdict, f"loss on the mean of the tasks, over that after {general}: {told}"


def _own(table: pd.DataFrame, own: Mapping[str, str], general: str) -> tuple[int, str, str] | None:
    """Test whether text of a task's own kind is better for it than the general text."""
    how = {"comparisons": len(own)}
    against = {
        task: contrast(table, {"source": source}, {"source": general}, tasks=[task], **how)
        for task, source in own.items()
    }
    if not against:
        return None
    signs = [one.sign for one in against.values()]
    verdict = SUPPORTED if 1 in signs else CONTRADICTED if set(signs) == {-1} else UNDECIDED
    told = ", ".join(f"{task} {one}" for task, one in against.items())
    return 3, verdict, f"loss on each task after its own kind of text, over that after {general}: {told}"


def _formats(table: pd.DataFrame) -> tuple[int, str, str] | None:
    """Test whether several questions are better than one, and reasoning better than none."""
    has = table[table["source"] != DENSE].groupby("source", sort=False)["format"].agg(set)
    several = [source for source, names in has.items() if {"qa", "icl"} <= names]
    reasoned = [source for source in several if "cot" in has[source]]
    tasks = list(dict.fromkeys(table["task"]))
    if not several:
        return None
    icl = {source: _shaped(table, source, "icl", "qa", None, len(several)) for source in several}
    count = len(reasoned) * len(tasks)
    cot = {(source, task): _shaped(table, source, "cot", "icl", [task], count) for source in reasoned for task in tasks}
    signs, steps = {one.sign for one in icl.values()}, [one.sign for one in cot.values()]
    some = -1 in steps and set(steps) != {-1}
    verdict = CONTRADICTED if 1 in signs else SUPPORTED if signs == {-1} and some else UNDECIDED
    told = ", ".join(f"{source} {one}" for source, one in icl.items())
    said = f"loss with several questions in a text, over that with one: {told}"
    if cot:
        better, worse = steps.count(-1), steps.count(1)
        said += (
            f"; with reasoning the loss is lower than without on {better} of {count} tasks, higher on {worse}: "
            + ", ".join(f"{task} {one}" for (_, task), one in cot.items())
        )
    return 4, verdict, said


def _shaped(
    table: pd.DataFrame, source: str, one: str, other: str, tasks: Sequence[str] | None, comparisons: int
) -> Contrast:
    """Contrast of two formats of one source."""
    choices = ({"source": source, "format": name} for name in (one, other))
    return contrast(table, *choices, tasks=tasks, comparisons=comparisons)
