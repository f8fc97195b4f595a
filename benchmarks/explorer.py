"""How fast the explorer answers a moving slider in a browser, on a trace of 32 layers and 100,000 tokens."""

from __future__ import annotations

import numpy as np
import pandas as pd
from playwright.sync_api import Page

import saturation as st
from saturation.widgets import SaturationExplorer

from .browser import chromium
from .page import bytes_of, open_page

MOVES = 150
# From the event of the slider to the picture, and the work in it, in ms: the event's handler, and what follows the
# animation frame that it waits for. `move` is given 0, 1, ... and changes the widget. Reading a pixel of each canvas
# waits until what was drawn is really there.
TIMES = """async ([moves, move]) => {
    const act = new Function("number", move);
    const times = [];
    for (let number = 0; number < moves; number++) {
        const drawn = window.drawn();
        const began = performance.now();
        let frame = null;
        requestAnimationFrame(() => { frame = performance.now(); }); // asked for first, called first
        act(number);
        const handled = performance.now() - began;
        await drawn;
        for (const canvas of document.querySelectorAll("canvas")) canvas.getContext("2d").getImageData(60, 60, 1, 1);
        const ends = performance.now();
        times.push([ends - began, handled + ends - (frame ?? began)]);
        await new Promise((done) => setTimeout(done, 20));
    }
    return times;
}"""
SLIDE = """
    const slider = document.querySelector(".sx-threshold input");
    slider.value = 2 + 2 * Math.abs(((number / 75) % 2) - 1);
    slider.dispatchEvent(new Event("input", {bubbles: true}));
"""
ZOOM = """
    const wheel = {deltaY: number % 20 < 10 ? -100 : 100, clientX: 400, clientY: 200, ctrlKey: true, cancelable: true};
    document.querySelector(".sx-cells").dispatchEvent(new WheelEvent("wheel", wheel));
"""
HORIZON = 'model.set("horizon", 3); model.set("warmup", number % 2); '


def large(tokens: int = 100_000, layers: int = 32) -> st.Trace:
    """A made-up trace: log-normal distances around a saturated middle, sequences of 500 tokens, 100 of them given."""
    rng = np.random.default_rng(0)
    position = np.arange(tokens, dtype=np.int32) % 500
    frame = pd.DataFrame(
        {
            "sequence": np.arange(tokens, dtype=np.int32) // 500,
            "position": position,
            "phase": np.where(position < 100, "prefill", "decode"),
            "token_id": rng.integers(0, 1000, tokens, dtype=np.int32),
            "text": np.array([f" word{number}" for number in range(1000)])[rng.integers(0, 1000, tokens)],
        }
    )
    centre = np.interp(np.arange(layers), [0, 3, layers // 2, layers - 1], [-0.5, -5, -6, -4])
    distance = np.exp(rng.normal(centre, 0.6, (tokens, layers))).astype(np.float32).clip(max=2)
    return st.Trace(frame, distance, np.sqrt(2 * distance), np.zeros(distance.shape, bool), model="made-up")


def moves() -> pd.DataFrame:
    """Times of the first drawing and of every kind of move."""
    policy = st.FFNSkip(0.997, cold_start=3, cold_end=2)
    widget = SaturationExplorer(large(), policy=policy)
    rows = []
    with chromium() as browser:
        version = browser.version
        page, first = open_page(browser, widget)
        for what, move in (
            ("threshold slider", SLIDE),
            ("zoom", ZOOM),
            ("threshold slider, horizon 3", HORIZON + SLIDE),
        ):
            rows.append({"move": what, **summary(page, move)})
    table = pd.DataFrame(rows)
    size = bytes_of(widget) / 2**20
    table.attrs["notes"] = [
        f"Page of 1,200 pixels in headless Chromium {version}, drawn by the CPU; from the event, over the wait for the "
        "next animation frame (16.7 ms apart), to the picture. Work is what remains without that wait; at 60 pictures "
        "a second there are 16.7 ms for it.",
        f"First drawing after {first:.0f} ms, {size:.1f} MiB sent once. Target: 16 ms of work at the 95th percentile.",
    ]
    return table


def summary(page: Page, move: str) -> dict[str, float | int]:
    """Median and 95th percentile of many moves, and of the work in them."""
    times, work = np.transpose(page.evaluate(TIMES, [MOVES, move]))
    middle, late, last = np.quantile(times, [0.5, 0.95, 1])
    busy = {"work, median": np.quantile(work, 0.5), "work, 95th percentile": np.quantile(work, 0.95)}
    return {"ms, median": middle, "ms, 95th percentile": late, "ms, longest": last, **busy, "moves": MOVES}
