// A button that copies a text. Where the page may not use the clipboard, Python shows the text.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function render({ model, el }) {
  const button = document.createElement("button");
  button.className = "jupyter-widgets jupyter-button widget-button";
  button.style.width = "auto";
  button.type = "button";
  const name = () => { button.textContent = model.get("label"); };
  name();
  model.on("change:label", name);
  button.addEventListener("click", async () => {
    const done = await copy(model.get("text"));
    model.set("refused", !done);
    model.set("pressed", model.get("pressed") + 1);
    model.save_changes();
    button.textContent = done ? "Copied" : "See below";
    setTimeout(name, 1200);
  });
  el.append(button);
  return () => model.off("change:label", name);
}

export default { render };
