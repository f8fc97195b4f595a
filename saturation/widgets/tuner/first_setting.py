"""Choice of a tuner's first setting: the paper's rule at a tenth, or a gentler one where that breaks the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from math import inf
from typing import Any, NamedTuple

from ...policies import FFNSkip, Policy, StaticFFN
from ..prediction import Predictor

# From our own measurement: SmolLM2 with its chat template wrote fluently with one static layer skipped (KL 0.14), made
# mistakes with two (0.34) and three (0.52), and wrote broken text under the paper's rule at a tenth (1.40).
BOUND = 0.2  # nats per token, KL(dense || skipping)
SECONDS = 8.0  # after which no further setting is tried, since the user waits for the first text
PROMPTS = 2  # prompts whose dense texts are used: one shows a collapse, and each costs a pass per setting


class Tried(NamedTuple):
    """A setting with its harm: KL(dense || skipping) on the dense model's texts, nats per token; None untried."""

    policy: Policy
    harm: float | None


def settings(predictor: Predictor, paper: FFNSkip) -> list[Policy]:
    """The settings to try in turn: the paper's rule, then static rules of ever fewer of the most similar layers."""
    found: list[Policy] = [paper]
    tenth = max(1, round(predictor.trace.layers / 10))
    cold: dict[str, Any] = {"cold_start": paper.cold_start, "cold_end": paper.cold_end}
    for count in sorted({tenth, -(-tenth // 2), 1}, reverse=True):
        with suppress(ValueError):  # too few layers between the cold ones, or no token past the sink
            found.append(StaticFFN.fit(predictor.trace, count=count, **cold))
    return found


def choose(
    ways: Sequence[Policy], measure: Callable[[Policy], float | None], late: Callable[[], bool]
) -> Iterator[Tried]:
    """Iterate over settings as they are tried, until one is within the bound; the last one yielded is the choice.

    Where none is within the bound, the last one yielded is again the one that did least harm. Where time runs out, it
    is the most careful of all, untried.
    """
    tried: list[Tried] = []
    for policy in ways:
        if tried and late():
            yield Tried(ways[-1], None)
            return
        if (harm := measure(policy)) is None:
            return
        tried.append(Tried(policy, harm))
        yield tried[-1]
        if harm <= BOUND:
            return
    yield min(tried, key=lambda one: inf if one.harm is None else one.harm)


def reason(chosen: Tried, paper: Tried, predictor: Predictor) -> str:
    """A sentence on why a tuner does not begin at the paper's rule; empty where it does."""
    assert paper.harm is not None
    if paper.harm <= BOUND:
        return ""
    most = int(predictor.mask(paper.policy).sum(axis=1).max())
    share = predictor.ratios(paper.policy).decode
    why = (
        f"The paper's rule at {share:.0%} of the FFNs breaks this model's text: it skips all that follows the first "
        f"similar block, here up to {most} FFNs for one token, and moves the next-token distribution by "
        f"{paper.harm:.2f} nats (KL on the dense text; a first setting may by {BOUND})."
    )
    said = chosen.policy.describe()
    if chosen.harm is None:
        return f"{why} So this begins at the most careful setting, {said}, untried: {SECONDS:.0f} s were over."
    if chosen.harm > BOUND:
        return f"{why} No setting tried stays within that; this begins at the gentlest, {said}: {chosen.harm:.2f} nats."
    return f"{why} So this begins at {said}: {chosen.harm:.2f} nats."
