"""The explorer without a browser: its traits, the policy they stand for, and what it refuses."""

from __future__ import annotations

import base64
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import traces
from traitlets import TraitError

from saturation.policies import SINK, FFNSkip, RandomFFN, StaticFFN, replay
from saturation.policies.critical_thresholds import cosines
from saturation.trace import Trace
from saturation.widgets import SaturationExplorer, assets, log_scale

LAYERS = 9
TRACE = traces.trace(sequences=3, length=30, prefill=6, layers=LAYERS, also=("attention_distance",))
RULES = [
    FFNSkip(None),
    FFNSkip(0.995, cold_start=2, cold_end=1, warmup=3),
    FFNSkip(1.0, warmup=0),
    FFNSkip(-1.0, warmup=0),
    FFNSkip(float(cosines(TRACE.distance[40, 4])), warmup=0, horizon=2, layers=LAYERS),
    FFNSkip((None, 0.9, 0.99, 0.99, 1 / 3, 0.999, None, 0.5, 0.9), warmup=4, warmup_on="position", prefill=True),
    FFNSkip(0.99, warmup=1, causal=True),
]


@pytest.fixture
def explorer() -> SaturationExplorer:
    return SaturationExplorer(TRACE, policy=FFNSkip(None))


@pytest.mark.parametrize("policy", RULES, ids=lambda policy: policy.describe())
def test_a_rule_becomes_traits_and_comes_back_exactly(explorer: SaturationExplorer, policy: FFNSkip) -> None:
    explorer.policy = policy
    assert explorer.policy == policy
    assert explorer.mask is None
    np.testing.assert_array_equal(explorer.skipped, replay(policy, TRACE).skipped)
    assert explorer.ratios() == replay(policy, TRACE).ratios


@pytest.mark.parametrize(("length", "warmup"), [(90, 25), (30, 0)])
def test_without_a_policy_it_opens_at_a_tenth_between_the_cold_regions(length: int, warmup: int) -> None:
    trace = traces.trace(sequences=3, length=length, prefill=6, layers=LAYERS)
    explorer = SaturationExplorer(trace)
    assert replace(explorer.policy, layers=LAYERS) == FFNSkip.fit(trace, ratio=0.1, warmup=warmup)
    assert 0.08 < explorer.ratios().decode <= 0.1
    explorer.show(traces.trace(layers=LAYERS + 3))  # and keeps to no number of layers


@pytest.mark.parametrize(
    "trace", [TRACE.select(phase="prefill"), traces.trace(layers=LAYERS, skip=0.3)], ids=["read", "of a skipping run"]
)
def test_where_nothing_can_be_fitted_it_never_skips(trace: Trace) -> None:
    explorer = SaturationExplorer(trace)
    assert explorer.policy == FFNSkip(None)
    assert explorer.limit is None


def test_a_rule_given_by_its_traits_is_not_fitted() -> None:
    assert SaturationExplorer(TRACE, limit=-2.0, warmup=3).policy == FFNSkip(0.99, warmup=3)


@pytest.mark.parametrize(
    ("trait", "value", "option", "meant"),
    [
        ("limit", -2.0, "threshold", 0.99),
        ("limit", -3.301, "threshold", 1 - 0.0005),
        ("limit", None, "threshold", None),
        ("limits", [None] * 8 + [-3], "threshold", (None,) * 8 + (0.999,)),
        ("cold_start", 3, "cold_start", 3),
        ("cold_end", 4, "cold_end", 4),
        ("warmup", 7, "warmup", 7),
        ("warmup_on", "position", "warmup_on", "position"),
        ("horizon", 2, "horizon", 2),
        ("prefill", True, "prefill", True),
        ("causal", True, "causal", True),
    ],
)
def test_every_control_changes_the_policy(trait: str, value: object, option: str, meant: object) -> None:
    explorer = SaturationExplorer(TRACE, policy=FFNSkip(0.995))
    explorer.set_state({trait: value})  # as a message from the browser does
    assert explorer.policy == replace(FFNSkip(0.995), **{option: meant})


@pytest.mark.parametrize("policy", [RandomFFN(0.3, seed=2), StaticFFN((1, 4))], ids=repr)
def test_another_policy_is_shown_by_its_mask(explorer: SaturationExplorer, policy: RandomFFN | StaticFFN) -> None:
    explorer.policy = policy
    wanted = replay(policy, TRACE)
    assert explorer.policy == policy
    np.testing.assert_array_equal(explorer.skipped, wanted.skipped)
    assert explorer.ratios() == wanted.ratios
    assert explorer.predicted == wanted.ratios._asdict()
    explorer.set_state({"predicted": {"decode": 0.9}})  # of the rule before, which the browser counted late
    assert explorer.get_state("_shares") == {"_shares": wanted.ratios._asdict()}
    assert explorer.get_state("_label") == {"_label": policy.describe()}
    explorer.mask = None
    assert explorer.policy == FFNSkip(None)
    assert explorer.get_state(["_label", "_shares"]) == {"_label": "", "_shares": {}}


def test_a_mask_of_ones_own_is_counted_over_all_layers(explorer: SaturationExplorer) -> None:
    skipped = np.random.default_rng(0).random(TRACE.distance.shape) < 0.2
    explorer.policy = RandomFFN(0.3)
    explorer.mask = np.packbits(skipped).tobytes()
    np.testing.assert_array_equal(explorer.skipped, skipped)
    ratios = explorer.ratios()
    assert ratios.total == pytest.approx(skipped.mean())
    assert ratios.nominal == ratios.decode == pytest.approx(skipped[TRACE.decoding].mean())


def test_the_profile_is_of_the_selection_in_the_phase_shown() -> None:
    trace = traces.trace(sequences=3, length=30, prefill=6, layers=LAYERS, skip=0.2)
    explorer = SaturationExplorer(trace, policy=FFNSkip(0.99, warmup=0))
    explorer.selection, explorer.phase = (20, 50), "decode"
    rows = np.arange(20, 50)[trace.decoding[20:50]]
    profile = explorer.profile
    assert list(profile.columns) == ["similarity", "growth", "skipped"]
    assert list(profile.index) == list(range(LAYERS))
    np.testing.assert_allclose(profile["similarity"], np.nanmean(trace.similarity[rows], axis=0), rtol=1e-6)
    np.testing.assert_allclose(profile["growth"], np.nanmean(trace.growth[rows], axis=0), rtol=1e-6)
    np.testing.assert_array_equal(profile["skipped"], explorer.skipped[rows].mean(axis=0))


def test_without_a_selection_the_profile_is_of_the_view(explorer: SaturationExplorer) -> None:
    explorer.view = (0, 10)
    np.testing.assert_allclose(explorer.profile["similarity"], TRACE.similarity[SINK:10].mean(axis=0), rtol=1e-6)
    explorer.sink = 0
    np.testing.assert_allclose(explorer.profile["similarity"], TRACE.similarity[:10].mean(axis=0), rtol=1e-6)


def test_the_browser_is_sent_the_numbers_of_the_trace(explorer: SaturationExplorer) -> None:
    sent = explorer.get_state("_data")["_data"]
    for name, array in TRACE.groups.items():
        found = np.frombuffer(sent["metrics"][name], "<f4").reshape(TRACE.distance.shape)
        np.testing.assert_array_equal(found, array)
    columns = {name: np.frombuffer(column, "<i4") for name, column in sent["columns"].items()}
    np.testing.assert_array_equal(columns["position"], TRACE.tokens["position"])
    np.testing.assert_array_equal(columns["sequence"], TRACE.tokens["sequence"])
    np.testing.assert_array_equal(columns["generated"], TRACE.generated)
    assert [sent["texts"][code] for code in columns["text"]] == TRACE.tokens["text"].tolist()


def test_a_moving_threshold_sends_the_trace_no_second_time(explorer: SaturationExplorer) -> None:
    before = explorer.get_state("_data")["_data"]
    explorer.limit = -2.0
    assert explorer.get_state("_data")["_data"] is before


@pytest.mark.parametrize("policy", [FFNSkip(0.99, warmup=2), RandomFFN(0.3)], ids=repr)
def test_another_trace_is_shown_under_the_same_policy(policy: FFNSkip | RandomFFN) -> None:
    explorer = SaturationExplorer(TRACE, policy=policy, metric="attention_distance")
    explorer.selection, explorer.view = (2, 80), (1, 90)
    other = traces.trace(sequences=1, length=25, prefill=4, layers=LAYERS, seed=9, skip=0.3)
    explorer.show(other)
    assert explorer.trace is other
    assert explorer.policy == policy
    assert (explorer.view, explorer.selection, explorer.metric) == ((0, 25), None, "distance")
    np.testing.assert_array_equal(explorer.skipped, replay(policy, other).skipped)


def test_a_trace_that_the_rule_does_not_fit_is_refused_and_the_first_stays() -> None:
    explorer = SaturationExplorer(TRACE, policy=FFNSkip(0.99, cold_start=4, cold_end=3))
    with pytest.raises(ValueError, match="cold_start=4 and cold_end=3 cover all 5 layers"):
        explorer.show(traces.trace(layers=5))
    assert explorer.trace is TRACE


def test_a_saved_notebook_shows_a_picture(explorer: SaturationExplorer) -> None:
    explorer.policy = FFNSkip(0.99, warmup=0)
    data, _ = explorer._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    assert data["text/plain"] == "<SaturationExplorer of <Trace of made-up: 90 tokens in 3 sequences x 9 layers>>"
    plain = base64.b64decode(data["image/png"])
    assert plain.startswith(b"\x89PNG")
    explorer.policy = FFNSkip(None)
    assert base64.b64decode(explorer._repr_mimebundle_()[0]["image/png"]) != plain  # what is skipped is drawn


def test_where_no_block_ran_there_is_no_picture() -> None:
    nothing = np.full_like(TRACE.distance, np.nan)
    gone = replace(TRACE, distance=nothing, growth=nothing, skipped=np.ones(nothing.shape, bool))
    assert "image/png" not in SaturationExplorer(gone)._repr_mimebundle_()[0]


@pytest.mark.parametrize(
    ("trace", "error", "sentence"),
    [
        (
            TRACE.select(sequence=0).distance,
            TypeError,
            "expected a Trace to explore, got ndarray; saturation.record makes one",
        ),
        (
            traces.trace(sequences=1, prefill=20).select(phase="decode"),
            ValueError,
            "expected a trace with tokens to explore, got an empty one; record some",
        ),
        (
            TRACE.select(layers=[1, 2]),
            ValueError,
            "expected a trace of all layers of its model, but this one keeps the selected layers 1, 2; give the trace "
            "that they were selected from",
        ),
    ],
)
def test_what_cannot_be_explored_is_refused(trace: object, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as refusal:
        SaturationExplorer(trace)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    ("trait", "value", "sentence"),
    [
        (
            "cold_start",
            9,
            "expected cold regions that leave layers to skip, but cold_start=9 and cold_end=0 cover all 9 layers; make "
            "them smaller",
        ),
        (
            "limits",
            [-2.0, -3.0],
            "expected one threshold per layer, 9 of them, got 2; give one for all, or None for layers that shall not "
            "be probed",
        ),
        (
            "metric",
            "block_distance",
            "expected a metric that this trace has, distance, growth, attention_distance, got 'block_distance'; record "
            "it anew with block_distance among `also`",
        ),
        (
            "selection",
            (5, 5),
            "expected selection as two rising rows from 0 to 90, got (5, 5); the second is the first row that is left "
            "out",
        ),
        (
            "view",
            (0, 91),
            "expected view as two rising rows from 0 to 90, got (0, 91); the second is the first row that is left out",
        ),
        (
            "mask",
            b"12",
            "expected a mask of 102 bytes, a bit for each of 810 blocks, got 2; numpy.packbits of bool [token, layer] "
            "makes one",
        ),
    ],
)
def test_a_trait_that_does_not_fit_is_refused(
    explorer: SaturationExplorer, trait: str, value: object, sentence: str
) -> None:
    before = getattr(explorer, trait)
    with pytest.raises(TraitError) as refusal:
        setattr(explorer, trait, value)
    assert str(refusal.value) == sentence
    assert getattr(explorer, trait) == before


def test_a_policy_of_another_model_is_refused(explorer: SaturationExplorer) -> None:
    with pytest.raises(ValueError, match="expected a model with 12 layers, for which this policy was fitted"):
        explorer.policy = FFNSkip(0.99, layers=12)
    assert explorer.policy == FFNSkip(None)


@pytest.mark.parametrize("cosine", [0.9, 0.99, 0.995, 0.9995, 0.9999, -1.0])
def test_a_readable_threshold_has_a_readable_place(cosine: float) -> None:
    assert log_scale.cosine(log_scale.limit(cosine)) == cosine


def test_scripts_and_style_lie_in_the_package_and_ask_for_nothing_else() -> None:
    canvas = files("saturation.widgets") / "canvas"
    names = {entry.name for entry in canvas.iterdir()}
    assert {f"{name}.js" for name in (*assets.EXPLORER, *assets.FRAME)} | {
        f"{name}.css" for name in assets._STYLES
    } == names
    text = assets.module(*assets.EXPLORER) + assets.style()
    assert "export default" in assets.module(*assets.FRAME)
    assert "export default" in text
    assert not [line for line in text.splitlines() if line.startswith("import")]
    for foreign in ("http:", "https:", "innerHTML", "eval(", "url("):
        assert foreign not in text


def test_cold_regions_that_cross_under_a_hand_are_no_error(explorer: SaturationExplorer) -> None:
    explorer.set_state({"cold_start": 4})
    explorer.set_state({"cold_end": 7, "limit": -2.5})  # a slider on its way, and another that has arrived
    assert (explorer.cold_start, explorer.cold_end, explorer.limit) == (4, 0, -2.5)
    explorer.set_state({"cold_start": 1, "cold_end": 7})
    assert (explorer.cold_start, explorer.cold_end) == (1, 7)
    with pytest.raises(
        TraitError, match="expected cold regions that leave layers to skip, but cold_start=2 and cold_e"
    ):
        explorer.cold_start = 2  # in a cell it is one


def test_a_trace_on_which_no_ratio_can_be_met_is_shown_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    first = SaturationExplorer(traces.trace(sequences=1, length=SINK + 2, prefill=SINK + 1, layers=LAYERS))
    assert isinstance(first.policy, FFNSkip) and first.policy.warmup == 0
    SaturationExplorer(traces.trace(sequences=1, length=1, prefill=0, layers=LAYERS))
    assert caplog.messages == []


def test_importing_the_room_loads_no_widget(root: Path) -> None:
    code = "import saturation.widgets, sys; print([name for name in sys.modules if name in ('anywidget', 'torch')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_unknown_widget_is_refused_in_a_sentence() -> None:
    import saturation.widgets as widgets

    with pytest.raises(AttributeError, match=r"^saturation\.widgets has no attribute 'Nonsense'; it has "):
        widgets.Nonsense  # noqa: B018
