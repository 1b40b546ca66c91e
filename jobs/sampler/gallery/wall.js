"use strict";
// The wall of grooves: a grid of cards of which only those in sight exist. The wall itself has the keyboard's focus and
// tells which card is meant (aria-activedescendant), so a card may leave the page without taking the focus along.

/** Rows kept above and below what is in sight. */
const SPARE_ROWS = 2;

class Wall {
  /** `act` has what cards do: `choose(item)`, `play(item)`, `favour(item)`, `drag(transfer, item)`. */
  constructor(element, { grooves, favourites, edits, hearing, player, act }) {
    Object.assign(this, { element, grooves, favourites, edits, hearing, player, act });
    this.space = element.querySelector(".space");
    this.rows = new Map();
    this.items = [];
    /** Place, in `items`, of the card that the keyboard means. */
    this.active = 0;
    this.palette = colours();
    this.captionColumns = [];
    element.addEventListener("scroll", () => this.render(), { passive: true });
    new ResizeObserver(() => this.layOut()).observe(element);
  }

  get activeItem() {
    return this.items[this.active];
  }

  /** Shows items in their order, from a place on. */
  show(items, captionColumns, active = 0) {
    Object.assign(this, { items, captionColumns });
    this.layOut();
    this.element.scrollTop = 0;
    this.activate(active);
  }

  /** Makes rows anew for the present width. */
  layOut() {
    const style = getComputedStyle(this.space);
    this.gap = parseFloat(style.getPropertyValue("--gap"));
    this.rowHeight = parseFloat(style.getPropertyValue("--card-height")) + this.gap;
    const width = this.space.clientWidth, least = parseFloat(style.getPropertyValue("--least-width"));
    this.columns = Math.max(1, Math.floor((width + this.gap) / (least + this.gap)));
    this.cardWidth = (width - (this.columns - 1) * this.gap) / this.columns;
    this.space.style.setProperty("--columns", this.columns);
    this.space.style.height = `${this.numRows * this.rowHeight}px`;
    this.element.setAttribute("aria-rowcount", this.numRows);
    this.element.setAttribute("aria-colcount", this.columns);
    this.refresh();
  }

  get numRows() {
    return Math.ceil(this.items.length / this.columns);
  }

  /** Draws every card anew: another scheme of colours, other favourites. */
  refresh() {
    this.rows.forEach((row) => row.remove());
    this.rows.clear();
    this.render();
  }

  /** Brings the rows in sight into being, and lets the others go. */
  render() {
    const top = this.element.scrollTop, height = this.element.clientHeight;
    const first = Math.max(0, Math.floor(top / this.rowHeight) - SPARE_ROWS);
    const end = Math.min(this.numRows, Math.ceil((top + height) / this.rowHeight) + SPARE_ROWS);
    for (const [number, row] of this.rows)
      if (number < first || number >= end) {
        row.remove();
        this.rows.delete(number);
      }
    for (let number = first; number < end; number++)
      if (!this.rows.has(number)) {
        const row = this.makeRow(number);
        this.rows.set(number, row);
        // In the order of the wall, as screen readers read it.
        this.space.insertBefore(row, this.rows.get(number + 1) ?? null);
        row.querySelectorAll(".card").forEach((card) => this.drawCard(card));
      }
    this.markActive();
  }

  makeRow(number) {
    const row = document.createElement("div");
    row.className = "row";
    row.setAttribute("role", "row");
    row.setAttribute("aria-rowindex", number + 1);
    row.style.top = `${number * this.rowHeight}px`;
    const places = Array.from({ length: this.columns }, (_, column) => number * this.columns + column);
    row.append(...places.filter((place) => place < this.items.length).map((place) => this.makeCard(place)));
    return row;
  }

  makeCard(place) {
    const item = this.items[place];
    const card = document.getElementById("card").content.firstElementChild.cloneNode(true);
    card.id = `card-${item}`;
    card.dataset.item = item;
    card.setAttribute("aria-colindex", (place % this.columns) + 1);
    card.querySelector(".id").textContent = this.grooves.ids[item];
    // With spaces between them, as screen readers read them.
    card.querySelector(".caption").append(...this.caption(item).flatMap((part) => [part, " "]));
    const buttons = { play: card.querySelector(".play"), favour: card.querySelector(".favour") };
    buttons.play.setAttribute("aria-label", `play ${this.grooves.ids[item]}`);
    buttons.favour.setAttribute("aria-label", `favourite ${this.grooves.ids[item]}`);
    buttons.favour.addEventListener("click", (event) => {
      event.stopPropagation();
      this.act.favour(item);
      this.element.focus({ preventScroll: true });
    });
    buttons.play.addEventListener("click", (event) => {
      event.stopPropagation();
      this.act.play(item);
      this.element.focus({ preventScroll: true });
    });
    card.addEventListener("click", () => this.act.choose(item));
    card.addEventListener("dblclick", () => this.player.item === item || this.act.play(item));
    card.addEventListener("dragstart", (event) => this.act.drag(event.dataTransfer, item));
    this.label(card);
    return card;
  }

  /** What stands under a grid: flags, then the figures that matter at the moment. */
  caption(item) {
    const states = this.edits.has(item) ? ["edited"] : [];
    const flags = [...states, ...this.grooves.flags(item)].map((label) => element("b", label));
    return [...flags, ...this.captionColumns.map((column) =>
      element("span", `${this.grooves.columns[column].label} ${this.grooves.figureText(column, item)}`))];
  }

  drawCard(card) {
    const canvas = card.querySelector("canvas"), item = Number(card.dataset.item);
    const hits = [...this.edits.applied(item, this.grooves.hits(item)), ...this.edits.removed(item)];
    drawGroove(canvas, this.grooves, hits, canvas.clientWidth, canvas.clientHeight, this.palette);
  }

  /** Says what state a card is in, to the eye and to a screen reader. */
  label(card) {
    const item = Number(card.dataset.item), id = this.grooves.ids[item];
    const playing = this.player.item === item, favourite = this.favourites.has(item);
    card.classList.toggle("playing", playing);
    card.querySelector(".tempo").textContent = `${Math.round(this.hearing.tempo(item))} bpm`;
    card.querySelector(".play").setAttribute("aria-pressed", playing);
    card.querySelector(".favour").setAttribute("aria-pressed", favourite);
    const written = [...card.querySelectorAll(".top .tempo, .caption > *")].map(({ textContent }) => textContent);
    const states = [playing && "playing", favourite && "favourite"].filter(Boolean);
    card.setAttribute("aria-label", [id, ...written, ...states].join(", "));
  }

  /** After something started, stopped or became a favourite. */
  relabel() {
    this.space.querySelectorAll(".card").forEach((card) => this.label(card));
  }

  markActive() {
    const id = this.activeItem === undefined ? "" : `card-${this.activeItem}`;
    this.space.querySelectorAll(".card").forEach((card) => card.setAttribute("aria-selected", card.id === id));
    this.element.setAttribute("aria-activedescendant", id);
  }

  /** Makes another place the active one and brings it into sight. */
  activate(place) {
    this.active = Math.min(Math.max(place, 0), Math.max(0, this.items.length - 1));
    this.reveal();
    this.render();
  }

  reveal() {
    const { scrollTop, clientHeight } = this.element;
    // With a gap above and below, so that the border of the active card is seen too.
    const top = this.space.offsetTop + Math.floor(this.active / this.columns) * this.rowHeight - this.gap;
    const bottom = top + this.rowHeight + this.gap;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (bottom > scrollTop + clientHeight) this.element.scrollTop = bottom - clientHeight;
  }

  /** Rows that fit into sight. */
  get pageRows() {
    return Math.max(1, Math.floor(this.element.clientHeight / this.rowHeight));
  }

  /** Moves the playhead of the card that plays, where it is in sight, to a step. */
  movePlayhead(step) {
    const card = this.player.item === null ? null : document.getElementById(`card-${this.player.item}`);
    if (!card) return;
    const x = stepX(this.grooves.whole, step, card.querySelector("canvas").clientWidth);
    card.querySelector(".playhead").style.transform = `translateX(${x}px)`;
  }
}

/** An element that holds text. */
function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
