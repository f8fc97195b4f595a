// A trace as it arrived from Python, and what is counted on it once.

import { Decider } from "./rule.js";

/** Bytes from the kernel as numbers; copied only where they are not aligned. */
export function numbers(Kind, bytes) {
  const view = bytes instanceof DataView || ArrayBuffer.isView(bytes) ? bytes : new DataView(bytes);
  const size = Kind.BYTES_PER_ELEMENT;
  if (view.byteOffset % size === 0) return new Kind(view.buffer, view.byteOffset, view.byteLength / size);
  return new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

const opened = new WeakMap(); // what the kernel sent -> the trace, shared by every view of a widget

/** The trace in what the kernel sent. */
export function openTrace(sent) {
  if (!opened.has(sent)) opened.set(sent, readTrace(sent));
  return opened.get(sent);
}

function readTrace(sent) {
  const columns = Object.fromEntries(
    Object.entries(sent.columns).map(([name, bytes]) => [name, numbers(Int32Array, bytes)]),
  );
  const metrics = Object.fromEntries(
    Object.entries(sent.metrics).map(([name, bytes]) => [name, numbers(Float32Array, bytes)]),
  );
  const trace = {
    rows: sent.rows,
    layers: sent.layers,
    model: sent.model,
    texts: sent.texts,
    ...columns,
    codes: columns.text,
  };
  trace.metrics = metrics;
  trace.distance = metrics.distance;
  trace.before = rowsBefore(trace.sequence);
  trace.decider = new Decider(trace);
  trace.shown = { all: null, prefill: null, decode: null };
  trace.kept = new Map(); // ranges and means by metric
  return trace;
}

/** Row of the token before in the same sequence, -1 for the first; a trace may interleave its sequences. */
export function rowsBefore(sequence) {
  const last = new Map();
  return Int32Array.from(sequence, (number, row) => {
    const before = last.get(number) ?? -1;
    last.set(number, row);
    return before;
  });
}

/** Text of the token at a row. */
export const textAt = (trace, row) => trace.texts[trace.codes[row]];

const BYTES = 4; // of a character in UTF-8 at most
const SEVERAL = 0x80; // the first character that has more than one

/**
 * Place among `rows` of the token whose text holds the bytes of that at `index`. A character that several tokens hold
 * stands at the last of them; those before it have no text of their own.
 */
export function holderOf(trace, rows, index) {
  const same = (at) => at < rows.length && trace.sequence[rows[at]] === trace.sequence[rows[index]];
  for (let at = index; at < index + BYTES && same(at); at++) {
    const text = textAt(trace, rows[at]);
    if (text !== "") return text.codePointAt(0) >= SEVERAL ? at : index;
  }
  return index;
}

/** Rows of a phase in order. */
export function rowsOf(trace, phase) {
  trace.shown[phase] ??= Int32Array.from(trace.generated.keys()).filter(
    (row) => phase === "all" || trace.generated[row] > 0 === (phase === "decode"),
  );
  return trace.shown[phase];
}

/** Place of the first number not below `value` in rising numbers. */
export function lowerBound(rising, value) {
  let [low, high] = [0, rising.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rising[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Mean of a metric at each layer over the rows[start:stop] at these positions, [from, to), blocks that did not run
 * left out; NaN where none ran.
 */
export function meansOf(trace, metric, rows, start, stop, [from, to] = [0, Infinity]) {
  const { layers } = trace;
  const values = trace.metrics[metric];
  const sums = new Float64Array(layers);
  const counts = new Float64Array(layers);
  for (let index = start; index < stop; index++) {
    const position = trace.position[rows[index]];
    if (position < from || position >= to) continue;
    for (let layer = 0, at = rows[index] * layers; layer < layers; layer++, at++) {
      if (values[at] === values[at]) {
        sums[layer] += values[at];
        counts[layer]++;
      }
    }
  }
  return sums.map((sum, layer) => sum / counts[layer]);
}

/** Share of the rows[start:stop] past the sink whose block is marked, at each layer. */
export function sharesOf(trace, mask, rows, start, stop, sink) {
  const { layers } = trace;
  const counts = new Float64Array(layers);
  let tokens = 0;
  for (let index = start; index < stop; index++) {
    if (trace.position[rows[index]] < sink) continue;
    tokens++;
    for (let layer = 0, at = rows[index] * layers; layer < layers; layer++) counts[layer] += mask[at + layer];
  }
  return counts.map((count) => count / Math.max(tokens, 1));
}

/** Kept result of counting something on a trace. */
export function once(trace, key, count) {
  if (!trace.kept.has(key)) trace.kept.set(key, count());
  return trace.kept.get(key);
}
