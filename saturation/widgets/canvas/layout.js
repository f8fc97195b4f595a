// The elements of the widget, and the colours of the page's theme for its canvases.

import { make } from "./controls.js";
import { scaleOf } from "./colours.js";
import { CURVES } from "./curves.js";

/** Build {root, viewRow, ruleRow, canvas, over, curves, tip, status, text, legend(scene, apart)} in `el`. */
export function build(el) {
  const canvas = make("canvas", {
    class: "sx-cells",
    tabindex: 0,
    role: "application",
    "aria-roledescription": "heat map of layers and tokens",
    "aria-label":
      "Layers and tokens of the trace. Arrows move, plus and minus zoom, " +
      "shift with arrows selects, enter shows the text, escape clears.",
  });
  const over = make("canvas", { class: "sx-over", "aria-hidden": "true" });
  const curves = make("canvas", {
    class: "sx-curve",
    role: "img",
    "aria-label": "mean of each layer, of the selection or view, beside the whole trace",
  });
  const tip = make("div", { class: "sx-tip", "aria-hidden": "true" });
  const status = make("div", { class: "sx-status", role: "status", "aria-live": "polite" });
  const [viewRow, ruleRow, text] = ["sx-row sx-view", "sx-row sx-rule", "sx-strip"].map((name) =>
    make("div", { class: name }),
  );
  tip.hidden = true;
  const map = make("div", { class: "sx-map" }, canvas, over, tip);
  const legend = make(
    "div",
    { class: "sx-legend", "aria-hidden": "true" },
    ...LEGEND.map(([name, words]) => make("span", {}, make("i", { class: `sx-key ${name}` }), words)),
  );
  const root = make(
    "div",
    { class: "sx" },
    ruleRow,
    viewRow,
    make("div", { class: "sx-plots" }, map, make("div", { class: "sx-side" }, curves)),
    legend,
    text,
    status,
  );
  el.replaceChildren(root);
  const chosen = legend.querySelector(".sx-key-curve").nextSibling;
  const sink = legend.querySelector(".sx-key-sink").parentElement;
  const name = (scene, apart) => {
    const [first, stop] = scene.selected ?? scene.range;
    const count = (stop - first - apart).toLocaleString("en");
    chosen.textContent = `mean of ${count} tokens ${scene.selected ? "selected" : "in view"}`;
    sink.hidden = apart === 0;
    sink.lastChild.textContent = `mean of ${apart.toLocaleString("en")} in the attention sink`;
  };
  return { root, viewRow, ruleRow, canvas, over, curves, tip, status, text, legend: name };
}

const LEGEND = [
  ["sx-key-hatch", "skipped"],
  ["sx-key-prefill", "prefill"],
  ["sx-key-decode", "decode"],
  ["sx-key-curve", "mean"],
  ["sx-key-sink", "attention sink"],
  ["sx-key-whole", "whole trace"],
  ["sx-key-bar", "share skipped"],
  ["sx-key-threshold", "threshold (drag it)"],
];

const COLOURS = [
  "back",
  "ink",
  "soft",
  "line",
  "grid",
  "brand",
  "curve",
  "bar",
  "threshold",
  "prefill",
  "decode",
  "sink",
  "dim",
];

/** The colours and the font of the canvases, read from the style sheet. */
export function themeOf(root) {
  const style = getComputedStyle(root);
  const theme = Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--sx-${name}`).trim()]));
  return { ...theme, font: style.fontFamily };
}

/** Make the threshold draggable along the axis of the curves. */
export function dragThreshold(canvas, scene, tell, signal) {
  const move = (event) => {
    if (event.buttons !== 1 || scene.masked) return;
    const box = canvas.getBoundingClientRect();
    const { low, high } = scaleOf(scene.trace, "distance");
    const share = (event.clientX - box.left - CURVES.left) / (box.width - CURVES.left - CURVES.right);
    if (scene.metric === "distance")
      tell(Math.round(100 * (high - Math.min(Math.max(share, 0), 1) * (high - low))) / 100);
  };
  canvas.addEventListener(
    "pointerdown",
    (event) => {
      canvas.setPointerCapture(event.pointerId);
      move(event);
    },
    { signal },
  );
  canvas.addEventListener("pointermove", move, { signal });
}
