// The browser side of the tuner's ipywidgets: keys, accessible names, spoken messages, and marks of stale parts.

import { keepKeys } from "./keys.js";
import { nameAll } from "./naming.js";
import { markWaiting } from "./waiting.js";

function render({ model, el }) {
  const leaving = new AbortController();
  const { signal } = leaving;
  const told = document.createElement("div");
  told.className = "st-told";
  told.setAttribute("role", "status");
  el.append(told);
  const say = (text) => { told.textContent = text; };
  const said = () => say(model.get("said"));
  let [frame, root] = [0, null];

  function name() {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      nameAll(root);
    });
  }

  const changed = new MutationObserver(name);
  const laid = new ResizeObserver(() => { // the element is on the page now
    laid.disconnect();
    root = el.closest(".st-tuner");
    keepKeys(root, signal);
    markWaiting(root, model, say, signal);
    changed.observe(root, { childList: true, subtree: true, attributes: true, attributeFilter: ["style", "title"] });
    name();
  });
  laid.observe(el);
  model.on("change:said", said);
  return () => {
    leaving.abort();
    changed.disconnect();
    laid.disconnect();
    cancelAnimationFrame(frame);
    model.off("change:said", said);
  };
}

export default { render };
