// The plot beside the canvas: the mean of every layer at the height of its row, with the colour bar as its axis.

import { PALETTE, METRICS, ticksOf } from "./colours.js";
import { pencil } from "./heatmap.js";
import { cosineOf } from "./rule.js";

export const CURVES = { left: 10, right: 16, top: 8, bottom: 40 };

/** The x of a value on the axis of the curves, in pixels. */
export const xOf = (area, scale, value) => area.left + Math.min(Math.max(scale.place(value), 0), 1) * area.width;

/** Draw the share skipped as bars, means as curves, the threshold as a line, and the colour bar below. */
export function drawCurves(context, area, scene, profile, theme, ratio) {
  const { scale } = scene;
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  grid(context, area, scale, theme, ratio);
  bars(context, area, profile.skipped, theme, ratio);
  if (scene.metric === "distance" && !scene.masked) threshold(context, area, scene, theme, ratio);
  curve(context, area, scale, profile.whole, { colour: theme.soft, width: 1 * ratio, dots: 0 });
  context.setLineDash([2 * ratio, 3 * ratio]);
  curve(context, area, scale, profile.sink, { colour: theme.sink, width: 2 * ratio, dots: 0 });
  context.setLineDash([]);
  curve(context, area, scale, profile.chosen, { colour: theme.curve, width: 2.2 * ratio, dots: 2.6 * ratio });
  colourBar(context, area, scale, theme, ratio);
}

function heightOf(area, layers, layer) {
  return area.top + area.height - ((layer + 0.5) * area.height) / layers;
}

function grid(context, area, scale, theme, ratio) {
  context.fillStyle = theme.grid;
  for (const { value } of ticksOf(scale, area.width / (34 * ratio))) {
    context.fillRect(Math.round(xOf(area, scale, value)), area.top, Math.max(1, Math.round(ratio)), area.height);
  }
}

function bars(context, area, shares, theme, ratio) {
  const cell = area.height / shares.length;
  context.fillStyle = theme.bar;
  shares.forEach((share, layer) => {
    const y = area.top + area.height - (layer + 1) * cell;
    context.fillRect(area.left, y + cell * 0.12, share * area.width, Math.max(cell * 0.76, ratio));
  });
}

function curve(context, area, scale, means, { colour, width, dots }) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.beginPath();
  let drawing = false;
  means.forEach((mean, layer) => {
    if (Number.isNaN(mean)) drawing = false;
    else {
      const [x, y] = [xOf(area, scale, mean), heightOf(area, means.length, layer)];
      drawing ? context.lineTo(x, y) : context.moveTo(x, y);
      drawing = true;
    }
  });
  context.stroke();
  if (!dots || area.height / means.length < 2.6 * dots) return;
  means.forEach((mean, layer) => {
    if (Number.isNaN(mean)) return;
    context.beginPath();
    context.arc(xOf(area, scale, mean), heightOf(area, means.length, layer), dots, 0, 2 * Math.PI);
    context.fill();
  });
}

function threshold(context, area, scene, theme, ratio) {
  const { layers } = scene.trace;
  const { rule } = scene;
  const cell = area.height / layers;
  context.strokeStyle = theme.threshold;
  context.lineWidth = 1.8 * ratio;
  context.setLineDash([6 * ratio, 3 * ratio]);
  for (let layer = rule.coldStart; layer < layers - rule.coldEnd; layer++) {
    const limit = rule.limits.length ? rule.limits[layer] : rule.limit;
    if (limit === null || limit === undefined) continue;
    const x = xOf(area, scene.scale, 1 - cosineOf(limit, rule.exact));
    const y = area.top + area.height - (layer + 1) * cell;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x, y + cell);
    context.stroke();
  }
  context.setLineDash([]);
  if (rule.limits.length || rule.limit === null) return;
  const x = xOf(area, scene.scale, 1 - cosineOf(rule.limit, rule.exact));
  const y = area.top + area.height;
  context.fillStyle = theme.threshold;
  context.beginPath();
  context.moveTo(x, y + 2 * ratio);
  context.lineTo(x - 6 * ratio, y - 7 * ratio);
  context.lineTo(x + 6 * ratio, y - 7 * ratio);
  context.fill();
}

function colourBar(context, area, scale, theme, ratio) {
  const y = area.top + area.height + 3 * ratio;
  for (let x = 0; x < area.width; x++) {
    const shade = 3 * Math.round((255 * x) / Math.max(area.width - 1, 1));
    context.fillStyle = `rgb(${PALETTE[shade]},${PALETTE[shade + 1]},${PALETTE[shade + 2]})`;
    context.fillRect(area.left + x, y, 1, 7 * ratio);
  }
  pencil(context, theme, ratio);
  context.textAlign = "center";
  const ticks = ticksOf(scale, area.width / (44 * ratio));
  let free = -Infinity;
  for (const { value, text } of ticks.sort((a, b) => scale.place(a.value) - scale.place(b.value))) {
    const [x, half] = [xOf(area, scale, value), context.measureText(text).width / 2];
    if (x - half < free || x + half > context.canvas.width) continue;
    context.fillText(text, x, y + 17 * ratio);
    free = x + half + 5 * ratio;
  }
  context.fillText(METRICS[scale.metric].name, area.left + area.width / 2, y + 30 * ratio);
}
