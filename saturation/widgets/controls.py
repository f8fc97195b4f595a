"""The controls of a policy: what stands on them is one policy, and a policy can be put on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import ipywidgets as ipw
import numpy as np

from ..policies import FFNSkip, Policy, RandomFFN, SkipRatios, StaticFFN
from . import logarithm
from .predicting import Predictor
from .states import CAUSAL, DENSE, FFN, RANDOM, RULES, STATIC, rule_of

_LINKED = ("threshold", "cold_start", "cold_end", "warmup", "prefill")  # the browser's picture follows by itself
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
    "cold_start": (FFN, CAUSAL, STATIC, RANDOM),
    "cold_end": (FFN, CAUSAL, STATIC, RANDOM),
    "prefill": (FFN, CAUSAL, STATIC, RANDOM),
}


class PolicyControls(ipw.VBox):
    """Sliders and menus that together stand for one policy.

    Attributes
    ----------
    rule
        The policy menu: FFN-SkipLLM, causal FFN-SkipLLM, static, random or dense.
    by
        How the threshold is given: "cosine", "percentile" of the recorded similarity, or target "ratio".
    threshold
        log10(1 - cosine): further right skips more.
    percentile, ratio
        The targets; they move `threshold`.
    cold_start, cold_end, warmup, warmup_on, horizon, prefill
        As for `FFNSkip`; horizon 0 is "until the cold end".
    unfold, per_layer
        Whether each layer has a threshold of its own, and their sliders, as `threshold`.
    count, layers
        Static: how many of the most similar layers, and which (a text such as "4, 5, 7").
    share, per, seed
        Random: as for `RandomFFN`.
    """

    def __init__(self, predictor: Predictor, policy: Policy | None, on_change: Callable[[bool], None]) -> None:
        self._predictor, self._on_change = predictor, on_change
        self._number = predictor.trace.layers
        self._exact: dict[float, float | None] = {}  # slider value -> the cosine it was put there for
        self._quiet = False
        for name, made in _made(self._number, *_span(predictor)).items():
            setattr(self, name, made)
            made.observe(self._moved, "value")
        self.cosine, self.predicted = ipw.HTML(layout=_line()), ipw.HTML(layout=_line())
        self.per_layer = ipw.HBox(layout=ipw.Layout(display="none", overflow="auto hidden", height="172px"))
        first = ("rule", "by", "threshold", "percentile", "ratio", "count", "layers", "share", "per", "seed")
        last = ("cold_start", "cold_end", "warmup", "warmup_on", "horizon")
        rows = [*map(self.__getattribute__, first), self.cosine, self.predicted, *map(self.__getattribute__, last)]
        checks = ipw.HBox([self.prefill, self.unfold], layout={"margin": "0 0 0 98px"})
        super().__init__([*rows, checks], layout=ipw.Layout(width="320px", flex="0 0 320px", margin="0 14px 0 0"))
        self.put(policy)

    # What stands on the controls -------------------------------------------------------------------------------

    def policy(self) -> Policy | None:
        """The policy that the controls stand for; ValueError where they stand for none."""
        rule = self.rule.value
        if rule == DENSE:
            return None
        if rule == STATIC:
            return StaticFFN(layers=_numbers(self.layers.value), decode_only=not self.prefill.value)
        cold: dict[str, Any] = {"cold_start": self.cold_start.value, "cold_end": self.cold_end.value}
        if rule == RANDOM:
            drawn: dict[str, Any] = {"per": self.per.value, "decode_only": not self.prefill.value}
            return RandomFFN(self.share.value, seed=self.seed.value, **cold, **drawn)
        return FFNSkip(self._thresholds(), **cold, **self._options())

    def put(self, policy: Policy | None) -> None:
        """Move every control to where a policy has it; `on_change` is not called."""
        with self._unheard():
            self.rule.value = rule_of(policy)
            if isinstance(policy, FFNSkip):
                self._put_rule(policy)
            elif isinstance(policy, StaticFFN):
                self.layers.value, self.count.value = ", ".join(map(str, policy.layers)), len(policy.layers)
                self.prefill.value = not policy.decode_only
            elif isinstance(policy, RandomFFN):
                self.share.value, self.seed.value, self.per.value = policy.ratio, policy.seed, policy.per
                self._put_cold(policy)
                self.prefill.value = not policy.decode_only
        self._arrange()

    def _put_rule(self, policy: FFNSkip) -> None:
        self._put_cold(policy)
        self.warmup.max = max(self.warmup.max, policy.warmup)
        self.warmup.value, self.warmup_on.value = policy.warmup, policy.warmup_on
        self.horizon.value, self.prefill.value = policy.horizon or 0, policy.prefill
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
        """Move a slider to a cosine, and remember the cosine itself: the slider's logarithm would round it."""
        value = slider.min if threshold in (None, 1) else logarithm.limit(threshold)
        slider.min, slider.max = min(slider.min, value), max(slider.max, value)
        self._exact[value] = threshold
        slider.value = value

    def _thresholds(self) -> float | tuple[float | None, ...] | None:
        if self.unfold.value:
            return tuple(self._cosine(slider.value) for slider in self.per_layer.children)
        return self._cosine(self.threshold.value)

    def _cosine(self, value: float) -> float | None:
        return self._exact[value] if value in self._exact else logarithm.cosine(value)

    def _options(self) -> dict[str, Any]:
        return {
            "warmup": self.warmup.value,
            "warmup_on": self.warmup_on.value,
            "horizon": self.horizon.value or None,
            "prefill": self.prefill.value,
            "causal": self.rule.value == CAUSAL,
            "layers": self._number,
        }

    # When one of them moves ------------------------------------------------------------------------------------

    @contextmanager
    def _unheard(self) -> Iterator[None]:
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _moved(self, change: dict[str, Any]) -> None:
        if self._quiet:
            return
        with self._unheard():
            self._follow(change)
        self._arrange()
        self._on_change(any(change["owner"] is getattr(self, name) for name in _LINKED))

    def show_predicted(self, ratios: SkipRatios | None, trouble: str = "") -> None:
        """What a replay of the recorded trace skips at the controls' policy, or why there is none."""
        if ratios is None:
            self.predicted.value = f'<span class="st-quiet" role="alert">{escape(trouble)}</span>'
        else:
            self.predicted.value = f'<span class="st-quiet">predicted <b>{ratios.decode:.1%}</b> of FFNs skipped</span>'
        self.predicted.layout.height = "18px" if ratios is not None else "auto"

    def _follow(self, change: dict[str, Any]) -> None:
        """Move the controls that depend on the one that moved."""
        if change["owner"] is self.unfold and self.unfold.value:
            self._unfolded()
        if change["owner"] is self.threshold and self.unfold.value:
            for slider in self.per_layer.children:  # all together, each as far from the others as before
                slider.value = min(max(slider.value + change["new"] - change["old"], slider.min), slider.max)
        if self.rule.value in (FFN, CAUSAL) and self.by.value != "cosine":
            self._fit()
        if self.rule.value == STATIC and change["owner"] is not self.layers:
            self._choose()

    def _fit(self) -> None:
        """Move the threshold to where its target has it; where that cannot be, it stays."""
        cold = {"cold_start": self.cold_start.value, "cold_end": self.cold_end.value}
        target: dict[str, Any] = {self.by.value: getattr(self, self.by.value).value}
        try:
            fitted = self._predictor.fitted(FFNSkip(None, **cold, **self._options()), **target)
        except ValueError:
            return
        assert not isinstance(fitted.threshold, tuple)
        self._put_threshold(self.threshold, fitted.threshold)

    def _choose(self) -> None:
        """Name the most similar layers between the cold regions."""
        cold = {"cold_start": self.cold_start.value, "cold_end": self.cold_end.value}
        self.count.max = max(self._number - sum(cold.values()), 0)
        found = StaticFFN.fit(self._predictor.trace, count=self.count.value, **cold)
        self.layers.value = ", ".join(map(str, found.layers))

    def _unfolded(self) -> None:
        """A slider for each layer, made when they are first asked for."""
        if not self.per_layer.children:
            span = {"min": self.threshold.min, "max": self.threshold.max, "step": self.threshold.step}
            look: dict[str, Any] = {
                "orientation": "vertical",
                "readout": False,
                "layout": {"width": "36px", "height": "160px"},
            }
            sliders = [
                ipw.FloatSlider(self.threshold.value, description=str(layer), **span, **look)
                for layer in range(self._number)
            ]
            for slider in sliders:
                slider.observe(self._moved, "value")
            self.per_layer.children = sliders

    def _arrange(self) -> None:
        """Show the controls that belong to the policy, and the cosine in words."""
        rule, by = self.rule.value, self.by.value
        for name, rules in _SHOWN.items():
            there = rule in rules
            there &= name not in ("threshold", "percentile", "ratio") or name == {"cosine": "threshold"}.get(by, by)
            there &= name != "per_layer" or self.unfold.value
            shown = None if there else "none"
            if getattr(self, name).layout.display != shown:
                getattr(self, name).layout.display = shown
        self.cosine.layout.display = None if rule in (FFN, CAUSAL) else "none"
        self.cosine.value = f'<span class="st-quiet">{self._said()}</span>'

    def _said(self) -> str:
        if self.unfold.value:
            return "one per layer; this moves them all"
        cosine = self._cosine(self.threshold.value)
        if cosine is None:
            return "never skips"
        return f"after a cosine of <b>{cosine:.{digits(1 - cosine)}f}</b> or more"


def _line() -> ipw.Layout:
    """Of a line of text under the sliders, flush with them."""
    return ipw.Layout(height="18px", margin="0 0 1px 98px")


def digits(distance: float) -> int:
    """Decimals that tell a cosine at this distance from 1 to three figures."""
    return 3 if distance <= 0 else max(3, 2 - int(np.floor(np.log10(distance))))


def _span(predictor: Predictor) -> tuple[float, float]:
    """Ends of the threshold sliders: log10 of the recorded distances, outliers left out."""
    trace = predictor.trace
    there = trace.distance[trace.distance > 0]
    low, high = np.log10(np.quantile(there.astype(np.float64), (0.001, 0.99))) if len(there) else (-5.0, 0.0)
    return float(np.floor(low * 2) / 2), float(min(np.ceil(high * 2) / 2, 0.3))


def _made(layers: int, low: float, high: float) -> dict[str, Any]:
    """Every control that has a value, by name."""

    def of(kind: type[ipw.DOMWidget], description: str, **options: Any) -> Any:
        """A control as wide as the column."""
        layout = ipw.Layout(width="auto", margin="1px 0")
        return kind(description=description, layout=layout, style={"description_width": "92px"}, **options)

    within = {"min": low, "max": high, "step": 0.01}
    horizon = [("until the cold end", 0), *((f"the next {k}", k) for k in range(1, layers))]
    ways = ("cosine", "percentile", "ratio")
    drawn = [("for each token", "token"), ("once for the run", "run")]
    counted = [("generated tokens", "generated"), ("absolute position", "position")]
    ends = {"min": 0, "max": layers - 1}
    return {
        "rule": of(ipw.Dropdown, "policy", options=RULES),
        "by": of(ipw.Dropdown, "threshold by", options=ways),
        "threshold": of(ipw.FloatSlider, "skip more →", value=max(low, -3.0), readout=False, **within),
        "percentile": of(ipw.FloatSlider, "percentile", value=90, min=0, max=100, step=0.5, readout_format=".1f"),
        "ratio": of(ipw.FloatSlider, "ratio", value=0.2, min=0, max=0.95, step=0.005, readout_format=".1%"),
        "count": of(ipw.IntSlider, "layers", min=0, max=layers),
        "layers": of(ipw.Text, "which", placeholder="4, 5, 7", continuous_update=False),
        "share": of(ipw.FloatSlider, "share", value=0.2, min=0, max=0.95, step=0.01, readout_format=".0%"),
        "per": of(ipw.Dropdown, "drawn", options=drawn),
        "seed": of(ipw.BoundedIntText, "seed", min=0, max=2**31 - 1),
        "cold_start": of(ipw.IntSlider, "cold start", **ends),
        "cold_end": of(ipw.IntSlider, "cold end", **ends),
        "warmup": of(ipw.IntSlider, "warm-up", min=0, max=64),
        "warmup_on": of(ipw.Dropdown, "counted on", options=counted),
        "horizon": of(ipw.Dropdown, "then skips", options=horizon),
        "prefill": ipw.Checkbox(description="prefill too", indent=False, layout={"width": "110px"}),
        "unfold": ipw.Checkbox(description="per layer", indent=False, layout={"width": "100px"}),
    }


def _numbers(text: str) -> tuple[int, ...]:
    """Layer numbers of a text; ValueError for anything else."""
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise ValueError(f"expected layer numbers such as '4, 5, 7', got {text!r}; correct them") from None
