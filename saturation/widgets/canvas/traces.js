// The trace that Python sent, with results that are computed once.

import { Decider } from "./rule.js";

/** Bytes from the kernel as a typed array, copied only where they are not aligned. */
export function numbers(Kind, bytes) {
  const view = bytes instanceof DataView || ArrayBuffer.isView(bytes) ? bytes : new DataView(bytes);
  const size = Kind.BYTES_PER_ELEMENT;
  if (view.byteOffset % size === 0) return new Kind(view.buffer, view.byteOffset, view.byteLength / size);
  return new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

const opened = new WeakMap(); // message from the kernel -> trace, shared by all views of a widget

/** The trace in a message from the kernel. */
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
  trace.kept = new Map(); // results of `once` by key
  return trace;
}

/** Row of the previous token in the same sequence, -1 for the first; sequences may be interleaved. */
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

const BYTES = 4; // greatest length of a character in UTF-8
const SEVERAL = 0x80; // the first character of more than one byte

/**
 * Index into `rows` of the token whose text contains the bytes of the token at `index`. The text of a character that is
 * split over several tokens is at the last of them; the others have empty texts.
 */
export function holderOf(trace, rows, index) {
  const same = (at) => at < rows.length && trace.sequence[rows[at]] === trace.sequence[rows[index]];
  for (let at = index; at < index + BYTES && same(at); at++) {
    const text = textAt(trace, rows[at]);
    if (text !== "") return text.codePointAt(0) >= SEVERAL ? at : index;
  }
  return index;
}

/** The rows of a phase in order. */
export function rowsOf(trace, phase) {
  trace.shown[phase] ??= Int32Array.from(trace.generated.keys()).filter(
    (row) => phase === "all" || trace.generated[row] > 0 === (phase === "decode"),
  );
  return trace.shown[phase];
}

/** Index of the first number that is not below `value` in ascending numbers. */
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
 * Mean of a metric over the rows[start:stop] at positions [from, to), without blocks that did not run, [layer]; NaN
 * where no block ran.
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

/** Share of the rows[start:stop] past the sink whose block is marked in a mask, [layer]. */
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

/** The result of `count()`, computed once per trace and key. */
export function once(trace, key, count) {
  if (!trace.kept.has(key)) trace.kept.set(key, count());
  return trace.kept.get(key);
}
