// The text under the canvas: the tokens in view, each shaded by the share of its blocks that are skipped.

import { holderOf, textAt } from "./traces.js";

const MOST = 300; // greatest number of tokens shown

/** Build the strip as {show(scene), shade(scene), point(index)}; pointing at a token calls `hovered(index or null)`. */
export function textStrip(element, hovered) {
  const note = element.appendChild(document.createElement("div"));
  const text = element.appendChild(document.createElement("div"));
  note.className = "sx-note";
  text.className = "sx-text";
  text.tabIndex = 0;
  text.setAttribute("role", "region");
  text.setAttribute("aria-label", "text of the tokens in view, shaded by the share of skipped blocks");
  let [from, spans, pointed] = [0, [], null];
  const indexOf = (target) => (target.dataset?.index === undefined ? null : Number(target.dataset.index));
  text.addEventListener("pointerover", (event) => hovered(indexOf(event.target)));
  text.addEventListener("pointerleave", () => hovered(null));

  function show(scene) {
    const [first, stop] = scene.range;
    const middle = scene.reading ?? first + MOST / 2; // a clicked token is centred
    from = Math.max(first, Math.min(middle - MOST / 2, stop - MOST));
    const to = Math.min(stop, from + MOST);
    spans = spansOf(scene, from, to);
    text.replaceChildren(...sequencesOf(scene, from, spans));
    pointed = null;
    note.textContent = noteOf(from, to, stop - first);
    shade(scene);
  }

  function shade(scene) {
    const { layers, distance } = scene.trace;
    const { mask } = scene.decided;
    for (let offset = 0, first = 0, skipped = 0; offset < spans.length; offset++) {
      const at = scene.rows[from + offset] * layers;
      for (let layer = 0; layer < layers; layer++) skipped += mask[at + layer] | Number.isNaN(distance[at + layer]);
      if (spans[offset] === spans[offset + 1]) continue; // the next token shares this character
      spans[offset].style.setProperty("--share", (skipped / layers / (offset + 1 - first)).toFixed(3));
      [first, skipped] = [offset + 1, 0];
    }
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

/** The elements of the tokens `from` to `to`; tokens that are parts of one character share an element. */
function spansOf(scene, from, to) {
  const spans = new Array(to - from);
  for (let index = to - 1; index >= from; index--) {
    const holder = holderOf(scene.trace, scene.rows, index);
    spans[index - from] = holder > index && holder < to ? spans[holder - from] : tokenSpan(scene, index);
  }
  return spans;
}

/** The elements grouped into one block per sequence, which has its own direction of writing. */
function sequencesOf(scene, from, spans) {
  const blocks = [];
  spans.forEach((span, offset) => {
    const sequence = String(scene.trace.sequence[scene.rows[from + offset]]);
    if (blocks.at(-1)?.dataset.sequence !== sequence) {
      blocks.push(document.createElement("div"));
      blocks.at(-1).className = "sx-sequence";
      blocks.at(-1).dataset.sequence = sequence;
    }
    blocks.at(-1).append(span);
  });
  return blocks;
}

const NAMED = /^\s*(<[^<>\s]+>|\[[A-Z_]+\])\s*$/; // special tokens, which must not set the direction of a line

function tokenSpan(scene, index) {
  const row = scene.rows[index];
  const text = textAt(scene.trace, row);
  const span = document.createElement(NAMED.test(text) ? "bdi" : "span");
  span.className = scene.trace.generated[row] > 0 ? "sx-token" : "sx-token sx-given";
  span.dataset.index = index;
  span.textContent = text === "" ? "∅" : text.replaceAll("\n", "↵\n"); // never parsed as HTML
  return span;
}
