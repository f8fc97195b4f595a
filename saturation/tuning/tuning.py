"""`tune`: the setting that skips most within a budget, and the evidence for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..policies import Policy
from ..quality.intervals import ratio_interval, share_interval
from .guarantee import examples_needed, passing

_LOG = logging.getLogger(__name__)
DENSE = "dense"
_ORDER = 0.25  # share of the examples that the order of the tests is drawn up on


@dataclass(frozen=True, eq=False)
class Tuned:
    """What `tune` gives.

    Attributes
    ----------
    setting
        Name of the policy; "dense" where none keeps within the budget.
    policy
        The policy itself where the names were given with their policies; None for the dense model.
    evidence
        One row per setting: `policy`, `skipped` (share of FFN blocks), `loss` with `low` and `high` (95 %), `n`
        examples, and with a guarantee `p`, NaN where it was not tested, and `passed`.
    sentence
        What a person can quote.
    """

    setting: str
    policy: Policy | None
    evidence: pd.DataFrame
    sentence: str


def tune(
    rows: pd.DataFrame,
    *,
    budget: float,
    confidence: float | None = None,
    loss: str | None = None,
    policies: Mapping[str, Policy | None] | None = None,
    confirm: pd.DataFrame | None = None,
    seed: int = 0,
) -> Tuned:
    """The setting that skips the most blocks and loses no more than a budget.

    Plainly it is the one whose mean loss on all examples keeps within the budget. With a confidence it is one whose
    *true* mean loss does, with that probability over the draw of the examples: a quarter of them draws up the order
    in which settings are tested, the others test (Learn then Test, Angelopoulos et al. 2021, arXiv 2110.01052, as
    CALM does, arXiv 2207.07061).

    Parameters
    ----------
    rows
        What `sweep` gives: rows of `policy`, `task`, `example`, `skipped` and `blocks`, the dense run among them.
    budget
        Mean loss per example that may not be passed, between 0 and 1.
    confidence
        None for the plain choice; 0.9 for a guarantee that fails in one of ten studies at most.
    loss
        Column of losses in [0, 1]. None: 1 where the dense model's answer is correct and the policy's is not.
    policies
        Policies by the names in `rows`, as they were given to `sweep`.
    confirm
        Rows of other examples, on which the choice is measured once more.
    seed
        Of the draw of the quarter.

    Returns
    -------
    Tuned
        Seeds and turns of one example count as one; they are averaged.

    Raises
    ------
    ValueError
        For a budget or confidence that cannot be, losses outside [0, 1], rows without a dense run or with settings
        that were run on different examples, and for fewer examples than the promise takes.
    """
    for name, value in (("budget", budget), ("confidence", confidence)):
        if value is not None and not 0 < value < 1:
            raise ValueError(f"expected a {name} between 0 and 1, got {value}; 0.05 loses one example in twenty")
    if narrow := [name for name, policy in (policies or {}).items() if policy is not None and policy.action]:
        raise ValueError(
            f"expected policies that skip whole blocks, got {narrow[0]!r}, which narrows them: a share of blocks says "
            "nothing of what that saves; compare such policies by ledger.unread"
        )
    losses, skipped = _losses(rows, loss), _skipped(rows)
    settings = [name for name in losses.columns if name != DENSE]
    evidence = _measured(losses[settings], skipped)
    if confidence is None:
        within = evidence[evidence["loss"] <= budget]
    else:
        evidence = _tested(losses[settings], evidence, budget, confidence, seed)
        within = evidence[evidence["passed"]]
    chosen = DENSE if within.empty else str(within.loc[within["skipped"].idxmax(), "policy"])
    told = _sentence(chosen, evidence, budget, confidence, None if confirm is None else _losses(confirm, loss))
    if chosen == DENSE:
        _LOG.warning("%s", told)
    return Tuned(chosen, (policies or {}).get(chosen), evidence, told)


def _unit(rows: pd.DataFrame) -> pd.Series:
    """What was drawn independently: an example, or the conversation that a turn is of."""
    example = rows["example"].astype(str)
    if "turn" in rows:
        example = example.where(rows["turn"].isna(), example.str.rsplit("/", n=1).str[0])
    return rows["task"].astype(str) + "/" + example if "task" in rows else example


def _losses(rows: pd.DataFrame, loss: str | None) -> pd.DataFrame:
    """Losses by example and setting, seeds and turns averaged, float [example, policy]."""
    wanted = loss or "correct"
    if missing := [name for name in ("policy", "example", wanted) if name not in rows]:
        raise ValueError(f"expected rows with a column {missing[0]!r}, got {', '.join(rows)}; run them with sweep")
    values = rows[wanted].astype(float)
    if not values.between(0, 1).all():
        wrong = values[~values.between(0, 1)].iloc[0]
        raise ValueError(f"expected losses in [0, 1] in the column {wanted!r}, got {wrong}; scale them")
    table = pd.DataFrame({"policy": rows["policy"], "unit": _unit(rows), "value": values})
    wide = table.pivot_table(index="unit", columns="policy", values="value", aggfunc="mean", sort=False)
    if wide.isna().any(axis=None) or (loss is None and DENSE not in wide):
        raise ValueError(
            f"expected every setting on the same examples, {DENSE!r} among them, got "
            f"{', '.join(f'{name} on {count}' for name, count in wide.notna().sum().items())}; sweep them together"
        )
    return wide if loss is not None else (-wide.sub(wide[DENSE], axis=0)).clip(lower=0)


def _skipped(rows: pd.DataFrame) -> pd.Series:
    """Share of the blocks that each setting skips, by its name."""
    sums = rows.groupby("policy")[["skipped", "blocks"]].sum()
    return sums["skipped"] / sums["blocks"].clip(lower=1)


def _measured(losses: pd.DataFrame, skipped: pd.Series) -> pd.DataFrame:
    """Mean loss of each setting with its interval over examples."""
    found = []
    for name, own in losses.items():
        values = own.to_numpy()
        mean, n = float(values.mean()), len(values)
        binary = np.isin(values, (0, 1)).all()
        ends = share_interval(mean, n) if binary or n < 2 else ratio_interval(values, np.ones(n))
        found.append({"policy": name, "skipped": float(skipped[name]), "loss": mean, "low": ends[0], "high": ends[1]})
    return pd.DataFrame(found, columns=["policy", "skipped", "loss", "low", "high"]).assign(n=len(losses))


def _tested(losses: pd.DataFrame, evidence: pd.DataFrame, budget: float, confidence: float, seed: int) -> pd.DataFrame:
    """The evidence of the examples that test, with p-values in the order that the others drew up."""
    order = np.random.default_rng(seed).permutation(len(losses))
    drawing, testing = np.split(order, [round(_ORDER * len(order))])
    if len(testing) < (needed := examples_needed(budget, confidence)):
        raise ValueError(
            f"expected at least {needed} examples to test on for a loss of {budget:g} at {100 * confidence:.6g}%, "
            f"which takes as many without one loss, got {len(testing)} of {len(order)}, the rest drawing up the order; "
            f"give {round(needed / (1 - _ORDER)) + 1} or more, or promise less"
        )
    sequence = _sequence(losses.iloc[drawing].mean(), evidence.set_index("policy")["skipped"])
    tests = losses.iloc[testing]
    values = passing((tests[name].to_numpy() for name in sequence), budget, confidence)
    p = dict(zip(sequence, values, strict=False))
    found = _measured(tests, evidence.set_index("policy")["skipped"])
    found["p"] = [p.get(name, np.nan) for name in found["policy"]]
    return found.assign(passed=found["p"] <= 1 - confidence)


def _sequence(drawn: pd.Series, skipped: pd.Series) -> list[str]:
    """The settings by rising loss, without those that skip less than one that loses no more; the safest is first."""
    front: list[str] = []
    for name in sorted(drawn.index, key=lambda name: (drawn[name], skipped[name])):
        if not front or skipped[name] > skipped[front[-1]]:
            front.append(name)
    return front


def _sentence(
    chosen: str, evidence: pd.DataFrame, budget: float, confidence: float | None, confirm: pd.DataFrame | None
) -> str:
    n = int(evidence["n"].iloc[0]) if len(evidence) else 0
    if chosen == DENSE:
        return (
            f"no setting of {len(evidence)} keeps within a loss of {budget:g} on {n} examples: the dense model is left"
        )
    row: Any = evidence.set_index("policy").loc[chosen]
    told = f"{chosen} skips {row['skipped']:.1%} of the FFN blocks and loses {row['loss']:.3g} per example on {n}"
    if confidence is None:
        told += f" [{row['low']:.3g}, {row['high']:.3g}], within {budget:g}; no guarantee"
    else:
        told += f": its true loss is at most {budget:g} with {100 * confidence:.6g}% confidence (p = {row['p']:.2g})"
    if confirm is not None:
        again = _measured(confirm[[chosen]], pd.Series({chosen: row["skipped"]})).iloc[0]
        told += f"; on {len(confirm)} other examples {again['loss']:.3g} [{again['low']:.3g}, {again['high']:.3g}]"
    return told
