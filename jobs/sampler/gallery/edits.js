"use strict";
// What a visitor changed in grooves: hits that are added, removed or have another velocity. The browser keeps it, by
// groove as the favourites, and undo takes it back, the last change first.

const EDITS_KEY = "drum gallery edits";

class Edits {
  /** `names` are those under which favourites are kept. */
  constructor(grooves, names) {
    Object.assign(this, { grooves, names });
    /** Item -> cell -> velocity; 0: the hit is removed. */
    this.cells = new Map();
    /** What undo gives back: the cells of an item before each change. */
    this.past = [];
    const stored = this.stored();
    names.forEach((name, item) => Array.isArray(stored[name]) && this.cells.set(item, new Map(stored[name])));
  }

  cell({ step, drum }) {
    return step * this.grooves.drums.length + drum;
  }

  has(item) {
    return (this.cells.get(item)?.size ?? 0) > 0;
  }

  /** Remembers a groove as it is, so that undo comes back to it. */
  remember(item) {
    this.past.push([item, new Map(this.cells.get(item))]);
  }

  /** Gives a cell, {step, drum}, a velocity; 0 removes its hit. */
  set(item, place, velocity) {
    const cells = this.cells.get(item) ?? new Map(), cell = this.cell(place);
    const before = this.grooves.hits(item).some((hit) => this.cell(hit) === cell);
    if (velocity || before) cells.set(cell, velocity);
    else cells.delete(cell);
    this.replace(item, cells);
  }

  /** Takes the last change back; gives its groove, or undefined if there was none. */
  undo() {
    const [item, cells] = this.past.pop() ?? [];
    if (item !== undefined) this.replace(item, cells);
    return item;
  }

  replace(item, cells) {
    this.cells.set(item, cells);
    const stored = this.stored();
    if (cells.size) stored[this.names[item]] = [...cells];
    else delete stored[this.names[item]];
    try {
      localStorage.setItem(EDITS_KEY, JSON.stringify(stored));
    } catch {
      // Then the changes are those of this window; the page says so of the favourites.
    }
  }

  stored() {
    try {
      return JSON.parse(localStorage.getItem(EDITS_KEY)) ?? {};
    } catch {
      return {};
    }
  }

  /** Hits of a groove with the changes; new hits are on the grid. */
  applied(item, hits) {
    if (!this.has(item)) return hits;
    const cells = this.cells.get(item), there = new Set(hits.map((hit) => this.cell(hit)));
    const left = hits.filter((hit) => cells.get(this.cell(hit)) !== 0).map((hit) => {
      const velocity = cells.get(this.cell(hit));
      return velocity === undefined ? hit : { ...hit, velocity, edited: true };
    });
    const added = [...cells].filter(([cell, velocity]) => velocity && !there.has(cell)).map(([cell, velocity]) => {
      const step = Math.floor(cell / this.grooves.drums.length), drum = cell % this.grooves.drums.length;
      return { step, drum, velocity, kept: false, edited: true, ...onset(step, 0, this.grooves.ticksPerStep) };
    });
    return [...left, ...added].sort((one, other) => this.cell(one) - this.cell(other));
  }

  /** Hits that are removed, as marks of the picture. */
  removed(item) {
    if (!this.has(item)) return [];
    const cells = this.cells.get(item);
    return this.grooves.hits(item).filter((hit) => cells.get(this.cell(hit)) === 0)
      .map((hit) => ({ ...hit, removed: true }));
  }
}
