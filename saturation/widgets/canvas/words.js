// What is said of the block under the pointer.

import { METRICS, cosineText, valueText } from "./colours.js";
import { greatestDistances } from "./rule.js";
import { textAt } from "./traces.js";

/** Lines of [name, value] about a token, and about one of its blocks where a layer is pointed at. */
export function wordsOf(scene, { index, layer }, columns) {
  const { trace } = scene;
  const row = scene.rows[index];
  const text = textAt(trace, row);
  const phase = trace.generated[row] > 0 ? `decode, token ${trace.generated[row]}` : "prefill";
  const lines = [
    ["", text === "" ? "∅ (no text)" : JSON.stringify(text)],
    ["token", `${row.toLocaleString("en")} · sequence ${trace.sequence[row]}, position ${trace.position[row]} · ${phase}`],
  ];
  const together = sharing(columns, index);
  if (together > 1) lines.push(["column", `mean of ${together} tokens; zoom in to part them`]);
  if (layer === null) return lines;
  const at = row * trace.layers + layer;
  lines.push(["layer", String(layer)]);
  lines.push(["cosine", Number.isNaN(trace.distance[at]) ? "–" : `${cosineText(trace.distance[at], 2)}  (1 − cos = ${trace.distance[at].toExponential(2)})`]);
  lines.push(["ρ = |FFN| / |h|", Number.isNaN(trace.metrics.growth[at]) ? "–" : trace.metrics.growth[at].toPrecision(3)]);
  if (scene.metric !== "distance" && scene.metric !== "growth") {
    lines.push([METRICS[scene.metric].name, valueText(METRICS[scene.metric].axis, trace.metrics[scene.metric][at])]);
  }
  lines.push(["block", whyOf(scene, row, layer)]);
  const critical = scene.decided.critical?.[at];
  if (Number.isFinite(critical)) lines.push(["critical", `skipped at thresholds up to ${cosineText(critical, 2)}`]);
  return lines;
}

function sharing(columns, index) {
  const column = columns.starts.findIndex((start, at) => index >= start && index < columns.starts[at + 1]);
  return column < 0 ? 1 : columns.starts[column + 1] - columns.starts[column];
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
  if (!decided.eligible[row]) return trace.generated[row] > 0 || rule.prefill ? "runs: warm-up" : "runs: prefill";
  const seen = rule.causal ? trace.before[row] : row;
  if (seen < 0) return "runs: no token before";
  const greatest = greatestDistances(rule, layers);
  const met = (at) => distance[seen * layers + at] <= greatest[at];
  if (skipped) {
    let from = layer - 1;
    while (from >= 0 && !(decided.mask[row * layers + from] === 0 && met(from))) from--;
    return `skipped: layer ${from} reached the threshold with ${cosineText(distance[seen * layers + from], 2)}`;
  }
  if (greatest[layer] === -Infinity) return rule.limit === null || rule.limits.length ? "runs: no threshold here" : "runs: nothing behind it to skip";
  return met(layer) ? "runs: reaches the threshold, so that the blocks behind it are skipped" : "runs: below the threshold";
}
