// Keeping keys that are pressed inside a widget from JupyterLab.

/**
 * Stop keys from reaching JupyterLab, which has commands on letters and arrows. Keys with control, alt or meta pass, and
 * so does shift with enter, which runs the cell. An attribute on the root would not work: JupyterLab checks only the
 * focused element itself.
 */
export function keepKeys(root, signal) {
  const keep = (event) => {
    const command = event.ctrlKey || event.altKey || event.metaKey || (event.shiftKey && event.key === "Enter");
    if (!command) event.stopPropagation();
  };
  root.addEventListener("keydown", keep, { signal });
}
