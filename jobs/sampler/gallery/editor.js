"use strict";
// The large grid as something to edit: a tap sets or removes a hit, a drag up or down changes its velocity.

/** Of a new hit, and per pixel that it is dragged. */
const NEW_VELOCITY = 100, VELOCITY_PER_PIXEL = 1;
/** A finger that moves less than that taps, in pixels. */
const TAP_PIXELS = 5;

/** `hear(change)` makes a change to what is heard and drawn; `done()` is called after each edit. */
function listenToEdits(canvas, stage, edits, hear, done) {
  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (!stage.editing || stage.item === undefined) return;
    canvas.setPointerCapture(event.pointerId);
    const place = stage.placeAt(event.offsetX, event.offsetY), item = stage.item;
    const before = edits.applied(item, stage.grooves.hits(item)).find((hit) => edits.cell(hit) === edits.cell(place));
    held = { item, place, velocity: before?.velocity ?? 0, y: event.offsetY, dragged: false };
    edits.remember(item);
  });
  const drag = (event) => {
    if (!held) return;
    const up = held.y - event.offsetY, { item, place, velocity } = held;
    held.dragged ||= Math.abs(up) > TAP_PIXELS;
    if (!held.dragged) return;
    const louder = Math.round((velocity || NEW_VELOCITY) + up * VELOCITY_PER_PIXEL);
    hear(() => edits.set(item, place, Math.min(Math.max(louder, 1), 127)));
  };
  canvas.addEventListener("pointermove", drag);
  canvas.addEventListener("pointerup", (event) => {
    if (!held) return;
    drag(event);
    const { item, place, velocity, dragged } = held;
    held = null;
    if (!dragged) hear(() => edits.set(item, place, velocity ? 0 : NEW_VELOCITY));
    done();
  });
  canvas.addEventListener("pointercancel", () => {
    if (!held) return;
    held = null;
    hear(() => edits.undo());
  });
}
