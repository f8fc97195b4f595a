"""Recording more than the FFN of a run that skips: `watch` around `skip` and `skip` around `watch` see the same."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch

import saturation as st
from saturation.anatomy import find_blocks
from tests.families import FAMILIES, LAYERS, VOCABULARY, build

EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
ALSO = ("attention", "block", "naive", "magnitude")
POLICIES = {
    "never": st.FFNSkip(None),
    "static": st.StaticFFN((1,), sink=0),
    "some tokens": st.RandomFFN(ratio=0.5, seed=4, cold_start=0, cold_end=0, sink=0),
    "adaptive": st.FFNSkip(0.8, cold_start=0, cold_end=0, warmup=0, horizon=1, sink=0),
}


def ids(batch: int = 2, width: int = 7) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (batch, width), generator=torch.Generator().manual_seed(1))


def traces(model: Any, policy: st.policies.Policy, also: tuple[str, ...] = ALSO) -> list[st.Trace]:
    """One text read and two tokens decoded on a cache, watched from outside and from inside of `skip`."""
    found = []
    for inside in (False, True):
        with ExitStack() as stack, torch.no_grad():
            if inside:
                stack.enter_context(st.skip(model, policy, start=3))
            recorder = stack.enter_context(st.recording.watch(model, start=3, also=also))
            if not inside:
                stack.enter_context(st.skip(model, policy, start=3))
            cache = model(ids(), use_cache=True).past_key_values
            for step in range(2):
                model(ids(width=1) + step, past_key_values=cache)
        found.append(recorder.trace())
    return found


def columns(trace: st.Trace) -> dict[str, np.ndarray]:
    named = {name: getattr(trace, name) for name in ("distance", "growth", *dict.fromkeys(trace.groups))}
    return {name: array for name, array in named.items() if array is not None}


def alike(one: st.Trace, other: st.Trace) -> None:
    np.testing.assert_array_equal(one.skipped, other.skipped)
    assert one.tokens.equals(other.tokens) and columns(one).keys() == columns(other).keys()
    for name, expected in columns(other).items():
        np.testing.assert_allclose(getattr(one, name), expected, rtol=1e-4, atol=1e-6, err_msg=name)


@EVERY_FAMILY
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", POLICIES)
def test_both_nestings_record_the_same(name, family, large, monkeypatch):
    monkeypatch.setattr("saturation.recording.watching.LARGE", 1 if large else 1 << 16)
    outside, inside = traces(build(family), POLICIES[name])
    assert outside.skipped.any() == (name != "never")
    assert {"attention_distance", "block_distance", "naive_cosine", "magnitude"} <= columns(outside).keys()
    alike(outside, inside)


@EVERY_FAMILY
def test_a_policy_that_never_skips_records_what_is_recorded_without_one(family):
    model = build(family)
    with st.recording.watch(model, start=3, also=ALSO) as recorder, torch.no_grad():
        cache = model(ids(), use_cache=True).past_key_values
        for step in range(2):
            model(ids(width=1) + step, past_key_values=cache)
    for trace in traces(model, POLICIES["never"]):
        alike(trace, recorder.trace())


@EVERY_FAMILY
def test_a_skipped_block_is_recorded_as_one_whose_ffn_adds_zero(family):
    model = build(family)
    silent = copy.deepcopy(model)
    with torch.no_grad():
        for module in find_blocks(silent)[1].chain:
            for parameter in module.parameters():
                parameter.zero_()
    policy = st.StaticFFN((1,), sink=0)
    with st.recording.watch(silent, also=("attention", "block", "magnitude")) as recorder, torch.no_grad():
        silent(ids())
    expected, others = columns(recorder.trace()), np.arange(LAYERS) != 1
    for nest in (0, 1):
        trace = _prefilled(model, policy, nest)
        assert trace.skipped[:, 1].all() and not trace.skipped[:, others].any()
        for name, array in columns(trace).items():
            ffn = name in ("distance", "growth", "naive_cosine")  # nothing is measured of what does not run
            here = others if ffn else slice(None)
            if name in expected:
                np.testing.assert_allclose(array[:, here], expected[name][:, here], rtol=2e-4, atol=1e-6, err_msg=name)
            assert not ffn or np.isnan(array[:, 1]).all()


def _prefilled(model: Any, policy: Any, nest: int) -> st.Trace:
    skipping, watching = st.skip(model, policy), st.recording.watch(model, also=ALSO)
    with torch.no_grad():
        if nest == 0:
            with watching as recorder, skipping:
                model(ids())
        else:
            with skipping, watching as recorder:
                model(ids())
    return recorder.trace()


@pytest.mark.parametrize("also", [(), ("naive",), ("attention",), ("block",), ("magnitude",)])
def test_each_measure_alone_is_recorded_in_both_nestings(also):
    for family in ("llama", "bloom", "falcon", "opt"):
        alike(*traces(build(family), POLICIES["some tokens"], also))
