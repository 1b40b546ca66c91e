"use strict";
// The panel of filters: for each figure its distribution and two bounds, for each flag a choice of three.

const BINS = 40;

class Filters {
  /** `changed` is called when a visitor has changed `criteria`. */
  constructor(panel, grooves, criteria, changed) {
    Object.assign(this, { panel, grooves, criteria, changed });
    this.makers = { number: (column) => this.numberFilter(column), flag: (column) => this.flagFilter(column) };
    this.build();
  }

  build() {
    const filters = this.grooves.columns.map(({ kind }, column) => this.makers[kind](column));
    this.panel.replaceChildren(...filters.filter(Boolean));
  }

  /** Takes all bounds and choices away. */
  clear() {
    this.criteria.ranges.clear();
    this.criteria.flags.clear();
    this.build();
  }

  numberFilter(column) {
    const { label, about } = this.grooves.columns[column];
    const values = this.grooves.column(column).filter((value) => !Number.isNaN(value));
    const least = values.reduce((one, other) => Math.min(one, other), Infinity);
    const most = values.reduce((one, other) => Math.max(one, other), -Infinity);
    if (!(least < most)) return null; // nothing to tell apart
    const field = filterField("number", label, about);
    const bars = histogram(values, least, most);
    field.querySelector("svg").append(...bars);
    const [low, high] = field.querySelectorAll("input");
    const { decimals } = this.grooves.columns[column], power = 10 ** decimals;
    low.placeholder = (Math.floor(least * power) / power).toFixed(decimals);
    high.placeholder = (Math.ceil(most * power) / power).toFixed(decimals);
    for (const [input, side] of [[low, "at least"], [high, "at most"]]) {
      input.setAttribute("aria-label", `${label}, ${side}`);
      input.addEventListener("input", () => {
        const range = [bound(low, -Infinity), bound(high, Infinity)];
        if (range.some(Number.isFinite)) this.criteria.ranges.set(column, range);
        else this.criteria.ranges.delete(column);
        shade(bars, least, most, range);
        this.changed();
      });
    }
    return field;
  }

  flagFilter(column) {
    const { label, about } = this.grooves.columns[column];
    const field = filterField("flag", label, about);
    const carried = this.grooves.column(column).filter((value) => value === 1).length;
    field.querySelector(".carried").textContent = carried.toLocaleString("en");
    const select = field.querySelector("select");
    select.setAttribute("aria-label", label);
    select.addEventListener("change", () => {
      if (select.value === "any") this.criteria.flags.delete(column);
      else this.criteria.flags.set(column, select.value === "yes");
      this.changed();
    });
    return field;
  }
}

function filterField(kind, label, about) {
  const field = document.getElementById(`${kind}-filter`).content.firstElementChild.cloneNode(true);
  field.querySelector(".label").textContent = label;
  field.title = about;
  return field;
}

function bound(input, otherwise) {
  return Number.isNaN(input.valueAsNumber) ? otherwise : input.valueAsNumber;
}

/** The bars of a distribution, in an SVG of BINS by 1. */
function histogram(values, least, most) {
  const counts = new Array(BINS).fill(0);
  const width = (most - least) / BINS || 1;
  for (const value of values) counts[Math.min(BINS - 1, Math.floor((value - least) / width))]++;
  const highest = Math.max(...counts);
  return counts.map((count, bin) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    // What is rare is seen too: at least a line.
    const height = count ? Math.max(0.04, count / highest) : 0;
    Object.entries({ x: bin + 0.1, y: 1 - height, width: 0.8, height })
      .forEach(([name, value]) => bar.setAttribute(name, value));
    return bar;
  });
}

/** Fades the bars that a range leaves out. */
function shade(bars, least, most, [low, high]) {
  bars.forEach((bar, bin) => {
    const from = least + ((most - least) * bin) / BINS, to = least + ((most - least) * (bin + 1)) / BINS;
    bar.classList.toggle("out", to < low || from > high);
  });
}
