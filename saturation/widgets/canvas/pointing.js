// Zoom, pan, selection and hover by pointer, wheel and keys on the canvas.

/**
 * Listen to events on a canvas. `act` has {range(), count(), layers(), cursor(), selecting(), show(first, stop),
 * select(first, stop, done), hover(point or null, spoken), read(index), place(event)}; a place is {share of the width of
 * the cells, layer}.
 */
export function listen(canvas, act, signal) {
  const fingers = new Map(); // pointer id -> its last event
  let drag = null;

  const indexAt = (event) => {
    const [first, stop] = act.range();
    const { share } = act.place(event);
    return Math.min(Math.max(first + Math.floor(share * (stop - first)), first), stop - 1);
  };
  const on = (name, listener, options = {}) => canvas.addEventListener(name, listener, { signal, ...options });

  on("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
    drag = {
      from: indexAt(event),
      range: act.range(),
      at: act.place(event).share,
      x: event.clientX,
      moved: false,
      selects: event.shiftKey || act.selecting(),
    };
  });
  on("pointermove", (event) => {
    if (fingers.has(event.pointerId)) {
      if (fingers.size === 2) pinch(event);
      else move(event);
    }
    act.hover({ index: indexAt(event), layer: act.place(event).layer });
  });
  const end = (event) => {
    if (fingers.size === 1 && drag) {
      if (drag.selects) act.select(...span(drag.from, indexAt(event)), true);
      else if (!drag.moved) act.read(indexAt(event));
    }
    fingers.delete(event.pointerId);
    drag = null;
  };
  on("pointerup", end);
  on("pointercancel", (event) => fingers.delete(event.pointerId));
  on("pointerleave", () => act.hover(null));

  function move(event) {
    if (!drag) return;
    drag.moved ||= Math.abs(event.clientX - drag.x) > 3;
    if (drag.selects) act.select(...span(drag.from, indexAt(event)), false);
    else if (drag.moved) {
      const [first, stop] = drag.range;
      slide(first + Math.round((drag.at - act.place(event).share) * (stop - first)), stop - first);
    }
  }

  function pinch(event) {
    const apart = () => {
      const [one, other] = [...fingers.values()];
      return {
        width: Math.max(Math.abs(one.clientX - other.clientX), 1),
        middle: { clientX: (one.clientX + other.clientX) / 2, clientY: one.clientY },
      };
    };
    const before = apart();
    fingers.set(event.pointerId, event);
    const now = apart();
    zoomAt(before.width / now.width, act.place(now.middle).share);
    drag = null; // a pinch neither pans nor selects
  }

  function slide(first, size) {
    const start = Math.min(Math.max(first, 0), act.count() - size);
    act.show(start, start + size);
  }

  function zoomAt(factor, share) {
    const [first, stop] = act.range();
    const size = Math.round(Math.min(Math.max((stop - first) * factor, Math.min(8, act.count())), act.count()));
    slide(Math.round(first + share * (stop - first) - share * size), size);
  }

  on(
    "wheel",
    (event) => {
      // the wheel scrolls the page, and zooms only after a click on the canvas or with control (which a pinch sends)
      if (!event.ctrlKey && document.activeElement !== canvas && canvas.getRootNode().activeElement !== canvas) return;
      event.preventDefault();
      const [first, stop] = act.range();
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        slide(first + Math.round(((event.deltaX || event.deltaY) / 600) * (stop - first)), stop - first);
      } else {
        zoomAt(
          Math.exp(Math.min(Math.max(event.deltaY, -200), 200) / (event.ctrlKey ? 100 : 400)),
          Math.min(Math.max(act.place(event).share, 0), 1),
        );
      }
    },
    { passive: false },
  );

  on("keydown", (event) => {
    const [first, stop] = act.range();
    const keys = {
      "+": () => zoomAt(0.5, 0.5),
      "=": () => zoomAt(0.5, 0.5),
      "-": () => zoomAt(2, 0.5),
      0: () => slide(0, act.count()),
      PageUp: () => slide(first - (stop - first), stop - first),
      PageDown: () => slide(stop, stop - first),
      Home: () => slide(0, stop - first),
      End: () => slide(act.count(), stop - first),
      Enter: () => act.read(act.cursor()?.index ?? first),
      Escape: () => act.select(null),
      ArrowLeft: () => step(event, -1, 0),
      ArrowRight: () => step(event, 1, 0),
      ArrowUp: () => step(event, 0, 1),
      ArrowDown: () => step(event, 0, -1),
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });

  function step(event, right, up) {
    const [first, stop] = act.range();
    const from = act.cursor() ?? { index: first, layer: 0 };
    const index = Math.min(Math.max(from.index + right, 0), act.count() - 1);
    const layer = Math.min(Math.max((from.layer ?? 0) + up, 0), act.layers() - 1);
    if (index < first || index >= stop) slide(index < first ? index : index - (stop - first) + 1, stop - first);
    if (event.shiftKey && right) {
      drag ??= { from: from.index };
      act.select(...span(drag.from, index), true);
    } else drag = null;
    act.hover({ index, layer }, true);
  }
  return { zoomAt };
}

const span = (one, other) => [Math.min(one, other), Math.max(one, other) + 1];
