"""Where a tuner begins: the paper's rule at a tenth, or something gentler where that one breaks this model's text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from math import inf
from typing import Any, NamedTuple

from ...policies import FFNSkip, Policy, StaticFFN
from ..prediction import Predictor

# Ours: SmolLM2, asked by its chat template, wrote fluently with one static layer (KL .14), slipped with two (.34) and
# three (.52), and broke under the paper's rule at a tenth (1.40).
BOUND = 0.2  # nats per token, KL(dense || skipping)
SECONDS = 8.0  # after which no further setting is begun: a person waits for the first text
PROMPTS = 2  # whose dense texts the settings are tried on: a collapse shows in one, and each costs a pass a setting


class Tried(NamedTuple):
    """A setting with its KL(dense || skipping) on the dense model's texts, nats per token; None if not measured."""

    policy: Policy
    harm: float | None


def settings(predictor: Predictor, paper: FFNSkip) -> list[Policy]:
    """What is tried in turn: the paper's rule, then ever fewer of the most similar layers, the same at every token."""
    found: list[Policy] = [paper]
    tenth = max(1, round(predictor.trace.layers / 10))
    cold: dict[str, Any] = {"cold_start": paper.cold_start, "cold_end": paper.cold_end}
    for count in sorted({tenth, -(-tenth // 2), 1}, reverse=True):
        with suppress(ValueError):  # more layers than there are between the cold ones, or no token past the sink
            found.append(StaticFFN.fit(predictor.trace, count=count, **cold))
    return found


def choose(
    ways: Sequence[Policy], measure: Callable[[Policy], float | None], late: Callable[[], bool]
) -> Iterator[Tried]:
    """Try settings until one is within the bound; the last that comes is the one to begin at.

    Where none is, that is the one that did least harm; where time was over before, the most careful of all.
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
    """Why a tuner does not begin at the paper's rule; nothing where it does and that is fine."""
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
