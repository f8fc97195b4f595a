"""A trace as a canvas of layers and tokens, thresholded in the browser while a slider moves."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any, Literal

import anywidget
import numpy as np
import pandas as pd
import traitlets

from ..policies import FFNSkip, Policy, SkipRatios, StaticFFN, Steps, replay, skip_ratios
from ..trace import Trace
from ..trace.checks import GROUPS
from . import logarithm, page, payload


class SaturationExplorer(anywidget.AnyWidget):
    """Every layer and token of a trace, with what a rule would skip, in a canvas that stays fluid on long traces.

    The numbers go to the browser once. There the rule is applied anew whenever a control moves, without asking
    the kernel. Wheel, drag and keys zoom and pan; dragging with shift selects tokens; beside the canvas stand the means
    of each layer, under it the text.

    Parameters
    ----------
    trace
        With tokens, and with all layers of its model.
    policy
        What to show as skipped; None shows FFN-SkipLLM with its threshold still to be set. A rule of FFN-SkipLLM sets
        the controls; what any other policy skips is computed here and sent along.
    height
        Of the canvas, in CSS pixels.
    controls
        Whether the rule's controls stand above the canvas; False leaves them to widgets linked with the traits.

    Attributes
    ----------
    limit : float or None
        log10(1 - threshold); None never skips. Four digits of 10**limit count (`logarithm.cosine`).
    limits : list of float or None
        The same for each layer, None where there is no probe; empty where `limit` holds for all.
    cold_start, cold_end, warmup, warmup_on, horizon, prefill, causal
        As for `FFNSkip`.
    metric : str
        Which of the trace's numbers is drawn.
    phase : "all", "prefill" or "decode"
        Which tokens are drawn.
    selection : (int, int) or None
        Rows of the trace, the second excluded.
    view : (int, int)
        Rows of the trace that the canvas shows, the second excluded.
    mask : bytes or None
        What a policy that the browser does not know skips: `numpy.packbits` of bool [token, layer]. Set by `policy`.
    predicted : dict
        "nominal", "decode" and "total" skip ratio as the browser counted them; empty where none is attached
        (`ratios` asks Python).

    Raises
    ------
    TypeError
        For anything but a Trace.
    ValueError
        For a trace without tokens or with some of its model's layers, and for a policy that does not fit it.
    """

    limit = traitlets.Float(None, allow_none=True).tag(sync=True)
    limits = traitlets.List(traitlets.Float(allow_none=True)).tag(sync=True)
    cold_start = traitlets.Int(0, min=0).tag(sync=True)
    cold_end = traitlets.Int(0, min=0).tag(sync=True)
    warmup = traitlets.Int(25, min=0).tag(sync=True)
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
    height = traitlets.Int(min=120).tag(sync=True)
    controls = traitlets.Bool(True).tag(sync=True)
    _data = traitlets.Dict().tag(sync=True)
    _exact = traitlets.List().tag(sync=True)  # [limit, cosine] where four digits do not say the cosine
    _label = traitlets.Unicode().tag(sync=True)  # of the policy behind the mask

    _esm = page.module()
    _css = page.source("explorer.css")

    def __init__(
        self, trace: Trace, *, policy: Policy | None = None, height: int = 320, controls: bool = True, **options: Any
    ) -> None:
        self._trace = payload.checked(trace)
        self._rule: FFNSkip = FFNSkip(None)  # holds what no trait does
        self._other: Policy | None = None  # what the mask was made by
        data, view = payload.of(trace), (0, len(trace))
        super().__init__(_data=data, view=view, height=height, controls=controls, **options)
        if policy is not None:
            self.policy = policy

    @property
    def trace(self) -> Trace:
        """What is shown."""
        return self._trace

    @property
    def policy(self) -> Policy:
        """What decides which blocks are shown as skipped, built from the traits."""
        if self._other is not None:
            return self._other
        names = ("cold_start", "cold_end", "warmup", "warmup_on", "horizon", "prefill", "causal")
        return replace(self._rule, threshold=self._threshold(), **{name: getattr(self, name) for name in names})

    @policy.setter
    def policy(self, policy: Policy) -> None:
        policy.check(self._trace.layers)
        if isinstance(policy, FFNSkip):
            self._set_rule(policy)
        else:
            self._set_mask(policy)

    def show(self, trace: Trace) -> None:
        """Show another trace in the same canvas, under the same rule.

        Raises
        ------
        TypeError, ValueError
            As for a new explorer; the trace that was shown stays.
        """
        payload.checked(trace)
        self.policy.check(trace.layers)
        self._trace = trace
        metric = self.metric if self.metric in trace.groups else "distance"
        with self.hold_sync(), self.hold_trait_notifications():
            self._data, self.view, self.selection, self.metric = payload.of(trace), (0, len(trace)), None, metric
            if self._other is not None:
                self._set_mask(self._other)
            else:
                self.mask = None  # one set by hand was of the trace before

    def ratios(self) -> SkipRatios:
        """The predicted skip ratios, by replaying the policy on the trace."""
        if self.mask is not None and self._other is None:
            every = StaticFFN(layers=tuple(range(self._trace.layers)))
            return skip_ratios(self.skipped, Steps.of(self._trace), every, self._trace.layers)
        return replay(self.policy, self._trace).ratios

    @property
    def skipped(self) -> np.ndarray:
        """The blocks that the policy would skip, bool [token, layer]."""
        if self.mask is None:
            return replay(self.policy, self._trace).skipped
        shape = self._trace.distance.shape
        return np.unpackbits(np.frombuffer(self.mask, np.uint8), count=shape[0] * shape[1]).reshape(shape).astype(bool)

    @property
    def profile(self) -> pd.DataFrame:
        """Means over the selected tokens of the phase shown, or over those in view where none are selected.

        Returns
        -------
        DataFrame
            A row per layer: `similarity` (mean cosine), `growth` (mean |FFN| / |h|) over the blocks that ran, and
            `skipped`, the share that the policy would skip.
        """
        rows = self._rows(self.selection or self.view)
        distance = pd.DataFrame(self._trace.distance[rows]).mean()  # [layer]
        growth = pd.DataFrame(self._trace.growth[rows]).mean()
        layer = pd.Index(self._trace.layer_numbers, name="layer")
        means = {"similarity": 1 - distance, "growth": growth, "skipped": pd.DataFrame(self.skipped[rows]).mean()}
        return pd.DataFrame({name: mean.to_numpy(np.float64) for name, mean in means.items()}, index=layer)

    def _rows(self, span: tuple[int, int]) -> np.ndarray:
        """Rows of a span that the phase shows, int [row]."""
        decoding = self._trace.decoding[slice(*span)]
        shown = np.ones(len(decoding), bool) if self.phase == "all" else decoding == (self.phase == "decode")
        return span[0] + np.flatnonzero(shown)

    def _threshold(self) -> float | None | tuple[float | None, ...]:
        exact = {limit: cosine for limit, cosine in self._exact}
        cosines = [
            None if one is None else exact.get(one, logarithm.cosine(one)) for one in self.limits or [self.limit]
        ]
        return tuple(cosines) if self.limits else cosines[0]

    def _set_rule(self, policy: FFNSkip) -> None:
        each = isinstance(policy.threshold, tuple)
        given = policy.threshold if isinstance(policy.threshold, tuple) else (policy.threshold,)
        limits = [None if one is None else logarithm.limit(one) for one in given]
        pairs = [(limit, one) for limit, one in zip(limits, given, strict=True) if limit is not None]
        with self.hold_sync(), self.hold_trait_notifications():
            self._rule, self._other, self.mask, self._label = policy, None, None, ""
            self._exact = [[limit, one] for limit, one in pairs if logarithm.cosine(limit) != one]
            self.limits, self.limit = (limits, self.limit) if each else ([], limits[0])
            self.cold_start, self.cold_end, self.warmup = policy.cold_start, policy.cold_end, policy.warmup
            self.warmup_on, self.horizon = policy.warmup_on, policy.horizon
            self.prefill, self.causal = policy.prefill, policy.causal

    def _set_mask(self, policy: Policy) -> None:
        replayed = replay(policy, self._trace)
        with self.hold_sync(), self.hold_trait_notifications():
            self.mask, self._label = np.packbits(replayed.skipped).tobytes(), policy.describe()
            self.predicted = {name: float(share) for name, share in replayed.ratios._asdict().items()}
        self._other = policy
