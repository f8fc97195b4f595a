// The widget: a scene drawn from the model's traits, and what is written back to them.

import { scaleOf } from "./colours.js";
import { columnsOf, markedShares, overColumns, placesOf, sequenceStarts, spanOf } from "./columns.js";
import { make, ruleControls, tell, viewControls } from "./controls.js";
import { CURVES, drawCurves } from "./curves.js";
import { areaOf, cellPicture, drawAxes, drawCells, drawPointer, hatchOf, hidden, veilPicture } from "./heatmap.js";
import { build, dragThreshold, themeOf } from "./layout.js";
import { listen } from "./pointing.js";
import { unpackBits } from "./rule.js";
import { textStrip } from "./strip.js";
import { meansOf, numbers, once, openTrace, rowsOf, sharesOf } from "./traces.js";
import { wordsOf } from "./words.js";

const RULE = ["limit", "limits", "_exact", "cold_start", "cold_end", "warmup", "warmup_on", "horizon", "prefill", "causal"];
const VIEW = ["view", "metric", "phase", "height"];
const REST = 150; // milliseconds without a move before the kernel is told what was counted

/** The rule that the traits say. */
export function ruleOf(model) {
  const [limit, limits, exact, coldStart, coldEnd, warmup, warmupOn, horizon, prefill, causal] = RULE.map((name) => model.get(name));
  return { limit, limits, exact, coldStart, coldEnd, warmup, warmupOn, horizon, prefill, causal };
}

/** What is drawn of the tokens in view and does not change with the rule. */
function cellsOf(scene, area, ratio) {
  const { trace, metric, rows, range } = scene;
  const columns = columnsOf(trace, metric, rows, ...range, area.width);
  const chosen = scene.selected && scene.selected[0] < scene.selected[1] ? scene.selected : null;
  return {
    columns,
    chosen,
    picture: cellPicture(columns, trace.layers, scene.scale),
    hatching: hidden(area.width, area.height),
    sequences: sequenceStarts(trace, rows, ...range, area.width / (10 * ratio)),
    means: meansOf(trace, metric, rows, ...(chosen ?? range)),
    whole: once(trace, `means ${metric} ${scene.phase}`, () => meansOf(trace, metric, rows, 0, rows.length)),
  };
}

/** Build a view in `el`. */
function render({ model, el }) {
  const leaving = new AbortController();
  const { signal } = leaving;
  const parts = build(el);
  const scene = { hover: null, cursor: null, selecting: false };
  const dirty = { data: true, view: true, rule: true, pointer: true };
  let [frame, rest, cells, pinned] = [0, 0, null, false];

  // ---- what the traits say

  function readData() {
    scene.trace = openTrace(model.get("_data"));
    scene.hover = null;
  }

  function readView() {
    const { trace } = scene;
    if (scene.phase !== model.get("phase")) scene.hover = null;
    [scene.metric, scene.phase] = [model.get("metric"), model.get("phase")];
    scene.rows = rowsOf(trace, scene.phase);
    const [first, stop] = placesOf(scene.rows, model.get("view"));
    scene.range = first < stop ? [first, stop] : [0, scene.rows.length];
    scene.scale = scaleOf(trace, scene.metric);
    scene.selection = model.get("selection");
    scene.selected = scene.selection ? placesOf(scene.rows, scene.selection) : null;
    scene.reading = null;
    if (scene.hover?.index >= scene.rows.length) scene.hover = null;
    parts.selection(scene);
  }

  function readRule() {
    const packed = model.get("mask");
    scene.rule = ruleOf(model);
    scene.masked = Boolean(packed);
    scene.label = model.get("_label");
    if (scene.masked) {
      scene.decided = { mask: unpackBits(numbers(Uint8Array, packed), scene.trace.rows * scene.trace.layers), eligible: null, critical: null, ratios: model.get("predicted") };
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
    if (!resize(ratio)) return; // not laid out yet: drawn when it is
    const theme = themeOf(parts.root);
    if (dirty.data) readData();
    if (dirty.data || dirty.view) readView();
    if (dirty.data || dirty.rule) readRule();
    const area = areaOf(parts.canvas, ratio);
    if (dirty.data || dirty.view) cells = cellsOf(scene, area, ratio);
    if (dirty.data || dirty.view || dirty.rule) {
      drawAll(area, theme, ratio);
      parts.view.show(scene);
      parts.view.count(scene.decided.ratios, scene.masked);
      parts.rule(scene);
    }
    if (dirty.data || dirty.view) parts.strip.show(scene);
    else if (dirty.rule) parts.strip.shade(scene);
    drawPointer(parts.over.getContext("2d"), area, scene, theme, ratio);
    describe();
    if (dirty.data || dirty.rule) settle();
    dirty.data = dirty.view = dirty.rule = dirty.pointer = false;
    el.dispatchEvent(new CustomEvent("saturation-drawn"));
  }

  function drawAll(area, theme, ratio) {
    const { trace, rows } = scene;
    const context = parts.canvas.getContext("2d");
    context.clearRect(0, 0, parts.canvas.width, parts.canvas.height);
    const [first, stop] = scene.range;
    const shares = markedShares(trace, rows, cells.columns, scene.decided.mask);
    const veil = veilPicture(cells.columns, trace.layers, shares);
    const sequences = cells.sequences.map((index) => (index - first) / (stop - first));
    drawCells(context, area, cells.picture, veil, cells.hatching, { hatch: hatchOf(context, theme, ratio), sequences, theme, ratio });
    drawAxes(context, area, scene, cells.columns, theme, ratio);
    const skipped = cells.chosen ? sharesOf(trace, scene.decided.mask, rows, ...cells.chosen) : overColumns(cells.columns, shares);
    const profile = { whole: cells.whole, chosen: cells.means, skipped };
    drawCurves(parts.curves.getContext("2d"), areaOf(parts.curves, ratio, CURVES), scene, profile, theme, ratio);
  }

  function resize(ratio) {
    const height = model.get("height");
    for (const canvas of [parts.canvas, parts.over, parts.curves]) {
      const width = Math.round(canvas.parentElement.clientWidth * ratio);
      if (!width) return false;
      if (canvas.width !== width || canvas.height !== Math.round(height * ratio)) {
        [canvas.width, canvas.height] = [width, Math.round(height * ratio)];
        canvas.style.height = `${height}px`;
        dirty.view = true;
      }
    }
    return true;
  }

  // ---- words about the cell under the pointer

  function describe() {
    const point = scene.hover;
    if (!point) {
      parts.tip.hidden = true;
      return;
    }
    const lines = wordsOf(scene, point, cells.columns);
    parts.tip.replaceChildren(...lines.map(([name, value]) => make("div", { class: name ? "sx-line" : "sx-title" }, make("span", {}, name), make("bdi", {}, value))));
    if (scene.spoken) parts.status.textContent = lines.map(([name, value]) => `${name} ${value}`).join(", ");
    parts.tip.hidden = false;
    place(point);
  }

  function place(point) {
    const area = areaOf(parts.canvas, parts.canvas.width / parts.canvas.clientWidth);
    const ratio = parts.canvas.width / parts.canvas.clientWidth;
    const [first, stop] = scene.range;
    const x = (area.left + ((point.index + 0.5 - first) / (stop - first)) * area.width) / ratio;
    const right = x > parts.canvas.clientWidth / 2;
    parts.tip.style.left = right ? "auto" : `${x + 14}px`;
    parts.tip.style.right = right ? `${parts.canvas.clientWidth - x + 14}px` : "auto";
  }

  // ---- acting

  const act = {
    range: () => scene.range,
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
      return { share: ((event.clientX - box.left) * ratio - area.left) / area.width, layer: y < 0 || y >= 1 ? null : layer };
    },
  };

  function settle() {
    clearTimeout(rest);
    rest = setTimeout(() => {
      if (!scene.masked && scene.decided) model.set("predicted", scene.decided.ratios);
      model.save_changes();
    }, REST);
  }

  // ---- wiring

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
  const heard = [["_data", "data"], ["selection", "view"], ["mask", "rule"], ["_label", "rule"]];
  for (const name of VIEW) heard.push([name, "view"]);
  for (const name of RULE) heard.push([name, "rule"]);
  const listeners = heard.map(([name, what]) => [`change:${name}`, () => schedule(what)]);
  listeners.push(["change:predicted", () => scene.masked && schedule("rule")]);
  listeners.push(["change:controls", showControls]);
  for (const [name, listener] of listeners) model.on(name, listener);
  const again = () => schedule("view");
  const sized = new ResizeObserver(again);
  sized.observe(parts.root);
  const themed = new MutationObserver(again);
  for (const node of [document.documentElement, document.body]) themed.observe(node, { attributes: true, attributeFilter: ["class", "style", "data-jp-theme-light", "data-jp-theme-name", "theme", "data-vscode-theme-kind"] });
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
