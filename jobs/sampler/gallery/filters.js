"use strict";
// The panel of filters: for each figure its distribution and two bounds, for each flag and drum a choice of three, and a
// choice among names.

/** Bars of a distribution, at most. */
const BINS = 40;

class Filters {
  /** `changed` is called when a visitor has changed `criteria`. */
  constructor(panel, grooves, criteria, changed) {
    Object.assign(this, { panel, grooves, criteria, changed });
    this.makers = {
      number: (column) => this.numberFilter(column),
      flag: (column) => this.flagFilter(column),
      name: (column) => this.nameFilter(column),
    };
    this.build();
  }

  build() {
    const figures = this.grooves.columns.map(({ kind }, column) => this.makers[kind](column));
    const drums = this.grooves.drums.map(({ label }, drum) => this.drumFilter(label, drum));
    this.panel.replaceChildren(...[...figures, ...drums].filter(Boolean));
  }

  numberFilter(column) {
    const { label, about } = this.grooves.columns[column];
    const values = this.grooves.column(column).filter(Number.isFinite);
    const least = values.reduce((one, other) => Math.min(one, other), Infinity);
    const most = values.reduce((one, other) => Math.max(one, other), -Infinity);
    if (!(least < most)) return null; // nothing to tell apart
    const field = filterField("number", label, about);
    const bins = binsOf(values, least, most), bars = histogram(values, bins);
    field.querySelector("svg").setAttribute("viewBox", `0 0 ${bins.count} 1`);
    field.querySelector("svg").append(...bars);
    const [low, high] = field.querySelectorAll("input");
    const { decimals } = this.grooves.columns[column], power = 10 ** decimals;
    low.placeholder = (Math.floor(least * power) / power).toFixed(decimals);
    high.placeholder = (Math.ceil(most * power) / power).toFixed(decimals);
    for (const [input, side] of [[low, "at least"], [high, "at most"]]) {
      input.setAttribute("aria-label", `${label}, ${side}`);
      input.value = boundText(this.criteria.ranges.get(column)?.[input === low ? 0 : 1]);
      input.addEventListener("input", () => {
        const range = [bound(low, -Infinity), bound(high, Infinity)];
        if (range.some(Number.isFinite)) this.criteria.ranges.set(column, range);
        else this.criteria.ranges.delete(column);
        shade(bars, bins, range);
        this.changed();
      });
    }
    shade(bars, bins, this.criteria.ranges.get(column) ?? [-Infinity, Infinity]);
    return field;
  }

  flagFilter(column) {
    const { label, about } = this.grooves.columns[column];
    const carried = this.grooves.column(column).filter((value) => value === 1).length;
    return this.choiceFilter(label, about, carried, this.criteria.flags, column);
  }

  nameFilter(column) {
    const { label, about, names } = this.grooves.columns[column], counts = names.map(() => 0);
    this.grooves.column(column).forEach((name) => counts[name]++);
    const there = [...names.keys()].filter((name) => counts[name]);
    if (there.length < 2) return null; // nothing to tell apart
    const field = filterField("flag", label, about), select = field.querySelector("select");
    const options = there.map((name) => new Option(`${names[name]} ${counts[name].toLocaleString("en")}`, name));
    select.replaceChildren(new Option("any", "any"), ...options);
    select.setAttribute("aria-label", label);
    select.value = this.criteria.ranges.get(column)?.[0] ?? "any";
    select.addEventListener("change", () => {
      if (select.value === "any") this.criteria.ranges.delete(column);
      else this.criteria.ranges.set(column, [Number(select.value), Number(select.value)]);
      this.changed();
    });
    return field;
  }

  drumFilter(label, drum) {
    const items = Array.from({ length: this.grooves.count }, (_, item) => item);
    const carried = items.filter((item) => this.grooves.hasDrum(item, drum)).length;
    return this.choiceFilter(label, `grooves with or without ${label}`, carried, this.criteria.drums, drum);
  }

  /** A choice of three, kept under a key of `chosen`. */
  choiceFilter(label, about, carried, chosen, key) {
    const field = filterField("flag", label, about);
    field.querySelector(".carried").textContent = carried.toLocaleString("en");
    const select = field.querySelector("select");
    select.setAttribute("aria-label", label);
    select.value = chosen.has(key) ? (chosen.get(key) ? "yes" : "no") : "any";
    select.addEventListener("change", () => {
      if (select.value === "any") chosen.delete(key);
      else chosen.set(key, select.value === "yes");
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

/** How values are counted; as many whole numbers in each bin, so that none has gaps of its own. */
function binsOf(values, least, most) {
  if (!values.every(Number.isInteger)) return { least, count: BINS, width: (most - least) / BINS };
  const width = Math.ceil((most - least + 1) / BINS);
  return { least, count: Math.ceil((most - least + 1) / width), width };
}

/** The bars of a distribution, each one wide and at most one high. */
function histogram(values, { least, count, width }) {
  const counts = new Array(count).fill(0);
  for (const value of values) counts[Math.min(count - 1, Math.floor((value - least) / width))]++;
  const highest = Math.max(...counts);
  return counts.map((inside, bin) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    // What is rare is seen too: at least a line.
    const height = inside ? Math.max(0.04, inside / highest) : 0;
    Object.entries({ x: bin + 0.1, y: 1 - height, width: 0.8, height })
      .forEach(([name, value]) => bar.setAttribute(name, value));
    return bar;
  });
}

/** Fades the bars that a range leaves out. */
function shade(bars, { least, width }, [low, high]) {
  bars.forEach((bar, bin) => {
    const from = least + width * bin, to = from + width;
    bar.classList.toggle("out", to <= low || from > high);
  });
}
