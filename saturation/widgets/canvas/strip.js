// Under the canvas: the text of the tokens in view, each shaded by the share of its blocks that are skipped.

import { textAt } from "./traces.js";

const MOST = 300; // tokens written at once

/** Build the strip: {show(scene), shade(scene), point(index)}; `hovered(index or null)` is called from its tokens. */
export function textStrip(element, hovered) {
  const note = element.appendChild(document.createElement("div"));
  const text = element.appendChild(document.createElement("div"));
  note.className = "sx-note";
  text.className = "sx-text";
  text.tabIndex = 0;
  text.setAttribute("aria-label", "text of the tokens in view, shaded by the share of skipped blocks");
  let [from, spans, pointed] = [0, [], null];
  const indexOf = (target) => (target.dataset?.index === undefined ? null : Number(target.dataset.index));
  text.addEventListener("pointerover", (event) => hovered(indexOf(event.target)));
  text.addEventListener("pointerleave", () => hovered(null));

  function show(scene) {
    const [first, stop] = scene.range;
    const centre = stop - first <= MOST ? first : Math.round(scene.hover?.index ?? first) - (scene.hover ? MOST / 2 : 0);
    from = Math.max(first, Math.min(Math.max(centre, 0), stop - MOST));
    const to = Math.min(stop, from + MOST);
    spans = [];
    for (let index = from; index < to; index++) spans.push(tokenSpan(scene, index));
    text.replaceChildren(...spans);
    pointed = null;
    note.textContent =
      to - from < stop - first
        ? `text of ${(to - from).toLocaleString("en")} of the ${(stop - first).toLocaleString("en")} tokens in view; zoom in, or click the canvas to read elsewhere`
        : "";
    shade(scene);
  }

  function shade(scene) {
    const { layers } = scene.trace;
    spans.forEach((span, offset) => {
      let skipped = 0;
      const at = scene.rows[from + offset] * layers;
      for (let layer = 0; layer < layers; layer++) skipped += scene.decided.mask[at + layer] | (scene.trace.distance[at + layer] !== scene.trace.distance[at + layer]);
      span.style.setProperty("--share", (skipped / layers).toFixed(3));
    });
  }

  function point(index) {
    pointed?.classList.remove("sx-pointed");
    pointed = spans[index - from] ?? null;
    pointed?.classList.add("sx-pointed");
  }
  return { show, shade, point };
}

function tokenSpan(scene, index) {
  const row = scene.rows[index];
  const span = document.createElement("span");
  const text = textAt(scene.trace, row);
  span.className = scene.trace.generated[row] > 0 ? "sx-token" : "sx-token sx-given";
  if (index > 0 && scene.trace.sequence[row] !== scene.trace.sequence[scene.rows[index - 1]]) span.classList.add("sx-first");
  span.dataset.index = index;
  span.textContent = text === "" ? "∅" : text.replaceAll("\n", "↵\n"); // always as text, whatever it holds
  return span;
}
