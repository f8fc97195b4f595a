// The rule of FFN-SkipLLM on a whole trace, in the browser; tests check that it equals saturation/policies.
// A trace is {rows, layers, distance [token, layer], sequence, position, generated, before [token]}. A rule has the
// names of the widget's traits: {limit, limits, exact, sink, coldStart, coldEnd, warmup, warmupOn, horizon, prefill,
// causal}.

const SAME = 1e-9; // places closer than this are equal up to rounding

/** Cosine at a slider's place: 1 - 10^limit with that distance to four digits, or the exact cosine that Python sent. */
export function cosineOf(limit, exact = []) {
  for (const [place, cosine] of exact) if (Math.abs(place - limit) < SAME) return cosine;
  return 1 - Number(Math.pow(10, limit).toExponential(3));
}

/** Greatest distance that counts as saturated, [layer]; -Infinity for a layer that cannot start a skip. */
export function greatestDistances(rule, layers) {
  const greatest = new Float64Array(layers).fill(-Infinity);
  for (let layer = rule.coldStart; layer < layers - rule.coldEnd - 1; layer++) {
    const limit = rule.limits.length ? rule.limits[layer] : rule.limit;
    if (limit !== null && limit !== undefined) greatest[layer] = 1 - cosineOf(limit, rule.exact);
  }
  return greatest;
}

/** 1 for each token at which blocks may be skipped, else 0, [token]. */
export function eligibleTokens(trace, rule) {
  const eligible = new Uint8Array(trace.rows);
  for (let row = 0; row < trace.rows; row++) {
    if (trace.position[row] < rule.sink) continue;
    const decoded = trace.generated[row] > 0;
    const given = rule.prefill && !decoded;
    const late =
      rule.warmupOn === "position" ? trace.position[row] + 1 > rule.warmup : trace.generated[row] > rule.warmup;
    eligible[row] = rule.warmupOn === "position" ? late && (decoded || given) : (late && decoded) || given;
  }
  return eligible;
}

/** Whether comparing one threshold with `criticalDistances` gives the skips of the rule. */
export const isOneComparison = (rule) => rule.horizon === null && !rule.causal && !rule.limits.length;

/** The distance limit from which each block is skipped, [token, layer]; Infinity where it never is. */
export function criticalDistances(trace, rule, eligible) {
  const { rows, layers, distance } = trace;
  const end = layers - rule.coldEnd;
  const critical = new Float32Array(rows * layers).fill(Infinity);
  for (let row = 0; row < rows; row++) {
    if (!eligible[row]) continue;
    let lowest = Infinity;
    for (let at = row * layers + rule.coldStart; at < row * layers + end; at++) {
      critical[at] = lowest;
      if (distance[at] < lowest) lowest = distance[at]; // false for NaN, a block that did not run
    }
  }
  return critical;
}

/**
 * Mark the blocks that one threshold skips in a mask of zeros, [token, layer], and count them, [token]. Each block takes
 * one comparison, from the last layer down.
 */
export function compare(mask, counts, trace, rule, critical) {
  if (rule.limit === null) return;
  const { rows, layers } = trace;
  const limit = 1 - cosineOf(rule.limit, rule.exact);
  const end = layers - rule.coldEnd - 1;
  for (let row = 0; row < rows; row++) {
    const first = row * layers + rule.coldStart;
    let at = row * layers + end;
    for (; at >= first && critical[at] <= limit; at--) mask[at] = 1; // critical distances rise towards lower layers
    counts[row] = row * layers + end - at;
  }
}

/** Mark and count the blocks that any rule skips, layer by layer as in a live run. */
export function decide(mask, counts, trace, rule, eligible) {
  const { rows, layers, distance, before } = trace;
  const greatest = greatestDistances(rule, layers);
  const end = layers - rule.coldEnd;
  for (let row = 0; row < rows; row++) {
    const seen = rule.causal ? before[row] : row;
    if (!eligible[row] || seen < 0) continue;
    for (let layer = 0, remaining = 0; layer < end; layer++) {
      if (remaining > 0) {
        mask[row * layers + layer] = 1;
        counts[row]++;
        if (rule.horizon !== null) remaining--;
      } else if (distance[seen * layers + layer] <= greatest[layer]) {
        remaining = rule.horizon ?? 1;
      }
    }
  }
}

/** The three skip ratios by name, from the number of blocks skipped at each token; as saturation.policies.skip_ratios. */
export function ratiosOf(counts, trace, rule, eligible) {
  const { rows, layers, generated } = trace;
  let [decoded, all, decodedTokens, openTokens] = [0, 0, 0, 0];
  for (let row = 0; row < rows; row++) {
    all += counts[row];
    if (generated[row] > 0) {
      decoded += counts[row];
      decodedTokens++;
      openTokens += eligible[row];
    }
  }
  const skippable = Math.max(layers - rule.coldEnd - rule.coldStart, 0);
  return {
    nominal: decoded / Math.max(skippable * openTokens, 1),
    decode: decoded / Math.max(layers * decodedTokens, 1),
    total: all / Math.max(layers * rows, 1),
  };
}

/** Applies rules to one trace, and keeps the results that do not depend on the threshold. */
export class Decider {
  constructor(trace) {
    this.trace = trace;
    this.mask = new Uint8Array(trace.rows * trace.layers); // overwritten by every rule, as are the counts
    this.counts = new Uint16Array(trace.rows);
    this.key = null;
  }

  /** The skips of a rule: {mask [token, layer], eligible [token], critical [token, layer] or null, ratios}. */
  apply(rule) {
    const key = JSON.stringify([rule.sink, rule.coldStart, rule.coldEnd, rule.warmup, rule.warmupOn, rule.prefill]);
    if (key !== this.key) {
      this.key = key;
      this.eligible = eligibleTokens(this.trace, rule);
      this.critical = null;
    }
    const { mask, counts, eligible } = this;
    mask.fill(0);
    counts.fill(0);
    const critical = isOneComparison(rule) ? (this.critical ??= criticalDistances(this.trace, rule, eligible)) : null;
    if (critical) compare(mask, counts, this.trace, rule, critical);
    else decide(mask, counts, this.trace, rule, eligible);
    return { mask, eligible, critical, ratios: ratiosOf(counts, this.trace, rule, eligible) };
  }
}

/** Unpack a mask that `numpy.packbits` packed, to one byte per block. */
export function unpackBits(packed, count) {
  const mask = new Uint8Array(count);
  for (let at = 0; at < count; at++) mask[at] = (packed[at >> 3] >> (7 - (at & 7))) & 1;
  return mask;
}
