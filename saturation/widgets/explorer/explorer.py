"""The widget that draws a trace on a canvas of layers and tokens, and applies a rule to it in the browser."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import traitlets

from ...policies import SINK, FFNSkip, Policy, Replay, SkipRatios, StaticFFN, Steps, replay, skip_ratios
from ...policies.ffnskip import Threshold
from ...trace import Trace
from ...trace.validation import GROUPS
from .. import assets, log_scale
from ..static_image import Pictured
from . import payload
from .opening_policy import WARMUP, first_rule

_OPTIONS = (  # fields of FFNSkip that are also traits
    *("sink", "cold_start", "cold_end", "warmup", "warmup_on"),
    *("horizon", "prefill", "causal"),
)


class SaturationExplorer(Pictured, anywidget.AnyWidget):
    """A canvas of every layer and token of a trace, and of the blocks that a rule would skip, for traces of any length.

    The browser receives the numbers once and applies the rule whenever a control moves, without asking the kernel.
    Wheel, drag and keys zoom and pan; dragging with shift selects tokens. The means of each layer are drawn beside the
    canvas, and the text is shown under it.

    Parameters
    ----------
    trace
        A trace with tokens and with all layers of its model.
    policy
        The policy whose skips are shown. None fits FFN-SkipLLM to a tenth of the FFNs where the trace allows that, and
        otherwise leaves its threshold to be set. A rule of FFN-SkipLLM sets the controls; the skips of any other policy
        are computed in Python and sent to the browser.
    traits
        Values of the attributes below, by name.

    Attributes
    ----------
    limit : float or None
        log10(1 - threshold); None never skips. 10**limit is rounded to four digits (`log_scale.cosine`).
    limits : list of float or None
        The same for each layer, None for a layer without a probe; empty where `limit` applies to all layers.
    sink, cold_start, cold_end, warmup, warmup_on, horizon, prefill, causal
        As for `FFNSkip`. The means of each layer leave out the sink, whose means are drawn as a curve of their own.
    metric : str
        Name of the trace's metric that is drawn.
    phase : "all", "prefill" or "decode"
        Phase of the tokens that are drawn.
    selection : (int, int) or None
        First selected row of the trace, and the row after the last; None selects nothing.
    view : (int, int)
        First row of the trace that the canvas shows, and the row after the last.
    mask : bytes or None
        Skipped blocks of a policy that the browser cannot compute: `numpy.packbits` of bool [token, layer]. Setting
        `policy` sets it.
    height : int
        Height of the canvas in CSS pixels.
    controls : bool
        Whether the rule's controls are shown above the canvas; False leaves them to widgets linked with the traits.
    predicted : dict
        "nominal", "decode" and "total" skip ratio, counted by the browser; empty where no browser shows the widget
        (`ratios` computes them in Python).

    Raises
    ------
    TypeError
        For anything but a Trace.
    ValueError
        For a trace without tokens or with only some layers of its model, and for a policy that does not fit it.
    """

    limit = traitlets.Float(None, allow_none=True, max=log_scale.MOST).tag(sync=True)
    limits = traitlets.List(traitlets.Float(allow_none=True, max=log_scale.MOST)).tag(sync=True)
    sink = traitlets.Int(SINK, min=0).tag(sync=True)
    cold_start = traitlets.Int(0, min=0).tag(sync=True)
    cold_end = traitlets.Int(0, min=0).tag(sync=True)
    warmup = traitlets.Int(WARMUP, min=0).tag(sync=True)
    warmup_on = traitlets.Enum(("generated", "position"), "generated").tag(sync=True)
    horizon = traitlets.Int(None, min=1, allow_none=True).tag(sync=True)
    prefill = traitlets.Bool(False).tag(sync=True)
    causal = traitlets.Bool(False).tag(sync=True)
    metric = traitlets.Enum(GROUPS, "distance").tag(sync=True)
    phase = traitlets.Enum(("all", "prefill", "decode"), "all").tag(sync=True)
    selection = traitlets.Tuple(traitlets.Int(), traitlets.Int(), default_value=None, allow_none=True).tag(sync=True)
    view = traitlets.Tuple(traitlets.Int(), traitlets.Int()).tag(sync=True)
    mask = traitlets.Bytes(None, allow_none=True).tag(sync=True)
    predicted = traitlets.Dict().tag(sync=True)
    height = traitlets.Int(320, min=120).tag(sync=True)
    controls = traitlets.Bool(True).tag(sync=True)
    _data = traitlets.Dict(read_only=True).tag(sync=True)
    _exact = traitlets.List(traitlets.List(), read_only=True).tag(sync=True)  # [limit, cosine] not of four digits
    _label = traitlets.Unicode(read_only=True).tag(sync=True)  # the mask's policy in words
    _shares = traitlets.Dict(read_only=True).tag(sync=True)  # its skip ratios; the browser writes `predicted` late

    _esm = assets.module(*assets.EXPLORER)
    _css = assets.style()

    def __init__(self, trace: Trace, *, policy: Policy | None = None, **traits: Any) -> None:
        self._trace = payload.checked(trace)
        self._rule = FFNSkip(None)  # holds the options that are not traits
        self._other: Policy | None = None  # the policy that made the mask
        super().__init__(**{"view": (0, len(trace)), **traits})
        self._put(_data=payload.of(trace))
        if policy is None and not traits.keys() & {"limit", "limits", "mask", *_OPTIONS}:
            policy = first_rule(trace)
        if policy is not None:
            self.policy = policy

    def __repr__(self) -> str:
        return f"<SaturationExplorer of {self._trace!r}>"

    @property
    def trace(self) -> Trace:
        """The trace that is shown."""
        return self._trace

    @property
    def policy(self) -> Policy:
        """The policy whose skips are shown, built from the traits; setting it sets the traits."""
        if self._other is not None:
            return self._other
        return replace(self._rule, threshold=self._threshold(), **{name: getattr(self, name) for name in _OPTIONS})

    @policy.setter
    def policy(self, policy: Policy) -> None:
        policy.check(self._trace.layers)
        if isinstance(policy, FFNSkip):
            self._set_rule(policy)
        else:
            self.stand_for(policy, replay(policy, self._trace))

    def stand_for(self, policy: Policy, replayed: Replay) -> None:
        """Show the skips of a policy from its replay, which may have read more than the trace."""
        shares = {name: float(share) for name, share in replayed.ratios._asdict().items()}
        self._put(mask=np.packbits(replayed.skipped).tobytes(), predicted=shares, sink=policy.sink)
        self._other = policy
        self._put(_label=policy.describe(), _shares=shares)

    def show(self, trace: Trace) -> None:
        """Show another trace in the same canvas with the same rule.

        Raises
        ------
        TypeError, ValueError
            As for a new explorer; then the former trace stays.
        """
        payload.checked(trace)
        policy = self.policy
        policy.check(trace.layers)
        self._trace = trace
        metric = self.metric if self.metric in trace.groups else "distance"
        self._put(_data=payload.of(trace), view=(0, len(trace)), selection=None, metric=metric, mask=None)
        self.policy = policy

    def ratios(self) -> SkipRatios:
        """The predicted skip ratios, from a replay of the policy on the trace."""
        if self.mask is not None:
            masked = self._other or StaticFFN(layers=tuple(range(self._trace.layers)))
            return skip_ratios(self.skipped, Steps.of(self._trace), masked, self._trace.layers)
        return replay(self.policy, self._trace).ratios

    @property
    def skipped(self) -> np.ndarray:
        """Mask of the blocks that the policy would skip, bool [token, layer]."""
        if self.mask is None:
            return replay(self.policy, self._trace).skipped
        shape = self._trace.distance.shape
        return np.unpackbits(np.frombuffer(self.mask, np.uint8), count=shape[0] * shape[1]).reshape(shape).astype(bool)

    @property
    def profile(self) -> pd.DataFrame:
        """Means of each layer over the selected tokens of the phase shown, or over those in view without a selection.

        Tokens of the attention sink are left out.

        Returns
        -------
        DataFrame
            A row per layer: `similarity` (mean cosine) and `growth` (mean |FFN| / |h|) over the blocks that ran, and
            `skipped`, the share of blocks that the policy would skip.
        """
        rows = self._rows(self.selection or self.view)
        rows = rows[self._trace.tokens["position"].to_numpy()[rows] >= self.sink]
        distance = pd.DataFrame(self._trace.distance[rows]).mean()  # [layer]
        growth = pd.DataFrame(self._trace.growth[rows]).mean()
        layer = pd.Index(self._trace.layer_numbers, name="layer")
        means = {"similarity": 1 - distance, "growth": growth, "skipped": pd.DataFrame(self.skipped[rows]).mean()}
        return pd.DataFrame({name: mean.to_numpy(np.float64) for name, mean in means.items()}, index=layer)

    def _rows(self, span: tuple[int, int]) -> np.ndarray:
        """Rows of a span that belong to the phase shown, int [row]."""
        decoding = self._trace.decoding[slice(*span)]
        shown = np.ones(len(decoding), bool) if self.phase == "all" else decoding == (self.phase == "decode")
        return span[0] + np.flatnonzero(shown)

    def _threshold(self) -> Threshold:
        return tuple(map(self._cosine, self.limits)) if self.limits else self._cosine(self.limit)

    def _cosine(self, limit: float | None) -> float | None:
        if limit is None:
            return None
        exact = (cosine for place, cosine in self._exact if log_scale.same(place, limit))
        return next(exact, log_scale.cosine(limit))

    def stand_at(self, policy: FFNSkip, place: float) -> None:
        """Set a rule with one threshold, and put `limit` at a slider's place for it."""
        self._set_rule(policy, place=place)

    def follow(self, **traits: Any) -> None:
        """Set traits to values that a link in the browser already set there, without sending them back."""
        with self._lock_property(**traits):
            self._put(**traits)

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take the state that the browser sent.

        Where its values do not fit together, such as cold regions that overlap, set one after the other and leave out
        those that do not fit.
        """
        try:
            super().set_state(sync_data)
        except traitlets.TraitError:
            for name, value in sync_data.items():
                with suppress(traitlets.TraitError):
                    super().set_state({name: value})

    def _set_rule(self, policy: FFNSkip, *, place: float | None = None) -> None:
        each = isinstance(policy.threshold, tuple)
        given = policy.threshold if isinstance(policy.threshold, tuple) else (policy.threshold,)
        limits = [place if one is None or place is not None else log_scale.limit(one) for one in given]
        pairs = [(limit, one) for limit, one in zip(limits, given, strict=True) if limit is not None]
        exact = [[limit, one] for limit, one in pairs if log_scale.cosine(limit) != one]
        chosen: dict[str, Any] = {"limits": limits} if each else {"limits": [], "limit": limits[0]}
        self._put(mask=None, _exact=exact, **chosen, **{name: getattr(policy, name) for name in _OPTIONS})
        self._rule = policy

    def _put(self, **traits: Any) -> None:
        """Set traits with a single message to the browser."""
        with self.hold_sync(), self.hold_trait_notifications():
            for name, value in traits.items():
                self.set_trait(name, value)

    @traitlets.observe("mask")
    def _masked(self, change: Any) -> None:
        self._other = None  # `stand_for` stores its policy afterwards
        self._put(_label="", _shares={})

    @traitlets.validate("limits", "cold_start", "cold_end")
    def _fits(self, proposal: Any) -> Any:
        asked = {name: getattr(self, name) for name in ("limits", "cold_start", "cold_end")}
        asked[proposal["trait"].name] = proposal["value"]
        threshold = tuple(asked.pop("limits")) or None
        try:
            replace(FFNSkip(None), threshold=threshold and (None,) * len(threshold), **asked).check(self._trace.layers)
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from error
        return proposal["value"]

    @traitlets.validate("metric")
    def _recorded(self, proposal: Any) -> str:
        if proposal["value"] not in self._trace.groups:
            raise traitlets.TraitError(
                f"expected a metric that this trace has, {', '.join(self._trace.groups)}, got {proposal['value']!r}; "
                f"record it anew with {proposal['value']} among `also`"
            )
        return proposal["value"]

    @traitlets.validate("view", "selection")
    def _there(self, proposal: Any) -> tuple[int, int] | None:
        span = proposal["value"]
        if span is not None and not 0 <= span[0] < span[1] <= len(self._trace):
            raise traitlets.TraitError(
                f"expected {proposal['trait'].name} as two rising rows from 0 to {len(self._trace)}, got {span}; the "
                "second is the first row that is left out"
            )
        return span

    @traitlets.validate("mask")
    def _packed(self, proposal: Any) -> bytes | None:
        count = self._trace.distance.size
        if proposal["value"] is not None and len(proposal["value"]) != -(-count // 8):
            raise traitlets.TraitError(
                f"expected a mask of {-(-count // 8)} bytes, a bit for each of {count} blocks, got "
                f"{len(proposal['value'])}; numpy.packbits of bool [token, layer] makes one"
            )
        return proposal["value"]
