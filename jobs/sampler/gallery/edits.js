"use strict";
// What a visitor changed in grooves: hits that are added, removed or have another velocity. The browser keeps it, by
// groove as the favourites. Undo takes a groove's changes back, the last one first, after a reload all at once.

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

  /** The velocity of a cell, {step, drum}, as the groove was made; 0 without a hit. */
  original(item, place) {
    return this.grooves.hits(item).find((hit) => this.cell(hit) === this.cell(place))?.velocity ?? 0;
  }

  /** Gives a cell a velocity; 0 removes its hit. */
  set(item, place, velocity) {
    const cells = this.cells.get(item) ?? new Map(), cell = this.cell(place);
    if (velocity === this.original(item, place)) cells.delete(cell);
    else cells.set(cell, velocity);
    this.replace(item, cells);
  }

  /** Takes the last change of a groove back; all that it has where none is remembered. */
  undo(item) {
    const place = this.past.findLastIndex(([changed]) => changed === item);
    const [[, cells]] = place < 0 ? [[item, new Map()]] : this.past.splice(place, 1);
    this.replace(item, cells);
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
