// Metrics with their scales, ticks and colours. The scale of cosines is logarithmic in 1 - cos.

import { meansOf, once, rowsOf } from "./traces.js";

const FLOOR = 2 ** -24; // half a float32 step below a cosine of 1: smaller distances are drawn here

// Names as in saturation.figures.metrics, and kinds of axis: a "cosine" axis has distances, labelled as 1 - distance.
export const METRICS = {
  distance: { name: "cos(h, h + FFN)", axis: "cosine" },
  growth: { name: "ρ = |FFN| / |h|", axis: "log" },
  attention_distance: { name: "cos(h, h + attention)", axis: "cosine" },
  attention_growth: { name: "|attention| / |h|", axis: "log" },
  block_distance: { name: "cos(h, block(h))", axis: "cosine" },
  block_growth: { name: "|block(h) − h| / |h|", axis: "log" },
  naive_cosine: { name: "cos(norm h, FFN(norm h))", axis: "linear" },
  magnitude: { name: "max |h| behind the layer", axis: "log" },
  median: { name: "median |h| behind the layer", axis: "log" },
};

// viridis (Smith and van der Walt, 2015; CC0) at 17 places, from dark to bright
const VIRIDIS =
  `440154 481a6c 472f7d 414487 39568c 31688e 2a788e 23888e 1f988b 22a884 35b779 54c568 7ad151 a5db36 d2e21b f1e51d fde725`
    .split(" ")
    .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

/** Red, green and blue of viridis at a place from 0 (dark) to 1 (bright). */
export function viridis(place) {
  const at = Math.min(Math.max(place, 0), 1) * (VIRIDIS.length - 1);
  const below = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[below].map((low, channel) => low + (VIRIDIS[below + 1][channel] - low) * (at - below));
}

export const PALETTE = Uint8ClampedArray.from(
  { length: 256 * 3 },
  (_, at) => viridis(Math.floor(at / 3) / 255)[at % 3],
);

/**
 * The scale of a metric over a trace: {metric, axis, low, high, place(value)}, with places from 0 to 1; more similar
 * values have higher places. It covers all cells but 1 % at either end, and the mean of every layer.
 */
export function scaleOf(trace, metric) {
  return once(trace, `scale ${metric}`, () => {
    const { axis } = METRICS[metric];
    const drawn = axis === "linear" ? (value) => value : (value) => Math.log10(Math.max(value, FLOOR));
    const rows = rowsOf(trace, "all");
    const means = meansOf(trace, metric, rows, 0, rows.length).filter((mean) => mean === mean);
    const [least, most] = middle(trace.metrics[metric]);
    let [low, high] = [Math.min(least, ...means), Math.max(most, ...means)].map(drawn);
    if (!(low < high)) [low, high] = [(low || 0) - 0.5, (high || 0) + 0.5];
    const place =
      axis === "linear" ? (value) => (value - low) / (high - low) : (value) => (high - drawn(value)) / (high - low);
    return { metric, axis, low, high, place };
  });
}

/** The 1 % and 99 % quantiles of the values, from at most about 40,000 of them. */
function middle(values) {
  const stride = Math.max(1, Math.floor(values.length / 40000)) | 1; // odd, to sample every layer
  const some = [];
  for (let at = 0; at < values.length; at += stride) if (values[at] === values[at]) some.push(values[at]);
  some.sort((a, b) => a - b);
  return some.length
    ? [some[Math.floor(0.01 * (some.length - 1))], some[Math.ceil(0.99 * (some.length - 1))]]
    : [0.1, 1];
}

/** Ticks of a scale as [{value, text}], about `room` of them at most. */
export function ticksOf(scale, room) {
  if (scale.axis === "linear") {
    const step = niceStep((scale.high - scale.low) / Math.max(room, 1));
    const first = Math.ceil(scale.low / step);
    const count = Math.floor(scale.high / step) - first + 1;
    return Array.from({ length: count }, (_, index) => (first + index) * step).map((value) => ({
      value,
      text: numberText(value),
    }));
  }
  const decades = scale.high - scale.low;
  const digits = [[1, 2, 5], [1, 5], [1]].find((some) => some.length * decades <= room) ?? [1];
  const every = Math.max(1, Math.ceil(decades / Math.max(room, 1)));
  const ticks = [];
  for (let power = Math.floor(scale.low); power <= Math.ceil(scale.high); power++) {
    if (power % every) continue;
    for (const digit of digits) {
      const value = digit * 10 ** power;
      if (Math.log10(value) < scale.low - 1e-9 || Math.log10(value) > scale.high + 1e-9) continue;
      ticks.push({ value, text: scale.axis === "cosine" ? cosineText(value) : numberText(value) });
    }
  }
  return ticks;
}

/** The smallest round step (1, 2 or 5 times a power of ten) that is not below `least`. */
export function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].find((digit) => digit * power >= least * (1 - 1e-9)) * power;
}

/** A distance as the text of its cosine, with `more` digits after the first that differs from 1. */
export function cosineText(distance, more = 0) {
  if (!(distance > 0)) return "1";
  const digits = Math.min(Math.max(1, Math.ceil(-Math.log10(distance) - 1e-6) + more), 12);
  return (1 - distance).toFixed(digits).replace("-", "−");
}

/** A number as text, rounded to three digits. */
export const numberText = (number) => String(Number(number.toPrecision(3))).replace("-", "−");

/** A value of a metric as text. */
export const valueText = (axis, value) => (axis === "cosine" ? cosineText(value, 2) : numberText(value));

export const percent = (share) => `${(100 * share).toFixed(1)} %`;
