// The widget: it draws a scene from the model's traits and writes changes back to them.

import { scaleOf } from "./colours.js";
import { placesOf, spanOf } from "./columns.js";
import { ruleControls, tell, viewControls } from "./controls.js";
import { areaOf, drawPointer } from "./heatmap.js";
import { keepKeys } from "./keys.js";
import { build, dragThreshold, themeOf } from "./layout.js";
import { cellsOf, fit, paint } from "./painting.js";
import { listen } from "./pointing.js";
import { unpackBits } from "./rule.js";
import { textStrip } from "./strip.js";
import { numbers, openTrace, rowsOf } from "./traces.js";
import { showWords } from "./words.js";

const RULE = "limit limits _exact sink cold_start cold_end warmup warmup_on horizon prefill causal".split(" ");
const VIEW = "view selection metric phase height".split(" ");
const THEME = "class style theme data-jp-theme-light data-jp-theme-name data-vscode-theme-kind".split(" ");
const REST = 150; // milliseconds without a change before the counted ratios are sent to the kernel

/** The rule that the traits define. */
export function ruleOf(model) {
  const [limit, limits, exact, sink, coldStart, coldEnd, warmup, warmupOn, horizon, prefill, causal] = RULE.map((name) =>
    model.get(name),
  );
  return { limit, limits, exact, sink, coldStart, coldEnd, warmup, warmupOn, horizon, prefill, causal };
}

/** Build a view of the model in `el`, and return a function that removes it. */
function render({ model, el }) {
  const leaving = new AbortController();
  const { signal } = leaving;
  const parts = build(el);
  const scene = { hover: null, selecting: false };
  const dirty = { data: true, view: true, rule: true, pointer: true };
  let [frame, rest, cells, told] = [0, 0, null, null];

  // ---- reading traits

  function readData() {
    scene.trace = openTrace(model.get("_data"));
    scene.hover = null;
  }

  function rangeNow() {
    const [first, stop] = placesOf(scene.rows, model.get("view"));
    return first < stop ? [first, stop] : [0, scene.rows.length];
  }

  function readView() {
    const { trace } = scene;
    if (scene.phase !== model.get("phase")) scene.hover = null;
    [scene.metric, scene.phase] = [model.get("metric"), model.get("phase")];
    scene.rows = rowsOf(trace, scene.phase);
    scene.range = rangeNow();
    scene.scale = scaleOf(trace, scene.metric);
    scene.selection = model.get("selection");
    scene.selected = scene.selection ? placesOf(scene.rows, scene.selection) : null;
    scene.reading = null;
    if (scene.hover?.index >= scene.rows.length) scene.hover = null;
  }

  function readRule() {
    const packed = model.get("mask");
    const before = scene.rule?.sink;
    scene.rule = ruleOf(model);
    dirty.view ||= scene.rule.sink !== before; // the sink is drawn separately
    scene.masked = Boolean(packed);
    scene.label = model.get("_label");
    if (scene.masked) {
      scene.decided = {
        mask: unpackBits(numbers(Uint8Array, packed), scene.trace.rows * scene.trace.layers),
        eligible: null,
        critical: null,
        ratios: model.get("_shares"),
      };
    } else {
      scene.decided = scene.trace.decider.apply(scene.rule);
    }
  }

  // ---- drawing

  function schedule(...what) {
    for (const name of what) dirty[name] = true;
    frame ||= requestAnimationFrame(draw);
  }

  function draw() {
    frame = 0;
    const ratio = window.devicePixelRatio || 1;
    const { laid, changed } = fit([parts.canvas, parts.over, parts.curves], model.get("height"), ratio);
    if (!laid) return; // the ResizeObserver draws it later
    dirty.view ||= changed;
    const theme = themeOf(parts.root);
    if (dirty.data) readData();
    if (dirty.data || dirty.view) readView();
    if (dirty.data || dirty.rule) readRule();
    const area = areaOf(parts.canvas, ratio);
    if (dirty.data || dirty.view) cells = cellsOf(scene, area, ratio);
    if (dirty.data || dirty.view || dirty.rule) {
      paint(parts, scene, cells, area, theme, ratio);
      parts.view.show(scene);
      parts.view.count(scene.decided.ratios, scene.masked);
      parts.rule(scene);
      parts.legend(scene, cells.chosen || !scene.selected ? cells.apart.length : 0);
    }
    if (dirty.data || dirty.view) parts.strip.show(scene);
    else if (dirty.rule) parts.strip.shade(scene);
    drawPointer(parts.over.getContext("2d"), area, scene, theme, ratio);
    showWords(parts, scene, cells.columns);
    if (dirty.data || dirty.rule) settle();
    dirty.data = dirty.view = dirty.rule = dirty.pointer = false;
    el.dispatchEvent(new CustomEvent("saturation-drawn"));
  }

  // ---- actions

  const act = {
    range: rangeNow, // read anew: several moves may come between two frames
    count: () => scene.rows.length,
    layers: () => scene.trace.layers,
    cursor: () => scene.hover,
    selecting: () => scene.selecting,
    show(first, stop) {
      model.set("view", spanOf(scene.trace, scene.rows, first, stop));
      settle();
    },
    select(first, stop, done) {
      model.set("selection", first === null ? null : [scene.rows[first], scene.rows[stop - 1] + 1]);
      if (first === null || done) model.save_changes();
    },
    hover(point, spoken = false) {
      scene.hover = scene.rows.length ? point : null;
      scene.spoken = spoken;
      parts.strip.point(scene.hover ? point.index : -1, true);
      schedule("pointer");
    },
    read(index) {
      scene.reading = index;
      parts.strip.show(scene);
      parts.strip.point(index, true);
    },
    place(event) {
      const box = parts.canvas.getBoundingClientRect();
      const ratio = parts.canvas.width / box.width;
      const area = areaOf(parts.canvas, ratio);
      const y = ((event.clientY - box.top) * ratio - area.top) / area.height;
      const layer = Math.min(Math.max(Math.floor((1 - y) * scene.trace.layers), 0), scene.trace.layers - 1);
      return {
        share: ((event.clientX - box.left) * ratio - area.left) / area.width,
        layer: y < 0 || y >= 1 ? null : layer,
      };
    },
  };

  function settle() {
    clearTimeout(rest);
    rest = setTimeout(() => {
      if (!scene.masked && scene.decided) model.set("predicted", scene.decided.ratios);
      announce();
      model.save_changes();
    }, REST);
  }

  /** Announce the ratios to screen readers, once a change of them is over. */
  function announce() {
    const words = parts.view.words();
    if (told !== null && told !== words) parts.status.textContent = words;
    told = words;
  }

  // ---- wiring

  keepKeys(parts.root, signal);
  const pointing = listen(parts.canvas, act, signal);
  parts.strip = textStrip(parts.text, (index) => {
    scene.hover = index === null ? null : { index, layer: null };
    parts.strip.point(index ?? -1, false);
    schedule("pointer");
  });
  parts.view = viewControls(parts.viewRow, model, {
    zoom: (factor) => pointing.zoomAt(factor, 0.5),
    selecting(on) {
      scene.selecting = on;
      parts.view.pressed(on);
      parts.canvas.classList.toggle("sx-selecting", on);
    },
  });
  parts.rule = ruleControls(parts.ruleRow, model);
  dragThreshold(parts.curves, scene, (limit) => tell(model, { limit, limits: [] }), signal);
  const listeners = [
    ["change:_data", () => schedule("data")],
    ...VIEW.map((name) => [`change:${name}`, () => schedule("view")]),
    ...[...RULE, "mask", "_label"].map((name) => [`change:${name}`, () => schedule("rule")]),
    ["change:_shares", () => scene.masked && schedule("rule")],
    ["change:controls", showControls],
  ];
  for (const [name, listener] of listeners) model.on(name, listener);
  const again = () => schedule("view");
  const sized = new ResizeObserver(again);
  sized.observe(parts.root);
  const themed = new MutationObserver(again);
  for (const node of [document.documentElement, document.body]) {
    themed.observe(node, { attributes: true, attributeFilter: THEME });
  }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again, { signal });

  function showControls() {
    parts.ruleRow.hidden = !model.get("controls");
  }

  showControls();
  schedule("data");
  return () => {
    leaving.abort();
    sized.disconnect();
    themed.disconnect();
    clearTimeout(rest);
    cancelAnimationFrame(frame);
    for (const [name, listener] of listeners) model.off(name, listener);
  };
}

export default { render };
