"""The tuner without a browser: what each control stands for, what the background does, and what is kept."""

import base64
import copy
import gc
import html
import json
import os
import re
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

import saturation as st
from saturation.policies import FFNSkip, RandomFFN, StaticFFN, from_json
from saturation.recording.text_pieces import Pieces
from saturation.tasks import bundled
from saturation.widgets import ThresholdTuner
from saturation.widgets.log_scale import cosine
from saturation.widgets.prediction import Predictor
from saturation.widgets.tuner.controls import PolicyControls
from saturation.widgets.tuner.first_setting import choose, reason
from saturation.widgets.tuner.state_run import _Stream
from saturation.widgets.tuner.states import CAUSAL, DENSE, FFN, RANDOM, RULES, STATIC, Passage, State
from saturation.widgets.tuner.text_html import pane, ranges
from saturation.widgets.worker import Latest, model_lock
from tests import traces

PATIENCE = 120  # seconds; a guard against hanging on a busy machine


@pytest.fixture(scope="module")
def demo():
    torch.set_num_threads(1)
    return st.load("demo")


@pytest.fixture(scope="module")
def task():
    return bundled("problems").head(4)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(traces.trace(layers=12))


@pytest.fixture
def controls(predictor):
    return PolicyControls(predictor, FFNSkip(0.99, cold_start=2, cold_end=1, warmup=3, layers=12), lambda linked: None)


def by_hand(control, value):
    """What the browser sends when a hand moves a control, or when it sends back where Python put one."""
    control.set_state({"value": value})


def tuner_of(demo, task, **options):
    return ThresholdTuner(*demo, task, **({"shown": 2, "examples": 4, "max_new_tokens": 10} | options))


@pytest.fixture(scope="module")
def measured(demo, task):
    """A tuner that has settled at two states; what it shows is read only."""
    tuner = tuner_of(demo, task)
    tuner.policy = FFNSkip(0.998, cold_start=2, cold_end=2, warmup=0, layers=16)
    assert tuner.settle(PATIENCE)
    yield tuner
    tuner.close()


@pytest.fixture(scope="module")
def session(measured, tmp_path_factory):
    """What it had found, as a file."""
    path = tmp_path_factory.mktemp("tuner") / "measured.session.json"
    measured.save_session(path)
    return path


@pytest.fixture
def tuner(demo, measured, session):
    """A tuner of one's own at the same state, with nothing left to compute."""
    tuner = ThresholdTuner(*demo, trace=measured.trace, session=session)
    assert tuner.settle(PATIENCE)
    yield tuner
    tuner.close()
    assert tuner.settle(PATIENCE)


# The thread ------------------------------------------------------------------------------------------------------


def test_the_newest_job_wins_and_no_thread_is_left():
    ran, failures = [], []
    worker = Latest(failures.append)
    for number in range(20):
        worker.submit(lambda job, number=number: ran.append(number), delay=0.02)
    assert worker.busy and worker.settle(PATIENCE)
    assert ran == [19] and not failures and not worker.busy
    assert "saturation-tuner" not in [thread.name for thread in threading.enumerate() if thread.is_alive()]


def test_a_job_waits_until_the_hand_has_rested():
    ran, worker = [], Latest(lambda error: None)
    began = time.monotonic()
    worker.submit(lambda job: ran.append(time.monotonic()), delay=0.05)
    assert worker.settle(PATIENCE) and ran[0] - began >= 0.05


def test_a_newer_job_stops_the_one_that_runs():
    seen, worker = [], Latest(lambda error: None)
    began = threading.Event()

    def long(job):
        began.set()
        while not job.stopped:
            time.sleep(0.001)
        seen.append("stopped")

    worker.submit(long)
    assert began.wait(PATIENCE)
    worker.submit(lambda job: seen.append("newer"))
    assert worker.settle(PATIENCE) and seen == ["stopped", "newer"]


def test_a_job_that_fails_is_told_and_the_next_one_runs():
    failures, ran = [], []
    worker = Latest(failures.append)
    worker.submit(lambda job: 1 / 0)
    assert worker.settle(PATIENCE)
    worker.submit(lambda job: ran.append(1))
    assert worker.settle(PATIENCE)
    assert [type(error) for error in failures] == [ZeroDivisionError] and ran == [1]


def test_a_closed_worker_takes_nothing():
    ran, worker = [], Latest(lambda error: None)
    worker.submit(lambda job: ran.append(1), delay=30)
    worker.close()
    worker.submit(lambda job: ran.append(2))
    assert worker.settle(PATIENCE) and not ran


def test_a_failure_that_cannot_be_shown_does_not_end_the_work():
    ran = []

    def fails(error):
        raise error

    worker = Latest(fails)
    worker.submit(lambda job: 1 / 0)
    assert worker.settle(PATIENCE)
    worker.submit(lambda job: ran.append(1))
    assert worker.settle(PATIENCE) and ran == [1]


def test_a_job_that_was_stopped_has_no_failure_to_tell():
    failures, began = [], threading.Event()
    worker = Latest(failures.append)

    def failing(job):
        began.set()
        while not job.stopped:
            time.sleep(0.001)
        raise ValueError("nobody's business")

    worker.submit(failing)
    assert began.wait(PATIENCE)
    worker.cancel()
    assert not worker.busy and worker.settle(PATIENCE) and not failures


def test_a_model_has_one_lock(demo):
    model, _ = demo
    assert model_lock(model) is model_lock(model)


# Predictions -----------------------------------------------------------------------------------------------------

RULES_TO_PREDICT = [
    FFNSkip(0.99, warmup=0),
    FFNSkip(0.99, cold_start=2, cold_end=1, warmup=4, prefill=True),
    FFNSkip(0.99, warmup=9, warmup_on="position", prefill=True),
    FFNSkip(0.985, warmup=2, horizon=2),
    FFNSkip(0.985, warmup=2, causal=True),
    FFNSkip((0.99, None, 0.98) * 4, warmup=2),
    FFNSkip(None),
    StaticFFN((3, 4)),
    RandomFFN(0.25, seed=3),
]


@pytest.mark.parametrize("policy", RULES_TO_PREDICT, ids=lambda policy: policy.describe())
def test_a_prediction_is_the_replays(predictor, policy):
    assert predictor.ratios(policy) == st.replay(policy, predictor.trace).ratios


def test_the_dense_model_skips_nothing(predictor):
    assert predictor.ratios(None) == (0, 0, 0) and not predictor.mask(None).any()


@pytest.mark.parametrize("ratio", [0.0, 0.013, 0.1, 0.25, 0.5, 0.94])
@pytest.mark.parametrize("options", [{"warmup": 3}, {"warmup": 0, "cold_start": 2}, {"warmup": 0, "horizon": 2}])
def test_a_target_ratio_is_fitted_as_by_fit(predictor, ratio, options):
    given = {"cold_start": 0, "cold_end": 1} | options
    fitted = FFNSkip.fit(predictor.trace, ratio=ratio, **given)
    assert predictor.fitted(FFNSkip(None, **given, layers=12), ratio=ratio) == fitted
    assert predictor.ratios(fitted) == st.replay(fitted, predictor.trace).ratios, "at the very edge of a block"


# Controls --------------------------------------------------------------------------------------------------------

POLICIES = [
    None,
    FFNSkip(0.9991234567, cold_start=2, cold_end=3, warmup=7, layers=12),
    FFNSkip(0.99, warmup=80, warmup_on="position", prefill=True, horizon=3, layers=12),
    FFNSkip(0.5, warmup=0, causal=True, layers=12),
    FFNSkip(None, warmup=0, layers=12),
    FFNSkip(1.0, warmup=0, layers=12),
    FFNSkip((0.99, 0.98, None) * 4, warmup=0, layers=12),
    StaticFFN((3, 5, 6)),
    StaticFFN((3,), decode_only=True),
    RandomFFN(0.25, seed=11, cold_start=1, cold_end=2, per="run", decode_only=True),
    RandomFFN(0.97),
    FFNSkip(0.99, warmup=0, horizon=40, layers=12),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: DENSE if policy is None else policy.describe())
def test_controls_stand_for_the_policy_that_was_put_on_them(controls, policy):
    controls.put(policy)
    assert controls.policy() == policy
    assert State.of(policy).policy == policy and State.of(policy).rule == controls.rule.value


@pytest.mark.parametrize(
    ("control", "value", "option", "expected"),
    [
        ("threshold", -2.0, "threshold", 0.99),
        ("cold_start", 4, "cold_start", 4),
        ("cold_end", 3, "cold_end", 3),
        ("sink", 7, "sink", 7),
        ("warmup", 11, "warmup", 11),
        ("warmup_on", "position", "warmup_on", "position"),
        ("horizon", 2, "horizon", 2),
        ("prefill", True, "prefill", True),
        ("rule", CAUSAL, "causal", True),
    ],
)
def test_each_control_is_an_option_of_the_rule(controls, control, value, option, expected):
    getattr(controls, control).value = value
    assert getattr(controls.policy(), option) == expected


@pytest.mark.parametrize(
    ("rule", "control", "value", "option", "expected"),
    [
        (STATIC, "count", 2, "layers", (3, 5)),
        (STATIC, "layers", "1 7", "layers", (1, 7)),
        (STATIC, "prefill", True, "decode_only", False),
        (RANDOM, "share", 0.4, "ratio", 0.4),
        (RANDOM, "per", "run", "per", "run"),
        (RANDOM, "seed", 9, "seed", 9),
        (RANDOM, "cold_end", 4, "cold_end", 4),
        (RANDOM, "sink", 0, "sink", 0),
        (STATIC, "sink", 2, "sink", 2),
    ],
)
def test_each_control_is_an_option_of_a_baseline(controls, rule, control, value, option, expected):
    controls.rule.value = rule
    getattr(controls, control).value = value
    if control == "count":
        cold = {"cold_start": controls.cold_start.value, "cold_end": controls.cold_end.value}
        expected = StaticFFN.fit(controls.predictor.trace, count=2, **cold).layers
    assert getattr(controls.policy(), option) == expected


@pytest.mark.parametrize("rule", RULES)
def test_only_the_controls_of_the_policy_are_shown(controls, rule):
    controls.rule.value = rule
    shown = {name for name in ("threshold", "horizon", "count", "share", "cold_start") if
             getattr(controls, name).layout.display != "none"}  # fmt: skip
    ours = {"threshold", "horizon", "cold_start"}
    baselines = {STATIC: {"count", "cold_start"}, RANDOM: {"share", "cold_start"}, DENSE: set()}
    assert shown == baselines.get(rule, ours)


@pytest.mark.parametrize(("by", "value"), [("ratio", 0.3), ("percentile", 70)])
def test_a_target_moves_the_threshold(controls, by, value):
    controls.by.value = by
    getattr(controls, by).value = value
    options = {"cold_start": 2, "cold_end": 1, "warmup": 3}
    assert controls.policy() == FFNSkip.fit(controls.predictor.trace, **{by: value}, **options)
    controls.cold_start.value = 4  # the target is met anew
    assert controls.policy() == FFNSkip.fit(controls.predictor.trace, **{by: value}, **(options | {"cold_start": 4}))


def test_unfolded_thresholds_are_one_per_layer_and_move_together(controls):
    assert controls.per_layer.layout.display == "none" and controls.per_layer not in controls.children
    controls.unfold.value = True
    assert controls.per_layer.layout.display != "none"  # the view has them across the page
    controls.per_layer.children[3].value = -1.5
    before = controls.policy().threshold
    assert len(before) == 12 and len(set(before)) == 2 and before[3] == pytest.approx(1 - 10**-1.5, rel=1e-4)
    controls.threshold.value -= 0.25
    after = np.log10(1 - np.array(controls.policy().threshold))
    assert after == pytest.approx(np.log10(1 - np.array(before)) - 0.25, abs=1e-3)
    controls.unfold.value = False
    assert isinstance(controls.policy().threshold, float)


def test_a_move_of_all_unfolded_thresholds_is_not_left_to_the_browser(predictor):
    heard = []
    controls = PolicyControls(predictor, FFNSkip(0.99, warmup=0, layers=12), heard.append)
    controls.by.value = "ratio"
    controls.unfold.value = True
    assert controls.by.value == "cosine" and controls.by.layout.display == "none"
    controls.threshold.value -= 0.25
    controls.unfold.value = False
    controls.threshold.value -= 0.25
    assert heard == [False, False, False, False, True]


def test_a_hand_on_the_threshold_leaves_the_target(controls):
    controls.by.value = "ratio"
    controls.threshold.value = -2.0
    assert controls.by.value == "cosine" and controls.policy().threshold == 0.99


@pytest.mark.parametrize(
    ("control", "value"), [("threshold", -2.1137), ("share", 0.137), ("ratio", 0.1234), ("percentile", 71.3)]
)
def test_a_cell_may_put_a_slider_between_two_steps(controls, control, value):
    controls.rule.value = RANDOM if control == "share" else FFN
    if control in ("ratio", "percentile"):
        controls.by.value = control
    slider = getattr(controls, control)
    slider.value = value
    policy = controls.policy()
    assert 1e-6 < abs(slider.value - value) <= slider.step / 2, "it stands on a step"
    wanted = {"cold_start": 2, "cold_end": 1, "warmup": 3}
    if control == "share":
        assert policy.ratio == value
    elif control == "threshold":
        assert policy.threshold == cosine(value)
    else:
        assert policy == FFNSkip.fit(controls.predictor.trace, **{control: value}, **wanted)
    by_hand(slider, slider.value + 1e-15)
    assert controls.policy() == policy


def test_a_target_that_cannot_be_met_is_said(controls):
    controls.by.value = "ratio"
    controls.warmup.value = 64
    with pytest.raises(ValueError, match="expected decoded tokens past the warm-up of 64 and the sink"):
        controls.policy()
    controls.by.value = "cosine"
    assert controls.policy().warmup == 64


def test_layers_that_were_typed_stay(controls):
    controls.rule.value = STATIC
    controls.layers.value = "1, 7"
    controls.prefill.value = True
    assert controls.policy() == StaticFFN((1, 7))


def test_a_policy_of_another_model_moves_no_control(controls):
    before = controls.policy()
    for other in (FFNSkip((0.9, 0.8)), FFNSkip(0.5, layers=32), StaticFFN((40,))):
        with pytest.raises(ValueError, match=r"expected (one threshold per layer|a model with 32|layers of a model)"):
            controls.put(other)
    assert controls.policy() == before


def test_layers_that_are_no_numbers_are_refused(controls):
    controls.rule.value = STATIC
    controls.layers.value = "four"
    with pytest.raises(ValueError, match=re.escape("expected layer numbers such as '4, 5, 7', got 'four'; correct th")):
        controls.policy()


def test_a_policy_without_controls_is_refused():
    class Other(StaticFFN):
        pass

    assert State.of(Other()).rule == STATIC
    with pytest.raises(ValueError, match="expected a policy that the tuner has controls for"):
        State.of(object())


# Texts -----------------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "**bold** `code` $x$",
    "שלום עולם",
    "\u202eevil",
    "🙂👩‍👩‍👧",
    "a & b",
    "</div>",
    "\n",
]


def passage(pieces, skipped=None):
    return Passage(tuple(range(len(pieces))), tuple(pieces), tuple(skipped or [()] * len(pieces)))


@pytest.mark.parametrize("skipped", [(), (1, 2)])
def test_generated_text_is_shown_as_text(skipped):
    drawn = pane('<img src=x onerror="1">', passage(HOSTILE, [skipped] * len(HOSTILE)), layers=4)
    inside = re.sub(r"^<div[^>]*>|</div>$", "", drawn)
    assert {re.match(r"</?\w+", tag)[0] for tag in re.findall(r"<[^>]*>", inside)} == {"<span", "</span"}
    assert html.unescape(re.sub(r"<[^>]*>", "", inside)) == '<img src=x onerror="1">' + "".join(HOSTILE)
    assert 'dir="auto"' in drawn


def test_tokens_say_which_blocks_were_skipped_to_write_them():
    drawn = pane("", passage([" a", " b"], [(), (4, 5, 6, 9)]), layers=16)
    assert drawn.count("<span") == 2 and "written with 4 of 16 FFNs skipped: layers 4-6, 9" in drawn


def test_what_differs_from_the_other_text_is_marked():
    ours = Passage((1, 2, 3), (" a", " b", " c"), ((), (), ()))
    theirs = Passage((1, 9, 3), (" a", " x", " c"), ((), (), ()))
    assert re.findall(r'<span class="(st-new[^"]*)">([^<]*)', pane("", ours, theirs)) == [("st-new st-first", " b")]
    assert "st-new" not in pane("", ours, ours)


def test_layers_are_named_in_ranges():
    assert [ranges(layers) for layers in ((4,), (5, 4), (1, 2, 3, 7))] == ["layer 4", "layers 4-5", "layers 1-3, 7"]


TEXTS = [
    "Naïve 漢字 👩‍👩‍👧 🧪 שלום עולם مرحبا e\u0301 — 3 + 4 = 7.\n\n  \tEnd ... of it\u200d",
    "Rosalind has 24 shells. " * 3,
    "🧪" * 30,
    "",
]


def sentencepiece():
    """A tokenizer as LLaMA 2's: spaces are letters, the first is left out, other letters are bytes."""
    known = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefghijklmnoprst.é", "▁s", "▁sh"]
    vocabulary = {piece: number for number, piece in enumerate(known)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "s"), ("▁s", "h")], byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    spaces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(spaces)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>")


class Counting:
    """Decodes as another tokenizer does, and counts the tokens."""

    def __init__(self, tokenizer):
        self.tokenizer, self.decoded = tokenizer, 0

    def decode(self, ids, **options):
        self.decoded += len(ids)
        return self.tokenizer.decode(ids, **options)


def by_prefixes(tokenizer, ids):
    """What each token adds, from the text of every prefix."""
    before, found = "", []
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:end], skip_special_tokens=True)
        whole = text.rstrip("�") if end < len(ids) else text
        found.append(whole[len(before) :])
        before = max(before, whole, key=len)
    return found


@pytest.mark.parametrize("tokenizer", ["demo", "sentencepiece"])
def test_pieces_are_what_each_token_adds(demo, tokenizer):
    tokenizer = demo[1] if tokenizer == "demo" else sentencepiece()
    for text in (*TEXTS, "".join(TEXTS), "".join(TEXTS[::-1]) * 2):
        whole = tokenizer(text).input_ids
        for first in (0, 1, 2, 3, 4):
            ids, growing = whole[first:], Pieces(tokenizer)
            expected = by_prefixes(tokenizer, ids)
            for end in range(1, len(ids), 7):
                assert growing.of(ids[:end])[:-1] == expected[: end - 1], "and the last may wait for more bytes"
            assert growing.of(ids) == expected
            assert "".join(expected) == tokenizer.decode(ids, skip_special_tokens=True)


def test_pieces_of_a_long_text_cost_a_few_tokens_each(demo):
    tokenizer = Counting(demo[1])
    ids = demo[1]("".join(TEXTS) * 8).input_ids
    growing = Pieces(tokenizer)
    for end in range(1, len(ids) + 1):
        growing.of(ids[:end])
    assert len(ids) > 1000 and tokenizer.decoded < 80 * len(ids)


def test_a_text_is_streamed_without_being_decoded_anew(tuner, demo, monkeypatch):
    tokenizer = Counting(demo[1])
    monkeypatch.setattr("saturation.widgets.tuner.state_run._EVERY", -1)  # a picture of every token
    shown = []
    stream = _Stream(tokenizer, [0], None, lambda prompt, passage: shown.append(passage), lambda: False)
    ids = demo[1]("".join(TEXTS) * 2).input_ids
    for token in ids:
        stream(0, token)
    assert list(shown[-1].pieces) == by_prefixes(demo[1], ids) and tokenizer.decoded < 80 * len(ids)


# The whole -------------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_generate_and_evaluate(measured, demo, task):
    policy = measured.policy
    options = {"max_new_tokens": 10, "batch_size": 1, "progress": False}
    prompts = [example.prompt for example in task.head(2)]
    dense, runs = (st.generate(*demo, prompts, policy=one, **options) for one in (None, policy))
    result = measured.result
    assert [passage.text for passage in result.passages] == runs.texts
    assert [list(passage.ids) for passage in result.passages] == runs.ids
    assert [one.text for one in measured.results[State(DENSE)].passages] == dense.texts
    assert result.actual == runs.ledger.ratios and result.ideal == pytest.approx(runs.ledger.ideal)
    assert result.predicted == st.replay(policy, measured.trace).ratios
    summary = st.quality.summarise(st.quality.evaluate(*demo, task, policy=policy, batch_size=8, progress=False))
    row = summary[summary["score"] == "correct"].iloc[0]
    assert (result.quality.n, result.quality.mean, result.quality.high) == (4, row["mean"], row["high"])


def test_skipped_blocks_of_each_token_are_those_of_its_pass(measured, demo, task):
    runs = st.generate(*demo, task.examples[0].prompt, policy=measured.policy, max_new_tokens=10, progress=False)
    tokens, mask = runs.ledger.tokens, runs.ledger.skipped
    decode = mask[(tokens["generated"] > 0).to_numpy()]
    found = measured.result.passages[0].skipped
    assert found[0] == () and [list(layers) for layers in found[1:]] == [np.flatnonzero(row).tolist() for row in decode]
    assert decode.any()


def test_what_is_shown_names_everything(measured):
    numbers = measured.view.numbers.value
    for said in (
        "accuracy (n = 4)",
        "tokens as dense",
        "texts that loop",
        "tokens/s, one run each",
        "ideal speed-up",
        "nominal",
        "decode",
        "total",
    ):
        assert said in numbers
    for state, result in measured.results.items():
        assert f"<td>{result.speed:.0f}</td>" in numbers, "of one run, and no ratio of two"
        assert f"{measured.result.speed / result.speed:.2f}×" not in numbers or not state.json
    assert measured.view.sparse_title.value.endswith(f"<b>{measured.policy.describe()}</b></div>")
    assert "stale" not in measured.view.numbers_title.value and not measured.stale
    assert len(measured.view.pareto.points) == len(measured.results)
    assert measured.view.pareto.current == measured.policy.to_json()


def test_the_first_difference_names_its_text(measured):
    def row(*divergence):
        result = replace(measured.result, divergence=divergence)
        measured.view.show_numbers(result, measured.results[State(DENSE)], stale=False, unscored="")
        return re.search("<td>first difference</td><td></td><td>([^<]*)</td>", measured.view.numbers.value)[1]

    assert [row(None, None), row(None, 3), row(7, 0), row(4, 4)] == [
        "none",
        "token 4 of text 2",
        "token 1 of text 2",
        "token 5 of text 1",
    ]
    measured._screen.paint()


def test_a_moved_slider_is_answered_at_once_and_measured_at_rest(tuner):
    before = tuner.result
    tuner.threshold.value = -2.5
    assert tuner.stale and tuner.result is before
    assert "stale" in tuner.view.numbers_title.value and "stale" in tuner.view.sparse_title.value
    predicted = st.replay(tuner.policy, tuner.trace).ratios
    assert f"<b>{predicted.decode:.1%}</b>" in tuner.controls.predicted.value
    assert tuner.settle(PATIENCE)
    assert not tuner.stale and tuner.result.state.policy == tuner.policy
    assert "stale" not in tuner.view.numbers_title.value + tuner.view.sparse_title.value
    assert tuner.explorer.policy == tuner.policy


def test_a_point_brings_its_state_back_without_computing(tuner, monkeypatch):
    first = tuner.result
    tuner.threshold.value = -2.5
    tuner.cold_end.value = 4
    assert tuner.settle(PATIENCE)
    monkeypatch.setattr(tuner.bench, "write", lambda *args, **options: pytest.fail("computed"))
    key = next(point["key"] for point in tuner.view.pareto.points if point["key"] == first.state.json)
    tuner.view.pareto.chosen = [key, 1]
    assert tuner.result is first and not tuner.stale and tuner.policy == first.state.policy
    assert tuner.cold_end.value == 2 and tuner.explorer.policy == tuner.policy
    assert tuner.view.pareto.current == key
    tuner.threshold.value += 0.1
    tuner.threshold.value -= 0.1  # visited before: shown again when the hand rests
    assert tuner.settle(PATIENCE)


@pytest.mark.parametrize("rule", RULES)
def test_every_policy_of_the_menu_is_measured(tuner, rule):
    tuner.rule.value = rule
    tuner.count.value = 2
    assert tuner.settle(PATIENCE)
    assert tuner.result.state.rule == rule and not tuner.stale
    assert np.array_equal(tuner.explorer.skipped, tuner._predictor.mask(tuner.policy))


def test_baselines_begin_at_a_tenth(tuner):
    before = tuner.results.copy()
    tuner.rule.value = STATIC
    assert len(tuner.policy.layers) == 2 and tuner.settle(PATIENCE)
    tuner.rule.value = RANDOM
    assert tuner.policy.ratio == 0.1 and tuner.settle(PATIENCE)
    assert [state.rule for state in tuner.results if state not in before] == [STATIC, RANDOM], "nothing in between"


def test_only_a_hand_changes_a_policy(tuner):
    fitted = FFNSkip.fit(tuner.trace, ratio=0.137, warmup=0)
    tuner.policy = fitted
    assert tuner.settle(PATIENCE) and tuner.policy == fitted
    place, visited = tuner.threshold.value, list(tuner.results)
    assert fitted.threshold != cosine(place), "else nothing could be lost"
    for echo in (place + 1e-15, round(place, 2), place + 0.004, place - 0.004):
        by_hand(tuner.threshold, echo)
        assert tuner.policy == fitted and not tuner.stale
    by_hand(tuner.threshold, place + 0.01)
    assert tuner.policy.threshold == cosine(place + 0.01) and tuner.stale
    by_hand(tuner.threshold, place)
    assert tuner.policy == fitted and tuner.explorer.policy == fitted, "where Python put it"
    assert tuner.settle(PATIENCE) and list(tuner.results) == visited


def test_the_first_policy_is_the_one_that_was_fitted(demo, task):
    tuner = tuner_of(demo, task)
    first = FFNSkip.fit(tuner.trace, ratio=0.1, warmup=0)
    assert tuner.policy == first != replace(first, threshold=cosine(tuner.threshold.value))
    by_hand(tuner.threshold, round(tuner.threshold.value, 2))
    assert tuner.settle(PATIENCE) and tuner.policy == first and len(tuner.results) == 2
    tuner.close()


def test_a_sentence_under_the_buttons_goes_when_something_else_is_done(tuner, tmp_path):
    (tmp_path / "file").write_text("")
    actions = (
        lambda: setattr(tuner.threshold, "value", -2.5),
        lambda: tuner.restore(State(DENSE)),
        lambda: tuner.view.after.click(),
        lambda: setattr(tuner.view.path, "value", "elsewhere"),
    )
    for act in actions:
        tuner.view.path.value = str(tmp_path / "file" / "best")
        tuner.view.keep_policy.click()
        assert "cannot write into the folder" in tuner.view.said.value or tuner.policy is None
        act()
        assert "cannot write" not in tuner.view.said.value


def test_prompts_are_turned_over(tuner):
    assert "Rosalind" in tuner.view.sparse.value
    tuner.view.after.click()
    assert "Bruno" in tuner.view.sparse.value and "Bruno" in tuner.view.dense.value
    tuner.view.after.click()
    assert "Rosalind" in tuner.view.sparse.value
    tuner.view.before.click()
    assert "Bruno" in tuner.view.sparse.value


def test_cancel_keeps_the_state_before(tuner):
    before = tuner.result
    tuner.threshold.value = -2.5
    tuner.view.cancel.click()
    assert tuner.settle(PATIENCE)
    assert tuner.result is before and tuner.stale and "cancelled" in tuner.view.status.value
    assert (tuner.view.cancel.description, tuner.view.cancel.disabled) == ("Measure", False)
    tuner.view.cancel.click()
    assert tuner.view.cancel.description == "Cancel" and tuner.settle(PATIENCE) and not tuner.stale
    assert (tuner.view.cancel.description, tuner.view.cancel.disabled) == ("Cancel", True)


def test_a_state_that_was_cancelled_can_be_asked_for_again(tuner):
    tuner.threshold.value = -2.5
    tuner.view.cancel.click()
    assert tuner.settle(PATIENCE) and tuner.stale
    tuner.policy = tuner.policy
    assert tuner.settle(PATIENCE) and not tuner.stale


def test_text_whose_score_fails_is_not_a_state_visited(tuner, monkeypatch):
    before = tuner.result

    def fails(*args, **options):
        raise ValueError("no such score")

    monkeypatch.setattr(tuner.bench, "score", fails)
    tuner.threshold.value = -2.5
    with pytest.raises(RuntimeError):
        tuner.settle(PATIENCE)
    assert tuner.result is before and tuner.stale and len(tuner.results) == 2
    assert "ValueError: no such score" in tuner.view.status.value


def test_settle_tells_of_a_failure_until_something_else_is_asked_for(tuner, monkeypatch):
    def fails(*args, **options):
        raise ValueError("no such text")

    with monkeypatch.context() as broken:
        broken.setattr(tuner.bench, "write", fails)
        tuner.policy = StaticFFN((5,))
        for _ in range(2):
            with pytest.raises(RuntimeError) as failure:
                tuner.settle(PATIENCE)
            assert str(failure.value) == (
                "expected to measure static FFN, layer 5, but that failed: ValueError: no such text; mend the cause "
                "and set the policy again, or set another one"
            )
            assert isinstance(failure.value.__cause__, ValueError)
        tuner.restore(State(DENSE))
        assert tuner.settle(PATIENCE)
        tuner.policy = StaticFFN((5,))
        with pytest.raises(RuntimeError):
            tuner.settle(PATIENCE)
    tuner.policy = StaticFFN((5,))
    assert tuner.settle(PATIENCE) and not tuner.stale


def test_a_first_measurement_that_failed_can_be_asked_for_again(demo, task, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("saturation.widgets.tuner.state_run.Bench.score", lambda *args, **options: 1 / 0)
        tuner = tuner_of(demo, task)
        with pytest.raises(RuntimeError, match=r"expected to measure FFN-SkipLLM, .* failed: ZeroDivisionError: d"):
            tuner.settle(PATIENCE)
    assert tuner.result is None
    tuner.policy = tuner.policy
    assert tuner.settle(PATIENCE) and tuner.result is not None and not tuner.stale
    tuner.close()


def test_the_failure_of_a_job_that_was_stopped_is_not_shown(tuner, monkeypatch):
    """The job fails, and before that is told another state is asked for."""
    failing, stopped, write = threading.Event(), threading.Event(), tuner.bench.write

    def fails(error):
        failing.set()
        assert stopped.wait(PATIENCE)
        told(error)

    told = tuner._measuring._worker._on_error
    monkeypatch.setattr(tuner._measuring._worker, "_on_error", fails)
    monkeypatch.setattr(tuner.bench, "write", lambda *args, **options: 1 / 0)
    tuner.policy = StaticFFN((5,))
    assert failing.wait(PATIENCE)
    monkeypatch.setattr(tuner.bench, "write", write)
    tuner.restore(State(DENSE))
    stopped.set()
    assert tuner.settle(PATIENCE)
    assert tuner.result.state == State(DENSE) and "as measured before" in tuner.view.status.value


def test_impossible_controls_are_said_and_nothing_is_run(tuner, monkeypatch):
    monkeypatch.setattr(tuner.bench, "write", lambda *args, **options: pytest.fail("computed"))
    tuner.cold_start.value = 15
    assert tuner.settle(PATIENCE)
    assert "cover all 16 layers; make them smaller" in tuner.controls.predicted.value and tuner.stale
    assert tuner.view.cancel.disabled and tuner.view.copy.text == "# the controls stand for no policy"


def test_impossible_controls_end_what_is_measured(tuner):
    tuner.threshold.value = -2.5
    tuner.cold_start.value = 15
    assert tuner.view.cancel.disabled and tuner.settle(PATIENCE)
    assert len(tuner.results) == 2 and tuner.view.cancel.disabled


def test_out_of_memory_is_said_and_the_state_before_kept(tuner, monkeypatch):
    before = tuner.result

    def full(*args, **options):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(tuner.bench, "write", full)
    tuner.threshold.value = -2.5
    with pytest.raises(RuntimeError, match="but that failed: out of memory: ask for fewer new tokens or examples; the"):
        tuner.settle(PATIENCE)
    assert "out of memory: ask for fewer new tokens or examples; the state before is kept" in tuner.view.status.value
    assert tuner.result is before and tuner.stale


def test_prompts_without_references_say_so(demo):
    tuner = ThresholdTuner(*demo, ["Question: Which instrument does Yara Kettle play?\nAnswer:"], max_new_tokens=4)
    assert tuner.settle(PATIENCE)
    assert "no references" in tuner.view.numbers.value and tuner.result.quality is None
    assert tuner.view.pareto.ylabel == "agreement" and tuner.view.pareto.points[0]["y"] == 1
    tuner.close()


def test_conversations_are_scored_on_their_reference_replies(demo):
    task = bundled("conversations").head(2)
    tuner = tuner_of(demo, task, chat=False)
    assert tuner.settle(PATIENCE)
    rows = st.quality.evaluate(*demo, task, policy=tuner.policy, chat=False, batch_size=8, progress=False)
    summary = st.quality.summarise(rows).set_index("score").loc["rouge_L"]
    quality = tuner.result.quality
    assert (quality.name, quality.n, quality.mean) == ("rouge_L", 4, summary["mean"])
    assert "ROUGE-L (n = 4)" in tuner.view.numbers.value and tuner.view.pareto.ylabel == "ROUGE-L"
    assert tuner.bench.asked.prompts[0] == f"User: {task.examples[0].prompt}\nAssistant:", "as they are scored"
    tuner.close()


def test_conversations_without_replies_say_so(demo):
    example = st.tasks.Example("1", prompt="Hello!", turns=("And you?",))
    tuner = ThresholdTuner(*demo, st.tasks.Task("talk", "conversation", (example,), 4), max_new_tokens=4)
    assert tuner.settle(PATIENCE)
    assert "no reference replies" in tuner.view.numbers.value and tuner.result.quality is None
    assert "evaluate" not in tuner.script
    tuner.close()


def test_a_single_example_has_a_score_without_an_interval(demo):
    example = st.tasks.Example("1", prompt="Once upon a time", references=("there was a king", "there was a fox"))
    tuner = ThresholdTuner(*demo, st.tasks.Task("tales", "summary", (example,), 4), max_new_tokens=4)
    assert tuner.settle(PATIENCE)
    quality = tuner.result.quality
    assert quality.n == 1 and quality.low == quality.mean == quality.high
    assert "nan" not in tuner.view.numbers.value and json.dumps(tuner.view.pareto.points, allow_nan=False)
    tuner.close()


def test_a_trace_of_another_model_is_refused_with_both_names(demo, task):
    with pytest.raises(ValueError) as refusal:
        tuner_of(demo, task, trace=traces.trace())
    assert str(refusal.value) == (
        "expected a trace of the model 'demo', got one of 'made-up'; record one, or leave trace= out"
    )
    with pytest.raises(ValueError, match="expected a trace of all 16 layers of 'demo', got one of 12; record one of t"):
        tuner_of(demo, task, trace=traces.trace(layers=12, model="demo"))


def test_nothing_to_tune_on_is_refused(demo):
    with pytest.raises(ValueError, match="expected a task or prompts to tune on, got none; name some, or a session"):
        ThresholdTuner(*demo)
    with pytest.raises(ValueError, match="expected at least one prompt to tune on, got none; name a text, several, or"):
        ThresholdTuner(*demo, [])
    with pytest.raises(
        ValueError, match=re.escape("prompt 2 has half of a character, '\\ud83d', at place 1; remove it")
    ):
        ThresholdTuner(*demo, ["a", "b\ud83d"])


# How the prompts are asked, and where the controls begin -----------------------------------------------------------

ASKED = ["Hello! Where does Odette Quarry live?", "What does Yara Kettle play?"]


@pytest.fixture
def chatting(demo):
    """A tuner of a user's words; the bundled tokenizer has a chat template."""
    tuner = ThresholdTuner(*demo, ASKED, policy=StaticFFN((6,)), max_new_tokens=6)
    yield tuner
    tuner.close()
    assert tuner.settle(PATIENCE)


@pytest.mark.parametrize(("given", "chat"), [(ASKED, True), ("conversations", True), ("problems", False)])
def test_a_users_words_are_asked_as_such(demo, given, chat):
    prompts = given if isinstance(given, list) else bundled(given).head(2)
    tuner = ThresholdTuner(*demo, prompts, policy=StaticFFN((6,)), shown=1, max_new_tokens=2)
    assert (tuner.view.chat.value, tuner.view.chat.disabled, tuner.bench.asked.chat) == (chat, False, chat)
    assert ("answers a user's turn (chat template)" in html.unescape(tuner.view.dense_title.value)) is chat
    tuner.close()


def test_the_menu_shows_the_prompts_as_they_are_asked(demo):
    tuner = ThresholdTuner(*demo, bundled("conversations").head(2), policy=StaticFFN((6,)), max_new_tokens=2)
    tuner.view.prompt.value = 1
    wrapped = tuner.view.prompt.options
    by_hand(tuner.view.chat, False)
    plain = tuner.view.prompt.options
    assert [label[:8] for label, _ in plain] == ["1: User:", "2: User:"] and tuner.view.prompt.value == 1
    by_hand(tuner.view.chat, True)
    assert tuner.view.prompt.options == wrapped != plain and tuner.view.prompt.value == 1
    tuner.close()


def test_without_a_chat_template_there_is_no_switch(demo):
    model, tokenizer = demo
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    tuner = ThresholdTuner(model, bare, ASKED, policy=StaticFFN((6,)), max_new_tokens=2)
    assert (tuner.view.chat.value, tuner.view.chat.disabled) == (False, True)
    assert tuner.view.chat.tooltip == "this tokenizer has no chat template"
    tuner.close()


def test_the_switch_asks_anew_and_keeps_both(chatting, demo, tmp_path):
    assert chatting.settle(PATIENCE)
    for chat in (True, False):
        by_hand(chatting.view.chat, chat)
        assert chatting.settle(PATIENCE) and not chatting.stale
        options = {"policy": chatting.policy, "max_new_tokens": 6, "chat": chat, "batch_size": 1, "progress": False}
        assert [one.text for one in chatting.result.passages] == st.generate(*demo, ASKED, **options).texts
        assert chatting.trace.equals(st.record(*demo, ASKED, max_new_tokens=6, chat=chat, progress=False))
        assert chatting.explorer.trace is chatting.trace and f"'chat': {chat}" in chatting.script
        assert chatting.script == chatting.view.copy.text and chatting.result.state.chat is chat
        assert len(chatting.view.pareto.points) == 2, "of the prompts as they are asked now"
    assert chatting.table()["chat"].tolist() == [True, True, False, False]
    chatting.save_session(tmp_path / "both.json")
    again = ThresholdTuner(*demo, session=tmp_path / "both.json")
    assert again.settle(PATIENCE) and again.results == chatting.results and not again.view.chat.value
    again.restore(next(state for state in again.results if state.chat and state.json))
    assert again.view.chat.value and not again.stale
    assert (
        again.settle(PATIENCE)
        and not again.stale
        and again.trace.provenance["chat"]
        and again.explorer.trace is again.trace
    )
    again.close()


def test_the_switch_tells_how_far_it_is_and_is_cancelled(chatting, monkeypatch):
    assert chatting.settle(PATIENCE)
    said, recorded = [], chatting.trace
    chatting.view.status.observe(lambda change: said.append(change["new"]), "value")

    def until(show, stopped):
        show(3)
        while not stopped():
            time.sleep(0.01)

    monkeypatch.setattr(chatting.bench, "record_in_turn", until)
    by_hand(chatting.view.chat, False)
    ends = time.monotonic() + PATIENCE
    while not any("recording the dense model, 3 of 12 tokens, 0 s" in one for one in said) and time.monotonic() < ends:
        time.sleep(0.01)
    assert chatting.view.progress.value == 3 / 12 and not chatting.view.cancel.disabled
    chatting.view.cancel.click()
    assert chatting.settle(PATIENCE) and chatting.trace is recorded and chatting.stale
    assert chatting.view.cancel.description == "Measure"


def test_the_paper_rule_stays_where_it_harms_little(demo, task):
    tuner = tuner_of(demo, task)
    assert tuner.settle(PATIENCE)
    assert tuner.policy == FFNSkip.fit(tuner.trace, ratio=0.1, warmup=0) and not tuner.view.note.value
    tuner.close()


def test_a_gentler_setting_is_taken_where_the_paper_rule_breaks_the_text(demo, task, monkeypatch):
    monkeypatch.setattr("saturation.widgets.tuner.state_run.Bench.harm", harms({FFN: 1.5, 2: 0.3, 1: 0.1}))
    tuner = tuner_of(demo, task)
    assert tuner.settle(PATIENCE)
    assert tuner.policy == StaticFFN.fit(tuner.trace, count=1) == tuner.explorer.policy
    assert tuner.result.state.policy == tuner.policy and not tuner.stale and len(tuner.results) == 2
    said = html.unescape(tuner.view.note.value)
    assert re.search(r"breaks this model's text: it skips all that follows .* up to \d+ FFNs for one token", said)
    assert "moves the next-token distribution by 1.50 nats" in said and "begins at static FFN, layer" in said
    tuner.close()


def harms(known):
    """What a setting is said to harm: by rule, or by the number of its layers."""
    return lambda self, policy, dense, stopped: known[FFN if isinstance(policy, FFNSkip) else len(policy.layers)]


@pytest.mark.parametrize("by", ["a slider", "Python"])
def test_a_hand_is_not_moved_to_the_first_setting(demo, task, monkeypatch, by):
    moved = threading.Event()

    def harm(self, policy, dense, stopped):
        assert moved.wait(PATIENCE)
        return None if stopped() else 1.5

    monkeypatch.setattr("saturation.widgets.tuner.state_run.Bench.harm", harm)
    tuner = tuner_of(demo, task)
    until = time.monotonic() + PATIENCE
    while "choosing the first setting, 0 of 3 tried" not in tuner.view.status.value and time.monotonic() < until:
        time.sleep(0.01)
    if by == "a slider":
        tuner.threshold.value = -2.5
    else:
        tuner.policy = StaticFFN((2, 9))
    mine = tuner.policy
    moved.set()
    assert tuner.settle(PATIENCE) and tuner.policy == mine == tuner.result.state.policy and not tuner.view.note.value
    tuner.close()


def out_of_memory(*given, **named):
    raise torch.OutOfMemoryError("no room")


@pytest.mark.parametrize("what", ["harm", "loss"])
def test_what_was_written_is_kept_where_there_is_no_room_to_judge_it(demo, task, monkeypatch, what):
    monkeypatch.setattr(f"saturation.widgets.tuner.state_run.Bench.{what}", out_of_memory)
    tuner = tuner_of(demo, task)
    assert tuner.settle(PATIENCE) and len(tuner.results) == 2 and not tuner.stale
    assert all((one.loss is None) is (what == "loss") for one in tuner.results.values())
    assert isinstance(tuner.policy, FFNSkip) and not tuner.view.note.value
    tuner.close()


def test_an_echo_of_the_browser_is_no_hand(demo, task, monkeypatch):
    monkeypatch.setattr("saturation.widgets.tuner.state_run.Bench.harm", harms({FFN: 1.5, 2: 0.1}))
    tuner = tuner_of(demo, task)
    tuner._moved(linked=False)
    assert tuner.settle(PATIENCE) and isinstance(tuner.policy, StaticFFN)
    tuner.close()


@pytest.mark.parametrize(
    ("harm", "late", "begins", "said"),
    [
        ((0.2, 9, 9), False, 0, ""),
        ((1.5, 0.1, 9), False, 1, "So this begins at static FFN, layers 3, 4: 0.10 nats."),
        ((np.inf, 0.1, 9), False, 1, "moves the next-token distribution by inf nats"),
        ((1.5, 0.9, 0.4), False, 2, "No setting tried stays within that; this begins at the gentlest, static FFN, l"),
        ((1.5, 0.1, 9), True, 2, "begins at the most careful setting, static FFN, layer 3, untried: 8 s were over."),
    ],
)
def test_the_first_setting_is_the_first_within_the_bound(predictor, harm, late, begins, said):
    ways = [FFNSkip(0.99, warmup=0, layers=12), StaticFFN((3, 4)), StaticFFN((3,))]
    tried = list(choose(ways, dict(zip(ways, harm, strict=True)).get, lambda: late))
    assert tried[-1].policy == ways[begins]
    why = reason(tried[-1], tried[0], predictor)
    assert said in why and bool(why) is (begins > 0)


def test_a_measured_harm_and_loss_are_those_of_drift(measured, demo, task):
    dense, prompts = measured.results[State(DENSE)].passages, [example.prompt for example in task.head(2)]
    policy, ids = measured.policy, [[list(one.ids) for one in part] for part in (dense, measured.result.passages)]
    rows = st.quality.drift(*demo, prompts, *ids, policy=policy, progress=False)
    tokens = np.array([len(one) for one in ids[0]])
    found = measured.bench.harm(policy, dense, lambda: False)
    assert found == pytest.approx(float((rows["kl"] * tokens).sum() / tokens.sum()), rel=1e-4)
    tokens = np.array([len(one) for one in ids[1]])
    loss = float((rows["dense_nll"] * tokens).sum() / tokens.sum())
    assert measured.result.loss == pytest.approx(loss, rel=1e-4)
    assert f"<td>perplexity under dense</td><td>{np.exp(measured.results[State(DENSE)].loss):.2f}</td><td>" in (
        measured.view.numbers.value
    )


# Others on the same model ----------------------------------------------------------------------------------------


def test_a_closed_tuner_lets_go_of_everything(demo, measured, session):
    tuner = ThresholdTuner(*demo, trace=measured.trace, session=session)
    assert tuner.settle(PATIENCE)
    tuner.unfold.value = True
    gone = [weakref.ref(one) for one in (tuner, tuner.bench, tuner.explorer, tuner.per_layer.children[3])]
    tuner.close()
    assert tuner.settle(PATIENCE)
    del tuner
    gc.collect()
    assert not any(one() for one in gone)


def test_a_cell_that_runs_again_holds_one_tuner_and_one_model(measured, session, monkeypatch):
    held, models = [], []  # as a notebook's Out holds what its cells have shown

    def run(cell, message):
        parent = {"metadata": {"cellId": cell}, "header": {"msg_id": message}}
        kernel = SimpleNamespace(get_parent=lambda: parent)
        monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=kernel))
        model, tokenizer = st.load("demo")
        models.append(weakref.ref(model))
        held.append(ThresholdTuner(model, tokenizer, trace=measured.trace, session=session))
        assert held[-1].settle(PATIENCE)

    try:
        run("first", "1")
        run("second", "2")
        run("first", "3")
        assert [tuner.comm is not None for tuner in held] == [False, True, True]
        gc.collect()
        assert [model() is not None for model in models] == [False, True, True]
        run("first", "3")  # two of one run may stand beside each other
        assert [tuner.comm is not None for tuner in held] == [False, True, True, True]
    finally:
        for tuner in held:
            tuner.close()
    gc.collect()
    assert not any(model() for model in models)


def test_a_tuner_is_named_in_one_line(tuner):
    assert repr(tuner) == "<ThresholdTuner of 'demo': 2 states>"


def test_a_tuner_that_was_refused_leaves_nothing(demo, task):
    gc.collect()
    before = len(gc.get_referrers(demo[0]))
    with pytest.raises(ValueError, match="expected a trace of the model 'demo', got one of 'made-up'"):
        tuner_of(demo, task, trace=traces.trace())
    gc.collect()
    assert len(gc.get_referrers(demo[0])) == before


def test_the_picture_is_not_sent_back_to_a_hand_that_moves_it(tuner, monkeypatch):
    sent, send = [], type(tuner.explorer)._send
    monkeypatch.setattr(type(tuner.explorer), "_send", lambda *args, **options: (sent.append(args), send(*args)))
    by_hand(tuner.threshold, -2.37)  # the explorer has it from the link in the browser, and tells of it later
    assert tuner.explorer.policy == tuner.policy and tuner.policy.threshold == cosine(-2.37)
    by_hand(tuner.cold_end, 4)
    assert tuner.settle(PATIENCE) and not tuner.stale
    assert not sent and tuner.explorer.policy == tuner.policy
    tuner.warmup_on.value = "position"  # no link has this one
    assert [message["state"] for _, message in sent] == [{"warmup_on": "position", "_exact": []}]


def test_another_cell_skips_while_the_tuner_works(tuner, demo, task):
    prompt, policy = task.examples[1].prompt, StaticFFN((6,))
    options = {"policy": policy, "max_new_tokens": 4, "progress": False, "record": False}
    wanted = st.generate(*demo, prompt, **options).texts
    for step in range(4):
        tuner.threshold.value = -2.4 + 0.1 * step
        tuner.settle(0.3)  # by now the model is at work, or has been
        assert st.generate(*demo, prompt, **options).texts == wanted
    with st.skip(demo[0], policy):
        tuner.threshold.value = -2.55
        until = time.monotonic() + PATIENCE
        while "waiting for the model" not in tuner.view.status.value and time.monotonic() < until:
            time.sleep(0.01)
        assert not tuner.settle(0.5) and "waiting for the model" in tuner.view.status.value
    assert tuner.settle(PATIENCE) and not tuner.stale


def test_a_slider_dragged_fast_while_others_generate(tuner, demo, task):
    model, tokenizer = demo
    ids = tokenizer(task.examples[1].prompt, return_tensors="pt")
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": tokenizer.eos_token_id}
    wanted = model.generate(**ids, **options).tolist()
    texts, errors, over = [], [], threading.Event()

    def other_cell():
        try:
            while not over.is_set():
                texts.append(model.generate(**ids, **options).tolist())
        except Exception as error:
            errors.append(error)

    other = threading.Thread(target=other_cell)
    other.start()
    until = time.monotonic() + 3
    step = 0
    while time.monotonic() < until:
        step += 1
        tuner.threshold.value = -3.5 + (step % 100) / 100
        if step % 25 == 0:
            tuner.settle(0.4)  # long enough a rest for the model to start
        time.sleep(0.02)
    tuner.threshold.value = -2.75
    last = tuner.policy
    assert tuner.settle(PATIENCE)
    over.set()
    other.join()
    assert not errors and texts and all(text == wanted for text in texts)
    assert tuner.result.state.policy == last and not tuner.stale
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not any("forward" in vars(module) for module in model.modules())


def test_two_tuners_on_one_model_take_turns(tuner, demo, task):
    second = tuner_of(demo, task)
    tuner.threshold.value = second.threshold.value = -2.4
    assert tuner.settle(PATIENCE) and second.settle(PATIENCE)
    assert tuner.result.passages[0].ids and second.result.state.policy == second.policy
    second.close()


def test_a_tuner_that_is_made_while_another_skips_waits_for_its_turn(demo, task):
    dense = st.record(*demo, [example.prompt for example in task.head(2)], max_new_tokens=10, progress=False)
    begun, left = threading.Event(), threading.Event()

    def skips():
        with st.skip(demo[0], StaticFFN((5,))):
            begun.set()
            time.sleep(1)
            left.set()

    other = threading.Thread(target=skips)
    other.start()
    assert begun.wait(PATIENCE)
    tuner = tuner_of(demo, task)
    assert left.is_set(), "patches of two threads would come off in the wrong order"
    assert tuner.trace.equals(dense)
    other.join()
    tuner.close()


# What is kept ----------------------------------------------------------------------------------------------------


def test_a_session_comes_back(measured, session, demo, task, monkeypatch):
    monkeypatch.setattr(
        "saturation.widgets.tuner.state_run.Bench.write", lambda *args, **options: pytest.fail("computed")
    )
    for given in (task, None):
        again = tuner_of(demo, given, session=session)
        assert again.settle(PATIENCE)
        assert list(again.results.values()) == list(measured.results.values())
        assert again.policy == measured.policy and again.view.numbers.value == measured.view.numbers.value
        again.close()
    with pytest.raises(ValueError, match="expected the prompts, task and options that the session was saved with, got"):
        tuner_of(demo, task.head(3), session=session)


def test_a_session_of_another_model_is_refused(session, demo, task, tmp_path):
    content = json.loads(session.read_text())
    other = {"name": "other", "fingerprint": "f00"}
    for field, sentence in (
        ("name", f"expected a session of the model 'demo', but {tmp_path / 's.json'} was saved of 'other'; load that "),
        ("fingerprint", "was saved of 'demo' with fingerprint f00, and this one has "),
    ):
        changed = content | {"model": content["model"] | {field: other[field]}}
        (tmp_path / "s.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=re.escape(sentence)):
            tuner_of(demo, task, session=tmp_path / "s.json")


def test_a_file_that_is_no_session_is_refused(demo, task, tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a session that a tuner saved, but there is no file"):
        tuner_of(demo, task, session=tmp_path / "none.json")
    for text in ("{", "{}", '{"format": "other"}'):
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(ValueError, match="to be a session that a tuner saved, but reading it gave"):
            tuner_of(demo, task, session=tmp_path / "s.json")


def test_a_damaged_session_is_refused(session, demo, task, tmp_path):
    for part, value in (("model", {}), ("current", {"json": "{", "rule": FFN}), ("asked", []), ("results", [1])):
        (tmp_path / "s.json").write_text(json.dumps(json.loads(session.read_text()) | {part: value}))
        with pytest.raises(ValueError, match="to be a session that a tuner saved, but reading it gave"):
            tuner_of(demo, task, session=tmp_path / "s.json")
    content = json.loads(session.read_text())
    del content["results"][1]["passages"][0]
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="it has not a text of each of its 2 prompts in every state"):
        tuner_of(demo, task, session=tmp_path / "s.json")


def test_the_script_runs_and_finds_the_same(measured, tmp_path, root):
    (tmp_path / "state.py").write_text(measured.script)
    env = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, tmp_path / "state.py"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(repr(passage.text) in done.stdout for passage in measured.result.passages)
    assert str(measured.result.actual) in done.stdout
    assert f"ideal speed-up {measured.result.ideal:.3f}" in done.stdout
    assert measured.view.copy.text == measured.script


def test_the_script_of_anybodys_task_holds_it_whole(demo, tmp_path):
    task = st.tasks.Task("mine", "answer", (st.tasks.Example("1", prompt='It\'s "here":\n', answers=("a",)),), 3)
    tuner = ThresholdTuner(*demo, task)
    assert tuner.settle(PATIENCE)
    scope = {"given": demo}
    exec(tuner.script.replace("st.load('demo', dtype='float32')", "given"), scope)
    assert scope["task"] == task and scope["prompts"] == [task.examples[0].prompt]
    assert scope["policy"] == tuner.policy and scope["runs"].texts == [tuner.result.passages[0].text]
    tuner.close()


def test_the_script_of_random_blocks_draws_the_same(demo, capsys):
    tuner = tuner_of(demo, bundled("problems").head(10), examples=10, max_new_tokens=6)
    tuner.view.prompt.value = 1  # written in the same order all the same
    tuner.policy = RandomFFN(0.3, seed=3)
    assert tuner.settle(PATIENCE)
    scope = {"given": demo}
    exec(tuner.script.replace("st.load('demo', dtype='float32')", "given"), scope)
    assert scope["runs"].texts == [passage.text for passage in tuner.result.passages]
    summary = st.quality.summarise(scope["pd"].concat(scope["rows"][2:]))
    row = summary[summary["score"] == "correct"].iloc[0]
    assert (row["n"], row["mean"]) == (10, tuner.result.quality.mean)
    tuner.close()


def test_no_new_tokens_are_refused(demo):
    with pytest.raises(ValueError, match="expected max_new_tokens of at least 1, got 0; the model has to write"):
        ThresholdTuner(*demo, "a", max_new_tokens=0)


def test_a_single_new_token_has_nothing_to_skip_and_no_speed(demo):
    tuner = ThresholdTuner(*demo, "Problem:", max_new_tokens=1)
    assert tuner.settle(PATIENCE) and not tuner.stale
    assert "nothing decoded" in tuner.view.numbers.value and "0.00×" not in tuner.view.numbers.value
    tuner.close()


def test_buttons_write_files(measured, tmp_path):
    view = measured.view
    view.path.value = str(tmp_path / "new" / "best")
    view.keep_policy.click()
    assert from_json((tmp_path / "new" / "best.policy.json").read_text()) == measured.policy
    view.keep_session.click()
    assert (tmp_path / "new" / "best.session.json").stat().st_size > 1000
    for what, form in (("Pareto", "pdf"), ("text", "svg"), ("both", "png")):
        view.what.value, view.form.value = what, form
        view.export.click()
        assert str(tmp_path / "new" / f"best.{form}") in view.said.value
        assert (tmp_path / "new" / f"best.{form}").stat().st_size > 1000


def test_a_figure_is_exported_while_the_model_is_busy(tuner, demo, tmp_path):
    view, said = tuner.view, []
    view.said.observe(lambda change: said.append(change["new"]), "value")
    view.path.value = str(tmp_path / "busy")
    with model_lock(demo[0]):  # as a measurement that goes on has it
        for what in ("text", "both", "Pareto"):
            view.what.value = what
            click = threading.Thread(target=view.export.click, daemon=True)
            click.start()
            click.join(20)
            assert not click.is_alive(), "it waits for the model"
    assert ["exporting ..." in one for one in said if one] == [True, False] * 3
    assert (tmp_path / "busy.pdf").is_file()


def test_what_is_exported_is_said(tuner, tmp_path):
    view, text = tuner.view, f"the text of {tuner.policy.describe()} after prompt 2"
    view.path.value, view.form.value, view.prompt.value = str(tmp_path / "said"), "svg", 1
    for what, drawn in (("text", text), ("both", f"the 2 states measured, and {text}")):
        view.what.value = what
        view.export.click()
        assert html.unescape(view.said.value).endswith(f"beside it: {drawn}</div>")
    tuner.threshold.value = -2.5
    tuner.view.cancel.click()
    view.what.value = "Pareto"
    view.export.click()
    assert "the 2 states measured, not yet that of the controls" in view.said.value
    for what in ("text", "both"):
        view.what.value = what
        view.export.click()
        assert "expected the text of the controls&#x27; state, but what is shown is still of " in view.said.value


def test_a_figure_of_a_text_that_is_stale_is_refused(tuner):
    shown = tuner.result.state.describe()
    tuner.threshold.value = -2.5
    for what in ("text", "both"):
        with pytest.raises(ValueError) as refusal:
            tuner.figure(what)
        assert str(refusal.value) == (
            f"expected the text of the controls' state, but what is shown is still of {shown}; wait with settle(), "
            "move the controls, or go back with restore(tuner.result.state)"
        )
    assert tuner.figure("pareto").axes
    assert tuner.settle(PATIENCE) and tuner.figure().axes
    with pytest.raises(ValueError, match="expected 'pareto', 'text' or 'both', got 'all'; choose one"):
        tuner.figure("all")


def test_the_exported_text_is_the_one_on_the_screen(tuner, tmp_path):
    view = tuner.view
    tuner.policy = RandomFFN(0.3, seed=3)  # what it draws depends on the prompts before
    assert tuner.settle(PATIENCE)
    view.path.value, view.what.value, view.form.value = str(tmp_path / "text"), "text", "svg"
    for prompt in (0, 1):
        view.prompt.value = prompt
        view.export.click()
        passage = tuner.result.passages[prompt]
        drawn = pd.read_csv(tmp_path / "text.data.csv", keep_default_na=False)
        assert drawn["token_id"].tolist() == list(passage.ids) and drawn["text"].tolist() == list(passage.pieces)
        assert set(drawn["sequence"]) == {prompt}
        skipped = drawn[[f"layer {layer}" for layer in range(16)]].to_numpy()
        assert [tuple(np.flatnonzero(row).tolist()) for row in skipped] == list(passage.skipped)
        assert f"tokens written after prompt {prompt + 1}" in (tmp_path / "text.svg").read_text()
    assert "distance" not in (tmp_path / "text.data.csv").read_text(), "no distance was recorded"


def test_a_folder_that_cannot_be_written_is_said(measured, tmp_path):
    (tmp_path / "file").write_text("")
    measured.view.path.value = str(tmp_path / "file" / "best")
    for button in (measured.view.keep_policy, measured.view.keep_session, measured.view.export):
        measured.view.said.value = ""
        button.click()
        assert f"cannot write into the folder {tmp_path / 'file'}: " in measured.view.said.value


def told(button, view):
    """What a button says, as a person reads it."""
    view.said.value = ""
    button.click()
    return html.unescape(re.sub("<[^>]*>", "", view.said.value))


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("~/paper/best", "home/paper/best"),
        ("here/best", "work/here/best"),
        ("best.pdf", "work/best"),
        ("best.PNG", "work/best"),
        ("best.policy.json", "work/best"),
        ("best.v2", "work/best.v2"),
        (".pdf", "work/.pdf"),
        ("", "work/tuner"),
    ],
)
def test_a_path_is_what_a_person_means(measured, tmp_path, monkeypatch, typed, name):
    for folder in ("home", "work"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    view = measured.view
    view.path.value, view.what.value, view.form.value = typed, "Pareto", "pdf"
    for button, suffix in (
        (view.keep_policy, "policy.json"),
        (view.keep_session, "session.json"),
        (view.export, "pdf"),
    ):
        assert f"{tmp_path / name}.{suffix}" in told(button, view), "the full path is said"
        assert (tmp_path / f"{name}.{suffix}").is_file()
    assert not (tmp_path / "work" / "~").exists()


@pytest.mark.parametrize("typed", [".", "..", "~", "new/", "new/..", "/"])
def test_a_path_without_a_name_is_refused(measured, tmp_path, monkeypatch, typed):
    monkeypatch.chdir(tmp_path)
    measured.view.path.value = typed
    place = Path(typed).expanduser().absolute()
    for button in (measured.view.keep_policy, measured.view.keep_session, measured.view.export):
        assert told(button, measured.view) == (
            f"expected a folder and a name in it, such as out/tuner, got the folder {place}; add a name"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("a\0b", r"expected a path that a file can have, got 'a\x00b' (embedded null byte); name another"),
        ("a" * 300, f"expected a path that a file can have, got '{'a' * 60}...' (File name too long); name another"),
        (
            "~nobody-of-this-name/a",
            "expected a path that a file can have, got '~nobody-of-this-name/a' (Could not determine home directory.); "
            "name another",
        ),
    ],
)
def test_a_path_that_nothing_can_have_is_refused(measured, tmp_path, monkeypatch, typed, said):
    monkeypatch.chdir(tmp_path)
    measured.view.path.value = typed
    for button in (measured.view.keep_policy, measured.view.keep_session, measured.view.export):
        assert told(button, measured.view) == said
    assert list(tmp_path.iterdir()) == []


def test_the_script_is_shown_when_it_is_copied(measured):
    measured.view.copy.pressed += 1
    assert html.unescape(measured.view.code.value) == f'<pre class="st-code">{measured.script}</pre>'


def test_a_picture_is_saved_beside_the_live_view(measured, demo, task, monkeypatch):
    """Of what was measured; before that, of what the rule would skip."""
    bundle = measured._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    monkeypatch.setattr("saturation.widgets.tuner.background.Measuring.ask", lambda self, state, *, delay: None)
    fresh = tuner_of(demo, task, trace=measured.trace)
    other = fresh._repr_mimebundle_()["image/png"]
    assert not fresh.results and base64.b64decode(other).startswith(b"\x89PNG") and other != bundle["image/png"]
    fresh.close()


def test_a_static_picture_for_pages_without_widgets(measured):
    figure = measured.figure()
    assert len(figure.axes) == 2 and figure.axes[0].get_ylabel() == "accuracy"
    table = measured.table()
    assert table["policy"].tolist() == [state.describe() for state in measured.results]
    assert table["ratio"].iloc[-1] == measured.result.actual.decode
    assert table["rule"].tolist() == [DENSE, FFN]
