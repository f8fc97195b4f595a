"""The single controls of a policy: their kinds, ranges and labels."""

from __future__ import annotations

from typing import Any

import ipywidgets as ipw
import numpy as np

from ...policies import SINK
from ..prediction import Predictor
from .states import RULES


def line() -> ipw.Layout:
    """Layout of a line of text under the sliders, aligned with them."""
    return ipw.Layout(height="auto", min_height="18px", margin="0 0 1px 98px")


def digits(distance: float) -> int:
    """Number of decimals that show the distance of a cosine from 1 to three figures."""
    return 3 if distance <= 0 else max(3, 2 - int(np.floor(np.log10(distance))))


def span(predictor: Predictor) -> tuple[float, float]:
    """Range of the threshold sliders: log10 of the recorded distances without outliers."""
    trace = predictor.trace
    there = trace.distance[trace.distance > 0]
    low, high = np.log10(np.quantile(there.astype(np.float64), (0.001, 0.99))) if len(there) else (-5.0, 0.0)
    return float(np.floor(low * 2) / 2), float(min(np.ceil(high * 2) / 2, 0.3))


def made(predictor: Predictor) -> dict[str, Any]:
    """Make all controls that have a value, by name."""
    layers, (low, high) = predictor.trace.layers, span(predictor)
    most = min(16, int(predictor.steps.position.max()))  # greatest sink that leaves tokens to fit on

    def of(kind: type[ipw.DOMWidget], description: str, **options: Any) -> Any:
        """Make a control as wide as the column."""
        layout = ipw.Layout(width="auto", margin="1px 0")
        named = {"description": description, "tooltip": description} | options
        return kind(layout=layout, style={"description_width": "92px"}, **named)

    within = {"min": low, "max": high, "step": 0.01}
    bare = {"readout": False, "tooltip": "threshold"}  # the cosine is shown under it
    horizon = [("until the cold end", 0), *((f"the next {k}", k) for k in range(1, layers))]
    ways = ("cosine", "percentile", "ratio")
    drawn = [("for each token", "token"), ("once for the run", "run")]
    counted = [("generated tokens", "generated"), ("absolute position", "position")]
    ends = {"min": 0, "max": layers - 1}
    return {
        "rule": of(ipw.Dropdown, "policy", options=RULES),
        "by": of(ipw.Dropdown, "threshold by", options=ways),
        "threshold": of(ipw.FloatSlider, "skip more →", value=max(low, -3.0), **bare, **within),
        "percentile": of(ipw.FloatSlider, "percentile", value=90, min=0, max=100, step=0.5, readout_format=".1f"),
        "ratio": of(ipw.FloatSlider, "ratio", value=0.2, min=0, max=0.95, step=0.005, readout_format=".1%"),
        "count": of(ipw.IntSlider, "layers", value=max(1, round(layers / 10)), min=0, max=layers),
        "layers": of(ipw.Text, "which", placeholder="4, 5, 7", continuous_update=False),
        "share": of(ipw.FloatSlider, "share", value=0.1, min=0, max=0.95, step=0.01, readout_format=".0%"),
        "per": of(ipw.Dropdown, "drawn", options=drawn),
        "seed": of(ipw.BoundedIntText, "seed", min=0, max=2**31 - 1),
        "cold_start": of(ipw.IntSlider, "cold start", **ends),
        "cold_end": of(ipw.IntSlider, "cold end", **ends),
        "warmup": of(ipw.IntSlider, "warm-up", min=0, max=64),
        "warmup_on": of(ipw.Dropdown, "counted on", options=counted),
        "sink": of(ipw.IntSlider, "sink", value=min(SINK, most), min=0, max=most),
        "horizon": of(ipw.Dropdown, "then skips", options=horizon),
        "prefill": ipw.Checkbox(description="prefill too", indent=False, layout={"width": "110px"}),
        "unfold": ipw.Checkbox(description="per layer", indent=False, layout={"width": "100px"}),
    }


def numbers(text: str) -> tuple[int, ...]:
    """The layer numbers in a text; ValueError for any other text."""
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise ValueError(f"expected layer numbers such as '4, 5, 7', got {text!r}; correct them") from None
