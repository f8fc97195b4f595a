// What ipywidgets' controls are called and what they read, for those who hear them.

import { cosineText } from "./colours.js";
import { cosineOf } from "./rule.js";

/** Name every control in `root`, and have it read what the eye reads. Elements come and go: call it after each change. */
export function nameAll(root) {
  for (const slider of root.querySelectorAll(".noUi-target")) nameSlider(slider);
  for (const control of root.querySelectorAll(":is(button, select, input)[title]")) {
    if (!control.textContent.trim() || control.matches("select")) set(control, { "aria-label": control.title });
  }
  for (const bar of root.querySelectorAll(".widget-hprogress .progress")) nameBar(bar);
  for (const text of root.querySelectorAll(".st-text > .widget-html-content")) {
    set(text, { tabindex: 0, role: "region", "aria-label": nameOf(text) }); // scrolled by keys
  }
}

/** The tooltip that Python gave a widget; ipywidgets hangs it on the label, hidden or not. */
const nameOf = (inside) => inside.closest(".jupyter-widgets").querySelector(".widget-label").title;

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  }
}

function nameSlider(slider) {
  const widget = slider.closest(".widget-slider");
  set(slider.querySelector(".noUi-handle"), { "aria-label": nameOf(slider) });
  set(widget.querySelector(".widget-readout"), { role: "textbox", "aria-label": `${nameOf(slider)}, typed` });
  if (!slider.saturationSpoken) {
    slider.saturationSpoken = true;
    slider.noUiSlider.on("update", () => read(slider, widget)); // after noUiSlider has written its own text
    slider.noUiSlider.on("slide", () => slider.dispatchEvent(new CustomEvent("saturation-slid", { bubbles: true })));
  }
  read(slider, widget);
}

/** A slider reads what the eye reads: the number beside it, or for a threshold the cosine. */
function read(slider, widget) {
  const readout = widget.querySelector(".widget-readout");
  const words = readout.style.display === "none" ? cosineAt(slider, widget) : readout.textContent;
  set(slider.querySelector(".noUi-handle"), { "aria-valuetext": words });
}

/** The line of text under a threshold, which is exact; what its place stands for where that line is behind the hand. */
function cosineAt(slider, widget) {
  const root = widget.closest(".st-tuner");
  const line = widget.matches(".st-threshold") && root.querySelector(".st-cosine .st-quiet");
  if (line && !root.matches(".st-behind")) return line.textContent;
  return `from cosine ${cosineText(1 - cosineOf(Number(slider.noUiSlider.get())), 2)}`;
}

function nameBar(bar) {
  const done = Math.round(parseFloat(bar.querySelector(".progress-bar").style.width) || 0);
  const range = { "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": done };
  set(bar, { role: "progressbar", "aria-label": nameOf(bar), ...range });
}
