// The tooltip of the block under the pointer.

import { make } from "./controls.js";
import { areaOf } from "./heatmap.js";
import { METRICS, cosineText, valueText } from "./colours.js";
import { greatestDistances } from "./rule.js";
import { holderOf, textAt } from "./traces.js";

/** Show the tooltip beside the block under the pointer, or hide it; announce it where a key moved the cursor. */
export function showWords(parts, scene, columns) {
  const { tip, canvas, status } = parts;
  tip.hidden = !scene.hover;
  if (tip.hidden) return;
  const lines = wordsOf(scene, scene.hover, columns);
  const line = ([name, value]) =>
    make("div", { class: name ? "sx-line" : "sx-title" }, make("span", {}, name), make("bdi", {}, value));
  tip.replaceChildren(...lines.map(line)); // never parsed as HTML
  if (scene.spoken) status.textContent = lines.map((words) => words.join(" ")).join(", ");
  const ratio = canvas.width / canvas.clientWidth;
  const area = areaOf(canvas, ratio);
  const [first, stop] = scene.range;
  const x = (area.left + ((scene.hover.index + 0.5 - first) / (stop - first)) * area.width) / ratio;
  const onTheRight = x > canvas.clientWidth / 2;
  tip.style.left = onTheRight ? "auto" : `${x + 14}px`;
  tip.style.right = onTheRight ? `${canvas.clientWidth - x + 14}px` : "auto";
}

/** Lines of [name, value] about a token, and about one of its blocks if `layer` is given. */
function wordsOf(scene, { index, layer }, columns) {
  const { trace } = scene;
  const row = scene.rows[index];
  const phase = trace.generated[row] > 0 ? `decode, token ${trace.generated[row]}` : "prefill";
  const lines = [
    ["", titleOf(scene, index)],
    [
      "token",
      `${row.toLocaleString("en")} · sequence ${trace.sequence[row]}, position ${trace.position[row]} · ${phase}`,
    ],
  ];
  const together = sharing(columns, index);
  if (together > 1) lines.push(["column", `mean of ${together} tokens; zoom in to part them`]);
  if (layer === null) return lines;
  const at = row * trace.layers + layer;
  lines.push(["layer", String(layer)]);
  lines.push([
    "cosine",
    Number.isNaN(trace.distance[at])
      ? "–"
      : `${cosineText(trace.distance[at], 2)}  (1 − cos = ${trace.distance[at].toExponential(2)})`,
  ]);
  lines.push([
    "ρ = |FFN| / |h|",
    Number.isNaN(trace.metrics.growth[at]) ? "–" : trace.metrics.growth[at].toPrecision(3),
  ]);
  if (scene.metric !== "distance" && scene.metric !== "growth") {
    lines.push([METRICS[scene.metric].name, valueText(METRICS[scene.metric].axis, trace.metrics[scene.metric][at])]);
  }
  lines.push(["block", whyOf(scene, row, layer)]);
  const critical = scene.decided.critical?.[at];
  if (Number.isFinite(critical)) lines.push(["critical", `skipped at thresholds up to ${cosineText(critical, 2)}`]);
  return lines;
}

/** The text of a token in quotes; for part of a character, the text of that character. */
function titleOf({ trace, rows }, index) {
  const holder = holderOf(trace, rows, index);
  const text = JSON.stringify(textAt(trace, rows[holder]));
  if (holder !== index) return `part of ${text}`;
  return text === '""' ? "∅ (no text)" : text;
}

function sharing(columns, index) {
  const column = columns.starts.findIndex((start, at) => index >= start && index < columns.starts[at + 1]);
  return column < 0 ? 1 : columns.starts[column + 1] - columns.starts[column];
}

/** The reason why no block may be skipped at a token. */
function whatOf(trace, rule, row) {
  if (trace.generated[row] === 0 && !rule.prefill) return "prefill";
  return trace.position[row] < rule.sink ? "attention sink" : "warm-up";
}

/** Whether a block is skipped, and why. */
function whyOf(scene, row, layer) {
  const { trace, rule, decided } = scene;
  const { layers, distance } = trace;
  if (Number.isNaN(distance[row * layers + layer])) return "did not run when this was recorded";
  const skipped = decided.mask[row * layers + layer] === 1;
  if (scene.masked) return `${skipped ? "skipped" : "runs"}: ${scene.label || "given mask"}`;
  if (layer < rule.coldStart) return "runs: cold start";
  if (layer >= layers - rule.coldEnd) return "runs: cold end";
  if (!decided.eligible[row]) return `runs: ${whatOf(trace, rule, row)}`;
  const seen = rule.causal ? trace.before[row] : row;
  if (seen < 0) return "runs: no token before";
  const greatest = greatestDistances(rule, layers);
  const met = (at) => distance[seen * layers + at] <= greatest[at];
  if (skipped) {
    let from = layer - 1;
    while (from >= 0 && !(decided.mask[row * layers + from] === 0 && met(from))) from--;
    return `skipped: layer ${from} reached the threshold with ${cosineText(distance[seen * layers + from], 2)}`;
  }
  if (greatest[layer] === -Infinity)
    return rule.limit === null || rule.limits.length ? "runs: no threshold here" : "runs: nothing behind it to skip";
  return met(layer)
    ? "runs: reaches the threshold, so that the blocks behind it are skipped"
    : "runs: below the threshold";
}
