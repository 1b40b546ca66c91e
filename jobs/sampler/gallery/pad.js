"use strict";
// An interpolation to play with a finger: a strip between two grooves, or a square between four. What plays changes at
// the next bar line after the finger came to another point.

class Pad {
  /** `act.pad(item)` is called with the groove of each point that is touched. */
  constructor(element, grooves, player, act) {
    Object.assign(this, { element, grooves, player, act });
    [this.rows, this.columns] = grooves.pad;
    this.points = element.querySelector(".points");
    this.canvas = element.querySelector("canvas");
    /** The groove of each point; filters of the sampling may have left some out. */
    this.items = new Map();
    grooves.places.forEach((place, item) => this.items.has(place) || this.items.set(place, item));
    this.place = 0;
    element.hidden = false;
    element.style.setProperty("--rows", this.rows);
    element.style.setProperty("--columns", this.columns);
    element.classList.toggle("strip", this.rows === 1);
    this.nameCorners();
    this.points.addEventListener("pointerdown", (event) => {
      this.points.setPointerCapture(event.pointerId);
      this.touch(event);
    });
    this.points.addEventListener("pointermove", (event) => {
      if (this.points.hasPointerCapture(event.pointerId)) this.touch(event);
    });
    // The first touch of a page may make a sound only once it ends.
    this.points.addEventListener("pointerup", () => player.wake());
    this.points.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.points);
    this.mark();
  }

  /** The names of the given grooves, each beside its own corner. */
  nameCorners() {
    const { sources } = this.grooves, above = this.element.querySelectorAll(".corners");
    const names = sources.map((name, corner) => (sources.length > 2 ? `${CORNERS[corner]}: ${name}` : name));
    names.forEach((name, corner) => above[corner >> 1].append(element("span", name)));
    this.points.setAttribute("aria-label",
      `${this.rows} by ${this.columns} grooves between ${sources.join(", ")}: arrow keys move and play`);
  }

  touch(event) {
    const { left, top, width, height } = this.points.getBoundingClientRect();
    const column = within(Math.floor(((event.clientX - left) / width) * this.columns), this.columns);
    const row = within(Math.floor(((event.clientY - top) / height) * this.rows), this.rows);
    this.go(row, column, event.type === "pointerdown");
  }

  key(event) {
    const row = Math.floor(this.place / this.columns), column = this.place % this.columns;
    const moves = {
      ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column], Home: [row, 0], End: [row, this.columns - 1],
    };
    if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const [toRow, toColumn] = moves[event.key];
    this.go(within(toRow, this.rows), within(toColumn, this.columns));
  }

  /** Plays the groove of a point; of one that has none, the nearest. `again` plays the same one again after a stop. */
  go(row, column, again = false) {
    const before = this.place;
    this.place = this.nearest(row, column);
    if (this.place === before && !again && this.player.item !== null) return;
    this.act.pad(this.items.get(this.place));
    this.mark();
  }

  nearest(row, column) {
    const wanted = row * this.columns + column;
    if (this.items.has(wanted)) return wanted;
    const away = (place) => Math.hypot(Math.floor(place / this.columns) - row, (place % this.columns) - column);
    return [...this.items.keys()].reduce((best, place) => (away(place) < away(best) ? place : best));
  }

  /** Shows the point that is touched, and the one that sounds. */
  mark() {
    const sounding = this.player.item === null ? null : this.grooves.places[this.player.item];
    this.putOn(".here", this.place);
    this.putOn(".sounding", sounding);
  }

  putOn(name, place) {
    const mark = this.element.querySelector(name);
    mark.hidden = place === null;
    mark.style.left = `${(100 * (place % this.columns)) / this.columns}%`;
    mark.style.top = `${(100 * Math.floor(place / this.columns)) / this.rows}%`;
  }

  /** Each point is as full as its groove: one column a step, the more drums the stronger. */
  draw() {
    const { clientWidth: width, clientHeight: height } = this.points, scale = devicePixelRatio;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    const context = this.canvas.getContext("2d"), { numSteps, drums } = this.grooves;
    const wide = this.canvas.width / this.columns, high = this.canvas.height / this.rows;
    const style = getComputedStyle(this.element);
    for (const [place, item] of this.items) {
      const left = (place % this.columns) * wide, top = Math.floor(place / this.columns) * high;
      for (const { step, drum, velocity } of this.grooves.hits(item)) {
        context.globalAlpha = 0.25 + (0.75 * velocity) / 127;
        context.fillStyle = style.getPropertyValue(`--drum-${drum % DRUM_COLOURS}`);
        const x = left + 1 + ((wide - 3) * step) / numSteps, y = top + 1 + ((high - 3) * (drums.length - 1 - drum)) / drums.length;
        context.fillRect(x, y, Math.max(1, (wide - 3) / numSteps), Math.max(1, (high - 3) / drums.length - 0.5));
      }
    }
  }
}
