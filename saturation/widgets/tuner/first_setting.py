"""Where a tuner begins: the paper's rule at a tenth, or something gentler where that one breaks this model's text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from ...policies import FFNSkip, Policy, StaticFFN
from ..prediction import Predictor

BOUND = 0.2  # nats per token; ours: a KL(dense || skipping) up to which SmolLM2 and the bundled model stay fluent
SECONDS = 8.0  # after which no further setting is tried
PROMPTS = 2  # whose dense texts the settings are tried on


class Tried(NamedTuple):
    """A setting with its KL(dense || skipping) on the dense model's texts, nats per token; None if not measured."""

    policy: Policy
    harm: float | None


def settings(predictor: Predictor, paper: FFNSkip) -> list[Policy]:
    """What is tried in turn: the paper's rule, then ever fewer of the most similar layers, the same at every token."""
    found: list[Policy] = [paper]
    tenth = max(1, round(predictor.trace.layers / 10))
    cold: dict[str, Any] = {"cold_start": paper.cold_start, "cold_end": paper.cold_end}
    with suppress(ValueError):  # no token past the sink: nothing to choose layers on
        counts = sorted({tenth, -(-tenth // 2), 1}, reverse=True)
        found += [StaticFFN.fit(predictor.trace, count=count, **cold) for count in counts]
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
        if not harm > BOUND:
            return
    yield min(tried, key=lambda one: one.harm or 0.0)


def reason(chosen: Tried, paper: Tried, predictor: Predictor) -> str:
    """Why a tuner does not begin at the paper's rule; nothing where it does and that is fine."""
    assert paper.harm is not None
    if not paper.harm > BOUND:
        return ""
    most = int(predictor.mask(paper.policy).sum(axis=1).max())
    why = (
        f"The paper's rule at a tenth of the FFNs breaks this model's text: it skips all that follows the first "
        f"similar block, here up to {most} FFNs for one token, and moves the next-token distribution by "
        f"{paper.harm:.2f} nats (KL on the dense text; a first setting may by {BOUND})."
    )
    said = chosen.policy.describe()
    if chosen.harm is None:
        return f"{why} So this begins at the most careful setting, {said}, untried: {SECONDS:.0f} s were over."
    if chosen.harm > BOUND:
        return f"{why} No setting tried stays within that; this begins at the gentlest, {said}: {chosen.harm:.2f} nats."
    return f"{why} So this begins at {said}: {chosen.harm:.2f} nats."
