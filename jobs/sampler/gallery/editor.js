"use strict";
// The large grid as something to edit: a tap sets or removes a hit, a drag up or down changes its velocity. Keys do the
// same at a cursor.

/** Of a new hit, and per pixel that it is dragged. */
const NEW_VELOCITY = 100, VELOCITY_PER_PIXEL = 1;
/** Of a key that is pressed once. */
const VELOCITY_STEP = 5;
/** A finger that moves less than that taps, in pixels. */
const TAP_PIXELS = 5;

/**
 * `hear(change)` makes a change to what is heard and drawn; `begin()` and `done()` are called before and after each
 * edit; `say(text)` tells.
 */
function listenToEdits(grid, stage, edits, { hear, say, begin, done }) {
  const canvas = grid.querySelector("canvas");
  let held = null;
  const velocityAt = (item, place) => edits.applied(item, stage.grooves.hits(item))
    .find((hit) => edits.cell(hit) === edits.cell(place))?.velocity ?? 0;
  canvas.addEventListener("pointerdown", (event) => {
    if (!stage.editing || stage.item === undefined || !event.isPrimary) return;
    begin();
    canvas.setPointerCapture(event.pointerId);
    const place = stage.placeAt(event.offsetX, event.offsetY), item = stage.item;
    held = { item, place, velocity: velocityAt(item, place), y: event.offsetY, dragged: false };
    edits.remember(item);
  });
  const drag = (event) => {
    if (!held) return;
    const up = held.y - event.offsetY, { item, place, velocity } = held;
    held.dragged ||= Math.abs(up) > TAP_PIXELS;
    if (!held.dragged) return;
    hear(() => edits.set(item, place, audible((velocity || NEW_VELOCITY) + up * VELOCITY_PER_PIXEL)));
  };
  canvas.addEventListener("pointermove", drag);
  canvas.addEventListener("pointerup", (event) => {
    if (!held) return;
    drag(event);
    const { item, place, velocity, dragged } = held;
    held = null;
    if (!dragged) hear(() => edits.set(item, place, velocity ? 0 : edits.original(item, place) || NEW_VELOCITY));
    done();
  });
  canvas.addEventListener("pointercancel", () => {
    if (!held) return;
    const { item } = held;
    held = null;
    hear(() => edits.undo(item));
  });

  const changes = {
    Enter: (velocity, original) => (velocity ? 0 : original || NEW_VELOCITY),
    "+": (velocity) => audible((velocity || NEW_VELOCITY - VELOCITY_STEP) + VELOCITY_STEP),
    "-": (velocity) => velocity && audible(velocity - VELOCITY_STEP),
  };
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  grid.addEventListener("keydown", (event) => {
    const { item, cursor } = stage, change = changes[event.key], move = moves[event.key];
    if (!stage.editing || item === undefined || !(change || move) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    if (move) stage.moveCursor(cursor.step + move[0], cursor.drum + move[1]);
    else {
      begin();
      const before = velocityAt(item, cursor), after = change(before, edits.original(item, cursor));
      if (after !== before) {
        edits.remember(item);
        hear(() => edits.set(item, cursor, after));
        done();
      }
    }
    const { step, drum } = stage.cursor, velocity = velocityAt(item, stage.cursor);
    const bar = Math.floor(step / stage.grooves.stepsPerBar) + 1, place = (step % stage.grooves.stepsPerBar) + 1;
    say(`${stage.grooves.drums[drum].label}, bar ${bar}, step ${place}: ${velocity ? `velocity ${velocity}` : "no hit"}`);
  });
}

/** The nearest velocity that a hit can have. */
function audible(velocity) {
  return Math.min(Math.max(Math.round(velocity), 1), 127);
}
