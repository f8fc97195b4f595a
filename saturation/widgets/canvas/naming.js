// Names and values of the ipywidgets controls for screen readers.

import { cosineText } from "./colours.js";
import { cosineOf } from "./rule.js";

/** Give every control in `root` an accessible name and value. Call it after each change, since elements are replaced. */
export function nameAll(root) {
  for (const slider of root.querySelectorAll(".noUi-target")) nameSlider(slider);
  for (const control of root.querySelectorAll(":is(button, select, input)[title]")) {
    if (!control.textContent.trim() || control.matches("select")) set(control, { "aria-label": control.title });
  }
  for (const bar of root.querySelectorAll(".widget-hprogress .progress")) nameBar(bar);
  for (const text of root.querySelectorAll(".st-text > .widget-html-content")) {
    set(text, { tabindex: 0, role: "region", "aria-label": nameOf(text) }); // focusable, to scroll by keys
  }
}

/** The tooltip that Python set on a widget; ipywidgets puts it on the label, which may be hidden. */
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
    slider.noUiSlider.on("update", () => read(slider, widget)); // noUiSlider has set its own text before
    slider.noUiSlider.on("slide", () => slider.dispatchEvent(new CustomEvent("saturation-slid", { bubbles: true })));
  }
  read(slider, widget);
}

/** Set the spoken value of a slider to what is visible: the number beside it, or the cosine of a threshold. */
function read(slider, widget) {
  const readout = widget.querySelector(".widget-readout");
  const words = readout.style.display === "none" ? cosineAt(slider, widget) : readout.textContent;
  set(slider.querySelector(".noUi-handle"), { "aria-valuetext": words });
}

/** The exact line of text under the threshold slider, or the cosine at its place where that line is stale. */
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
