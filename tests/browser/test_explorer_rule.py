"""The explorer's rule in the browser is the twin of `replay`: the same masks, bit for bit, and the same ratios."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import traces
from playwright.sync_api import Browser, Page

from benchmarks.page import open_page
from saturation.policies import FFNSkip, RandomFFN, StaticFFN, replay
from saturation.policies.critical_thresholds import cosines, critical
from saturation.trace import Trace
from saturation.widgets import SaturationExplorer, log_scale

LAYERS = 9
TRAITS = "limit limits _exact sink cold_start cold_end warmup warmup_on horizon prefill causal".split()
# The rule of every set of traits, applied to the trace that the page shows.
APPLY = """sets => sets.map(traits => {
    const trace = module.openTrace(model.get("_data"));
    const {mask, ratios} = trace.decider.apply(module.ruleOf({get: (name) => traits[name]}));
    return {mask: Array.from(mask), ratios};
})"""


def interleaved(trace: Trace) -> Trace:
    """The same rows, sequences taking turns."""
    order = np.argsort(trace.tokens["position"].to_numpy(), kind="stable")
    arrays = {name: array[order] for name, array in trace.groups.items()}
    return replace(trace, tokens=trace.tokens.iloc[order], skipped=trace.skipped[order], **arrays)


def made(seed: int, **options: object) -> Trace:
    return traces.trace(sequences=4, length=30, prefill=6, layers=LAYERS, seed=seed, **options)


TRACES = {
    "dense": made(0),
    "of a skipping run": made(1, skip=0.3),
    "interleaved": interleaved(made(2)),
}


def random_policy(rng: np.random.Generator, trace: Trace) -> FFNSkip:
    """Any rule; half of its thresholds lie exactly on a distance of the trace, where a rounding would show."""
    ran = trace.distance[~np.isnan(trace.distance)]

    def threshold() -> float | None:
        if rng.random() < 0.1:
            return None
        on = float(cosines(rng.choice(ran)))
        return float(
            rng.choice([max(on, -1.0), 1 - 10 ** rng.uniform(-4, 0), round(on, 4), 1.0], p=[0.5, 0.3, 0.15, 0.05])
        )

    start = int(rng.integers(0, 5))
    return FFNSkip(
        tuple(threshold() for _ in range(LAYERS)) if rng.random() < 0.25 else threshold(),
        cold_start=start,
        cold_end=int(rng.integers(0, LAYERS - start)),
        warmup=int(rng.integers(0, 12)),
        sink=int(rng.choice([0, 1, 4, 9])),
        warmup_on=str(rng.choice(["generated", "position"])),
        horizon=int(rng.integers(1, 5)) if rng.random() < 0.4 else None,
        prefill=bool(rng.random() < 0.5),
        causal=bool(rng.random() < 0.3),
    )


@pytest.fixture(scope="module", params=TRACES)
def shown(request: pytest.FixtureRequest, browser: Browser) -> Iterator[tuple[Page, Trace]]:
    trace = TRACES[request.param]
    page, _ = open_page(browser, SaturationExplorer(trace))
    yield page, trace
    page.close()


def traits_of(policies: list[FFNSkip], trace: Trace) -> list[dict]:
    explorer, states = SaturationExplorer(trace), []
    for policy in policies:
        explorer.policy = policy
        states.append(explorer.get_state(TRAITS))
    return states


def test_masks_and_ratios_are_those_of_replay(shown: tuple[Page, Trace]) -> None:
    page, trace = shown
    rng = np.random.default_rng(0)
    policies = [random_policy(rng, trace) for _ in range(200)]
    found = page.evaluate(APPLY, traits_of(policies, trace))
    skipping = 0
    for policy, answer in zip(policies, found, strict=True):
        wanted = replay(policy, trace)
        mask = np.array(answer["mask"], bool).reshape(trace.distance.shape)
        np.testing.assert_array_equal(mask, wanted.skipped, err_msg=repr(policy))
        assert answer["ratios"] == pytest.approx(wanted.ratios._asdict(), rel=1e-15), policy
        skipping += mask.any()
    assert skipping > 80  # else little was compared


def test_the_critical_distances_are_those_of_python(shown: tuple[Page, Trace]) -> None:
    page, trace = shown
    policy = FFNSkip(0.99, cold_start=1, cold_end=2, warmup=3)
    found = page.evaluate(
        """traits => {
            const trace = module.openTrace(model.get("_data"));
            const {critical} = trace.decider.apply(module.ruleOf({get: (name) => traits[name]}));
            return Array.from(critical, (value) => value === Infinity ? -1 : value);
        }""",
        traits_of([policy], trace)[0],
    )
    wanted = critical(policy, trace)
    assert np.isfinite(wanted).any()
    np.testing.assert_array_equal(np.where(np.isinf(wanted), -1, wanted).ravel(), found)


def test_a_slider_place_is_the_same_cosine_in_both_languages(shown: tuple[Page, Trace]) -> None:
    page, _ = shown
    places = [*np.arange(-600, 31) / 100, *np.random.default_rng(0).uniform(-9, log_scale.MOST, 2000), -16.0]
    found = page.evaluate("places => places.map((place) => module.cosineOf(place))", list(map(float, places)))
    assert found == [log_scale.cosine(place) for place in places]


@pytest.mark.parametrize("policy", [RandomFFN(0.3, seed=4), StaticFFN((2, 5))], ids=repr)
def test_a_policy_of_python_is_shown_by_its_mask(browser: Browser, policy: RandomFFN | StaticFFN) -> None:
    trace = made(0)
    page, _ = open_page(browser, SaturationExplorer(trace, policy=policy))
    found = page.evaluate(
        'count => Array.from(module.unpackBits(module.numbers(Uint8Array, model.get("mask")), count))',
        trace.distance.size,
    )
    shown = page.locator(".sx-ratios").inner_text()
    page.close()
    wanted = replay(policy, trace)
    np.testing.assert_array_equal(np.array(found, bool).reshape(trace.distance.shape), wanted.skipped)
    assert [f"{100 * share:.1f} %" in shown for share in wanted.ratios] == [True] * 3
