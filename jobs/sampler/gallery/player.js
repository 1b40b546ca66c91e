"use strict";
// Plays one groove in a loop, each hit at its own time and velocity, at the tempo of the moment.

/** So far ahead sounds are given to the audio clock, which keeps time whatever the page does, */
const AHEAD_SECONDS = 0.15;
/** and in a hidden page, whose timers run once a second. */
const AHEAD_HIDDEN_SECONDS = 1.5;
const TIMER_MILLISECONDS = 25;
/** So late a hit is still played. */
const LATEST_SECONDS = 0.03;
/** Before the first bar line: an onset may be that early. */
const LEAD_IN_STEPS = 0.5;

class Player {
  /** `changed` is called when a groove starts or stops. */
  constructor(grooves, hearing, changed) {
    Object.assign(this, { grooves, hearing, changed });
    /** The groove that plays; null: silence. */
    this.item = null;
    /** What plays from the next bar line on; null: the same. */
    this.next = null;
    this.volume = 0.8;
    this.context = null;
    // The timer of a page that is being hidden is late at once.
    document.addEventListener("visibilitychange", () => this.item !== null && this.giveHits());
  }

  play(item) {
    this.stop();
    // Browsers give sound only to pages that somebody has touched, so it is asked for as late as this.
    this.context ??= new AudioContext({ latencyHint: "interactive" });
    this.kit ??= new Kit(this.context);
    this.loudspeaker ??= ceiling(this.context);
    this.context.resume();
    this.item = item;
    this.output = new GainNode(this.context, { gain: this.volume });
    this.output.connect(this.loudspeaker);
    this.hits = this.hearing.hits(item);
    this.anchor = { time: this.context.currentTime + 0.05, step: -LEAD_IN_STEPS };
    /** Hits before this step have been given to the audio clock; steps count on from loop to loop. */
    this.given = -LEAD_IN_STEPS;
    this.timer = setInterval(() => this.giveHits(), TIMER_MILLISECONDS);
    this.giveHits();
    this.changed();
  }

  stop() {
    if (this.item === null) return;
    clearInterval(this.timer);
    const { output, context } = this;
    output.gain.setTargetAtTime(0, context.currentTime, FADE_SECONDS);
    setTimeout(() => output.disconnect(), 200);
    this.kit.ringing = null;
    this.item = this.next = null;
    this.changed();
  }

  /** Sound that a browser has held back begins. */
  wake() {
    this.context?.resume();
  }

  /** Plays a groove from the next bar line on, where the one that plays has that line. */
  playNext(item) {
    if (this.item === null || this.context.state !== "running") this.play(item);
    else this.next = item === this.item && this.hearing.isOfGroove(item) ? null : item;
  }

  /** Makes a change to `hearing`; the loop continues where it is. */
  change(make) {
    const time = this.context?.currentTime, step = this.item === null ? 0 : this.stepAt(time);
    make();
    if (this.item === null) return;
    this.anchor = { time, step };
    this.hits = this.hearing.hits(this.item);
  }

  setVolume(volume) {
    this.volume = volume;
    if (this.item !== null) this.output.gain.setTargetAtTime(volume, this.context.currentTime, FADE_SECONDS);
  }

  get stepSeconds() {
    return 60 / this.hearing.tempo(this.item) / this.grooves.grid.stepsPerBeat;
  }

  stepAt(time) {
    return this.anchor.step + (time - this.anchor.time) / this.stepSeconds;
  }

  timeAt(step) {
    return this.anchor.time + (step - this.anchor.step) * this.stepSeconds;
  }

  /** Where the loop is for the ear, in steps from its start. */
  position() {
    const heard = this.context.currentTime - (this.context.outputLatency || 0);
    const steps = this.grooves.numSteps;
    return ((this.stepAt(heard) % steps) + steps) % steps;
  }

  giveHits() {
    const ahead = document.hidden ? AHEAD_HIDDEN_SECONDS : AHEAD_SECONDS;
    const now = this.context.currentTime, { stepsPerBar } = this.grooves;
    const line = Math.ceil((this.given + LEAD_IN_STEPS) / stepsPerBar) * stepsPerBar;
    if (this.next !== null && this.stepAt(now + ahead) >= line - LEAD_IN_STEPS) {
      // Hits of either groove lie within half a step of their own: none is lost or comes twice.
      this.giveHitsUntil(line - LEAD_IN_STEPS, now);
      this.anchor = { time: this.timeAt(line), step: line };
      this.hearing.leaveSource();
      this.item = this.next;
      this.next = null;
      this.hits = this.hearing.hits(this.item);
      this.changed();
    }
    this.giveHitsUntil(this.stepAt(now + ahead), now);
  }

  giveHitsUntil(to, now) {
    const from = this.given;
    for (const { place, drum, velocity } of this.hitsBetween(from, to)) {
      const time = this.timeAt(place);
      // After a halt of the page, what is long past would sound all at once.
      if (time < now - LATEST_SECONDS) continue;
      this.kit.strike(this.output, this.grooves.drums[drum].voice, velocity, Math.max(time, now));
    }
    this.given = Math.max(from, to);
  }

  /** Hits in order of time; an early hit on the first step comes at the end of the loop before. */
  hitsBetween(from, to) {
    const steps = this.grooves.numSteps, found = [];
    for (let loop = Math.floor(from / steps); loop <= Math.floor((to + LEAD_IN_STEPS) / steps); loop++)
      for (const { step, offset, drum, velocity } of this.hits) {
        const place = loop * steps + step + offset;
        if (place >= from && place < to) found.push({ place, drum, velocity });
      }
    return found.sort((one, other) => one.place - other.place);
  }
}

/** The way to the loudspeaker: sound passes as it is up to a level; what is louder is bent instead of clipped. */
function ceiling(context) {
  const level = 0.8, curve = new Float32Array(4097);
  // A curve covers -1..1, so what goes in is halved and may be as loud as 2.
  for (let place = 0; place < curve.length; place++) {
    const wanted = (place / 2048 - 1) * 2, size = Math.abs(wanted);
    const bent = size < level ? size : level + (1 - level) * Math.tanh((size - level) / (1 - level));
    curve[place] = Math.sign(wanted) * bent;
  }
  const half = new GainNode(context, { gain: 0.5 });
  half.connect(new WaveShaperNode(context, { curve })).connect(context.destination);
  return half;
}
