"""The controls of a policy: they are read as one policy, and can be set to a policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html import escape
from threading import local
from typing import Any

import ipywidgets as ipw

from ...policies import FFNSkip, Policy, RandomFFN, SkipRatios, StaticFFN
from .. import log_scale
from ..prediction import Predictor
from .slider_steps import Places, between
from .sliders import digits, line, made, numbers
from .states import CAUSAL, DENSE, FFN, RANDOM, STATIC, rule_of

_LINKED = (
    "threshold",
    "sink",
    "cold_start",
    "cold_end",
    "warmup",
    "prefill",
)  # the explorer in the browser follows these by itself
_SHOWN = {  # which controls belong to which policy
    "by": (FFN, CAUSAL),
    "threshold": (FFN, CAUSAL),
    "percentile": (FFN, CAUSAL),
    "ratio": (FFN, CAUSAL),
    "warmup": (FFN, CAUSAL),
    "warmup_on": (FFN, CAUSAL),
    "horizon": (FFN, CAUSAL),
    "unfold": (FFN, CAUSAL),
    "per_layer": (FFN, CAUSAL),
    "count": (STATIC,),
    "layers": (STATIC,),
    "share": (RANDOM,),
    "per": (RANDOM,),
    "seed": (RANDOM,),
    "sink": (FFN, CAUSAL, STATIC, RANDOM),
    "cold_start": (FFN, CAUSAL, STATIC, RANDOM),
    "cold_end": (FFN, CAUSAL, STATIC, RANDOM),
    "prefill": (FFN, CAUSAL, STATIC, RANDOM),
}


class _Quiet(local):
    """Whether changes of controls are ignored, per thread: the worker sets controls too."""

    on = False


class PolicyControls(ipw.VBox):
    """Sliders and menus that together define one policy.

    Attributes
    ----------
    rule
        The policy menu: FFN-SkipLLM, causal FFN-SkipLLM, static, random or dense.
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
    count, layers
        Static: the number of most similar layers, and their numbers (a text such as "4, 5, 7").
    share, per, seed
        Random: as for `RandomFFN`.
    """

    def __init__(self, predictor: Predictor, policy: Policy | None, on_change: Callable[[bool], None]) -> None:
        self._predictor, self._on_change = predictor, on_change
        self._number = predictor.trace.layers
        self._places = Places()
        self._unmet = ""  # why no threshold meets the target
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
        self.put(policy)

    # Reading and setting the policy ----------------------------------------------------------------------------

    def policy(self) -> Policy | None:
        """The policy that the controls define, None for the dense model; ValueError where they define none."""
        rule = self.rule.value
        if rule == DENSE:
            return None
        if rule == STATIC:
            drawn: dict[str, Any] = {"decode_only": not self.prefill.value, "sink": self.sink.value}
            return StaticFFN(layers=numbers(self.layers.value), **drawn)
        if rule == RANDOM:
            drawn = {"seed": self.seed.value, "per": self.per.value, "decode_only": not self.prefill.value}
            share = self._places.number(self.share, self.share.value)
            return RandomFFN(share, **self._alone(), **drawn)
        return FFNSkip(self._thresholds(), **self._alone(), **self._options())

    def put(self, policy: Policy | None) -> None:
        """Set every control to the values of a policy, without calling `on_change`.

        Raises ValueError where the policy does not fit the model; then no control has changed.
        """
        if policy is not None:
            rule_of(policy)
            policy.check(self._number)
        with self._unheard():
            self.rule.value = rule_of(policy)
            if policy is not None:
                self.sink.max = max(self.sink.max, policy.sink)
                self.sink.value = policy.sink
            if isinstance(policy, FFNSkip):
                self._put_rule(policy)
            elif isinstance(policy, StaticFFN):
                self.count.max = max(self.count.max, len(policy.layers))
                self.layers.value, self.count.value = ", ".join(map(str, policy.layers)), len(policy.layers)
                self.prefill.value = not policy.decode_only
            elif isinstance(policy, RandomFFN):
                self._places.put(self.share, policy.ratio, policy.ratio)
                self.seed.value, self.per.value = policy.seed, policy.per
                self._put_cold(policy)
                self.prefill.value = not policy.decode_only
        self._arrange()

    def predict_by(self, predictor: Predictor) -> None:
        """Fit targets to another trace of the same model from now on; no control changes."""
        self._predictor = predictor

    def _put_rule(self, policy: FFNSkip) -> None:
        self._put_cold(policy)
        self.warmup.max = max(self.warmup.max, policy.warmup)
        self.warmup.value, self.warmup_on.value = policy.warmup, policy.warmup_on
        if (horizon := policy.horizon or 0) >= self._number:
            self.horizon.options = (*self.horizon.options, (f"the next {horizon}", horizon))
        self.horizon.value, self.prefill.value = horizon, policy.prefill
        self.by.value, self.unfold.value = "cosine", isinstance(policy.threshold, tuple)
        if isinstance(policy.threshold, tuple):
            self._unfolded()
            for slider, threshold in zip(self.per_layer.children, policy.threshold, strict=True):
                self._put_threshold(slider, threshold)
        else:
            self._put_threshold(self.threshold, policy.threshold)

    def _put_cold(self, policy: FFNSkip | RandomFFN) -> None:
        self.cold_start.value, self.cold_end.value = policy.cold_start, policy.cold_end

    def _put_threshold(self, slider: ipw.FloatSlider, threshold: float | None) -> None:
        """Move a slider to a cosine and remember the exact value, which the steps of the slider would round."""
        self._places.put(slider, slider.min if threshold in (None, 1) else log_scale.limit(threshold), threshold)

    def _thresholds(self) -> float | tuple[float | None, ...] | None:
        if self._unmet and self.by.value != "cosine":
            raise ValueError(self._unmet)
        if self.unfold.value:
            return tuple(map(self._cosine, self.per_layer.children))
        return self._cosine(self.threshold)

    def _cosine(self, slider: ipw.FloatSlider) -> float | None:
        return self._places.number(slider, log_scale.cosine(slider.value))

    def _alone(self) -> dict[str, Any]:
        """The options of layers and tokens that no policy skips."""
        return {"sink": self.sink.value, "cold_start": self.cold_start.value, "cold_end": self.cold_end.value}

    def _options(self) -> dict[str, Any]:
        return {
            "warmup": self.warmup.value,
            "warmup_on": self.warmup_on.value,
            "horizon": self.horizon.value or None,
            "prefill": self.prefill.value,
            "causal": self.rule.value == CAUSAL,
            "layers": self._number,
        }

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
        if self._quiet.on or self._places.stays(owner, change["old"]):
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
            self._places.put(owner, owner.value, number)

    def show_predicted(self, ratios: SkipRatios | None, trouble: str = "") -> None:
        """Show what a replay of the trace skips with the controls' policy, or why they define none."""
        if ratios is None:
            self.predicted.value = f'<span class="st-quiet" role="alert">{escape(trouble)}</span>'
        else:
            self.predicted.value = f'<span class="st-quiet">predicted <b>{ratios.decode:.1%}</b> of FFNs skipped</span>'

    def _follow(self, change: dict[str, Any]) -> None:
        """Update the controls that depend on the one that changed."""
        owner = change["owner"]
        if owner is self.unfold and self.unfold.value:
            self._unfolded()
        if owner is self.threshold or self.unfold.value:
            self.by.value = "cosine"  # moving the threshold itself, as in the explorer, drops the target
        if owner is self.threshold and self.unfold.value:
            for slider in self.per_layer.children:  # move all sliders by the same distance
                place = min(max(slider.value + owner.value - change["old"], slider.min), slider.max)
                self._put_threshold(slider, log_scale.cosine(place))
        if self.rule.value in (FFN, CAUSAL) and self.by.value != "cosine":
            self._fit()
        if self.rule.value == STATIC and owner in (self.rule, self.count, self.sink, self.cold_start, self.cold_end):
            self._choose()

    def _fit(self) -> None:
        """Move the threshold to meet its target; where none does, leave it, and `policy` raises the reason."""
        self._unmet = ""
        given = getattr(self, self.by.value)
        target: dict[str, Any] = {self.by.value: self._places.number(given, given.value)}
        try:
            fitted = self._predictor.fitted(FFNSkip(None, **self._alone(), **self._options()), **target)
        except ValueError as error:
            self._unmet = str(error)
            return
        assert not isinstance(fitted.threshold, tuple)
        self._put_threshold(self.threshold, fitted.threshold)

    def _choose(self) -> None:
        """Choose the most similar layers between the cold regions."""
        self.count.max = max(self._number - self.cold_start.value - self.cold_end.value, 0)
        with suppress(ValueError):  # a sink longer than every sequence: the layers stay
            found = StaticFFN.fit(self._predictor.trace, count=self.count.value, **self._alone())
            self.layers.value = ", ".join(map(str, found.layers))

    def _unfolded(self) -> None:
        """Make one slider per layer, when they are first needed."""
        if not self.per_layer.children:
            ends = {"min": self.threshold.min, "max": self.threshold.max, "step": self.threshold.step}
            look: dict[str, Any] = {
                "orientation": "vertical",
                "readout": False,
                "layout": {"flex": "0 0 36px", "width": "36px", "height": "160px"},
            }
            cosine = self._cosine(self.threshold)
            sliders = [
                ipw.FloatSlider(description=str(layer), tooltip=f"threshold of layer {layer}", **ends, **look)
                for layer in range(self._number)
            ]
            for slider in sliders:
                self._places.put(slider, self.threshold.value, cosine)
                slider.observe(self._moved, "value")
            self.per_layer.children = sliders

    def _arrange(self) -> None:
        """Show only the controls of the chosen policy, and the cosine in words."""
        rule, by = self.rule.value, self.by.value
        for name, rules in _SHOWN.items():
            there = rule in rules
            there &= name not in ("threshold", "percentile", "ratio") or name == {"cosine": "threshold"}.get(by, by)
            there &= name != "per_layer" or self.unfold.value
            there &= name != "by" or not self.unfold.value  # a target needs one threshold for all layers
            shown = None if there else "none"
            if getattr(self, name).layout.display != shown:
                getattr(self, name).layout.display = shown
        long = self._predictor.long  # then slow updates wait until the slider is released
        self.ratio.continuous_update = not (long and (self.horizon.value or rule == CAUSAL))
        self.share.continuous_update = not long
        self.cosine.layout.display = None if rule in (FFN, CAUSAL) else "none"
        self.cosine.value = f'<span class="st-quiet">{self._said()}</span>'

    def _said(self) -> str:
        if self.unfold.value:
            return "one per layer; this moves them all"
        cosine = self._cosine(self.threshold)
        if cosine is None:
            return "never skips"
        return f"from cosine <b>{cosine:.{digits(1 - cosine)}f}</b>"
