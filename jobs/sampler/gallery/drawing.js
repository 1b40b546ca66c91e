"use strict";
// A groove as a drum grid on a canvas: time runs to the right, the first drum is at the bottom, the left edge of a mark
// is its onset, and the stronger its colour, the louder the hit. A hit that is kept from a source is underlined, one
// that was edited has an outline, and a removed one is the outline alone.

/** Of a mark, in steps and lanes. */
const MARK_WIDTH = 0.78, MARK_HEIGHT = 0.76;
/** Height of the line below a hit that is kept from a source, in lanes. */
const KEPT_HEIGHT = 0.16;
/** Opacity of a hit of velocity 0: still to be seen. */
const SOFTEST = 0.22;
/** At either side: a hit may be half a step early. */
const MARGIN_STEPS = 0.5;
/** As many as the style sheet has; a map with more drum classes begins again. */
const DRUM_COLOURS = 9;

/** The colours of the present scheme, dark or light. */
function colours() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return {
    ink: colour("--ink"), beat: colour("--beat"), line: colour("--line"), bar: colour("--bar"),
    drum: Array.from({ length: DRUM_COLOURS }, (_, drum) => colour(`--drum-${drum}`)),
  };
}

/** Where a step lies on a grid of some width, in its pixels. A view is the {first, steps} that the grid shows. */
function stepX({ first, steps }, step, width) {
  return ((step - first + MARGIN_STEPS) * width) / (steps + 2 * MARGIN_STEPS);
}

/** The step that lies at a pixel. */
function stepAtX({ first, steps }, x, width) {
  return (x * (steps + 2 * MARGIN_STEPS)) / width - MARGIN_STEPS + first;
}

/** Draws hits on a canvas of so many CSS pixels. */
function drawGroove(canvas, grooves, hits, width, height, palette, view = grooves.whole) {
  const sharp = devicePixelRatio || 1;
  canvas.width = Math.round(width * sharp);
  canvas.height = Math.round(height * sharp);
  const pen = canvas.getContext("2d");
  pen.scale(canvas.width / width, canvas.height / height);
  drawGrid(pen, grooves, width, height, palette, view);

  const lane = height / grooves.drums.length, mark = (MARK_WIDTH * width) / (view.steps + 2 * MARGIN_STEPS);
  for (const { step, drum, velocity, offset, kept, edited, removed } of hits) {
    const top = (grooves.drums.length - 1 - drum + (1 - MARK_HEIGHT) / 2) * lane;
    const x = stepX(view, step + offset, width), bottom = top + MARK_HEIGHT * lane;
    pen.globalAlpha = SOFTEST + ((1 - SOFTEST) * velocity) / 127;
    pen.fillStyle = palette.drum[drum % DRUM_COLOURS];
    pen.beginPath();
    pen.roundRect(x, top, mark, MARK_HEIGHT * lane, mark / 5);
    if (!removed) pen.fill();
    pen.globalAlpha = 1;
    pen.strokeStyle = pen.fillStyle = palette.ink;
    pen.setLineDash(removed ? [2, 2] : []);
    if (edited || removed) pen.stroke();
    if (kept && !removed) pen.fillRect(x, bottom - KEPT_HEIGHT * lane / 2, mark, KEPT_HEIGHT * lane);
  }
}

function drawGrid(pen, grooves, width, height, palette, view) {
  const { bars, beatsPerBar, stepsPerBeat } = grooves.grid;
  const x = (step) => stepX(view, step, width), lanes = grooves.drums.length;
  pen.fillStyle = palette.beat;
  for (let beat = 0; beat < bars * beatsPerBar; beat += 2)
    pen.fillRect(x(beat * stepsPerBeat), 0, x((beat + 1) * stepsPerBeat) - x(beat * stepsPerBeat), height);
  pen.fillStyle = palette.line;
  const whole = x(view.first + view.steps) - x(view.first);
  for (let row = 1; row < lanes; row++) pen.fillRect(x(view.first), (row * height) / lanes - 0.25, whole, 0.5);
  pen.fillStyle = palette.bar;
  for (let bar = 0; bar <= bars; bar++) pen.fillRect(x(bar * grooves.stepsPerBar) - 0.5, 0, 1, height);
}
