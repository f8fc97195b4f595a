"""`tune`: chooses the setting that reads fewest bytes within a budget, with the evidence."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..policies import Policy
from ..quality.intervals import ratio_interval, share_interval
from .learn_then_test import examples_needed, passing
from .losses import DENSE, has_bytes, held_out, kept_back, losses, other, shares

_LOG = logging.getLogger(__name__)
_ORDER = 0.25  # share of the examples that determine the order of the tests


@dataclass(frozen=True, eq=False)
class Tuned:
    """The result of `tune`.

    Attributes
    ----------
    setting
        Name of the policy; "dense" where none keeps within the budget.
    policy
        The policy itself where the names were given with their policies; None for the dense model.
    evidence
        One row per setting: `policy`, `skipped` (share of FFN blocks), `unread` (share of their bytes; of the blocks
        where the rows do not have the bytes), `loss` with `low` and `high` (95 %), `n` examples, and with a guarantee
        `p`, NaN where it was not tested, and `passed`.
    sentence
        The result as a sentence to quote.
    budget, confidence
        As given to `tune`.
    """

    setting: str
    policy: Policy | None
    evidence: pd.DataFrame
    sentence: str
    budget: float = float("nan")
    confidence: float | None = None


def tune(
    rows: pd.DataFrame,
    *,
    budget: float,
    confidence: float | None = None,
    loss: str | None = None,
    policies: Mapping[str, Policy | None] | None = None,
    confirm: pd.DataFrame | float | None = None,
    seed: int = 0,
) -> Tuned:
    """Choose the setting that leaves most bytes of the FFN blocks unread within a budget of loss.

    Without a confidence, the mean loss on all examples must be within the budget. With a confidence, the *true* mean
    loss is within the budget with that probability over the draw of the examples: a quarter of them determines the
    order in which settings are tested, the others test (Learn then Test, Angelopoulos et al. 2021, arXiv 2110.01052,
    as in CALM, arXiv 2207.07061).

    Parameters
    ----------
    rows
        What `sweep` gives: rows of `policy`, `task`, `example`, `skipped` and `blocks`, `unread_bytes` and
        `ffn_bytes`, the dense run among them. Without the bytes settings are ranked by their share of blocks.
    budget
        Mean loss per example that may not be passed, between 0 and 1.
    confidence
        None for the plain choice; 0.9 for a guarantee that fails in one of ten studies at most.
    loss
        Column of losses in [0, 1]. None: 1 where the dense model's answer is correct and the policy's is not.
    policies
        Policies by the names in `rows`, as they were given to `sweep`.
    confirm
        Rows of other examples, on which the choice is measured once more; or a share of the examples, such as 0.25,
        that is held out for that.
    seed
        Of the draws of the examples.

    Returns
    -------
    Tuned
        Seeds and turns of one example count as one: each is compared with the dense run by itself, and the losses are
        averaged.

    Raises
    ------
    ValueError
        For a budget or confidence that cannot be, losses outside [0, 1], rows without a dense run or with settings
        that were run on different examples, settings without a policy, narrow ones without their bytes, rows to
        confirm on that are of the same examples or lack the choice, and for fewer examples than the promise takes.
    """
    promised(budget, confidence)
    if isinstance(confirm, int | float):
        rows, confirm = held_out(rows, confirm, seed)
    (lost, named), share = losses(rows, loss), shares(rows)
    again = None if confirm is None else other(confirm, lost.index, loss)
    settings = [name for name in lost.columns if name != DENSE]
    _check(rows, settings, policies)
    if confidence is None:
        evidence = _measured(lost[settings], share)
        within = evidence[evidence["loss"] <= budget]
    else:
        evidence = _tested(rows, named, lost[settings], budget, confidence, seed)
        within = evidence[evidence["passed"]]
    best = within.sort_values(["unread", "loss"], ascending=[False, True], kind="stable")
    chosen = DENSE if within.empty else str(best["policy"].iloc[0])
    told = _sentence(chosen, evidence, budget, confidence, again, by_bytes=has_bytes(rows))
    if chosen == DENSE:
        _LOG.warning("%s", told)
    return Tuned(chosen, (policies or {}).get(chosen), evidence, told, budget, confidence)


def promised(
    budget: float, confidence: float | None, *, examples: int | None = None, confirm: float | None = None
) -> None:
    """Raise ValueError for an invalid budget or confidence, and for too few examples.

    Parameters
    ----------
    budget, confidence
        As for `tune`.
    examples
        Number of examples; None where unknown.
    confirm
        Share of them that is held out.
    """
    for name, value in (("budget", budget), ("confidence", confidence)):
        if value is not None and not 0 < value < 1:
            raise ValueError(f"expected a {name} between 0 and 1, got {value}; 0.05 loses one example in twenty")
    if examples is None:
        return
    chosen_on = examples - (kept_back(examples, confirm) if confirm is not None else 0)
    if confidence is not None and (tested := chosen_on - round(_ORDER * chosen_on)) < (
        needed := examples_needed(budget, confidence)
    ):
        raise ValueError(
            f"expected at least {needed} examples to test on for a loss of {budget:g} at {100 * confidence:.6g}%, "
            f"which takes as many without one loss, got {tested} of {chosen_on}, the rest drawing up the order; "
            f"give {round(needed / (1 - _ORDER)) + 1} or more{', beside those that confirm' * (confirm is not None)}, "
            "or promise less"
        )


def _check(rows: pd.DataFrame, settings: list[str], policies: Mapping[str, Policy | None] | None) -> None:
    """Raise ValueError where a setting lacks its policy or cannot be ranked."""
    if policies is None:
        return
    if lacking := [name for name in settings if name not in policies]:
        raise ValueError(
            f"expected policies of all settings in the rows, got none for {lacking[0]!r}; give those that sweep was "
            "given, by the same names"
        )
    given = ((name, policies[name]) for name in settings)
    if (acting := [name for name, one in given if one is not None and one.action]) and not has_bytes(rows):
        raise ValueError(
            f"expected rows with the columns unread_bytes and ffn_bytes, since {acting[0]!r} runs something in place "
            "of the blocks that it skips, of which a share of blocks says nothing; sweep again"
        )


def _measured(lost: pd.DataFrame, share: pd.DataFrame) -> pd.DataFrame:
    """Mean loss of each setting, with its interval over examples."""
    found = []
    for name, own in lost.items():
        values = own.to_numpy()
        mean, n = float(values.mean()), len(values)
        binary = np.isin(values, (0, 1)).all()
        ends = share_interval(mean, n) if binary or n < 2 else ratio_interval(values, np.ones(n))
        left = {column: float(share.loc[name, column]) for column in ("skipped", "unread")}
        found.append({"policy": name, **left, "loss": mean, "low": ends[0], "high": ends[1]})
    return pd.DataFrame(found, columns=["policy", "skipped", "unread", "loss", "low", "high"]).assign(n=len(lost))


def _tested(
    rows: pd.DataFrame, named: pd.Series, lost: pd.DataFrame, budget: float, confidence: float, seed: int
) -> pd.DataFrame:
    """The evidence on the test examples, with p-values in the order from the other examples."""
    order = np.random.default_rng(seed).permutation(len(lost))
    drawing, testing = np.split(order, [round(_ORDER * len(order))])
    promised(budget, confidence, examples=len(order))
    drawn, tests = lost.iloc[drawing], lost.iloc[testing]
    sequence = _sequence(drawn.mean(), shares(rows[named.isin(drawn.index)])["unread"])
    values = passing((tests[name].to_numpy() for name in sequence), budget, confidence)
    p = dict(zip(sequence, values, strict=False))
    found = _measured(tests, shares(rows))
    found["p"] = [p.get(name, np.nan) for name in found["policy"]]
    return found.assign(passed=found["p"] <= 1 - confidence)


def _sequence(drawn: pd.Series, unread: pd.Series) -> list[str]:
    """The settings by rising loss, without those that save less than a setting of no greater loss."""
    front: list[str] = []
    for name in sorted(drawn.index, key=lambda name: (drawn[name], unread[name])):
        if not front or unread[name] > unread[front[-1]]:
            front.append(name)
    return front


def _sentence(
    chosen: str,
    evidence: pd.DataFrame,
    budget: float,
    confidence: float | None,
    again: pd.DataFrame | None,
    *,
    by_bytes: bool,
) -> str:
    n = int(evidence["n"].iloc[0]) if len(evidence) else 0
    if chosen == DENSE:
        return (
            f"no setting of {len(evidence)} keeps within a loss of {budget:g} on {n} examples: the dense model is left"
        )
    row: Any = evidence.set_index("policy").loc[chosen]
    saved = f"skips {row['skipped']:.1%} of the FFN blocks"
    if by_bytes:
        saved = f"leaves {row['unread']:.1%} of the FFN bytes unread"
    told = f"{chosen} {saved} and loses {row['loss']:.3g} per example on {n}"
    if confidence is None:
        told += f" [{row['low']:.3g}, {row['high']:.3g}], within {budget:g}; no guarantee"
    else:
        told += f": its true loss is at most {budget:g} with {100 * confidence:.6g}% confidence (p = {row['p']:.2g})"
    return told if again is None else told + _confirmed(chosen, again)


def _confirmed(chosen: str, again: pd.DataFrame) -> str:
    """The sentence on the loss of the choice on other examples."""
    if chosen not in again:
        raise ValueError(
            f"expected rows of {chosen!r}, the choice, to confirm it on, got those of {', '.join(again)}; sweep it on "
            "these examples too"
        )
    nothing = pd.DataFrame({"skipped": [0.0], "unread": [0.0]}, index=[chosen])
    row = _measured(again[[chosen]], nothing).iloc[0]
    return f"; on {len(again)} other examples {row['loss']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
