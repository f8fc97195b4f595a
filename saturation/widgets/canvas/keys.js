// Keys that are pressed inside a widget are the widget's.

/**
 * Keep keys from JupyterLab, which has a command on every letter and arrow. Those with control, alt or meta go on, and
 * so does shift with enter, which runs the cell. An attribute on the root would not do: JupyterLab asks the focused
 * element itself first.
 */
export function keepKeys(root, signal) {
  const keep = (event) => {
    const command = event.ctrlKey || event.altKey || event.metaKey || (event.shiftKey && event.key === "Enter");
    if (!command) event.stopPropagation();
  };
  root.addEventListener("keydown", keep, { signal });
}
