"""The explorer used by hand, in a plain page: every control, pointer, keys, and text that means harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import traces
from playwright.sync_api import Browser, Page, expect

from benchmarks.page import open_page
from saturation.loading import load
from saturation.policies import FFNSkip, RandomFFN, replay
from saturation.recording import record
from saturation.trace import Trace
from saturation.widgets import SaturationExplorer, log_scale

LAYERS = 8
TRACE = traces.trace(sequences=4, length=50, prefill=10, layers=LAYERS, also=("attention_distance",))
RULE = FFNSkip(0.99, cold_start=1, cold_end=1, warmup=3)
HOSTILE = [
    "<script>window.harmed = 1</script>",
    "<img src=x onerror='window.harmed = 1'>",
    "**a**",
    "مرحبا",
    "👩‍🚀",
    "${1}",
]
LEFT, RIGHT, TOP, BOTTOM = 40, 2, 8, 40  # CSS pixels of the canvas around its cells
CELLS = ".sx-cells"


class Shown:
    """A page with an explorer, and how a person points at it."""

    def __init__(self, page: Page, trace: Trace, policy: Any) -> None:
        self.page, self.trace, self.policy = page, trace, policy

    def get(self, name: str) -> Any:
        return self.page.evaluate("name => model.get(name)", name)

    def set(self, **traits: object) -> None:
        self.page.evaluate(
            "async traits => { const drawn = window.drawn();"
            " for (const name in traits) model.set(name, traits[name]); await drawn; }",
            traits,
        )

    def at(self, row: float, layer: int) -> tuple[float, float]:
        """Place of a block in the page."""
        box = self.page.locator(CELLS).bounding_box()
        assert box is not None
        first, stop = self.get("view")
        x = box["x"] + LEFT + (row + 0.5 - first) / (stop - first) * (box["width"] - LEFT - RIGHT)
        return x, box["y"] + TOP + (1 - (layer + 0.5) / LAYERS) * (box["height"] - TOP - BOTTOM)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=6)
        self.page.mouse.up()

    def rested(self) -> dict[str, Any]:
        """What the kernel was told once the hand rested, all messages together."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 300)))")
        return {name: value for message in self.page.evaluate("model.sent") for name, value in message.items()}

    def pixels(self, row: int, layer: int) -> np.ndarray:
        """Colours inside a block, [pixel, channel]."""
        x, y = self.at(row, layer)
        data = self.page.evaluate(
            """([x, y]) => {
                const canvas = document.querySelector(".sx-cells");
                const {left, top} = canvas.getBoundingClientRect();
                return Array.from(canvas.getContext("2d").getImageData(x - left - 4, y - top - 4, 9, 9).data);
            }""",
            [x, y],
        )
        return np.reshape(data, (-1, 4))[:, :3]


Show = Callable[..., Shown]


@pytest.fixture
def show(browser: Browser) -> Iterator[Show]:
    """Opens pages; afterwards no script may have failed in any."""
    pages: list[Page] = []
    thrown: list[str] = []

    def open_one(trace: Trace = TRACE, policy: Any = RULE, **options: Any) -> Shown:
        page, _ = open_page(browser, SaturationExplorer(trace, policy=policy, **options))
        page.on("pageerror", lambda error: thrown.append(str(error)))
        pages.append(page)
        return Shown(page, trace, policy)

    yield open_one
    for page in pages:
        page.close()
    assert thrown == []


def test_dragging_the_threshold_counts_in_the_browser_and_tells_the_kernel_at_rest(show: Show) -> None:
    shown = show()
    before = shown.page.locator(".sx-ratios").inner_text()
    slider = shown.page.locator(".sx-threshold input")
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    shown.drag((box["x"] + box["width"] * 0.33, middle), (box["x"] + box["width"] * 0.45, middle))
    told = shown.rested()
    assert told["limit"] == pytest.approx(-2.7, abs=0.2)
    wanted = replay(replace(RULE, threshold=log_scale.cosine(told["limit"])), TRACE).ratios
    assert told["predicted"] == pytest.approx(wanted._asdict())
    after = shown.page.locator(".sx-ratios").inner_text()
    assert after != before
    assert f"{100 * wanted.decode:.1f} %" in after
    assert set(told) == {"limit", "predicted"}  # and nothing of the trace


def test_the_far_end_of_the_slider_never_skips(show: Show) -> None:
    shown = show()
    slider = shown.page.locator(".sx-threshold input")
    slider.focus()
    slider.press("End")
    assert shown.rested()["limit"] is None
    expect(shown.page.locator(".sx-cosine")).to_have_text("never")
    slider.press("ArrowLeft")
    assert shown.get("limit") == -6


def test_the_threshold_line_can_be_dragged_beside_the_canvas(show: Show) -> None:
    shown = show()
    box = shown.page.locator(".sx-curve").bounding_box()
    y = box["y"] + 100
    shown.drag((box["x"] + box["width"] * 0.5, y), (box["x"] + box["width"] * 0.8, y))
    right = shown.get("limit")
    shown.drag((box["x"] + box["width"] * 0.8, y), (box["x"] + box["width"] * 0.3, y))
    assert shown.get("limit") > right  # right is more similar, and a stricter threshold


@pytest.mark.parametrize(
    ("name", "typed", "trait", "value"),
    [
        ("cold start", "2", "cold_start", 2),
        ("cold start", "99", "cold_start", LAYERS - 2),  # what the cold end leaves
        ("cold end", "3", "cold_end", 3),
        ("sink", "9", "sink", 9),
        ("warmup", "7", "warmup", 7),
        ("warmup", "-4", "warmup", 0),
        ("horizon", "2", "horizon", 2),
    ],
)
def test_numbers_of_the_rule_are_typed(show: Show, name: str, typed: str, trait: str, value: int) -> None:
    shown = show()
    field = shown.page.get_by_label(name, exact=True)
    field.fill(typed)
    field.press("Enter")
    assert shown.rested()[trait] == value
    expect(field).to_have_value(str(value))


def test_switches_and_menus_set_their_traits(show: Show) -> None:
    shown = show()
    shown.page.get_by_label("prefill", exact=True).check()
    shown.page.get_by_label("causal", exact=True).check()
    shown.page.get_by_label("what the warm-up counts").select_option("position")
    shown.page.get_by_label("metric", exact=True).select_option("attention_distance")
    shown.page.get_by_label("phase", exact=True).select_option("decode")
    told = shown.rested()
    wanted = {"prefill": True, "causal": True, "warmup_on": "position", "metric": "attention_distance"}
    assert told.items() >= {**wanted, "phase": "decode"}.items()
    rule = replace(RULE, prefill=True, causal=True, warmup_on="position")
    assert told["predicted"] == pytest.approx(replay(rule, TRACE).ratios._asdict())


def test_a_horizon_can_be_taken_away_again(show: Show) -> None:
    shown = show(policy=replace(RULE, horizon=2))
    field = shown.page.get_by_label("horizon", exact=True)
    expect(field).to_have_value("2")
    field.fill("")
    field.press("Enter")
    assert shown.get("horizon") is None


def test_zoom_by_button_key_and_wheel(show: Show) -> None:
    shown = show()
    shown.page.get_by_label("zoom in (+)").click()
    first, stop = shown.get("view")
    assert stop - first == 100
    shown.page.locator(CELLS).focus()
    shown.page.keyboard.press("+")
    assert np.diff(shown.get("view")) == 50
    shown.page.keyboard.press("End")
    assert shown.get("view") == [150, 200]
    shown.page.mouse.move(*shown.at(150, 3))
    shown.page.mouse.wheel(0, 400)
    shown.page.wait_for_function("model.get('view')[1] - model.get('view')[0] > 50")
    shown.page.keyboard.press("0")
    assert shown.rested()["view"] == [0, 200]


def test_the_wheel_is_the_pages_until_the_canvas_was_clicked(show: Show) -> None:
    shown = show()
    shown.page.mouse.move(*shown.at(100, 3))
    shown.page.mouse.wheel(0, -300)
    shown.rested()
    assert shown.get("view") == [0, 200]
    shown.page.mouse.click(*shown.at(100, 3))
    shown.page.mouse.wheel(0, -300)
    shown.page.wait_for_function("model.get('view')[1] - model.get('view')[0] < 200")


def test_dragging_pans_and_stops_at_the_ends(show: Show) -> None:
    shown = show()
    shown.set(view=[50, 150])
    shown.drag(shown.at(100, 3), shown.at(80, 3))
    assert shown.get("view") == pytest.approx([70, 170], abs=1)
    shown.drag(shown.at(80, 3), shown.at(165, 3))
    assert shown.get("view") == [0, 100]


def test_two_fingers_zoom(show: Show) -> None:
    shown = show()
    touch = shown.page.context.new_cdp_session(shown.page)
    for apart in (100, 150, 200):
        fingers = [{"x": 300 - apart / 2, "y": 150, "id": 1}, {"x": 300 + apart / 2, "y": 160, "id": 2}]
        kind = "touchStart" if apart == 100 else "touchMove"
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    shown.rested()
    assert np.diff(shown.get("view")) == pytest.approx(100, abs=4)


def test_a_span_is_selected_with_shift_and_cleared_with_escape(show: Show) -> None:
    shown = show()
    shown.page.keyboard.down("Shift")
    shown.drag(shown.at(20, 3), shown.at(39, 5))
    shown.page.keyboard.up("Shift")
    assert shown.rested()["selection"] == [20, 40]
    expect(shown.page.locator(".sx-legend")).to_contain_text("mean of 20 tokens selected")
    shown.page.locator(CELLS).press("Escape")
    assert shown.get("selection") is None


def test_a_span_is_selected_in_the_phase_shown(show: Show) -> None:
    shown = show()
    shown.page.get_by_label("phase", exact=True).select_option("decode")
    shown.page.get_by_label("select tokens by dragging").click()
    box = shown.page.locator(CELLS).bounding_box()
    inside, y = box["width"] - LEFT - RIGHT, box["y"] + 60
    shown.drag((box["x"] + LEFT + 0.5, y), (box["x"] + LEFT + inside / 2 - 1, y))  # 80 of the 160 decoded tokens
    assert shown.get("selection") == [10, 100]  # the tokens 10 to 49 and 60 to 99 of the trace


def test_a_block_says_what_it_is_and_why_it_runs(show: Show) -> None:
    shown = show()
    tip = shown.page.locator(".sx-tip")
    shown.page.mouse.move(*shown.at(2, 3))
    expect(tip).to_contain_text("runs: prefill")
    shown.page.mouse.move(*shown.at(11, 3))
    expect(tip).to_contain_text("runs: warm-up")
    shown.page.mouse.move(*shown.at(30, 0))
    expect(tip).to_contain_text("runs: cold start")
    shown.page.mouse.move(*shown.at(30, LAYERS - 1))
    expect(tip).to_contain_text("runs: cold end")
    row, layer = (int(place) for place in np.argwhere(replay(RULE, TRACE).skipped)[40])
    shown.page.mouse.move(*shown.at(row, layer))
    expect(tip).to_contain_text("skipped: layer")
    token = TRACE.tokens.iloc[row]
    expect(tip).to_contain_text(f"{row} · sequence {token['sequence']}, position {token['position']} · decode")
    expect(tip).to_contain_text(f"(1 − cos = {TRACE.distance[row, layer]:.2e}".replace("e-0", "e-"))
    expect(tip).to_contain_text(f"{TRACE.growth[row, layer]:.3g}"[:4])
    expect(tip).to_contain_text("skipped at thresholds up to 0.99")


def test_arrows_move_over_the_blocks_and_are_spoken(show: Show) -> None:
    shown = show()
    shown.page.locator(CELLS).focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        shown.page.keyboard.press(key)
    expect(shown.page.locator(".sx-status")).to_contain_text("token 2 · sequence 0, position 2")
    expect(shown.page.locator(".sx-status")).to_contain_text("layer 1")
    shown.page.keyboard.press("Shift+ArrowRight")
    shown.page.keyboard.press("Shift+ArrowRight")
    assert shown.get("selection") == [2, 5]


def test_canvas_and_text_point_at_each_other(show: Show) -> None:
    shown = show()
    shown.page.mouse.move(*shown.at(42, 3))
    expect(shown.page.locator(".sx-pointed")).to_have_attribute("data-index", "42")
    shown.page.locator(".sx-token").nth(12).hover()
    expect(shown.page.locator(".sx-tip")).to_contain_text("12 · sequence 0")


def test_the_text_is_shaded_by_the_share_of_skipped_blocks(show: Show) -> None:
    shown = show()
    shares = shown.page.locator(".sx-token").evaluate_all(
        "tokens => tokens.map(token => Number(token.style.getPropertyValue('--share')))"
    )
    np.testing.assert_allclose(shares, replay(RULE, TRACE).skipped.mean(axis=1), atol=6e-4)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_skipped_blocks_look_otherwise_in_greyscale_too(show: Show, theme: str) -> None:
    shown = show(policy=FFNSkip(None))
    shown.page.emulate_media(color_scheme=theme)
    shown.set(view=[10, 40])
    mask = replay(RULE, TRACE).skipped
    skipped = [(int(row), int(layer)) for row, layer in np.argwhere(mask) if 10 <= row < 40][::25]
    ran = [(10, 3), (25, 0), (25, LAYERS - 1)]
    before = {place: shown.pixels(*place) for place in [*skipped, *ran]}
    shown.set(limit=-2, cold_start=1, cold_end=1, warmup=3)
    after = {place: shown.pixels(*place) for place in before}
    grey = np.array([0.299, 0.587, 0.114])
    for place in skipped:
        assert np.ptp(before[place] @ grey) < 1  # one colour, of 255 shades
        assert np.ptp(after[place] @ grey) > 80  # lines
    for place in ran:
        np.testing.assert_array_equal(before[place], after[place])


def test_blocks_of_a_skipping_run_are_drawn_as_skipped(show: Show) -> None:
    shown = show(traces.trace(sequences=1, length=30, layers=LAYERS, skip=0.3), policy=None)
    gone = [(int(row), int(layer)) for row, layer in np.argwhere(shown.trace.skipped)][:5]
    for place in gone:
        assert np.ptp(shown.pixels(*place), axis=1).max() < 12  # grey, as no colour of the scale is
    shown.page.mouse.move(*shown.at(*gone[0]))
    expect(shown.page.locator(".sx-tip")).to_contain_text("did not run when this was recorded")


def test_another_policy_is_named_and_its_mask_is_drawn(show: Show) -> None:
    shown = show(policy=RandomFFN(0.25, seed=1))
    expect(shown.page.locator(".sx-cosine")).to_have_text("random FFN, 25%, seed 1")
    expect(shown.page.locator(".sx-threshold input")).to_be_disabled()
    row, layer = (int(place) for place in np.argwhere(replay(RandomFFN(0.25, seed=1), TRACE).skipped)[9])
    shown.page.mouse.move(*shown.at(row, layer))
    expect(shown.page.locator(".sx-tip")).to_contain_text("skipped: random FFN, 25%")
    shown.set(mask=None)
    expect(shown.page.locator(".sx-threshold input")).to_be_enabled()


def test_controls_can_be_left_to_linked_widgets(show: Show) -> None:
    expect(show(controls=False).page.locator(".sx-rule")).to_be_hidden()


def test_a_phase_without_tokens_is_said(show: Show) -> None:
    shown = show(traces.trace(sequences=1, length=8, prefill=8, layers=LAYERS))
    shown.page.get_by_label("phase", exact=True).select_option("decode")
    expect(shown.page.locator(".sx-note")).to_have_text("this trace has no tokens of the phase chosen")
    shown.page.mouse.move(*shown.at(3, 3))
    expect(shown.page.locator(".sx-tip")).to_be_hidden()


def test_text_that_means_harm_is_text(show: Show) -> None:
    trace = traces.trace(sequences=1, length=len(HOSTILE), prefill=2, layers=LAYERS)
    shown = show(replace(trace, tokens=trace.tokens.assign(text=HOSTILE)))
    assert shown.page.locator(".sx-token").all_text_contents() == HOSTILE
    for row in range(len(HOSTILE)):
        shown.page.mouse.move(*shown.at(row, 3))
        expect(shown.page.locator(".sx-title")).to_contain_text(HOSTILE[row].split("'")[0])
    assert shown.page.locator(".sx script, .sx img, .sx strong").count() == 0
    assert shown.page.evaluate("window.harmed") is None


LANGUAGES = ("日本語のテスト。", "مرحبا بالعالم الجميل!", "שלום עולם.", "Hi 👩‍🚀, ça va?")


@pytest.fixture(scope="module")
def languages() -> Trace:
    """Texts of which the bundled tokenizer has bytes only, read by the bundled model."""
    return record(*load("demo"), list(LANGUAGES), progress=False)


def test_every_language_is_shown_as_it_is_written(show: Show, languages: Trace) -> None:
    shown = show(languages, policy=FFNSkip(0.99, warmup=0, prefill=True, sink=0))
    lines = shown.page.locator(".sx-sequence").all_inner_texts()
    assert lines == [f"<|bos|>{text}" for text in LANGUAGES]  # no replacement characters, no empty tokens
    skipped = replay(shown.policy, languages).skipped
    row = languages.tokens["text"].tolist().index("日")
    span = shown.page.locator(".sx-token", has_text="日")
    share = float(span.evaluate("span => span.style.getPropertyValue('--share')"))
    assert share == pytest.approx(skipped[row - 2 : row + 1].mean(), abs=1e-3)  # of its three bytes
    shown.set(view=[0, 20])
    shown.page.mouse.move(*shown.at(row - 1, 3))
    expect(shown.page.locator(".sx-title")).to_have_text('part of "日"')
    expect(shown.page.locator(".sx-pointed")).to_have_text("日")


@pytest.mark.parametrize(("line", "first", "second"), [(1, "م", "ب"), (2, "ש", "ע"), (0, "日", "本"), (3, "H", "ç")])
def test_sentences_run_in_their_own_direction(show: Show, languages: Trace, line: int, first: str, second: str) -> None:
    shown = show(languages, policy=FFNSkip(None))
    sequence = shown.page.locator(".sx-sequence").nth(line)
    before, after = (
        sequence.locator(".sx-token").filter(has_text=letter).first.bounding_box() for letter in (first, second)
    )
    whole = sequence.bounding_box()
    assert before and after and whole
    leftwards = line in (1, 2)
    assert (before["x"] > after["x"]) is leftwards
    assert (before["x"] > whole["x"] + whole["width"] / 2) is leftwards, "a line begins where its readers look first"


def test_another_trace_takes_its_place(show: Show) -> None:
    shown = show()
    other = SaturationExplorer(traces.trace(sequences=1, length=12, prefill=2, layers=4, seed=3), policy=FFNSkip(None))
    state = other.get_state(("_data", "view"))
    lists = {
        kind: {name: list(bytes(data)) for name, data in state["_data"][kind].items()}
        for kind in ("columns", "metrics")
    }
    shown.page.evaluate(
        """async ([data, lists, view]) => {
            for (const kind in lists) for (const name in lists[kind]) {
                data[kind][name] = new DataView(Uint8Array.from([0, ...lists[kind][name]]).buffer, 1); // not aligned
            }
            const drawn = window.drawn();
            model.set("_data", data);
            model.set("view", view);
            await drawn;
        }""",
        [state["_data"] | {"columns": {}, "metrics": {}}, lists, state["view"]],
    )
    assert shown.page.locator(".sx-token").count() == 12


def test_a_page_that_is_left_draws_no_more(show: Show) -> None:
    shown = show()
    left = shown.page.evaluate(
        """async () => {
            window.leave();
            const told = model.sent.length;
            let drawn = 0;
            here.addEventListener("saturation-drawn", () => drawn++);
            model.set("limit", -1);
            await new Promise((done) => setTimeout(done, 300));
            return [drawn, model.sent.length - told];
        }"""
    )
    assert left == [0, 0]
