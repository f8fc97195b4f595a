"""The tuner with policies fitted from harm: a token table and a router, predicted, run, saved and copied."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import saturation as st
from saturation.recording import streams
from saturation.widgets import ThresholdTuner
from saturation.widgets.tuner.states import DENSE, ROUTER, STATIC, TOKEN, State

PATIENCE = 120  # seconds; a guard against hanging on a busy machine
TEXTS = ("The cat sat on the mat and the dog sat on the cat.", "The dog ran to the cat and the cat ran to the mat.")
PROMPTS = ["The cat sat on the", "The dog ran"]


@pytest.fixture(scope="module")
def demo():
    torch.set_num_threads(1)
    return st.load("demo")


@pytest.fixture(scope="module")
def fitted(demo):
    """Policies by their entry in the menu."""
    harm = st.harm(*demo, TEXTS, progress=False)
    table = st.TokenFFN.fit(harm, count=3, hold_out=0.5, pseudo=0.01)
    router = st.RoutedFFN.fit(harm, streams(*demo, TEXTS, 2, progress=False), reads=2, count=3, hold_out=0.5)
    steep = router.weights["weight"] * 1000  # on so little text the fit is nearly constant
    router = replace(router, weights=st.policies.Arrays({"weight": steep, "bias": router.weights["bias"]}))
    return {TOKEN: table, ROUTER: router}


@pytest.fixture(scope="module", params=[TOKEN, ROUTER])
def measured(demo, fitted, request):
    """A tuner that has settled at a fitted policy; what it shows is read only."""
    tuner = ThresholdTuner(*demo, PROMPTS, policy=fitted[request.param], max_new_tokens=6, chat=False)
    assert tuner.settle(PATIENCE)
    yield tuner
    tuner.close()


@pytest.fixture
def tuner(demo, measured, tmp_path):
    """A tuner of one's own at the same state."""
    measured.save_session(tmp_path / "own.session.json")
    tuner = ThresholdTuner(*demo, trace=measured.trace, session=tmp_path / "own.session.json")
    assert tuner.settle(PATIENCE)
    yield tuner
    tuner.close()
    assert tuner.settle(PATIENCE)


def test_the_prediction_is_the_replay_and_the_text_is_generates(demo, measured, fitted):
    policy = fitted[measured.rule.value]
    assert measured.policy == policy and measured.result.state == State.of(policy) and not measured.stale
    trace, stream = measured.trace, None
    if measured.rule.value == ROUTER:  # one sequence at a time, in the order of the trace's rows
        of = trace.tokens["sequence"].to_numpy()
        texts = [trace.tokens["token_id"].to_numpy()[of == one].tolist() for one in range(len(PROMPTS))]
        read = streams(*demo, texts, policy.reads, progress=False)
        stream = np.empty_like(read)
        stream[np.concatenate([np.flatnonzero(of == one) for one in range(len(PROMPTS))])] = read
    replayed = st.replay(policy, trace, stream=stream)
    assert measured.result.predicted == replayed.ratios and replayed.ratios.decode > 0
    assert len(np.unique(replayed.skipped[replayed.skipped.any(axis=1)], axis=0)) > 1, "else any prediction is right"
    assert np.array_equal(measured.explorer.skipped, replayed.skipped)
    options = {"max_new_tokens": 6, "batch_size": 1, "record": False, "progress": False}
    written = st.generate(*demo, PROMPTS, policy=policy, **options)
    assert written.texts == [passage.text for passage in measured.result.passages]


def test_the_menu_has_an_entry_once_a_policy_was_fitted(demo, measured):
    assert measured.rule.value in (TOKEN, ROUTER) and measured.rule.options[-1] == DENSE
    plain = ThresholdTuner(*demo, trace=measured.trace, prompts=PROMPTS, policy=st.StaticFFN())
    assert not {TOKEN, ROUTER} & set(plain.rule.options)
    plain.close()


def test_the_slider_changes_the_number_of_blocks_and_nothing_else(tuner, fitted):
    policy = fitted[tuner.rule.value]
    assert tuner.count.layout.display is None and tuner.count.description == "per token"
    assert tuner.threshold.layout.display == "none"
    tuner.count.value = 1
    assert tuner.policy == replace(policy, count=1, predicted=None)
    assert tuner.settle(PATIENCE) and tuner.result.state.policy == tuner.policy
    assert tuner.result.actual.decode < tuner.results[State.of(policy)].actual.decode
    tuner.count.value = policy.count
    assert tuner.policy == policy
    tuner.prefill.value = False
    assert tuner.policy == replace(policy, decode_only=True)


def test_the_menu_comes_back_to_the_fitted_policy(tuner):
    before, entry = tuner.policy, tuner.rule.value
    tuner.rule.value = STATIC
    assert isinstance(tuner.policy, st.StaticFFN)
    tuner.count.value, tuner.rule.value = 3, entry
    assert tuner.policy == before


def test_cancel_keeps_the_state_before(tuner):
    before = tuner.result
    tuner.count.value = 2
    tuner.view.cancel.click()
    assert tuner.settle(PATIENCE) and tuner.result is before and tuner.stale
    assert "cancelled" in tuner.view.status.value and tuner.view.cancel.description == "Measure"


def test_a_session_holds_the_arrays(measured, tuner):
    assert list(tuner.results.values()) == list(measured.results.values())
    assert tuner.policy == measured.policy and tuner.result.state.policy == measured.policy
    assert np.array_equal(tuner.explorer.skipped, measured.explorer.skipped)


def test_the_script_reads_the_saved_policy_and_finds_the_same(demo, tuner, tmp_path):
    def ran():
        scope = {"given": demo}
        exec(tuner.view.copy.text.replace("st.load('demo', dtype='float32')", "given"), scope)
        return scope

    with pytest.raises(SystemExit, match="are in no file yet: press Save policy in the tuner, and copy this script"):
        ran()
    tuner.view.path.value = str(tmp_path / "mine")
    tuner.view.keep_policy.click()
    assert "its arrays beside it; saturation.policies.load reads both" in tuner.view.said.value
    scope = ran()
    assert scope["policy"] == tuner.policy
    assert scope["runs"].texts == [passage.text for passage in tuner.result.passages]
    tuner.count.value = 1
    assert tuner.settle(PATIENCE)
    assert ran()["policy"] == tuner.policy, "the file of another count has the same arrays"
    st.policies.save(st.TokenFFN.fit(st.harm(*demo, TEXTS[::-1] * 2, progress=False), count=2), scope["POLICY"])
    with pytest.raises(SystemExit, match="POLICY holds another policy than the tuner had: save that one again"):
        ran()


def test_a_policy_of_another_model_moves_no_control(tuner, fitted):
    before = tuner.policy
    with pytest.raises(ValueError, match="other"):
        tuner.policy = replace(fitted[TOKEN], model="other")
    assert tuner.policy == before
