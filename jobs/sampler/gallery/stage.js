"use strict";
// The stage below the wall: the groove that is meant or plays, large, with the names of its drums and its figures.

/** Least width of a step that can be edited, in CSS pixels. */
const EDITED_STEP = 8;

class Stage {
  constructor(element, grooves, favourites, player, hearing) {
    Object.assign(this, { element, grooves, favourites, player, hearing });
    this.part = (name) => element.querySelector(`.${name}`);
    this.palette = colours();
    this.item = undefined;
    this.editing = false;
    /** The bar that is edited where the grid is too narrow for all. */
    this.bar = 0;
    /** The {step, drum} that keys edit. */
    this.cursor = { step: 0, drum: 0 };
    const names = [...grooves.drums].reverse().map(({ label }, row) => {
      const name = document.createElement("li");
      name.textContent = label;
      name.style.setProperty("--drum", `var(--drum-${(grooves.drums.length - 1 - row) % DRUM_COLOURS})`);
      return name;
    });
    this.part("drums").append(...names);
    const bars = Array.from({ length: grooves.grid.bars }, (_, bar) => this.barButton(bar));
    this.part("bars").append(...bars);
    this.part("choices").append(...hearing.choices.map((choice) => this.choice(choice)));
    new ResizeObserver(() => this.draw()).observe(this.part("large"));
  }

  choice({ name, about }) {
    const label = document.getElementById("choice").content.firstElementChild.cloneNode(true);
    label.title = about;
    label.querySelector("input").value = name;
    label.querySelector("span").textContent = name;
    return label;
  }

  /** Shows a groove; undefined: there is none. */
  show(item) {
    this.item = item;
    const there = item !== undefined, playing = there && this.player.item === item;
    this.part("id").textContent = there ? this.grooves.ids[item] : "no groove";
    this.element.querySelectorAll("button, input:not(#volume)").forEach((control) => (control.disabled = !there));
    this.part("play").setAttribute("aria-pressed", playing);
    this.part("favour").setAttribute("aria-pressed", there && this.favourites.has(item));
    this.part("undo").disabled = !there || !this.hearing.edits.has(item);
    this.element.classList.toggle("playing", playing);
    const columns = there ? [...this.grooves.columns.keys()] : [];
    this.part("figures").replaceChildren(...columns.flatMap((column) => this.figure(column)));
    this.part("origin").textContent = there ? this.origin() : "";
    this.tellTempo();
    this.tellChoice();
    this.draw();
  }

  /** Where the groove came from. */
  origin() {
    const names = this.grooves.sourcesOf(this.item).map((row) => this.grooves.sources[row]);
    return names.length ? `from ${names.join(names.length > 2 ? " · " : " to ")}` : "";
  }

  figure(column) {
    const { label, about } = this.grooves.columns[column];
    const name = document.createElement("dt"), value = document.createElement("dd");
    name.textContent = label;
    name.title = about;
    value.textContent = this.grooves.figureText(column, this.item);
    return [name, value];
  }

  /** The tempo that sounds, beside its slider. */
  tellTempo() {
    if (this.item === undefined) return;
    const tempo = this.hearing.tempo(this.item), field = document.getElementById("bpm"), slider = this.part("tempo");
    slider.value = (100 * tempo) / this.grooves.tempo(this.item);
    slider.setAttribute("aria-valuetext", `${Math.round(tempo)} quarter notes per minute`);
    // Not while somebody types into it.
    if (field !== document.activeElement) field.value = Math.round(tempo);
    document.getElementById("same-tempo").checked = this.hearing.bpm !== null;
  }

  tellChoice() {
    const { name } = this.hearing.choice;
    this.part("choices").querySelectorAll("input").forEach((input) => (input.checked = input.value === name));
    this.element.classList.toggle("of-source", this.item !== undefined && !this.hearing.isOfGroove(this.item));
  }

  barButton(bar) {
    const button = document.createElement("button");
    button.className = "button square";
    button.textContent = bar + 1;
    button.setAttribute("aria-label", `edit bar ${bar + 1}`);
    button.addEventListener("click", () => {
      this.bar = bar;
      this.draw();
    });
    return button;
  }

  setEditing(editing) {
    this.editing = editing;
    this.element.classList.toggle("editing", editing);
    this.part("edit").setAttribute("aria-pressed", editing);
    this.part("large").tabIndex = editing ? 0 : -1;
    this.part("large-grid").setAttribute("aria-hidden", !editing);
    if (editing) this.part("large").focus();
    this.draw();
  }

  /** What the grid shows: all steps, or one bar where they are too narrow to be touched. */
  get view() {
    const { whole, stepsPerBar } = this.grooves;
    const isWide = this.part("large").clientWidth / whole.steps >= EDITED_STEP;
    return !this.editing || isWide ? whole : { first: this.bar * stepsPerBar, steps: stepsPerBar };
  }

  /** The {step, drum} at a pixel of the grid: of a hit that is drawn there, or of the cell. */
  placeAt(x, y) {
    const { clientWidth, clientHeight } = this.part("large"), { numSteps, drums } = this.grooves;
    const row = Math.floor((y / clientHeight) * drums.length), drum = drums.length - 1 - within(row, drums.length);
    const at = stepAtX(this.view, x, clientWidth);
    const hit = this.hearing.hits(this.item).find((one) =>
      one.drum === drum && at >= one.step + one.offset && at < one.step + one.offset + MARK_WIDTH);
    return { step: hit?.step ?? within(Math.floor(at), numSteps), drum };
  }

  /** Moves the cursor of the keys to the nearest cell that there is, and its bar into sight. */
  moveCursor(step, drum) {
    this.cursor = { step: within(step, this.grooves.numSteps), drum: within(drum, this.grooves.drums.length) };
    this.bar = Math.floor(this.cursor.step / this.grooves.stepsPerBar);
    this.draw();
  }

  placeCursor(width, height) {
    const { style } = this.part("cursor"), { step, drum } = this.cursor, lanes = this.grooves.drums.length;
    const left = stepX(this.view, step, width), right = stepX(this.view, step + 1, width);
    style.left = `${left}px`;
    style.width = `${right - left}px`;
    style.top = `${((lanes - 1 - drum) * height) / lanes}px`;
    style.height = `${height / lanes}px`;
  }

  draw() {
    const canvas = this.part("large").querySelector("canvas"), { clientWidth, clientHeight } = canvas;
    const { view, item } = this, bars = this.part("bars");
    bars.hidden = view === this.grooves.whole;
    [...bars.children].forEach((button, bar) => button.setAttribute("aria-pressed", bar === this.bar));
    if (item === undefined) canvas.width = 0;
    if (item === undefined || !clientWidth) return;
    const { edits } = this.hearing, removed = this.hearing.isOfGroove(item) ? edits.removed(item) : [];
    const hits = [...this.hearing.hits(item), ...removed];
    drawGroove(canvas, this.grooves, hits, clientWidth, clientHeight, this.palette, view);
    this.placeCursor(clientWidth, clientHeight);
  }

  movePlayhead(step) {
    const playhead = this.part("playhead");
    const x = stepX(this.view, step, playhead.parentElement.clientWidth);
    playhead.style.transform = `translateX(${x}px)`;
  }
}

/** The nearest of 0 to count - 1. */
function within(number, count) {
  return Math.min(count - 1, Math.max(0, number));
}
