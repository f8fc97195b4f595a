"""The visible parts of a tuner and their layout, which show given values and decide nothing."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from math import exp, isfinite, log
from typing import Any

import ipywidgets as ipw

from ...figures.policy_styles import looks
from ...policies import SkipRatios
from .controls import PolicyControls
from .frame import Frame
from .pareto import CopyButton, ParetoPlot
from .states import DENSE, FITTED, RULES, Passage, Result, Score
from .text_html import pane

_LINES = (
    "FFN-SkipLLM",
    "FFN-SkipLLM, causal",
    "static FFN",
    "random FFN",
    DENSE,
    *FITTED,
)  # names of the rules in figures
_LOOKS = dict(zip((*RULES, *FITTED), looks(_LINES).values(), strict=True))
_NAMES = {"correct": "accuracy", "rouge_L": "ROUGE-L", "nll": "loss (nats per token)", "agreement": "agreement"}
_ENDLESS = log(100_000)  # nats per token; the perplexity of a greater loss has too many digits
_STALE = ' <span class="st-badge">stale</span>'


class TunerView:
    """The widgets that show results, and the buttons.

    Attributes
    ----------
    prompt, before, after
        The prompt menu and the buttons beside it.
    chat
        The checkbox of the chat template.
    note
        The reason for the first setting.
    status, progress, cancel
        The current work, its progress, and the button that cancels it or, after that, starts it again.
    frame
        The hidden widget that handles the browser side of all of these.
    numbers, dense, sparse, dense_title, sparse_title, numbers_title
        HTML with the measurements, with both texts, and with their titles.
    pareto
        The plot of all states visited.
    copy, keep_policy, keep_session, export
        Buttons.
    path, what, venue, width
        Path, content and size of the files to write.
    said, code
        The outcome of the last button, and the script to copy.
    """

    def __init__(self, prompts: Iterable[str], where: str, chat: bool | None = None) -> None:
        fluid = ipw.Layout(flex="1 1 0", min_width="0", width="auto")
        small = {"layout": ipw.Layout(width="34px")}
        wide = ipw.Layout(flex="1 1 0", min_width="100px", width="auto")
        self.frame = Frame(layout={"height": "0", "margin": "0"})
        self.prompt = ipw.Dropdown(options=_labels(prompts), tooltip="prompt", layout=wide)
        self.before = ipw.Button(icon="chevron-left", tooltip="previous prompt", **small)
        self.after = ipw.Button(icon="chevron-right", tooltip="next prompt", **small)
        self.chat = _switch(chat)
        self.note = ipw.HTML(layout={"display": "none"})
        self.progress = ipw.FloatProgress(0, min=0, max=1, tooltip="progress", layout={"width": "110px"})
        self.status = ipw.HTML(layout={"flex": "1 1 200px", "height": "28px", "width": "auto"})
        for button, by in ((self.before, -1), (self.after, 1)):
            button.on_click(lambda _, by=by: self._step(by))
        self.cancel = ipw.Button(description="Cancel", disabled=True, layout={"width": "86px"})
        for name in ("numbers", "numbers_title", "dense_title", "sparse_title"):
            setattr(self, name, ipw.HTML())
        for late in (self.numbers, self.numbers_title, self.sparse_title):
            late.add_class("st-late")
        self.dense = ipw.HTML(tooltip="text of the dense model", layout=fluid).add_class("st-text")
        self.sparse = (
            ipw.HTML(tooltip="text with blocks skipped", layout=fluid).add_class("st-text").add_class("st-late")
        )
        self.pareto = ParetoPlot(layout={"width": "100%"})
        self._busy = self._unmeasured = False
        self._make_buttons(where)

    numbers: ipw.HTML
    numbers_title: ipw.HTML
    dense_title: ipw.HTML
    sparse_title: ipw.HTML

    def _make_buttons(self, where: str) -> None:
        auto = {"layout": ipw.Layout(width="auto", flex="0 0 auto")}
        self.copy = CopyButton(label="Copy as Python")
        self.keep_policy = ipw.Button(description="Save policy", **auto)
        self.keep_session = ipw.Button(description="Save session", **auto)
        self.export = ipw.Button(description="Export figure", **auto)
        self.path = ipw.Text(where, placeholder="folder/name", tooltip="folder and name", layout={"width": "128px"})
        self.what = _menu("what is drawn", ["Pareto", "text", "both"], "84px")
        self.form = _menu("format", ["pdf", "svg", "png"], "66px")
        self.venue = _menu("venue", ["acl", "neurips", "icml"], "86px")
        self.width = _menu("width at the venue", ["column", "text"], "84px")
        self.said, self.code = ipw.HTML(), ipw.HTML()

    def arranged(self, controls: PolicyControls, picture: ipw.Widget) -> list[ipw.Widget]:
        """All parts of the tuner in their layout, from top to bottom."""
        half, wraps = ipw.Layout(**_beside("1 1 260px")), {"flex_flow": "row wrap"}
        wide = ipw.Layout(**_beside("100 1 400px") | {"margin": "0", "overflow": "hidden"})
        above = ipw.HBox([controls, ipw.VBox([picture], layout=wide)], layout=wraps)
        prompts = ipw.HBox([self.before, self.prompt, self.after], layout=ipw.Layout(**_beside("1 1 300px")))
        going = [prompts.add_class("st-prompts"), self.chat, self.status, self.progress, self.cancel]
        texts = [ipw.VBox(list(pair), layout=half) for pair in self._texts()]
        found = ipw.VBox([self.numbers_title, self.numbers], layout=ipw.Layout(**_beside("1.25 1 320px")))
        where = (self.path, self.what, self.form, self.venue, self.width)
        files = [self.copy, self.keep_policy, self.keep_session, self.export, *where]
        plot = ipw.VBox([self.pareto], layout=half)
        rows = [ipw.HBox(row, layout=wraps) for row in (going, texts, [found, plot], files)]
        return [self.frame, above, controls.per_layer, rows[0], self.note, *rows[1:], self.said, self.code]

    def _texts(self) -> tuple[tuple[ipw.HTML, ipw.HTML], ...]:
        return (self.dense_title, self.dense), (self.sparse_title, self.sparse)

    def _step(self, by: int) -> None:
        self.prompt.value = (self.prompt.value + by) % len(self.prompt.options)

    def name_prompts(self, prompts: Iterable[str]) -> None:
        """Label the menu with the prompts as they are asked now; the chosen prompt stays chosen."""
        if tuple(labels := _labels(prompts)) != tuple(self.prompt.options):
            chosen = self.prompt.value
            self.prompt.options = labels
            self.prompt.value = chosen

    # Texts -----------------------------------------------------------------------------------------------------

    def show_texts(self, prompt: str, dense: Passage | None, sparse: Passage | None, **how: Any) -> None:
        """Show both texts after one prompt; `how` has layers, name, stale and writing."""
        layers, stale, writing = how["layers"], how["stale"], how["writing"]
        blank = Passage()
        other = dense if sparse and dense and not writing else None
        self.dense.value = pane(prompt, dense or blank, sparse if other else None, layers=layers)
        self.sparse.value = pane(prompt, sparse or blank, other or _start(dense, sparse), layers=layers, stale=stale)
        self.dense_title.value = _title("dense", self._asked_how())
        state = _STALE if stale else " · writing" if writing else ""
        self.sparse_title.value = _title(how["name"], state)

    def _asked_how(self) -> str:
        """Words for the use of the chat template; empty where the tokenizer has none."""
        if self.chat.disabled:
            return ""
        return " · answers a user's turn (chat template)" if self.chat.value else " · continues plain text"

    def explain(self, why: str) -> None:
        """Show the reason for the first setting; hide the note where the reason is empty."""
        self.note.value = f'<div class="st-quiet">{escape(why)}</div>' if why else ""
        self.note.layout.display = None if why else "none"
        self.tell(why)

    # Numbers ---------------------------------------------------------------------------------------------------

    def show_numbers(self, result: Result | None, dense: Result | None, *, stale: bool, unscored: str) -> None:
        """Show the table of a result and the dense model's; `unscored` is shown in place of a missing score."""
        self.numbers_title.value = _title("measured", _STALE if stale else "")
        rows = "" if result is None or dense is None else "".join(_rows(result, dense, unscored))
        dim = " st-stale" if stale else ""
        self.numbers.value = f'<table class="st-numbers{dim}">{rows}</table>'

    def show_points(self, results: Iterable[Result], current: Result | None) -> None:
        """Plot every state visited; the state shown gets a ring."""
        results = list(results)
        self.pareto.points = [_point(result) for result in results if isfinite(result.ordinate.mean)]
        self.pareto.current = "" if current is None else current.state.key
        if results:
            score = results[-1].ordinate
            self.pareto.ylabel, self.pareto.rising = _NAMES[score.name], score.name != "nll"

    # Progress and messages -------------------------------------------------------------------------------------

    def show_status(self, text: str, *, share: float = 0.0, busy: bool = False) -> None:
        """Show a line of status, the share that is done, and whether work runs that can be cancelled."""
        self.status.value = f'<span class="st-quiet">{escape(text)}</span>'
        self.tell(text.partition(",")[0])  # only the phase, not its numbers
        self.progress.value, self._busy = share, busy
        self._name_cancel()

    def offer(self, unmeasured: bool) -> None:
        """Set whether the controls' state is still unmeasured; then *Cancel* becomes *Measure* while no work runs."""
        self._unmeasured = unmeasured
        self._name_cancel()

    def _name_cancel(self) -> None:
        self.cancel.description = "Measure" if self._unmeasured and not self._busy else "Cancel"
        self.cancel.disabled = not (self._busy or self._unmeasured)

    def say(self, text: str) -> None:
        """Show the outcome of a button under the buttons; an empty text clears it."""
        self.said.value = f'<div class="st-quiet">{escape(text)}</div>' if text else ""
        self.tell(text)

    def tell(self, text: str) -> None:
        """Announce a text to screen readers; an empty text announces nothing."""
        if text:
            self.frame.said = text

    def show_code(self, source: str) -> None:
        """Show the script to read or copy by hand."""
        self.code.value = f'<pre class="st-code">{escape(source)}</pre>'


def _switch(chat: bool | None) -> ipw.Checkbox:
    """Checkbox of the chat template, disabled for None: a tokenizer without one."""
    said = "chat template: each prompt is a user's turn" if chat is not None else "this tokenizer has no chat template"
    options: dict[str, Any] = {"indent": False, "disabled": chat is None, "tooltip": said}
    return ipw.Checkbox(bool(chat), description="chat template", layout={"width": "132px"}, **options)


def _menu(name: str, options: list[str], width: str) -> ipw.Dropdown:
    """A menu of files and figures, without a visible name."""
    return ipw.Dropdown(options=options, tooltip=name, layout={"width": width})


def _beside(flex: str) -> dict[str, str]:
    """Layout of one of several parts side by side, which wrap on a narrow page."""
    return {"flex": flex, "min_width": "0", "width": "auto", "margin": "0 4px"}


def label(score: Score) -> str:
    """The name of a score on an axis."""
    return _NAMES[score.name]


def summary(result: Result) -> str:
    """A result in one line of text."""
    score = result.ordinate
    return f"{result.state.describe()}: {result.actual.decode:.1%} skipped, {label(score)} {_interval(score)}"


def _rows(result: Result, dense: Result, unscored: str) -> Iterable[str]:
    yield "<tr><th></th><th>dense</th><th>skipping</th></tr>"
    if result.quality is not None and dense.quality is not None:
        name = f"{_NAMES[result.quality.name]} (n = {result.quality.n})"
        yield _row(name, _interval(dense.quality), _interval(result.quality))
    else:
        yield _row("quality", "", unscored)
    yield _row("tokens as dense", "", _interval(result.agreement, "{:.1%}"))
    yield _row("perplexity under dense", _perplexity(dense), _perplexity(result))
    places = [(place + 1, text + 1) for text, place in enumerate(result.divergence) if place is not None]
    yield _row("first difference", "", "token {} of text {}".format(*min(places)) if places else "none")
    loops = f"{result.collapsed} of {len(result.passages)}"
    alarm = f'<span class="st-alarm">{loops} loop</span>' if result.collapsed > dense.collapsed else loops
    yield _row("texts that loop", f"{dense.collapsed} of {len(dense.passages)}", alarm)
    yield _row("tokens/s, one run each", _pace(dense), _pace(result))
    yield _row("ideal speed-up", "", f"{result.ideal:.2f}×" if result.speed else "")
    yield "<tr><th>FFNs skipped</th><th>predicted</th><th>actual</th></tr>"
    for name in SkipRatios._fields:
        predicted, actual = (f"{getattr(part, name):.1%}" for part in (result.predicted, result.actual))
        yield _row(_RATIOS[name], predicted, f"<b>{actual}</b>" if name == "decode" else actual)


_RATIOS = {
    "nominal": "nominal: of allowed",
    "decode": "decode: of all",
    "total": "total: with prefill",
}


def _perplexity(result: Result) -> str:
    """Perplexity of a result's texts under the dense model; it is low for dense-like texts, and for texts that loop."""
    if result.loss is None:
        return ""
    return f"{exp(result.loss):.2f}" if result.loss < _ENDLESS else f"over {exp(_ENDLESS):.0f}"


def _pace(result: Result) -> str:
    """Tokens per second of one short run, which is too noisy to compute a speed-up from."""
    return f"{result.speed:.0f}" if result.speed else "nothing decoded"


def _row(name: str, dense: str, sparse: str) -> str:
    return f"<tr><td>{name}</td><td>{dense}</td><td>{sparse}</td></tr>"


def _interval(score: Score, form: str = "{:.3f}") -> str:
    mean, low, high = (form.format(value) for value in (score.mean, score.low, score.high))
    return mean if low == high == mean else f"{mean} [{low}, {high}]"


def _point(result: Result) -> dict[str, Any]:
    score, seen = result.ordinate, _LOOKS[result.state.rule]
    said = f"{result.state.describe()}\n{_NAMES[score.name]} {_interval(score)}\n{result.actual.decode:.1%} skipped"
    return {
        "key": result.state.key,
        "family": result.state.rule,
        "x": result.actual.decode,
        "y": score.mean,
        "low": score.low,
        "high": score.high,
        "label": said,
        "colour": seen.colour if result.state.rule != DENSE else "currentColor",  # visible on white and on black
        "marker": seen.marker,
        "hollow": seen.hollow,
    }


def _start(dense: Passage | None, sparse: Passage | None) -> Passage | None:
    """The first tokens of the dense passage, as many as the other has so far, for comparison."""
    if dense is None or sparse is None:
        return None
    count = len(sparse.ids)
    return Passage(dense.ids[:count], dense.pieces[:count], dense.skipped[:count])


def _title(name: str, more: str = "") -> str:
    return f'<div class="st-quiet st-title"><b>{escape(name)}</b>{more}</div>'


def _labels(prompts: Iterable[str]) -> list[tuple[str, int]]:
    """Labels and values of the prompts' menu; labels count from 1."""
    return [(f"{number + 1}: {_short(text)}", number) for number, text in enumerate(prompts)]


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 70 else f"{flat[:69]}…"
