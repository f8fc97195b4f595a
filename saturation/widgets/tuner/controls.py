"""The controls of a policy: they are read as one policy, and can be set to a policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from threading import local
from typing import Any

import ipywidgets as ipw

from ...policies import Policy, SkipRatios
from .. import log_scale
from ..prediction import Predictor
from .rules import rules
from .slider_steps import Places, between
from .sliders import digits, line, made
from .states import CAUSAL, FFN, FITTED, RULES, rule_of

_LINKED = (
    "threshold",
    "sink",
    "cold_start",
    "cold_end",
    "warmup",
    "prefill",
)  # the explorer in the browser follows these by itself
_UNREAD = "; which ones, a router decides from the residual stream, not read yet"


class _Quiet(local):
    """Whether changes of controls are ignored, per thread: the worker sets controls too."""

    on = False


class PolicyControls(ipw.VBox):
    """Sliders and menus that together define one policy.

    Attributes
    ----------
    rule
        The policy menu: FFN-SkipLLM, causal FFN-SkipLLM, static, random or dense, and token table or router once such a
        policy was put.
    by
        How the threshold is given: as a "cosine", a "percentile" of the recorded similarity, or a target "ratio".
    threshold
        log10(1 - cosine): larger values skip more.
    percentile, ratio
        The targets; changing one sets `threshold`.
    sink, cold_start, cold_end, warmup, warmup_on, horizon, prefill
        As for `FFNSkip`; horizon 0 means "until the cold end".
    unfold, per_layer
        Whether each layer has its own threshold, and the sliders of these, each as `threshold`.
    predictor, layer_count, places
        Predictor on the trace shown, number of layers of the model, and the exact numbers of the sliders.
    count, layers
        Static: the number of most similar layers, and their numbers (a text such as "4, 5, 7"). For a token table and
        a router `count` is the number of blocks that each token skips.
    share, per, seed
        Random: as for `RandomFFN`.
    """

    def __init__(self, predictor: Predictor, policy: Policy | None, on_change: Callable[[bool], None]) -> None:
        self.predictor, self._on_change = predictor, on_change
        self.layer_count = predictor.trace.layers
        self.places = Places()
        self._quiet = _Quiet()
        for name, control in made(predictor).items():
            setattr(self, name, control)
            control.observe(self._moved, "value")
        self.cosine = ipw.HTML(layout=line()).add_class("st-cosine").add_class("st-late")
        self.predicted = ipw.HTML(layout=line()).add_class("st-late")
        self.threshold.add_class("st-threshold")
        self.per_layer = ipw.HBox(layout=ipw.Layout(display="none", overflow="auto hidden", height="172px"))
        first = ("rule", "by", "threshold", "percentile", "ratio", "count", "layers", "share", "per", "seed")
        last = ("cold_start", "cold_end", "sink", "warmup", "warmup_on", "horizon")
        rows = [*map(self.__getattribute__, first), self.cosine, self.predicted, *map(self.__getattribute__, last)]
        checks = ipw.HBox([self.prefill, self.unfold], layout={"margin": "0 0 0 98px", "flex_flow": "row wrap"})
        super().__init__([*rows, checks], layout=ipw.Layout(width="auto", flex="1 1 320px", margin="0 14px 0 0"))
        self.add_class("st-controls")
        self._rules = rules(self)
        self._belonging = list(dict.fromkeys(name for rule in self._rules.values() for name in rule.shown))
        self.put(policy)

    # Reading and setting the policy ----------------------------------------------------------------------------

    def policy(self) -> Policy | None:
        """The policy that the controls define, None for the dense model; ValueError where they define none."""
        return self._rules[self.rule.value].policy()

    def put(self, policy: Policy | None) -> None:
        """Set every control to the values of a policy, without calling `on_change`.

        Raises ValueError where the policy does not fit the model; then no control has changed.
        """
        name = rule_of(policy)
        if policy is not None:
            self._rules[name].check(policy)
        with self._unheard():
            self._offer(name)
            self.rule.value = name
            if policy is not None:
                self.sink.max = max(self.sink.max, policy.sink)
                self.sink.value = policy.sink
            self._rules[self.rule.value].put(policy)
        self._arrange()

    def _offer(self, name: str) -> None:
        """Add a rule to the menu, where it stands once a policy of this kind was fitted."""
        if name not in self.rule.options:
            chosen, there = self.rule.value, {*self.rule.options, name}
            self.rule.options = [one for one in (*RULES[:-1], *FITTED, RULES[-1]) if one in there]
            self.rule.value = chosen

    def predict_by(self, predictor: Predictor) -> None:
        """Fit targets to another trace of the same model from now on; no control changes."""
        self.predictor = predictor

    def put_threshold(self, slider: ipw.FloatSlider, threshold: float | None) -> None:
        """Move a slider to a cosine and remember the exact value, which the steps of the slider would round."""
        self.places.put(slider, slider.min if threshold in (None, 1) else log_scale.limit(threshold), threshold)

    def cosine_of(self, slider: ipw.FloatSlider) -> float | None:
        """The cosine that the place of a threshold slider stands for."""
        return self.places.number(slider, log_scale.cosine(slider.value))

    # Reacting to a change --------------------------------------------------------------------------------------

    @contextmanager
    def _unheard(self) -> Iterator[None]:
        before, self._quiet.on = self._quiet.on, True
        try:
            yield
        finally:
            self._quiet.on = before

    def _moved(self, change: dict[str, Any]) -> None:
        owner = change["owner"]
        if self._quiet.on or self.places.stays(owner, change["old"]):
            return
        linked = any(owner is getattr(self, name) for name in _LINKED) and not between(owner)
        with self._unheard():
            self._settle(owner)
            self._follow(change)
        self._arrange()
        self._on_change(linked and not self.unfold.value and self.by.value == "cosine")

    def _settle(self, owner: ipw.DOMWidget) -> None:
        """Move a slider that a notebook cell set between two steps to the nearest step, and remember the value."""
        if between(owner):
            of_cosines = owner is self.threshold or owner in self.per_layer.children
            number = log_scale.cosine(owner.value) if of_cosines else owner.value
            self.places.put(owner, owner.value, number)

    def show_predicted(self, ratios: SkipRatios | None, trouble: str = "", *, unread: bool = False) -> None:
        """Show what a replay of the trace skips with the controls' policy, or why they define none.

        `unread` says that only the number of blocks is known yet, since the residual stream was not read.
        """
        if ratios is None:
            self.predicted.value = f'<span class="st-quiet" role="alert">{escape(trouble)}</span>'
        else:
            self.predicted.value = (
                f'<span class="st-quiet">predicted <b>{ratios.decode:.1%}</b> of FFNs skipped{_UNREAD * unread}</span>'
            )

    def _follow(self, change: dict[str, Any]) -> None:
        """Update the controls that depend on the one that changed."""
        owner = change["owner"]
        if owner is self.unfold and self.unfold.value:
            self.unfolded()
        if owner is self.threshold or self.unfold.value:
            self.by.value = "cosine"  # moving the threshold itself, as in the explorer, drops the target
        if owner is self.threshold and self.unfold.value:
            for slider in self.per_layer.children:  # move all sliders by the same distance
                place = min(max(slider.value + owner.value - change["old"], slider.min), slider.max)
                self.put_threshold(slider, log_scale.cosine(place))
        self._rules[self.rule.value].follow(owner)

    def unfolded(self) -> None:
        """Make one slider per layer, when they are first needed."""
        if not self.per_layer.children:
            ends = {"min": self.threshold.min, "max": self.threshold.max, "step": self.threshold.step}
            look: dict[str, Any] = {
                "orientation": "vertical",
                "readout": False,
                "layout": {"flex": "0 0 36px", "width": "36px", "height": "160px"},
            }
            cosine = self.cosine_of(self.threshold)
            sliders = [
                ipw.FloatSlider(description=str(layer), tooltip=f"threshold of layer {layer}", **ends, **look)
                for layer in range(self.layer_count)
            ]
            for slider in sliders:
                self.places.put(slider, self.threshold.value, cosine)
                slider.observe(self._moved, "value")
            self.per_layer.children = sliders

    def _arrange(self) -> None:
        """Show only the controls of the chosen policy, and the cosine in words."""
        rule, by = self.rule.value, self.by.value
        for name in self._belonging:
            there = name in self._rules[rule].shown
            there &= name not in ("threshold", "percentile", "ratio") or name == {"cosine": "threshold"}.get(by, by)
            there &= name != "per_layer" or self.unfold.value
            there &= name != "by" or not self.unfold.value  # a target needs one threshold for all layers
            shown = None if there else "none"
            if getattr(self, name).layout.display != shown:
                getattr(self, name).layout.display = shown
        self.count.description = "per token" if rule in FITTED else "layers"
        long = self.predictor.long  # then slow updates wait until the slider is released
        self.ratio.continuous_update = not (long and (self.horizon.value or rule == CAUSAL))
        self.share.continuous_update = not long
        self.cosine.layout.display = None if rule in (FFN, CAUSAL) else "none"
        self.cosine.value = f'<span class="st-quiet">{self._said()}</span>'

    def _said(self) -> str:
        if self.unfold.value:
            return "one per layer; this moves them all"
        cosine = self.cosine_of(self.threshold)
        if cosine is None:
            return "never skips"
        return f"from cosine <b>{cosine:.{digits(1 - cosine)}f}</b>"
