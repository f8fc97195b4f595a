// A plot of quality against the share of skipped blocks. Each point is a button: click it, or focus it and press Enter;
// arrows move the focus from point to point.
const SVG = "http://www.w3.org/2000/svg";
const LEFT = 46, RIGHT = 12, TOP = 8, BOTTOM = 36, ASIDE = 14; // keeps a point at 0 off the tick labels
const NARROW = 340; // pixels, up to which axis labels omit their brackets
const SHAPES = {
  o: "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0 -5 0Z",
  s: "M-4.4 -4.4H4.4V4.4H-4.4Z",
  "^": "M0 -5.4L5.2 4.2H-5.2Z",
  v: "M0 5.4L5.2 -4.2H-5.2Z",
  D: "M0 -5.8L5.8 0L0 5.8L-5.8 0Z",
  P: "M-1.8 -5.2H1.8V-1.8H5.2V1.8H1.8V5.2H-1.8V1.8H-5.2V-1.8H-1.8Z",
  "*": "M0 -6.4L1.6 -2.2L6.1 -2L2.6 0.8L3.8 5.2L0 2.7L-3.8 5.2L-2.6 0.8L-6.1 -2L-1.6 -2.2Z",
  X: "M-5 -2.6L-2.6 -5L0 -2.4L2.6 -5L5 -2.6L2.4 0L5 2.6L2.6 5L0 2.4L-2.6 5L-5 2.6L-2.4 0Z",
};

function make(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
}

// Round numbers that cover a span, at most six of them.
function ticks(low, high) {
  const raw = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((k) => k >= raw);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

function span(values, least) {
  const low = Math.min(...values), high = Math.max(...values);
  const room = Math.max((high - low) * 0.08, least);
  return [low - room, high + room];
}

// Points that no other point beats in both respects, from left to right.
function front(points, rising) {
  const better = (a, b) => (rising ? a > b : a < b);
  const found = [];
  for (const point of [...points].sort((a, b) => b.x - a.x || (rising ? b.y - a.y : a.y - b.y))) {
    if (!found.length || better(point.y, found.at(-1).y)) found.push(point);
  }
  return found.reverse();
}

function symbol(point, parent) {
  const fill = point.hollow ? { class: "hollow" } : { fill: point.colour };
  make("path", { d: SHAPES[point.marker] ?? SHAPES.o, stroke: point.colour, "stroke-width": 1.3, ...fill }, parent);
}

// The first point of each family, in the order of visits.
function families(points) {
  const first = new Map();
  for (const point of points) if (!first.has(point.family)) first.set(point.family, point);
  return [...first.values()];
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "st-pareto";
  const tip = document.createElement("div");
  tip.className = "tip";
  const legend = document.createElement("div");
  legend.className = "legend";
  el.append(root);

  function choose(key) {
    model.set("chosen", [key, model.get("chosen")[1] + 1]);
    model.save_changes();
  }

  function show(point, x, y, width) {
    tip.textContent = point.label;
    tip.style.display = "block";
    tip.style.left = `${Math.max(0, Math.min(x + 10, width - tip.offsetWidth))}px`;
    tip.style.top = `${y > tip.offsetHeight + 12 ? y - tip.offsetHeight - 10 : y + 12}px`;
  }

  function draw() {
    const points = model.get("points"), rising = model.get("rising");
    const width = root.clientWidth || 420, height = model.get("height");
    const held = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const svg = make("svg", { height, viewBox: `0 0 ${width} ${height}`, role: "group",
      "aria-label": `${model.get("ylabel")} against ${model.get("xlabel")}` });
    const xs = [0, Math.max(0.1, ...points.map((p) => p.x)) * 1.06];
    const ys = span(points.length ? points.flatMap((p) => [p.low, p.high, p.y]) : [0, 1], 0.01);
    const X = (v) => LEFT + ASIDE + ((v - xs[0]) / (xs[1] - xs[0])) * (width - LEFT - ASIDE - RIGHT);
    const Y = (v) => height - BOTTOM - ((v - ys[0]) / (ys[1] - ys[0])) * (height - TOP - BOTTOM);
    axes(svg, { xs, ys, X, Y, width, height });
    if (points.length > 1) {
      make("path", { class: "front", d: "M" + front(points, rising).map((p) => `${X(p.x)} ${Y(p.y)}`).join("L") }, svg);
    }
    for (const point of points) button(svg, point, X, Y, width);
    svg.addEventListener("keydown", (event) => step(event, points));
    legend.replaceChildren(...families(points).map(key));
    root.replaceChildren(svg, legend, tip);
    tip.style.display = "none";
    if (held) root.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus();
  }

  // Arrows move the focus to the next point along the x axis, home and end to the first and last.
  function step(event, points) {
    const keys = [...points].sort((a, b) => a.x - b.x).map((point) => point.key);
    const at = keys.indexOf(event.target.dataset.key);
    const places = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowDown: at - 1, ArrowUp: at + 1, Home: 0, End: keys.length - 1 };
    if (at < 0 || event.ctrlKey || event.altKey || event.metaKey || !(event.key in places)) return;
    event.preventDefault();
    const to = keys[Math.min(Math.max(places[event.key], 0), keys.length - 1)];
    root.querySelector(`[data-key="${CSS.escape(to)}"]`).focus();
  }

  function key(point) {
    const item = document.createElement("span");
    const svg = make("svg", { viewBox: "-7 -7 14 14", width: 12, height: 12, "aria-hidden": true });
    symbol(point, svg);
    item.append(svg, point.family);
    return item;
  }

  function axes(svg, { xs, ys, X, Y, width, height }) {
    const bottom = height - BOTTOM;
    const places = (v) => Math.max(0, ...v.map((one) => (String(+one.toFixed(6)).split(".")[1] || "").length));
    const up = ticks(...ys), along = ticks(...xs);
    for (const v of up) {
      make("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: Y(v), y2: Y(v) }, svg);
      make("text", { class: "tick", x: LEFT - 6, y: Y(v) + 3.5, "text-anchor": "end" }, svg).textContent =
        v.toFixed(places(up));
    }
    for (const v of along) {
      make("line", { class: "axis", x1: X(v), x2: X(v), y1: bottom, y2: bottom + 4 }, svg);
      make("text", { class: "tick", x: X(v), y: bottom + 15, "text-anchor": "middle" }, svg).textContent =
        `${(100 * v).toFixed(places(along.map((one) => 100 * one)))} %`;
    }
    make("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: bottom, y2: bottom }, svg);
    const [short, more] = model.get("xlabel").split(" (");
    make("text", { x: (LEFT + width - RIGHT) / 2, y: height - 4, "text-anchor": "middle" }, svg).textContent =
      more && width > NARROW ? `${short} (${more}` : short;
    const middle = (TOP + bottom) / 2;
    make("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(11 ${middle}) rotate(-90)` }, svg)
      .textContent = model.get("ylabel");
  }

  function button(svg, point, X, Y, width) {
    const x = X(point.x), y = Y(point.y), current = point.key === model.get("current");
    make("line", { class: "bar", stroke: point.colour, x1: x, x2: x, y1: Y(point.low), y2: Y(point.high) }, svg);
    const group = make("g", { class: `point${current ? " current" : ""}`, tabindex: 0, role: "button",
      "aria-pressed": current, "aria-label": point.label, "data-key": point.key, transform: `translate(${x} ${y})` }, svg);
    make("circle", { class: "halo", r: 9 }, group);
    symbol(point, group);
    group.addEventListener("click", () => choose(point.key));
    group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(point.key);
    });
    for (const name of ["mouseenter", "focus"]) group.addEventListener(name, () => show(point, x, y, width));
    for (const name of ["mouseleave", "blur"]) {
      group.addEventListener(name, () => { tip.style.display = "none"; });
    }
  }

  const names = ["points", "current", "xlabel", "ylabel", "rising", "height"].map((name) => `change:${name}`).join(" ");
  model.on(names, draw);
  const watcher = new ResizeObserver(draw);
  watcher.observe(root);
  draw();
  return () => { watcher.disconnect(); model.off(names, draw); };
}

export default { render };
