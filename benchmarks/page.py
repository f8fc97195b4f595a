"""A widget in a plain page, without Jupyter: its module, its style, and a stand-in for the model behind it."""

from __future__ import annotations

import json
from typing import Any

from anywidget import AnyWidget
from ipywidgets.widgets.widget import _remove_buffers
from playwright.sync_api import Browser, Page, Route

ADDRESS = "http://widget.test/"  # answered by the routes below; nothing leaves the machine
PAGE = """<!doctype html><html><head><meta charset="utf-8"><link rel="stylesheet" href="style.css"></head>
<body style="margin: 12px"><div id="here"></div></body></html>"""

# What anywidget gives a module: get, set, save_changes, on and off. `sent` is what the kernel would have received.
MODEL = """async () => {
    const state = await (await fetch("state.json")).json();
    const held = {};
    for (const [number, path] of state.paths.entries()) {
        const bytes = new DataView(await (await fetch(`buffer/${number}`)).arrayBuffer());
        path.slice(0, -1).reduce((within, name) => (within[name] ??= {}), state.traits)[path.at(-1)] = bytes;
    }
    const [listeners, changed] = [new Map(), new Set()];
    const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
    const model = {
        sent: [],
        get: (name) => state.traits[name],
        set(name, value) {
            if (same(state.traits[name], value)) return;
            state.traits[name] = value;
            changed.add(name);
            for (const listener of listeners.get(`change:${name}`) ?? []) listener();
        },
        save_changes() {
            const news = Object.fromEntries([...changed].map((name) => [name, state.traits[name]]));
            if (changed.size) model.sent.push(news);
            changed.clear();
        },
        on: (name, listener) => listeners.set(name, [...(listeners.get(name) ?? []), listener]),
        off: (name, listener) => listeners.set(name, (listeners.get(name) ?? []).filter((one) => one !== listener)),
    };
    window.module = await import("./module.js");
    window.model = model;
    window.drawn = () => new Promise((done) => here.addEventListener("saturation-drawn", done, { once: true }));
    const first = window.drawn();
    const began = performance.now();
    window.leave = window.module.default.render({ model, el: here });
    await first;
    return performance.now() - began;
}"""


def open_page(browser: Browser, widget: AnyWidget, **options: Any) -> tuple[Page, float]:
    """A page that shows the widget as it is now, and the milliseconds to its first drawing.

    In the page `model` is the stand-in, `module` what the widget's text exports, and `drawn()` a promise of the next
    drawing.
    """
    page = browser.new_page(**{"viewport": {"width": 1200, "height": 800}} | options)
    page.route(f"{ADDRESS}**", answers(widget))
    page.goto(ADDRESS)
    return page, page.evaluate(MODEL)


def answers(widget: AnyWidget) -> Any:
    """What the page is given for each address."""
    state, paths, buffers = _remove_buffers(widget.get_state())
    traits = {name: value for name, value in state.items() if name not in ("_esm", "_css", "layout")}
    texts = {
        "": ("text/html", PAGE),
        "module.js": ("text/javascript", str(widget._esm)),
        "style.css": ("text/css", str(widget._css)),
        "state.json": ("application/json", json.dumps({"traits": traits, "paths": paths})),
    }

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(ADDRESS)
        if name.startswith("buffer/"):
            route.fulfill(body=bytes(buffers[int(name.removeprefix("buffer/"))]))
        elif name in texts:
            kind, body = texts[name]
            route.fulfill(body=body, content_type=f"{kind}; charset=utf-8")
        else:
            route.fulfill(status=404)

    return answer


def bytes_of(widget: AnyWidget) -> int:
    """Bytes of the state that Jupyter sends when the widget is shown."""
    state, _, buffers = _remove_buffers(widget.get_state())
    return len(json.dumps({name: value for name, value in state.items() if name != "layout"})) + sum(map(len, buffers))
