"""Searches of many numbers: proposals that no single threshold beats, repeatable, and refused where they cannot be."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import saturation as st
from saturation.tuning import propose
from tests.families import build
from tests.test_recording import sentence
from tests.traces import tokens

optuna = pytest.importorskip("optuna", reason="the extra `tune` is not installed")
LAYERS, TOKENS = 8, 60
RULE = st.FFNSkip(None, warmup=0, horizon=1, sink=0)


def made(prefill=0, model="made-up", **options):
    """A trace whose distances tell nothing of harm, and harm to which every second block is dear."""
    rng, frame = np.random.default_rng(0), tokens(3, TOKENS // 3, prefill)
    distance = rng.uniform(1e-4, 1e-2, (TOKENS, LAYERS)).astype(np.float32)
    nothing = np.zeros(distance.shape, dtype=bool)
    trace = st.Trace(frame, distance=distance, growth=distance, skipped=nothing, model="made-up", dtype="float32")
    dear = rng.uniform(0.5, 1.5, (TOKENS, LAYERS)) * np.where(np.arange(LAYERS) % 2, 1.0, 0.01)
    return trace, st.Harm(frame, dear.astype(np.float32), model=model, **options)


@pytest.fixture(scope="module")
def seen():
    return made()


def worth(policy, seen):
    """Share skipped, and summed harm per token."""
    trace, harm = seen
    skipped = st.replay(policy, trace).skipped
    return skipped.mean(), float((skipped * harm.kl).sum(axis=1).mean())


def test_it_finds_the_layers_in_front_of_harmless_blocks(seen):
    """Three of eight blocks are harmless and behind another: up to there a search is far below any one threshold."""
    found = propose(*seen, rule=RULE, trials=400, count=6, progress=False)
    points = [worth(policy, seen) for policy in found.values()]
    assert len(points) > 3 and points == sorted(points), "more skipped, more harm"
    single = [worth(replace(RULE, threshold=float(1 - limit)), seen) for limit in np.geomspace(1e-4, 1e-2, 100)]
    for share, harm in points:
        same = min(other for reached, other in single if reached >= share)
        assert harm <= same and (share > 0.33 or harm < same / 3)
    assert min(share for share, _ in points) < 0.33
    for name, policy in found.items():
        assert name == f"searched {worth(policy, seen)[0]:.1%}" and policy.check(LAYERS) is None


def test_a_search_is_repeatable_and_leaves_optuna_as_it_was(seen):
    before = optuna.logging.get_verbosity()
    once, again = (propose(*seen, rule=RULE, trials=60, seed=3, progress=False) for _ in range(2))
    assert once == again and optuna.logging.get_verbosity() == before


def test_proposals_keep_below_a_share(seen):
    found = propose(*seen, rule=RULE, trials=150, most=0.2, progress=False)
    assert found and all(0 < worth(policy, seen)[0] <= 0.2 for policy in found.values())


def test_proposals_run_live():
    model = build("llama")
    texts = np.random.default_rng(1).integers(3, 99, (4, 20)).tolist()
    trace = st.record(model, None, texts, progress=False)
    harm = st.harm(model, None, texts, progress=False)
    found = propose(trace, harm, rule=replace(RULE, sink=4), trials=40, most=1.0, progress=False)
    policy = list(found.values())[-1]
    with torch.no_grad(), st.skip(model, policy, start=0) as ledger:
        model(torch.tensor(texts))
    assert ledger.skipped.any()


@pytest.mark.parametrize(
    ("given", "options", "expected"),
    [
        (
            {"provenance": {"action": "narrow to 50%"}},
            {},
            "expected harm of what the rule does with a block (leave it out), got harm of another action (narrow to "
            "50%); measure it with the same action=",
        ),
        (
            {},
            {"trials": 0},
            "expected trials and count of at least 1 and most between 0 and 1, got 0, 8 and 0.5; correct them",
        ),
        (
            {"prefill": TOKENS},
            {},
            "expected decoded tokens past the attention sink in the trace, got none; record longer texts, or with a "
            "start position",
        ),
        (
            {},
            {"rule": replace(RULE, cold_start=4, cold_end=3)},
            "expected a rule that leaves at least two layers between its cold regions, got 4 and 3 cold ones of 8; "
            "make them smaller",
        ),
        (
            {},
            {"rule": replace(RULE, warmup=99), "trials": 3},
            "expected a rule that can skip something on this trace, got one that never does "
            f"({replace(RULE, warmup=99).describe()}); give it a smaller warm-up or fewer cold layers, or record "
            "longer texts",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(given, options, expected):
    with pytest.raises(ValueError, match=sentence(expected)):
        propose(*made(**given), **{"rule": RULE, "progress": False, **options})


def test_a_trace_that_skipped_is_refused(seen):
    trace, harm = seen
    skipped = np.zeros(trace.distance.shape, dtype=bool)
    skipped[-1, -1] = True
    gone = {name: np.where(skipped, np.nan, getattr(trace, name)) for name in ("distance", "growth")}
    with pytest.raises(
        ValueError, match=r"^expected a dense trace to fit on, but in this one 0\.\d% of the blocks were"
    ):
        propose(replace(trace, skipped=skipped, **gone), harm, rule=RULE, trials=1, progress=False)


def test_harm_of_another_model_is_refused():
    with pytest.raises(ValueError, match=r"^expected a trace of what the harm was measured on, but the harm is of 'an"):
        propose(*made(model="another"), progress=False)


def test_without_optuna_it_says_what_to_install(seen, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    expected = "expected Optuna for a search of many numbers, which is not installed; pip install 'saturation[tune]'"
    with pytest.raises(ImportError, match=sentence(expected)):
        propose(*seen)
