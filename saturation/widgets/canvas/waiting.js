// Marks of stale parts, from a change by the user until the kernel has answered it.

const ASKING = ".st-controls, .st-prompts"; // places where a change needs an answer
const LONG = 500; // milliseconds without an answer before a message

/**
 * Mark `root` from a change by the user until the kernel has answered, and call `say` where that takes long. At most one
 * request is pending; it is sent after the message of the control that changed.
 */
export function markWaiting(root, model, say, signal) {
  let [more, late] = [false, 0];
  const on = (name, listener) => root.addEventListener(name, listener, { signal });

  function ask(event) {
    root.classList.add("st-behind");
    if (event.target.closest(".st-prompts")) root.classList.add("st-elsewhere");
    late ||= setTimeout(say, LONG, "the kernel is busy: text and numbers are still those before");
    queueMicrotask(send);
  }

  function send() {
    more = model.get("asked") !== model.get("answered");
    if (more) return;
    model.set("asked", model.get("asked") + 1);
    model.save_changes();
  }

  function answered() {
    if (more) return send();
    clearTimeout(late);
    late = 0;
    return root.classList.remove("st-behind", "st-elsewhere");
  }

  const within = (event, places) => event.target.closest(places) && ask(event);
  on("saturation-slid", ask);
  on("change", (event) => within(event, ASKING));
  on("focusout", (event) => within(event, ".st-controls .widget-readout")); // after typing a number
  on("click", (event) => within(event, ".st-pareto .point, .st-prompts button"));
  for (const name of ["pointerdown", "pointermove"]) {
    on(name, (event) => event.buttons === 1 && within(event, ".sx-curve")); // dragging the threshold line
  }
  model.on("change:answered", answered);
  signal.addEventListener("abort", () => {
    clearTimeout(late);
    model.off("change:answered", answered);
  });
}
