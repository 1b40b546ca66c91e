"use strict";
// What is heard of a groove and saved of it: which hits, how they are played, and how fast.

/** What most sequencers give a note that nobody played. */
const PLAIN_VELOCITY = 100;
/** Quarter notes a minute that MIDI files can have. */
const SLOWEST = 4;

/** Sources of a square, from above left to below right. */
const CORNERS = ["A", "B", "C", "D"];

class Hearing {
  constructor(grooves, edits) {
    Object.assign(this, { grooves, edits });
    /** What a visitor chooses from: {name, about}, with `source` the number of a source, or with `play`, a function. */
    this.choices = [...sourceChoices(grooves), ...feelChoices(grooves)];
    this.written = this.choices.find(({ name }) => name === grooves.writtenAs);
    this.choice = this.feel = this.written;
    /** Times the groove's own tempo; */
    this.rate = 1;
    /** or the tempo of all grooves. */
    this.bpm = null;
  }

  choose(name) {
    this.choice = this.choices.find((choice) => choice.name === name);
    if (this.choice.source === undefined) this.feel = this.choice;
  }

  /** From the groove to its source, to a second source, and back to the groove. */
  toggleSource() {
    const next = (this.choice.source ?? -1) + 1;
    this.choice = this.choices.find(({ source }) => source === next) ?? this.feel;
  }

  /** Back to the groove. */
  leaveSource() {
    this.choice = this.feel;
  }

  /** Whether the groove itself is heard, though another way of playing it may be chosen. */
  isOfGroove(item) {
    return !(this.sourceRow(item) < this.grooves.ofSources.count);
  }

  /** The row of the chosen source; undefined: no source is chosen. */
  sourceRow(item) {
    return this.grooves.sourcesOf(item)[this.choice.source];
  }

  /** As `Grooves.hits`. A source of which the page has only the name is not heard. */
  hits(item) {
    if (!this.isOfGroove(item)) return this.grooves.ofSources.hits(this.sourceRow(item));
    const hits = this.grooves.hits(item), { play } = this.choice;
    return this.edits.applied(item, play ? hits.map((hit) => ({ ...hit, ...play(hit) })) : hits);
  }

  /** Quarter notes a minute. */
  tempo(item) {
    return this.bpm ?? Math.max(SLOWEST, this.grooves.tempo(item) * this.rate);
  }

  /** All of it, under the name that its file has. */
  of(item) {
    const edited = this.isOfGroove(item) && this.edits.has(item) && "edited";
    const parts = [this.grooves.ids[item], this.choice !== this.written && this.choice.name, edited];
    return { name: parts.filter(Boolean).join("-"), hits: this.hits(item), tempo: this.tempo(item) };
  }
}

function sourceChoices({ sourcesEach }) {
  const names = { 1: ["source"], 2: ["start", "end"], 4: CORNERS }[sourcesEach] ?? [];
  return names.map((name, source) => ({ name, source, about: "what the groove was made from" }));
}

function feelChoices({ writtenAs, mean, drums, stepsPerBar, ticksPerStep }) {
  const ofMean = ({ step, drum, kept }) => {
    const place = (step % stepsPerBar) * drums.length + drum;
    return kept ? {} : { velocity: mean[0][place], ...onset(step, mean[1][place], ticksPerStep) };
  };
  const ofPlain = ({ step }) => ({ velocity: PLAIN_VELOCITY, ...onset(step, 0, ticksPerStep) });
  const choices = [
    { name: writtenAs, about: "velocity and timing as in the MIDI files" },
    ...(mean ? [{ name: "mean", about: "mean velocity and timing of the training data", play: ofMean }] : []),
    { name: "plain", about: "equal velocity, exactly on the grid", play: ofPlain },
  ];
  return choices.filter(({ name, play }) => !play || name !== writtenAs);
}
