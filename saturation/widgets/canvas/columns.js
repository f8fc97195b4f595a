// The tokens in view as columns: one per token, or the mean of several where there are more tokens than pixels.

import { lowerBound } from "./traces.js";

/**
 * The rows[first:stop] as at most `most` columns: {count, starts [count + 1], mean and absent [column, layer], decoded
 * [column]}. `mean` is over the blocks that ran, `absent` the share of blocks that did not run, `decoded` the share of
 * decoded tokens.
 */
export function columnsOf(trace, metric, rows, first, stop, most) {
  const { layers, generated } = trace;
  const values = trace.metrics[metric];
  const count = Math.max(Math.min(stop - first, most), 0);
  const starts = Int32Array.from(
    { length: count + 1 },
    (_, column) => first + Math.floor((column * (stop - first)) / Math.max(count, 1)),
  );
  const mean = new Float32Array(count * layers);
  const absent = new Float32Array(count * layers);
  const decoded = new Float32Array(count);
  const missing = new Int32Array(layers);
  const sums = new Float64Array(layers);
  for (let column = 0; column < count; column++) {
    const size = starts[column + 1] - starts[column];
    sums.fill(0);
    missing.fill(0);
    for (let index = starts[column]; index < starts[column + 1]; index++) {
      decoded[column] += (generated[rows[index]] > 0) / size;
      for (let layer = 0, at = rows[index] * layers; layer < layers; layer++, at++) {
        if (values[at] === values[at]) sums[layer] += values[at];
        else missing[layer]++;
      }
    }
    for (let layer = 0; layer < layers; layer++) {
      mean[column * layers + layer] = sums[layer] / (size - missing[layer]);
      absent[column * layers + layer] = missing[layer] / size;
    }
  }
  return { count, starts, mean, absent, decoded };
}

/** Share of the tokens in each column that are in the attention sink of their sequence, [column]. */
export function sinkShares(trace, rows, columns, sink) {
  return Float32Array.from({ length: columns.count }, (_, column) => {
    const [start, stop] = [columns.starts[column], columns.starts[column + 1]];
    let first = 0;
    for (let index = start; index < stop; index++) first += trace.position[rows[index]] < sink;
    return first / (stop - start);
  });
}

/** Share of the blocks in each column that are marked in a mask, [column, layer]. */
export function markedShares(trace, rows, columns, mask) {
  const { layers } = trace;
  const shares = new Float32Array(columns.count * layers);
  for (let column = 0; column < columns.count; column++) {
    const size = columns.starts[column + 1] - columns.starts[column];
    for (let index = columns.starts[column]; index < columns.starts[column + 1]; index++) {
      const at = rows[index] * layers;
      for (let layer = 0; layer < layers; layer++) shares[column * layers + layer] += mask[at + layer];
    }
    for (let layer = 0; layer < layers && size > 1; layer++) shares[column * layers + layer] /= size;
  }
  return shares;
}

/** The rows of rows[first:stop] that are in the attention sink of their sequence. */
export const sinkRows = (trace, rows, first, stop, sink) =>
  rows.subarray(first, stop).filter((row) => trace.position[row] < sink);

/** Share of marked blocks over all columns, without the rows in `apart`, [layer]. */
export function overColumns(columns, shares, mask, apart) {
  const layers = shares.length / Math.max(columns.count, 1);
  const sums = new Float64Array(layers);
  for (let column = 0; column < columns.count; column++) {
    const size = columns.starts[column + 1] - columns.starts[column];
    for (let layer = 0; layer < layers; layer++) sums[layer] += size * shares[column * layers + layer];
  }
  for (const row of apart) for (let layer = 0; layer < layers; layer++) sums[layer] -= mask[row * layers + layer];
  const tokens = columns.starts[columns.count] - columns.starts[0] - apart.length;
  return sums.map((sum) => sum / Math.max(tokens, 1));
}

/** Indices in rows[first:stop] at which a new sequence begins; empty if there are more than `room`. */
export function sequenceStarts(trace, rows, first, stop, room) {
  const starts = [];
  for (let index = first + 1; index < stop && starts.length <= room; index++) {
    if (trace.sequence[rows[index]] !== trace.sequence[rows[index - 1]]) starts.push(index);
  }
  return starts.length > room ? [] : starts;
}

/** A span of rows of the trace as indices into the rows shown. */
export const placesOf = (rows, [start, stop]) => [lowerBound(rows, start), lowerBound(rows, stop)];

/** A range of indices into the rows shown as a span of rows of the trace; the whole trace for all rows shown. */
export function spanOf(trace, rows, first, stop) {
  const start = first <= 0 ? 0 : rows[first];
  return [start, stop >= rows.length ? trace.rows : rows[stop - 1] + 1];
}
