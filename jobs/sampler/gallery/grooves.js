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

/**
 * All grooves.
 *   grid     {bars, beatsPerBar, stepsPerBeat}
 *   drums    one {label, pitch, voice} a drum class, in bit order
 *   leadIn   whether MIDI files of the grooves begin with a silent bar
 *   columns  one {name, label, about, kind: "number" | "flag", decimals} a figure; column 0 is the tempo
 */
class Grooves {
  static embedded() {
    const about = JSON.parse(document.getElementById("about").textContent);
    return new Grooves(
      about,
      new Int16Array(embeddedBytes("tokens")),
      new Uint8Array(embeddedBytes("velocity")),
      new Int16Array(embeddedBytes("offset")),
      new Float64Array(embeddedBytes("figures")),
    );
  }

  constructor(about, tokens, velocity, offset, figures) {
    Object.assign(this, { tokens, velocity, offset, figures });
    const { ids, grid, drums, columns, ticksPerQuarter, leadIn } = about;
    Object.assign(this, { ids, grid, drums, columns, ticksPerQuarter, leadIn });
    this.count = ids.length;
    this.stepsPerBar = grid.beatsPerBar * grid.stepsPerBeat;
    this.numSteps = grid.bars * this.stepsPerBar;
    this.firstHit = this.countHits();
    if (this.firstHit[this.count] !== velocity.length) throw new Error("the page is damaged: hits are missing");
  }

  /** Where each groove's hits begin in `velocity` and `offset`, and behind the last groove where they end. */
  countHits() {
    const first = new Uint32Array(this.count + 1);
    for (let item = 0, place = 0; item < this.count; item++) {
      let hits = first[item];
      for (const end = place + this.numSteps; place < end; place++)
        for (let token = this.tokens[place]; token; token &= token - 1) hits++;
      first[item + 1] = hits;
    }
    return first;
  }

  /**
   * The hits of a groove, by step, then drum; velocity is MIDI's 1 to 127, offset in steps, early is negative. What is
   * drawn, heard and saved has its time from here: to a tick, as in the MIDI files.
   */
  hits(item) {
    const hits = [], ticksPerStep = this.ticksPerQuarter / this.grid.stepsPerBeat;
    let place = this.firstHit[item];
    for (let step = 0; step < this.numSteps; step++)
      for (let token = this.tokens[item * this.numSteps + step], drum = 0; token; token >>= 1, drum++)
        if (token & 1) {
          const tick = onsetTick(step, this.offset[place] / OFFSET_UNITS, ticksPerStep);
          hits.push({ step, drum, velocity: this.velocity[place], tick, offset: tick / ticksPerStep - step });
          place++;
        }
    return hits;
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
    const { kind, decimals } = this.columns[column];
    return kind === "flag" ? (value ? "yes" : "no") : value.toFixed(decimals);
  }

  /** The names of the flags that a groove carries. */
  flags(item) {
    return this.columns.filter(({ kind }, column) => kind === "flag" && this.figure(column, item) === 1)
      .map(({ label }) => label);
  }
}
