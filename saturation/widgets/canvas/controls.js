// The rows of controls above the canvas, and the rule in words.

import { METRICS, cosineText, percent } from "./colours.js";
import { cosineOf } from "./rule.js";

const SLIDER = { least: 0, most: 6, step: 0.01 }; // for -log10(1 - cosine); one step beyond means "never"
const NEVER = SLIDER.most + SLIDER.step;

/** Make an element with attributes, and with text or child elements. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function labelled(text, control, title) {
  return make("label", { title }, make("span", {}, text), control);
}

/** A group of controls that stay together when lines wrap. */
const pair = (...controls) => make("span", { class: "sx-pair" }, ...controls);

function choice(model, trait, options, name) {
  const select = make(
    "select",
    { "aria-label": name },
    ...options.map(([value, text]) => make("option", { value }, text)),
  );
  select.addEventListener("change", () => tell(model, { [trait]: select.value }));
  return select;
}

function button(text, name, pressed) {
  const element = make("button", { type: "button", title: name, "aria-label": name }, text);
  element.addEventListener("click", pressed);
  return element;
}

/** Set traits and send them to the kernel. */
export function tell(model, traits) {
  for (const [name, value] of Object.entries(traits)) model.set(name, value);
  model.save_changes();
}

/** Build the controls of the view: metric, phase, zoom and selection, with the predicted ratios. */
export function viewControls(element, model, act) {
  const metric = choice(model, "metric", [], "metric");
  const phase = choice(
    model,
    "phase",
    [
      ["all", "all tokens"],
      ["prefill", "prefill"],
      ["decode", "decode"],
    ],
    "phase",
  );
  const select = button("Select", "select tokens by dragging (or drag with shift)", () =>
    act.selecting(select.getAttribute("aria-pressed") !== "true"),
  );
  select.setAttribute("aria-pressed", "false");
  const clear = button("Clear", "clear the selection (escape)", () => tell(model, { selection: null }));
  const ratios = make("span", { class: "sx-ratios", role: "group", "aria-label": "skip ratios" });
  element.append(
    labelled("Metric", metric, "which of the trace's numbers is drawn"),
    labelled("Tokens", phase, "which phase is shown"),
    make(
      "span",
      { class: "sx-buttons", role: "group", "aria-label": "zoom" },
      button("−", "zoom out (-)", () => act.zoom(2)),
      button("+", "zoom in (+)", () => act.zoom(0.5)),
      button("All", "show every token (0)", () => act.zoom(Infinity)),
    ),
    make("span", { class: "sx-buttons", role: "group", "aria-label": "selection" }, select, clear),
    ratios,
  );
  return {
    words: () => ratios.textContent,
    pressed: (on) => select.setAttribute("aria-pressed", String(on)),
    show(scene) {
      const names = Object.keys(scene.trace.metrics);
      if (metric.options.length !== names.length || names.some((name, at) => metric.options[at].value !== name)) {
        metric.replaceChildren(...names.map((name) => make("option", { value: name }, METRICS[name].name)));
      }
      [metric.value, phase.value] = [scene.metric, scene.phase];
      clear.disabled = !scene.selection;
    },
    count(ratios_, masked) {
      const parts = ["nominal", "decode", "total"].map((name) =>
        make(
          "span",
          { class: "sx-ratio", title: RATIOS[name] },
          `${name} `,
          make("b", {}, name in ratios_ ? percent(ratios_[name]) : "–"),
        ),
      );
      ratios.replaceChildren(masked ? "skipped: " : "predicted skip ratio: ", ...parts);
    },
  };
}

const RATIOS = {
  nominal: "of the blocks that may be skipped: skippable layers, decoded tokens past the warm-up and the sink",
  decode: "of all blocks at decoded tokens",
  total: "of all blocks at all tokens, prefill included",
};

/** Build the controls of an FFN-SkipLLM rule, and return a function that updates them from a scene. */
export function ruleControls(element, model) {
  const slider = make("input", {
    type: "range",
    min: SLIDER.least,
    max: NEVER,
    step: SLIDER.step,
    "aria-label": "threshold, a cosine",
  });
  const cosine = make("span", { class: "sx-cosine", "aria-hidden": "true" }); // the slider has it as aria-valuetext
  slider.addEventListener("input", () =>
    tell(model, { limit: slider.value > SLIDER.most ? null : -Number(slider.value), limits: [] }),
  );
  const counts = Object.fromEntries(
    ["sink", "cold_start", "cold_end", "warmup", "horizon"].map((trait) => [trait, count(model, trait)]),
  );
  const on = choice(
    model,
    "warmup_on",
    [
      ["generated", "generated tokens"],
      ["position", "positions"],
    ],
    "what the warm-up counts",
  );
  const switches = Object.fromEntries(["prefill", "causal"].map((trait) => [trait, toggle(model, trait)]));
  element.append(
    make(
      "label",
      { class: "sx-threshold", title: "cosine from which a block counts as saturated" },
      make("span", {}, "Threshold"),
      slider,
      cosine,
    ),
    pair(
      labelled("Cold start", counts.cold_start, "layers at the start that always run"),
      labelled("end", counts.cold_end, "layers at the end that always run"),
    ),
    labelled("Sink", counts.sink, "positions at the start of every sequence that always run: the attention sink"),
    pair(labelled("Warm-up", counts.warmup, "tokens at the start that run in full"), on),
    labelled("Horizon", counts.horizon, "blocks to skip after the threshold is met; empty: all until the cold end"),
    pair(
      labelled("Prefill", switches.prefill, "skip in prefill too"),
      labelled("Causal", switches.causal, "decide from the token before"),
    ),
  );
  const controls = [slider, on, ...Object.values(counts), ...Object.values(switches)];
  return (scene) => {
    const { rule } = scene;
    for (const control of controls) control.disabled = scene.masked;
    if (document.activeElement !== slider || -rule.limit !== Number(slider.value))
      slider.value = rule.limit === null ? NEVER : -rule.limit;
    cosine.textContent = scene.masked ? scene.label : ruleText(rule);
    slider.setAttribute("aria-valuetext", cosine.textContent);
    const values = {
      sink: rule.sink,
      cold_start: rule.coldStart,
      cold_end: rule.coldEnd,
      warmup: rule.warmup,
      horizon: rule.horizon ?? "",
    };
    for (const [trait, value] of Object.entries(values))
      if (counts[trait].value !== String(value)) counts[trait].value = value;
    counts.cold_start.max = scene.trace.layers - 1 - rule.coldEnd;
    counts.cold_end.max = scene.trace.layers - 1 - rule.coldStart;
    on.value = rule.warmupOn;
    [switches.prefill.checked, switches.causal.checked] = [rule.prefill, rule.causal];
  };
}

/** The threshold of a rule in words. */
export function ruleText(rule) {
  if (rule.limits.length) return "by layer";
  if (rule.limit === null) return "never";
  const cosine = cosineOf(rule.limit, rule.exact);
  return cosineText(1 - cosine, 1);
}

function count(model, trait) {
  const input = make("input", {
    type: "number",
    min: trait === "horizon" ? 1 : 0,
    step: 1,
    "aria-label": trait.replace("_", " "),
    ...(trait === "horizon" ? { placeholder: "∞" } : {}),
  });
  input.addEventListener("change", () => {
    if (input.value === "" && trait === "horizon") return tell(model, { horizon: null });
    const [least, most] = [Number(input.min), input.max === "" ? Infinity : Number(input.max)];
    const value = Math.min(Math.max(Math.round(Number(input.value) || 0), least), most);
    input.value = value;
    return tell(model, { [trait]: value });
  });
  return input;
}

function toggle(model, trait) {
  const input = make("input", { type: "checkbox", "aria-label": trait });
  input.addEventListener("change", () => tell(model, { [trait]: input.checked }));
  return input;
}
