// The heat map: colours, hatch over skipped blocks, axes, and a second canvas for marks at the pointer.

import { PALETTE, niceStep } from "./colours.js";

export const MARGIN = { left: 40, right: 2, top: 8, bottom: 40 }; // around the cells, in CSS pixels
export const AXIS = { strip: 7, gap: 3 };
const ABSENT = [200, 200, 200]; // colour of a block that did not run, as in figures

/** Make a canvas that is not on the page. */
export function hidden(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.max(width, 1), Math.max(height, 1)];
  return canvas;
}

/** A canvas of the cells with one pixel per column and layer, layer 0 at the bottom. */
export function cellPicture(columns, layers, scale) {
  return picture(columns.count, layers, (cell, at, data) => {
    const shade = Number.isNaN(columns.mean[cell])
      ? 0
      : Math.round(Math.min(Math.max(scale.place(columns.mean[cell]), 0), 1) * 255);
    const gone = columns.absent[cell];
    for (let channel = 0; channel < 3; channel++) {
      data[at + channel] = PALETTE[3 * shade + channel] * (1 - gone) + ABSENT[channel] * gone;
    }
    data[at + 3] = 255;
  });
}

/** A canvas of the same size whose opacity is the share of each cell that is skipped. */
export function veilPicture(columns, layers, shares) {
  return picture(columns.count, layers, (cell, at, data) => {
    data[at + 3] = 255 * Math.max(shares[cell], columns.absent[cell]);
  });
}

function picture(count, layers, paint) {
  const canvas = hidden(count, layers);
  if (!count) return canvas;
  const context = canvas.getContext("2d");
  const image = context.createImageData(count, layers);
  for (let column = 0; column < count; column++) {
    for (let layer = 0; layer < layers; layer++) {
      paint(column * layers + layer, 4 * ((layers - 1 - layer) * count + column), image.data);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** The rectangle of the cells in a canvas, in device pixels. */
export function areaOf(canvas, ratio, margin = MARGIN) {
  const [left, top] = [Math.round(margin.left * ratio), Math.round(margin.top * ratio)];
  const [right, bottom] = [Math.round(margin.right * ratio), Math.round(margin.bottom * ratio)];
  return {
    left,
    top,
    width: Math.max(canvas.width - left - right, 1),
    height: Math.max(canvas.height - top - bottom, 1),
  };
}

/** The pattern over skipped blocks: a fade to the background with diagonal lines, visible in greyscale too. */
export function hatchOf(context, theme, ratio) {
  const size = Math.round(8 * ratio);
  const tile = hidden(size, size);
  const pen = tile.getContext("2d");
  pen.fillStyle = theme.back;
  pen.globalAlpha = 0.58;
  pen.fillRect(0, 0, size, size);
  pen.strokeStyle = theme.ink;
  pen.globalAlpha = 0.8;
  pen.lineWidth = 1.2 * ratio;
  for (const turn of [-1, 0, 1]) {
    pen.beginPath();
    pen.moveTo((turn - 0.5) * size, 1.5 * size);
    pen.lineTo((turn + 1.5) * size, -0.5 * size);
    pen.stroke();
  }
  return context.createPattern(tile, "repeat");
}

/** Draw the cells, the hatch over skipped blocks, and the lines between sequences. */
export function drawCells(context, area, cells, veil, hatching, marks) {
  const { left, top, width, height } = area;
  context.imageSmoothingEnabled = false;
  context.drawImage(cells, left, top, width, height);
  const pen = hatching.getContext("2d");
  pen.globalCompositeOperation = "copy";
  pen.imageSmoothingEnabled = false;
  pen.drawImage(veil, 0, 0, width, height);
  pen.globalCompositeOperation = "source-in";
  pen.fillStyle = marks.hatch;
  pen.fillRect(0, 0, width, height);
  context.drawImage(hatching, 0, 0, width, height, left, top, width, height);
  for (const place of marks.sequences) {
    const x = Math.round(left + place * width);
    context.fillStyle = marks.theme.back;
    context.fillRect(x - Math.ceil(marks.ratio), top, Math.max(Math.round(2 * marks.ratio), 2), height);
  }
}

/** The layers to label on an axis of `height` CSS pixels. */
export function layerTicks(layers, height) {
  const step = Math.max(1, Math.round(niceStep((18 * layers) / Math.max(height, 1))));
  return Array.from({ length: Math.ceil(layers / step) }, (_, index) => index * step);
}

/** Draw the layer axis on the left and the token axis below, with a strip that marks prefill and decoded tokens. */
export function drawAxes(context, area, scene, { columns, strip }, theme, ratio) {
  const { left, top, width, height } = area;
  const { layers } = scene.trace;
  pencil(context, theme, ratio);
  context.textAlign = "right";
  for (const layer of layerTicks(layers, height / ratio)) {
    context.fillText(String(layer), left - 6 * ratio, top + height - ((layer + 0.5) * height) / layers);
  }
  context.save();
  context.translate(8 * ratio, top + height / 2);
  context.rotate(-Math.PI / 2);
  context.textAlign = "center";
  context.fillText("layer", 0, 0);
  context.restore();
  phaseStrip(context, area, columns, theme, ratio);
  sinkStrip(context, area, strip, theme, ratio);
  const y = top + height + (AXIS.gap + AXIS.strip + 10) * ratio;
  const [first, stop] = scene.range;
  const step = Math.max(1, Math.round(niceStep(((stop - first) * 80 * ratio) / width)));
  context.textAlign = "center";
  for (let index = Math.ceil(first / step) * step; index < stop; index += step) {
    const x = left + ((index + 0.5 - first) * width) / (stop - first);
    context.fillStyle = theme.line;
    context.fillRect(
      Math.round(x),
      top + height + (AXIS.gap + AXIS.strip) * ratio,
      Math.max(1, Math.round(ratio)),
      3 * ratio,
    );
    context.fillStyle = theme.soft;
    if (x > left + 8 * ratio && x < left + width - 12 * ratio)
      context.fillText(scene.rows[index].toLocaleString("en"), x, y);
  }
  context.textAlign = "center";
  context.fillText("token of the trace", left + width / 2, y + 13 * ratio);
}

function phaseStrip(context, area, columns, theme, ratio) {
  const { left, top, width, height } = area;
  const y = top + height + AXIS.gap * ratio;
  for (let column = 0, begin = 0; column < columns.count; column = begin) {
    while (begin < columns.count && columns.decoded[begin] === columns.decoded[column]) begin++;
    const [from, to] = [(column * width) / columns.count, (begin * width) / columns.count];
    context.fillStyle = theme.prefill;
    context.fillRect(left + from, y, to - from, AXIS.strip * ratio);
    context.globalAlpha = columns.decoded[column];
    context.fillStyle = theme.decode;
    context.fillRect(left + from, y, to - from, AXIS.strip * ratio);
    context.globalAlpha = 1;
  }
}

/** Draw the attention sink in the lower half of the phase strip. */
function sinkStrip(context, area, shares, theme, ratio) {
  const [y, height] = [area.top + area.height + (AXIS.gap + AXIS.strip / 2) * ratio, (AXIS.strip * ratio) / 2];
  context.fillStyle = theme.sink;
  shares.forEach((share, column) => {
    const [from, to] = [column, column + 1].map((edge) => area.left + (edge * area.width) / shares.length);
    context.globalAlpha = share;
    context.fillRect(from, y, to - from, height);
  });
  context.globalAlpha = 1;
}

/** Set the font and colour of the theme. */
export function pencil(context, theme, ratio) {
  context.font = `${11 * ratio}px ${theme.font}`;
  context.textBaseline = "middle";
  context.fillStyle = theme.soft;
}

/** Draw the selection, and the column and cell under the pointer, on the second canvas. */
export function drawPointer(context, area, scene, theme, ratio) {
  const { left, top, width, height } = area;
  const [first, stop] = scene.range;
  const x = (index) => left + (Math.min(Math.max(index, first), stop) - first) * (width / (stop - first));
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  if (scene.selected) {
    const [from, to] = scene.selected.map(x);
    context.fillStyle = theme.dim;
    context.fillRect(left, top, from - left, height);
    context.fillRect(to, top, left + width - to, height);
    context.strokeStyle = theme.brand;
    context.lineWidth = 2 * ratio;
    context.strokeRect(from, top, Math.max(to - from, 1), height);
  }
  if (scene.hover && scene.hover.index >= first && scene.hover.index < stop) {
    const cell = height / scene.trace.layers;
    const [from, to] = [x(scene.hover.index), x(scene.hover.index + 1)];
    const [column, thick] = [Math.max(to - from, 2 * ratio), 1.5 * ratio];
    for (const [colour, pad] of [
      ["rgba(0,0,0,0.85)", thick],
      ["#fff", 0],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = thick;
      if (scene.hover.layer !== null) {
        const y = top + height - (scene.hover.layer + 1) * cell;
        context.strokeRect(from - pad, y - pad, column + 2 * pad, cell + 2 * pad);
      }
      context.strokeRect(from - pad, top - pad, column + 2 * pad, height + 2 * pad);
    }
  }
}
