"use strict";
// The grooves of the page as jobs/sampler/gallery.py packs them: decoded once, then read by number (an *item*).

/** Offsets are stored in this part of a step, as in the shards. */
const OFFSET_UNITS = 65536;

/** Ticks from the first bar line, as `onset_ticks` of musicvae/groove/groove.py: each hit within its own step. */
function onsetTick(step, offset, ticksPerStep) {
  const first = Math.ceil((step - 0.5) * ticksPerStep), last = Math.ceil((step + 0.5) * ticksPerStep) - 1;
  return Math.min(Math.max(roundToEven((step + offset) * ticksPerStep), first), last);
}

/** As numpy rounds: what lies in the middle goes to the even neighbour. */
function roundToEven(value) {
  const below = Math.floor(value), rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

/** The bytes of an element that holds base64; the element goes, as its text is megabytes. */
function embeddedBytes(id) {
  const element = document.getElementById(id);
  const text = atob(element.textContent);
  element.remove();
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < bytes.length; place++) bytes[place] = text.charCodeAt(place);
  return bytes.buffer;
}

/** The hits of many windows, packed. */
class HitTable {
  /** `kept` has a bit for each hit; without it no hit is kept. */
  constructor({ numSteps, ticksPerStep }, tokens, velocity, offset, kept = new Uint8Array()) {
    Object.assign(this, { numSteps, ticksPerStep, tokens, velocity, offset, kept });
    this.count = tokens.length / numSteps;
    this.firstHit = this.countHits();
    if (this.firstHit[this.count] !== velocity.length) throw new Error("the page is damaged: hits are missing");
  }

  /** Where each window's hits begin in `velocity` and `offset`, and behind the last window where they end. */
  countHits() {
    const first = new Uint32Array(this.count + 1);
    for (let row = 0, place = 0; row < this.count; row++) {
      let hits = first[row];
      for (const end = place + this.numSteps; place < end; place++)
        for (let token = this.tokens[place]; token; token &= token - 1) hits++;
      first[row + 1] = hits;
    }
    return first;
  }

  /**
   * The hits of a window, by step, then drum; velocity is MIDI's 1 to 127, offset in steps, early is negative. What is
   * drawn, heard and saved has its time from here: to a tick, as in the MIDI files.
   */
  hits(row) {
    const hits = [];
    let place = this.firstHit[row];
    for (let step = 0; step < this.numSteps; step++)
      for (let token = this.tokens[row * this.numSteps + step], drum = 0; token; token >>= 1, drum++)
        if (token & 1) {
          const kept = (this.kept[place >> 3] & (1 << (place & 7))) !== 0, velocity = this.velocity[place];
          hits.push({ step, drum, velocity, kept, ...onset(step, this.offset[place], this.ticksPerStep) });
          place++;
        }
    return hits;
  }
}

/** The tick of a hit from the first bar line, and the steps that it is late by, from its stored offset. */
function onset(step, stored, ticksPerStep) {
  const tick = onsetTick(step, stored / OFFSET_UNITS, ticksPerStep);
  return { tick, offset: tick / ticksPerStep - step };
}

/**
 * All grooves.
 *   grid       {bars, beatsPerBar, stepsPerBeat}
 *   drums      one {label, pitch, voice} a drum class, in bit order
 *   leadIn     whether MIDI files of the grooves begin with a silent bar
 *   columns    one {name, label, about, kind: "number" | "flag" | "name", decimals, names} a figure; column 0 is the tempo;
 *              that of a name is its place in names
 *   sortedBy   name of the figure of which the largest come first; null: as sampled
 *   sources    names of the windows that grooves were made from
 *   writtenAs  what velocity and timing of the grooves are called
 *   pad        [rows, columns] of an interpolation; null where grooves are none
 *   places     which point of it each groove is, row by row; empty without a pad
 *   mean       another one: [velocities, offsets] by step of the bar and drum; null where there is none
 */
class Grooves {
  static embedded() {
    const about = JSON.parse(document.getElementById("about").textContent);
    const hits = (tokens, velocity, offset) => [
      new Int16Array(embeddedBytes(tokens)), new Uint8Array(embeddedBytes(velocity)), new Int16Array(embeddedBytes(offset)),
    ];
    return new Grooves(
      about,
      [...hits("tokens", "velocity", "offset"), new Uint8Array(embeddedBytes("kept"))],
      hits("sourceTokens", "sourceVelocity", "sourceOffset"),
      new Int16Array(embeddedBytes("sources")),
      new Float64Array(embeddedBytes("figures")),
    );
  }

  constructor(about, hits, sourceHits, sourceRows, figures) {
    Object.assign(this, about, { sourceRows, figures });
    const { beatsPerBar, stepsPerBeat, bars } = this.grid;
    this.count = this.ids.length;
    /** The column that sorts at first, or BY_PLACE. */
    this.first = this.columns.findIndex(({ name }) => name === this.sortedBy);
    this.stepsPerBar = beatsPerBar * stepsPerBeat;
    this.numSteps = bars * this.stepsPerBar;
    /** What a picture of a groove shows: all steps. */
    this.whole = { first: 0, steps: this.numSteps };
    this.ticksPerStep = this.ticksPerQuarter / stepsPerBeat;
    this.written = new HitTable(this, ...hits);
    this.ofSources = new HitTable(this, ...sourceHits);
    /** Sources of each groove: the ends of an interpolation, the window that it is like, or none. */
    this.sourcesEach = sourceRows.length / this.count;
    this.tokens = this.written.tokens;
  }

  hits(item) {
    return this.written.hits(item);
  }

  /** The windows that a groove was made from, as rows of `sources`. */
  sourcesOf(item) {
    return [...this.sourceRows.subarray(item * this.sourcesEach, (item + 1) * this.sourcesEach)];
  }

  /** Whether a drum is hit in a groove. */
  hasDrum(item, drum) {
    this.anyStep ??= Int16Array.from({ length: this.count }, (_, number) =>
      this.tokens.subarray(number * this.numSteps, (number + 1) * this.numSteps).reduce((all, token) => all | token, 0));
    return (this.anyStep[item] & (1 << drum)) !== 0;
  }

  /** How many hits of each groove and of a given one are not hits of both. */
  distances(item) {
    const steps = this.numSteps, from = item * steps;
    return Uint16Array.from({ length: this.count }, (_, other) => {
      let hits = 0;
      for (let step = 0, place = other * steps; step < steps; step++, place++)
        for (let apart = this.tokens[place] ^ this.tokens[from + step]; apart; apart &= apart - 1) hits++;
      return hits;
    });
  }

  /** Quarter notes a minute. */
  tempo(item) {
    return this.figures[item];
  }

  /** A figure; NaN where the groove has none. A flag is 1 or 0. */
  figure(column, item) {
    return this.figures[column * this.count + item];
  }

  /** All values of a figure, in the order of the grooves. */
  column(column) {
    return this.figures.subarray(column * this.count, (column + 1) * this.count);
  }

  /** A figure for people. */
  figureText(column, item) {
    const value = this.figure(column, item);
    if (Number.isNaN(value)) return "–";
    const { kind, decimals, names } = this.columns[column];
    if (kind === "name") return names[value];
    return kind === "flag" ? (value ? "yes" : "no") : value.toFixed(decimals);
  }

  /** The names of the flags that a groove carries. */
  flags(item) {
    return this.columns.filter(({ kind }, column) => kind === "flag" && this.figure(column, item) === 1)
      .map(({ label }) => label);
  }
}
