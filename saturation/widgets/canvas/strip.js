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
    const middle = scene.reading ?? first + MOST / 2; // a token that was clicked stands in the middle
    from = Math.max(first, Math.min(middle - MOST / 2, stop - MOST));
    const to = Math.min(stop, from + MOST);
    spans = Array.from({ length: to - from }, (_, offset) => tokenSpan(scene, from + offset));
    text.replaceChildren(...spans);
    pointed = null;
    note.textContent = noteOf(from, to, stop - first);
    shade(scene);
  }

  function shade(scene) {
    const { layers, distance } = scene.trace;
    const { mask } = scene.decided;
    spans.forEach((span, offset) => {
      let skipped = 0;
      const at = scene.rows[from + offset] * layers;
      for (let layer = 0; layer < layers; layer++) skipped += mask[at + layer] | Number.isNaN(distance[at + layer]);
      span.style.setProperty("--share", (skipped / layers).toFixed(3));
    });
  }

  function point(index, follow) {
    pointed?.classList.remove("sx-pointed");
    pointed = spans[index - from] ?? null;
    pointed?.classList.add("sx-pointed");
    if (!pointed || !follow) return;
    const top = pointed.offsetTop - text.offsetTop - text.scrollTop;
    if (top < 0 || top > text.clientHeight - pointed.offsetHeight) text.scrollTop += top - text.clientHeight / 2;
  }
  return { show, shade, point };
}

function noteOf(from, to, inView) {
  if (!inView) return "this trace has no tokens of the phase chosen";
  if (to - from === inView) return "";
  const [some, all] = [to - from, inView].map((count) => count.toLocaleString("en"));
  return `text of ${some} of the ${all} tokens in view; zoom in, or click the canvas to read elsewhere`;
}

function tokenSpan(scene, index) {
  const row = scene.rows[index];
  const span = document.createElement("span");
  const text = textAt(scene.trace, row);
  span.className = scene.trace.generated[row] > 0 ? "sx-token" : "sx-token sx-given";
  if (index > 0 && scene.trace.sequence[row] !== scene.trace.sequence[scene.rows[index - 1]])
    span.classList.add("sx-first");
  span.dataset.index = index;
  span.textContent = text === "" ? "∅" : text.replaceAll("\n", "↵\n"); // always as text, whatever it holds
  return span;
}
