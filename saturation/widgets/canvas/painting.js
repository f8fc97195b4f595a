// Painting of a scene: parts that change with the rule, and parts that change only with the view.

import { columnsOf, markedShares, overColumns, sequenceStarts, sinkRows, sinkShares } from "./columns.js";
import { CURVES, drawCurves } from "./curves.js";
import { areaOf, cellPicture, drawAxes, drawCells, hatchOf, hidden, veilPicture } from "./heatmap.js";
import { meansOf, once, sharesOf } from "./traces.js";

/** Fit the canvases to their place on the page: {laid: whether they have any width, changed: whether a size changed}. */
export function fit(canvases, height, ratio) {
  let changed = false;
  for (const canvas of canvases) {
    const size = [canvas.parentElement.clientWidth, height].map((pixels) => Math.round(pixels * ratio));
    if (!size[0]) return { laid: false, changed };
    if (canvas.width === size[0] && canvas.height === size[1]) continue;
    [canvas.width, canvas.height] = size;
    canvas.style.height = `${height}px`;
    changed = true;
  }
  return { laid: true, changed };
}

/** The parts of the tokens in view that do not change with the threshold. */
export function cellsOf(scene, area, ratio) {
  const { trace, metric, rows, range, rule } = scene;
  const [first, past] = [[0, rule.sink], [rule.sink, Infinity]]; // positions
  const columns = columnsOf(trace, metric, rows, ...range, area.width);
  const chosen = scene.selected && scene.selected[0] < scene.selected[1] ? scene.selected : null;
  const span = chosen ?? range;
  return {
    columns,
    chosen,
    picture: cellPicture(columns, trace.layers, scene.scale),
    hatching: hidden(area.width, area.height),
    sequences: sequenceStarts(trace, rows, ...range, area.width / (10 * ratio)),
    apart: sinkRows(trace, rows, ...span, rule.sink),
    strip: sinkShares(trace, rows, columns, rule.sink),
    means: meansOf(trace, metric, rows, ...span, past),
    sink: meansOf(trace, metric, rows, ...span, first),
    whole: once(trace, `means ${metric} ${scene.phase} ${rule.sink}`, () =>
      meansOf(trace, metric, rows, 0, rows.length, past),
    ),
  };
}

/** Draw the cells, the axes and the curves. */
export function paint(parts, scene, cells, area, theme, ratio) {
  const { trace, rows, decided, range } = scene;
  const context = parts.canvas.getContext("2d");
  context.clearRect(0, 0, parts.canvas.width, parts.canvas.height);
  const shares = markedShares(trace, rows, cells.columns, decided.mask);
  drawCells(context, area, cells.picture, veilPicture(cells.columns, trace.layers, shares), cells.hatching, {
    hatch: hatchOf(context, theme, ratio),
    sequences: cells.sequences.map((index) => (index - range[0]) / (range[1] - range[0])),
    theme,
    ratio,
  });
  drawAxes(context, area, scene, cells, theme, ratio);
  const skipped = cells.chosen
    ? sharesOf(trace, decided.mask, rows, ...cells.chosen, scene.rule.sink)
    : overColumns(cells.columns, shares, decided.mask, cells.apart);
  const profile = { whole: cells.whole, chosen: cells.means, sink: cells.sink, skipped };
  drawCurves(parts.curves.getContext("2d"), areaOf(parts.curves, ratio, CURVES), scene, profile, theme, ratio);
}
