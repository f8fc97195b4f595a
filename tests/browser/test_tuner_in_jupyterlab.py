"""The ThresholdTuner under a mouse, in a notebook in a real JupyterLab."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect
from pypdf import PdfReader

from benchmarks.lab import Lab
from benchmarks.notebook import PANEL, PATIENCE, READY, Notebook, written
from benchmarks.tuning import TUNER, TunerPage
from tests.browser.conftest import fresh_page

pytestmark = pytest.mark.timeout(1500)  # a guard against hanging: on a busy machine the kernel alone takes minutes
HOSTILE = (
    "<script>window.harmed = 1</script>",
    "<img src=x onerror='window.harmed = 1'>",
    " **bold** [link](javascript:window.harmed=1) $x^2$ &amp; ",
    "שלום עולם ",
    "مرحبا ",
    "👩‍👩‍👧 🧪 ",
)
HOSTILE_TUNER = f"""
HOSTILE = {HOSTILE!r}

class Hostile:
    "Reads as the bundled tokenizer does, and turns whatever the model writes into hostile text."
    chat_template = None

    def __getattr__(self, name):
        return getattr(tokenizer, name)

    def __call__(self, *texts, **options):
        return tokenizer(*texts, **options)

    def decode(self, ids, **options):
        return "".join(HOSTILE[place % len(HOSTILE)] for place in range(len(ids)))

    def convert_ids_to_tokens(self, number):
        return HOSTILE[int(number) % len(HOSTILE)]

    def convert_tokens_to_string(self, pieces):
        return "".join(pieces)

hostile = ThresholdTuner(model, Hostile(), ["".join(HOSTILE) + prompts[0]], max_new_tokens=16)
hostile
"""
OTHER_CELL = """
import time
from pathlib import Path

tuner.settle()
ids = tokenizer(prompts[0], return_tensors="pt")

def write():
    out = model.generate(**ids, max_new_tokens=24, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    return tokenizer.decode(out[0])

def patched():
    return [name for name, part in model.named_modules() if "forward" in vars(part) or part._forward_hooks
            or part._forward_pre_hooks or part._forward_hooks_with_kwargs]

assert not patched()
dense, times, enough, guard = write(), 0, Path("enough"), time.monotonic() + 300
print("begun", flush=True)
while not enough.exists() and time.monotonic() < guard:
    assert write() == dense, "the tuner's policy reached another cell"
    times += 1
last = float(enough.read_text())

def arrived():
    stand = tuner.threshold.value, tuner.explorer.limit  # the one is linked to the other in the browser
    return all(abs(one - last) < 0.01 for one in stand) and tuner.result.state.policy == tuner.policy

while not arrived() and time.monotonic() < guard:
    time.sleep(0.1)
tuner.settle()
assert arrived(), f"the last position, {last}, does not win: {tuner.threshold.value}, {tuner.result.state}"
assert not tuner.stale and not patched(), "the tuner left something on the model"
assert write() == dense and times > 1
"""
SLEEP = """
import ctypes
import sys
import time

print("asleep", flush=True)
time.sleep(1)  # the word goes out
c = ctypes.PyDLL(None)  # its calls keep Python's lock, so that no other thread answers the widget meanwhile
before, guard = sys.getswitchinterval(), time.monotonic() + 300
sys.setswitchinterval(1000)
while c.access(b"awake", 0) and time.monotonic() < guard:
    c.usleep(50_000)
sys.setswitchinterval(before)
"""
BUSY = """
from threading import Event, Thread
from saturation.widgets.worker import model_lock

held, over = Event(), Event()

def hold():
    with model_lock(model):  # as another widget has it that runs the model
        held.set()
        over.wait(300)

Thread(target=hold, daemon=True).start()
assert held.wait(300)
"""
FITTED = """
fitted = st.FFNSkip.fit(tuner.trace, ratio=0.137, warmup=0)
places = []
tuner.threshold.observe(lambda change: places.append(change["new"]), "value")
tuner.policy = fitted
tuner.settle()
count = len(tuner.results)
"""
STANDS = """
tuner.settle()
assert tuner.policy == fitted == tuner.result.state.policy == tuner.explorer.policy, (tuner.policy, fitted)
assert len(tuner.results) == count and len(places) == 1, f"the browser sent {places[1:]} back"
"""
CHATTING = """
talking = ThresholdTuner(
    model, tokenizer, ["Hello! Where does Odette Quarry live?"], policy=st.StaticFFN((6,)), max_new_tokens=12
)
talking
"""
PLACE = "print(round(tuner.threshold.value, 2), round(tuner.explorer.limit, 2))"
COUNT = "tuner.settle()\nprint(len(tuner.results), 'states')"


@pytest.fixture(scope="module")
def notebook(browser: Browser, lab: Lab) -> Iterator[Notebook]:
    """A notebook with a tuner in its first cell, which has run."""
    with fresh_page(browser, lab) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        cells = [TUNER, HOSTILE_TUNER, OTHER_CELL, COUNT, BUSY, "over.set()", FITTED, STANDS, PLACE, SLEEP, CHATTING]
        notebook = written(page, lab, "tuner.ipynb", cells)
        notebook.run(0)
        notebook.wait(0)
        yield notebook


RULE = "FFN-SkipLLM"


@contextmanager
def at_rest(notebook: Notebook, cell: int, picture: Path) -> Iterator[TunerPage]:
    """The tuner of one cell with nothing going on; a picture of the page is kept in any case."""
    tuner = TunerPage(notebook.root.locator(".jp-CodeCell").nth(cell).locator(".st-tuner"))
    tuner.root.scroll_into_view_if_needed()
    tuner.rest()
    try:
        yield tuner
    finally:
        notebook.page.screenshot(path=picture)


@pytest.fixture
def tuner(notebook: Notebook, picture: Path) -> Iterator[TunerPage]:
    """The tuner of the first cell, the threshold in sight wherever the test before has left it."""
    with at_rest(notebook, 0, picture) as tuner:
        if menu(tuner).input_value() != RULE:
            menu(tuner).select_option(RULE)
            expect(tuner.handle).to_be_visible()
            tuner.rest()
        yield tuner


def menu(tuner: TunerPage) -> Locator:
    """Of the policies."""
    return tuner.root.get_by_label("policy")


def canvas(tuner: TunerPage) -> str:
    """What the trace's canvas shows, with the blocks that would be skipped."""
    return tuner.root.locator("canvas.sx-cells").evaluate("canvas => canvas.toDataURL()")


def expect_other(tuner: TunerPage, picture: str) -> None:
    """Wait until the canvas shows something else."""
    tuner.page.wait_for_function(
        "before => document.querySelector('.st-tuner canvas.sx-cells').toDataURL() !== before", arg=picture
    )


def words(tuner: TunerPage) -> list[str]:
    """The texts on both sides."""
    return tuner.root.locator(".st-pane").all_text_contents()


def test_the_picture_follows_the_hand_and_the_text_follows_its_rest(tuner: TunerPage) -> None:
    picture, text, visited = canvas(tuner), words(tuner), tuner.points.count()
    predicted = tuner.root.locator(".st-quiet", has_text="predicted")
    said = predicted.inner_text()
    x, y = tuner.hold()
    tuner.page.mouse.move(x + 60, y, steps=6)
    expect(predicted).not_to_have_text(said)
    expect(tuner.badges.first).to_be_visible()
    expect_other(tuner, picture)  # the mask follows while the hand moves
    tuner.page.mouse.up()
    expect(tuner.points).to_have_count(visited + 1)
    tuner.rest()
    expect(tuner.dense).to_have_text(text[0])  # the dense text stays
    expect(tuner.sparse).not_to_have_text(text[1])  # written anew, with other blocks skipped


def test_what_a_busy_kernel_has_not_answered_is_marked_at_once(tuner: TunerPage, notebook: Notebook, lab: Lab) -> None:
    tuner.slide(-8)
    tuner.rest()
    predicted = tuner.root.locator(".st-controls .st-late", has_text="predicted")
    notebook.run(9)
    expect(notebook.root.get_by_text("asleep", exact=True)).to_be_visible(timeout=PATIENCE)
    tuner.page.wait_for_timeout(1500)  # until the cell keeps the lock, and what was under way is shown
    said, text, picture = predicted.inner_text(), words(tuner), canvas(tuner)
    tuner.drag(12)
    expect(tuner.root).to_have_class(re.compile("st-behind"))
    expect_other(tuner, picture)  # the canvas follows the hand
    assert (predicted.inner_text(), words(tuner)) == (said, text), "the kernel has not answered"
    mark = "one => getComputedStyle(one.querySelector('.st-quiet'), '::after').content"
    late = tuner.root.locator(".st-late", has=tuner.page.locator(".st-quiet"))
    assert late.evaluate_all(f"all => all.filter(one => one.clientHeight).map({mark})") == ['"stale"'] * 4
    expect(tuner.root.get_by_role("status").first).to_have_text(
        "the kernel is busy: text and numbers are still those before"
    )
    heard = tuner.handle.get_attribute("aria-valuetext") or ""
    assert heard.startswith("from cosine 0.99") and heard not in tuner.root.locator(".st-cosine").inner_text()
    (lab.folder / "awake").touch()
    expect(tuner.root).not_to_have_class(re.compile("st-behind"))
    expect(predicted).not_to_have_text(said)
    tuner.rest()
    notebook.wait(9)


def test_cancel_stops_the_text_and_keeps_the_one_before_marked_as_stale(tuner: TunerPage, notebook: Notebook) -> None:
    visited = tuner.points.count()
    tuner.drag(-35)
    cancel = tuner.button("Cancel")
    tuner.page.wait_for_function("button => !button.disabled", arg=cancel.element_handle())  # looks at every frame
    cancel.click()
    expect(tuner.button("Measure")).to_be_enabled()
    expect(tuner.root.get_by_text("cancelled").last).to_be_visible()
    expect(tuner.badges.first).to_be_visible()
    notebook.run(3)
    notebook.wait(3)
    assert notebook.printed(3) == f"{visited} states\n", "what was cancelled was not finished behind the scene"
    expect(tuner.badges.first).to_be_visible()
    tuner.button("Measure").click()
    expect(tuner.points).to_have_count(visited + 1)
    tuner.rest()


def test_a_policy_set_in_a_cell_stays_as_it_was_fitted(tuner: TunerPage, notebook: Notebook) -> None:
    before = tuner.handle.get_attribute("aria-valuetext") or "nothing"
    notebook.run(6)
    notebook.wait(6)
    expect(tuner.handle).not_to_have_attribute("aria-valuetext", before)
    tuner.page.wait_for_timeout(1500)  # an echo would have come by then, and rested
    tuner.rest()
    notebook.run(7)
    notebook.wait(7)


def test_the_last_position_wins_at_the_end_of_the_slider(tuner: TunerPage, notebook: Notebook) -> None:
    start = tuner.handle.bounding_box()
    x, y = tuner.hold()
    tuner.page.mouse.move(x + 400, y, steps=6)
    expect(tuner.handle).to_have_attribute("aria-valuenow", "0.0")
    tuner.page.wait_for_timeout(400)  # the hand rests there, and the model begins
    end = tuner.handle.bounding_box()
    assert start and end
    tuner.page.mouse.move(end["x"] + end["width"] / 2 - 4, y)
    tuner.page.mouse.up()
    tuner.rest()
    stands = round(float(tuner.place), 2)
    notebook.run(8)
    notebook.wait(8)
    assert stands < 0 and notebook.printed(8) == f"{stands} {stands}\n"
    tuner.drag(start["x"] - end["x"] + 4)  # the tests after this one need room on the right
    tuner.rest()


def test_a_click_on_a_point_brings_its_state_back(tuner: TunerPage) -> None:
    tuner.slide(20)
    there, at, text = tuner.points.count(), tuner.handle.get_attribute("aria-valuetext"), words(tuner)
    tuner.points.first.click()
    expect(menu(tuner)).to_have_value("dense")
    expect(tuner.sparse).to_have_text(text[0])  # the dense text on both sides
    expect(tuner.dense).to_have_text(text[0])
    tuner.points.last.click()
    expect(menu(tuner)).to_have_value(RULE)
    expect(tuner.sparse).to_have_text(text[1])
    expect(tuner.handle).to_have_attribute("aria-valuetext", at or "where it stood")
    expect(tuner.root.get_by_text("as measured before")).to_be_visible()
    expect(tuner.points).to_have_count(there)  # nothing was computed again


def test_a_figure_is_exported_where_the_notebook_lies(tuner: TunerPage, lab: Lab) -> None:
    tuner.button("Export figure").click()
    told = f"exported {lab.folder / 'out' / 'tuner.pdf'}"  # the full path
    expect(tuner.root.locator(".st-quiet", has_text=told)).to_be_visible()
    out = lab.folder / "out"
    page = PdfReader(out / "tuner.pdf").pages[0]
    assert float(page.mediabox.width) / 72 == pytest.approx(7.7 / 2.54, abs=0.01), "a column of ACL, in inches"
    assert {"tuner.data.csv", "tuner.manifest.json"} <= {path.name for path in out.iterdir()}


def test_a_figure_is_exported_while_the_model_is_busy(tuner: TunerPage, notebook: Notebook, lab: Lab) -> None:
    tuner.slide(-15)  # the tests after this one need room on the right
    notebook.run(4)
    notebook.wait(4)
    tuner.drag(-25)
    status = tuner.root.locator(".st-quiet")
    expect(status.filter(has_text="waiting for the model")).to_be_visible()
    tuner.root.get_by_placeholder("folder/name").fill("out/busy")
    tuner.button("Export figure").click()
    exported = status.filter(has_text=f"exported {lab.folder / 'out' / 'busy.pdf'}")
    expect(exported).to_contain_text("not yet that of the controls")
    expect(tuner.button("Cancel")).to_be_enabled()  # it still waits
    assert (lab.folder / "out" / "busy.pdf").stat().st_size > 1000
    notebook.run(5)
    notebook.wait(5)
    tuner.rest()
    tuner.root.get_by_placeholder("folder/name").fill("out/tuner")


# Of a widget: whatever is wider than its place, and not meant to be scrolled.
CUT_OFF = """root => [...root.querySelectorAll('button, select, td, th, .st-title, .widget-label, .sx-row')]
    .filter((one) => one.clientWidth && one.scrollWidth > one.clientWidth + 1 && !one.matches('.st-prompts select'))
    .map((one) => one.textContent)"""
# Pixels of empty page between two things of a tuner that stand below each other.
GAPS = """root => {
    const parts = '.widget-slider, select, button, input, canvas, .st-pane, table, svg, .sx-legend';
    const boxes = [...root.querySelectorAll(parts)]
        .map((one) => one.getBoundingClientRect()).filter((box) => box.height).sort((a, b) => a.top - b.top);
    let [bottom, gaps] = [boxes[0].top, []];
    for (const box of boxes) {
        gaps.push(box.top - bottom);
        bottom = Math.max(bottom, box.bottom);
    }
    return Math.max(...gaps);
}"""
# Whether a point of the plot lies on a number of its axes.
HIDDEN = """root => [...root.querySelectorAll('.st-pareto .tick')].some((tick) => {
    const one = tick.getBoundingClientRect();
    return [...root.querySelectorAll('.st-pareto .point > path')].some((point) => {
        const other = point.getBoundingClientRect();
        return one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
    });
})"""


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_a_narrow_page_wraps_and_cuts_nothing_off(tuner: TunerPage, picture: Path, theme: str) -> None:
    page, wide = tuner.page, tuner.page.viewport_size
    page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    try:
        for width in (1400, 1100, 1000, 900, 800, 640):
            page.set_viewport_size({"width": width, "height": 2600})
            arranged = "root.getBoundingClientRect().right <= innerWidth"
            page.wait_for_function(f"root => {arranged} && !({CUT_OFF})(root).length", arg=tuner.root.element_handle())
            box = tuner.root.locator("canvas.sx-cells").bounding_box()
            assert box and box["width"] > 240, f"a picture of {box} in a window of {width} pixels"
            assert tuner.root.evaluate(GAPS) < 60, f"a gap in a window of {width} pixels"
            assert not tuner.root.evaluate(HIDDEN), "a point hides a number of the axis"
            tuner.root.screenshot(path=picture.with_stem(f"{picture.stem}-{width}"))
    finally:
        page.set_viewport_size(wide or {"width": 1400, "height": 1000})
        page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")


def test_copy_as_python_puts_the_state_on_the_clipboard(tuner: TunerPage) -> None:
    tuner.button("Copy as Python").click()
    shown = tuner.root.locator(".st-code")
    expect(shown).to_contain_text("st.FFNSkip(sink=")  # after the clipboard was written
    copied = tuner.page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == (shown.text_content() or "").strip()
    compile(copied, "copied", "exec")


@pytest.fixture
def hostile(notebook: Notebook, picture: Path) -> Iterator[TunerPage]:
    """A tuner whose prompt and whose model's text are hostile."""
    notebook.run(1)
    notebook.wait(1)
    with at_rest(notebook, 1, picture) as tuner:
        yield tuner


def test_hostile_text_is_shown_as_text(hostile: TunerPage) -> None:
    hostile.slide(15)
    hostile.points.last.hover()  # its label
    hostile.button("Copy as Python").click()
    expect(hostile.root.locator(".st-code")).to_contain_text("<script>")
    for shown in words(hostile):
        assert shown.count("".join(HOSTILE)) >= 3, "every character, of the prompt and of what the model wrote"
    inside = hostile.root.locator(":is(.st-pane, .st-code, .st-pareto, .sx) :is(script, img, strong, a, .MathJax)")
    assert inside.count() == 0
    assert hostile.page.evaluate("window.harmed") is None


def test_the_switch_of_the_chat_template_asks_anew(notebook: Notebook, picture: Path) -> None:
    notebook.run(10)
    notebook.wait(10)
    with at_rest(notebook, 10, picture) as talking:
        switch = talking.root.get_by_role("checkbox", name="chat template")
        expect(switch).to_be_checked()
        expect(talking.root.get_by_text("answers a user's turn (chat template)")).to_be_visible()
        answered = words(talking)
        switch.click()
        expect(talking.root.get_by_text("continues plain text")).to_be_visible()
        expect(talking.dense).not_to_have_text(answered[0])
        expect(talking.points).to_have_count(2)
        talking.rest()
        switch.click()
        expect(talking.dense).to_have_text(answered[0])  # kept, and not written again
        expect(talking.sparse).to_have_text(answered[1])
        talking.rest()


def test_a_fast_hand_disturbs_no_other_cell(tuner: TunerPage, notebook: Notebook, lab: Lab) -> None:
    notebook.run(2)
    expect(notebook.root.get_by_text("begun", exact=True)).to_be_visible(timeout=PATIENCE)
    x, y = tuner.hold()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        tuner.page.mouse.move(x + 70 * math.sin(7 * time.monotonic()), y)
    tuner.page.mouse.move(x + 40, y)
    tuner.page.mouse.up()
    stands = tuner.place
    (lab.folder / "last").write_text(stands)
    (lab.folder / "last").rename(lab.folder / "enough")
    notebook.wait(2)
    tuner.rest()
    assert tuner.place == stands, "no echo moves the handle back"


def test_a_restarted_kernel_leaves_a_still_picture_and_the_cell_runs_again(
    tuner: TunerPage, notebook: Notebook
) -> None:
    shown, page = words(tuner), tuner.page
    page.evaluate(f"path => ({PANEL}).sessionContext.restartKernel()", notebook.path)
    page.wait_for_function(READY, arg=notebook.path, timeout=PATIENCE)
    assert words(tuner) == shown, "what was measured stays on the page"
    tuner.drag(30)
    assert words(tuner)[0] == shown[0], "and a dead slider harms nothing"
    notebook.run(0)
    notebook.wait(0)
    again = TunerPage(notebook.root.locator(".jp-CodeCell").nth(0).locator(".st-tuner"))
    again.rest()
    expect(again.points).to_have_count(2)  # dense, and the state it begins with
