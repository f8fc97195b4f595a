"""The rules of the policy menu: how each reads a policy from the controls, and sets the controls to one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ipywidgets as ipw

from ...policies import FFNSkip, Policy, RandomFFN, RoutedFFN, StaticFFN, TokenFFN
from .sliders import numbers
from .states import CAUSAL, DENSE, FFN, FITTED, RANDOM, STATIC


class Rule:
    """An entry of the policy menu; this one is the dense model.

    Parameters
    ----------
    controls
        The `PolicyControls` that it reads and sets.

    Attributes
    ----------
    shown
        Names of the controls that belong to it.
    """

    shown: tuple[str, ...] = ()

    def __init__(self, controls: Any) -> None:
        self.controls = controls

    def policy(self) -> Policy | None:
        """The policy that the controls define; ValueError where they define none."""
        return None

    def check(self, policy: Policy) -> None:
        """Raise ValueError for a policy of another model."""
        policy.check(self.controls.layer_count)

    def put(self, policy: Any) -> None:
        """Set the controls of this rule to a policy."""

    def follow(self, owner: Any) -> None:
        """Update the controls that depend on the one that changed."""

    def _common(self) -> dict[str, Any]:
        """The options of layers and tokens that no policy skips."""
        controls = self.controls
        cold = {"cold_start": controls.cold_start.value, "cold_end": controls.cold_end.value}
        return {"sink": controls.sink.value} | cold

    def _put_cold(self, policy: FFNSkip | RandomFFN) -> None:
        self.controls.cold_start.value, self.controls.cold_end.value = policy.cold_start, policy.cold_end


class ByThreshold(Rule):
    """FFN-SkipLLM, causal or not: one threshold, a target for it, or a threshold for each layer."""

    shown = (
        *("by", "threshold", "percentile", "ratio", "warmup", "warmup_on", "horizon", "unfold", "per_layer"),
        *("sink", "cold_start", "cold_end", "prefill"),
    )

    def __init__(self, controls: Any) -> None:
        super().__init__(controls)
        self._unmet = ""  # why no threshold meets the target

    def policy(self) -> Policy | None:
        """FFN-SkipLLM with the threshold of the sliders; ValueError where no threshold meets the target."""
        return FFNSkip(self._thresholds(), **self._common(), **self._options())

    def put(self, policy: FFNSkip) -> None:
        """Set the thresholds and the other options; no target is kept."""
        self._put_cold(policy)
        to, number = self.controls, self.controls.layer_count
        to.warmup.max = max(to.warmup.max, policy.warmup)
        to.warmup.value, to.warmup_on.value = policy.warmup, policy.warmup_on
        if (horizon := policy.horizon or 0) >= number:
            to.horizon.options = (*to.horizon.options, (f"the next {horizon}", horizon))
        to.horizon.value, to.prefill.value = horizon, policy.prefill
        to.by.value, to.unfold.value = "cosine", isinstance(policy.threshold, tuple)
        if isinstance(policy.threshold, tuple):
            to.unfolded()
            for slider, threshold in zip(to.per_layer.children, policy.threshold, strict=True):
                to.put_threshold(slider, threshold)
        else:
            to.put_threshold(to.threshold, policy.threshold)

    def follow(self, owner: Any) -> None:
        """Move the threshold to meet its target; where none does, leave it, and `policy` raises the reason."""
        controls = self.controls
        if controls.by.value == "cosine":
            return
        self._unmet = ""
        given = getattr(controls, controls.by.value)
        target: dict[str, Any] = {controls.by.value: controls.places.number(given, given.value)}
        try:
            found = controls.predictor.fitted(FFNSkip(None, **self._common(), **self._options()), **target)
        except ValueError as error:
            self._unmet = str(error)
            return
        assert not isinstance(found.threshold, tuple)
        controls.put_threshold(controls.threshold, found.threshold)

    def _thresholds(self) -> float | tuple[float | None, ...] | None:
        controls = self.controls
        if self._unmet and controls.by.value != "cosine":
            raise ValueError(self._unmet)
        if controls.unfold.value:
            return tuple(map(controls.cosine_of, controls.per_layer.children))
        return controls.cosine_of(controls.threshold)

    def _options(self) -> dict[str, Any]:
        controls = self.controls
        return {
            "warmup": controls.warmup.value,
            "warmup_on": controls.warmup_on.value,
            "horizon": controls.horizon.value or None,
            "prefill": controls.prefill.value,
            "causal": controls.rule.value == CAUSAL,
            "layers": controls.layer_count,
        }


class Static(Rule):
    """The same layers at every token: the most similar ones, or those typed."""

    shown = ("count", "layers", "sink", "cold_start", "cold_end", "prefill")

    def policy(self) -> Policy | None:
        """StaticFFN of the layers named."""
        controls = self.controls
        drawn: dict[str, Any] = {"decode_only": not controls.prefill.value, "sink": controls.sink.value}
        return StaticFFN(layers=numbers(controls.layers.value), **drawn)

    def put(self, policy: StaticFFN) -> None:
        """Set the layers and their number."""
        to = self.controls
        to.count.max = max(to.count.max, len(policy.layers))
        to.layers.value, to.count.value = ", ".join(map(str, policy.layers)), len(policy.layers)
        to.prefill.value = not policy.decode_only

    def follow(self, owner: Any) -> None:
        """Choose the most similar layers between the cold regions."""
        controls = self.controls
        if owner not in (controls.rule, controls.count, controls.sink, controls.cold_start, controls.cold_end):
            return
        cold = controls.cold_start.value + controls.cold_end.value
        controls.count.max = max(controls.layer_count - cold, 0)
        with suppress(ValueError):  # a sink longer than every sequence: the layers stay
            found = StaticFFN.fit(controls.predictor.trace, count=controls.count.value, **self._common())
            controls.layers.value = ", ".join(map(str, found.layers))


class Random(Rule):
    """Blocks drawn for each token, or once for the run."""

    shown = ("share", "per", "seed", "sink", "cold_start", "cold_end", "prefill")

    def policy(self) -> Policy | None:
        """RandomFFN of the share and the seed."""
        controls = self.controls
        drawn = {"seed": controls.seed.value, "per": controls.per.value, "decode_only": not controls.prefill.value}
        share = controls.places.number(controls.share, controls.share.value)
        return RandomFFN(share, **self._common(), **drawn)

    def put(self, policy: RandomFFN) -> None:
        """Set the share, the seed and how blocks are drawn."""
        to = self.controls
        to.places.put(to.share, policy.ratio, policy.ratio)
        to.seed.value, to.per.value = policy.seed, policy.per
        self._put_cold(policy)
        to.prefill.value = not policy.decode_only


class Fitted(Rule):
    """A token table or a router: the controls choose how many blocks each token skips of a policy fitted before."""

    shown = ("count", "sink", "prefill")

    def __init__(self, controls: Any) -> None:
        super().__init__(controls)
        self.fitted: TokenFFN | RoutedFFN | None = None

    def policy(self) -> Policy | None:
        """The fitted policy with the options of the controls; ValueError where none was fitted."""
        controls, fitted = self.controls, self.fitted
        if fitted is None:
            raise ValueError(
                f"expected a {controls.rule.value} that was fitted, got none; set one as the policy, such as "
                "tuner.policy = st.TokenFFN.fit(st.harm(model, tokenizer, texts), count=1)"
            )
        count = controls.count.value
        known = fitted.predicted if count == fitted.count else None  # harm was predicted for that count only
        options: dict[str, Any] = {"sink": controls.sink.value, "decode_only": not controls.prefill.value}
        return replace(fitted, count=count, predicted=known, **options)

    def check(self, policy: Policy) -> None:
        """Raise ValueError for a policy that was fitted on another model."""
        super().check(policy)
        policy.fits(self.controls.predictor.trace.model, getattr(policy, "vocabulary", 0))

    def put(self, policy: TokenFFN | RoutedFFN) -> None:
        """Keep the policy, and set the number of blocks."""
        to, self.fitted = self.controls, policy
        to.count.max = policy.most
        to.count.value, to.prefill.value = policy.count, not policy.decode_only

    def follow(self, owner: Any) -> None:
        """Bound the number of blocks by those that the policy may skip."""
        if self.fitted is not None and owner is self.controls.rule:
            self.controls.count.max = self.fitted.most


def rules(controls: ipw.Widget) -> Mapping[str, Rule]:
    """The rules of the menu by name; both forms of FFN-SkipLLM share the controls of a threshold."""
    threshold = ByThreshold(controls)
    return {
        FFN: threshold,
        CAUSAL: threshold,
        STATIC: Static(controls),
        RANDOM: Random(controls),
        DENSE: Rule(controls),
        **{name: Fitted(controls) for name in FITTED},
    }
