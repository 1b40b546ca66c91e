"use strict";
// Which grooves are shown, in which order.

/** Sorts by the place in the job. */
const BY_PLACE = -1;

/** What a visitor asks for. */
class Criteria {
  constructor() {
    /** A part of the id, in any case. */
    this.text = "";
    this.favouritesOnly = false;
    /** Column -> [least, most]; either may be infinite. */
    this.ranges = new Map();
    /** Column -> whether the flag must be set, or must not. */
    this.flags = new Map();
    /** A column, or BY_PLACE. */
    this.sortBy = BY_PLACE;
    this.descending = false;
  }

  get filters() {
    return this.text !== "" || this.favouritesOnly || this.ranges.size > 0 || this.flags.size > 0;
  }
}

/** The items that pass, in order. A groove without a figure passes no filter of it, and is sorted behind the others. */
function chosenItems(grooves, favourites, criteria) {
  const text = criteria.text.toLowerCase();
  const passes = (item) =>
    (!criteria.favouritesOnly || favourites.has(item)) &&
    (text === "" || grooves.ids[item].toLowerCase().includes(text)) &&
    [...criteria.ranges].every(([column, [least, most]]) => {
      const value = grooves.figure(column, item);
      return value >= least && value <= most;
    }) &&
    [...criteria.flags].every(([column, wanted]) => grooves.figure(column, item) === Number(wanted));
  const items = Array.from({ length: grooves.count }, (_, item) => item).filter(passes);
  return sorted(items, grooves, criteria);
}

function sorted(items, grooves, { sortBy, descending }) {
  const sign = descending ? -1 : 1;
  if (sortBy === BY_PLACE) return descending ? items.reverse() : items;
  const values = grooves.column(sortBy);
  return items.sort((one, other) => {
    const here = values[one], there = values[other];
    if (Number.isNaN(here) || Number.isNaN(there)) return Number.isNaN(here) - Number.isNaN(there) || one - other;
    return sign * (here - there) || one - other;
  });
}
