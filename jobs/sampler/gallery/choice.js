"use strict";
// Which grooves are shown, in which order.

/** Sorts by the place in the job, and by the distance to a groove. */
const BY_PLACE = -1, BY_LIKENESS = -2;
/** What an address calls the former. */
const PLACE = "place";

/** What a visitor asks for. */
class Criteria {
  /** `first`: the order at first, a column of which the largest figures come first, or BY_PLACE. */
  constructor(first) {
    this.first = first;
    /** A part of the id, in any case. */
    this.text = "";
    this.favouritesOnly = false;
    /** Column -> [least, most]; either may be infinite. */
    this.ranges = new Map();
    /** Column -> whether the flag must be set, or must not. */
    this.flags = new Map();
    /** Drum -> whether it must be hit, or must not. */
    this.drums = new Map();
    /** A column, BY_PLACE or BY_LIKENESS. */
    this.sortBy = first;
    /** The groove that others are compared with. */
    this.like = null;
    this.descending = this.beginsDescending;
    /** A line for each groove in place of a card. */
    this.compact = false;
    /** The tempo of all grooves; null: their own. */
    this.bpm = null;
  }

  get filters() {
    const { ranges, flags, drums } = this;
    return this.text !== "" || this.favouritesOnly || ranges.size > 0 || flags.size > 0 || drums.size > 0;
  }

  /** Whether the order that is chosen begins with the largest, until somebody turns it round. */
  get beginsDescending() {
    return this.sortBy !== BY_PLACE && this.sortBy === this.first;
  }

  /** Another order, as it begins. */
  sort(column) {
    this.sortBy = column;
    this.descending = this.beginsDescending;
  }

  /** Takes all filters away; the order stays. */
  clear() {
    this.text = "";
    this.favouritesOnly = false;
    [this.ranges, this.flags, this.drums].forEach((chosen) => chosen.clear());
  }

  /** What is asked for as the part of an address behind the #, by the names of figures, drums and grooves. */
  toAddress(grooves) {
    const name = (column) => grooves.columns[column].name, parts = new URLSearchParams();
    if (this.text) parts.set("find", this.text);
    if (this.favouritesOnly) parts.set("favourites", "only");
    this.ranges.forEach(([least, most], column) =>
      parts.set(name(column), grooves.columns[column].names[least] ?? `${boundText(least)}:${boundText(most)}`));
    this.flags.forEach((wanted, column) => parts.set(name(column), wanted ? "yes" : "no"));
    this.drums.forEach((wanted, drum) => parts.set(`drum ${grooves.drums[drum].label}`, wanted ? "yes" : "no"));
    if (this.sortBy === BY_LIKENESS) parts.set("like", grooves.ids[this.like]);
    else if (this.sortBy !== this.first) parts.set("sort", this.sortBy === BY_PLACE ? PLACE : name(this.sortBy));
    if (this.descending !== this.beginsDescending) parts.set("order", this.descending ? "descending" : "ascending");
    if (this.compact) parts.set("view", "list");
    if (this.bpm !== null) parts.set("bpm", this.bpm);
    return parts.toString();
  }

  /** Takes what `toAddress` wrote; what this gallery does not have is left out. */
  takeAddress(address, grooves) {
    const parts = new URLSearchParams(address), column = (name) => grooves.columns.findIndex((figure) => figure.name === name);
    this.clear();
    this.text = parts.get("find") ?? "";
    this.favouritesOnly = parts.get("favourites") === "only";
    grooves.columns.forEach(({ name, kind, names }, number) => {
      const value = parts.get(name);
      if (value === null) return;
      if (kind === "flag") this.flags.set(number, value === "yes");
      else if (kind === "number") this.ranges.set(number, bounds(value));
      else if (names.includes(value)) this.ranges.set(number, [names.indexOf(value), names.indexOf(value)]);
    });
    grooves.drums.forEach(({ label }, drum) => {
      const value = parts.get(`drum ${label}`);
      if (value !== null) this.drums.set(drum, value === "yes");
    });
    const like = grooves.ids.indexOf(parts.get("like"));
    this.like = like < 0 ? null : like;
    const order = parts.get("order"), figure = column(parts.get("sort"));
    if (like >= 0) this.sort(BY_LIKENESS);
    else if (parts.get("sort") === PLACE) this.sort(BY_PLACE);
    else this.sort(figure < 0 ? this.first : figure);
    if (order !== null) this.descending = order === "descending";
    this.compact = parts.get("view") === "list";
    this.bpm = parts.get("bpm") >= SLOWEST ? Number(parts.get("bpm")) : null;
  }
}

function boundText(bound) {
  return Number.isFinite(bound) ? String(bound) : "";
}

function bounds(value) {
  const [least, most] = value.split(":").map((part) => (part ? Number(part) : NaN));
  return [Number.isNaN(least) ? -Infinity : least, Number.isNaN(most) ? Infinity : most];
}

/** The items that pass, in order. A groove without a figure passes no filter of it, and is sorted behind the others. */
function chosenItems(grooves, favourites, criteria) {
  const part = criteria.text.toLowerCase();
  const passes = (item) =>
    (!criteria.favouritesOnly || favourites.has(item)) &&
    (part === "" || grooves.ids[item].toLowerCase().includes(part)) &&
    [...criteria.ranges].every(([column, [least, most]]) => {
      const value = grooves.figure(column, item);
      return value >= least && value <= most;
    }) &&
    [...criteria.flags].every(([column, wanted]) => grooves.figure(column, item) === Number(wanted)) &&
    [...criteria.drums].every(([drum, wanted]) => grooves.hasDrum(item, drum) === wanted);
  const items = Array.from({ length: grooves.count }, (_, item) => item).filter(passes);
  return sorted(items, grooves, criteria);
}

function sorted(items, grooves, { sortBy, like, descending }) {
  const sign = descending ? -1 : 1;
  if (sortBy === BY_PLACE) return descending ? items.reverse() : items;
  const values = sortBy === BY_LIKENESS ? grooves.distances(like) : grooves.column(sortBy);
  return items.sort((one, other) => {
    const here = values[one], there = values[other];
    if (Number.isNaN(here) || Number.isNaN(there)) return Number.isNaN(here) - Number.isNaN(there) || one - other;
    return sign * (here - there) || one - other;
  });
}
