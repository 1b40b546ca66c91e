"use strict";
// An interpolation to play with a finger: a strip between two grooves, or a square between four. What plays changes at
// the next bar line after the finger came to another point.

class Pad {
  /** `act.pad(item)` is called with the groove of each point that is touched. */
  constructor(element, grooves, edits, player, act) {
    Object.assign(this, { element, grooves, edits, player, act });
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
      if (event.button || !event.isPrimary) return;
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
    const { item, next } = this.player, sounding = item === null ? null : this.grooves.places[item];
    if (sounding !== null && next === null) this.place = sounding;
    this.putOn(".here", this.place);
    this.putOn(".sounding", sounding);
  }

  putOn(name, place) {
    const mark = this.element.querySelector(name);
    mark.hidden = place === null;
    mark.style.left = `${(100 * (place % this.columns)) / this.columns}%`;
    mark.style.top = `${(100 * Math.floor(place / this.columns)) / this.rows}%`;
  }

  /** Each point shows the first bar of its groove, with the drums that any of them has. */
  draw() {
    const { grooves, edits } = this, { clientWidth: width, clientHeight: height } = this.points;
    this.canvas.width = width * devicePixelRatio;
    this.canvas.height = height * devicePixelRatio;
    const pen = this.canvas.getContext("2d"), style = getComputedStyle(this.element);
    const wide = this.canvas.width / this.columns, high = this.canvas.height / this.rows, { stepsPerBar } = grooves;
    pen.fillStyle = style.getPropertyValue("--line");
    for (let column = 1; column < this.columns; column++) pen.fillRect(column * wide, 0, 1, this.canvas.height);
    for (let row = 1; row < this.rows; row++) pen.fillRect(0, row * high, this.canvas.width, 1);
    const firstBars = [...this.items].map(([place, item]) =>
      [place, edits.applied(item, grooves.hits(item)).filter(({ step }) => step < stepsPerBar)]);
    const drums = [...new Set(firstBars.flatMap(([, hits]) => hits.map(({ drum }) => drum)))].sort((a, b) => b - a);
    const step = (wide - 6) / stepsPerBar, lane = (high - 6) / drums.length;
    for (const [place, hits] of firstBars) {
      const left = (place % this.columns) * wide + 3, top = Math.floor(place / this.columns) * high + 3;
      for (const hit of hits) {
        pen.globalAlpha = SOFTEST + ((1 - SOFTEST) * hit.velocity) / 127;
        pen.fillStyle = style.getPropertyValue(`--drum-${hit.drum % DRUM_COLOURS}`);
        pen.fillRect(left + hit.step * step, top + drums.indexOf(hit.drum) * lane, step * MARK_WIDTH, lane * MARK_HEIGHT);
      }
    }
  }
}
