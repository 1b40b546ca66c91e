"use strict";
// A small drum kit, synthesised from sines and filtered noise. Its sounds are those of musicvae/groove/sound.py, computed
// anew so that the page holds no recording; a test compares the two. A soft hit is duller, not only quieter.

/** Of a sound at full velocity, so that the usual few at once do not clip. */
const MIX = 0.6;
/** Amplitude is velocity to this power: equal steps of velocity sound about equally far apart. */
const LOUDNESS_EXPONENT = 1.6;
/** In which a sound that is cut off dies away: a shorter one would click. */
const FADE_SECONDS = 0.01;
/** One pair of cymbals: a hit of either ends what rings of the open one. */
const CHOKES = new Set(["closed_hihat", "open_hihat"]);
/** Sounds of a voice, from the softest hit to the hardest. */
const HARDNESSES = 8;

/** What each voice is made of, struck softly (0) to hard (1); times in seconds, pitches in hertz. */
const RECIPES = {
  kick: (make, hard) => make.sum(
    [1, make.skin({ seconds: 0.32, from: 110 + 60 * hard, to: 48, bend: 0.035, decay: 0.1 })],
    [0.03 + 0.22 * hard ** 2, make.click()]),
  snare: (make, hard) => make.sum(
    [0.6, make.skin({ seconds: 0.25, from: 210 + 30 * hard, to: 185, bend: 0.02, decay: 0.05 })],
    [0.4 + 0.4 * hard,
      make.noise({ seconds: 0.25, low: 900, high: 3500 + 5500 * hard, decay: 0.04 + 0.025 * hard })]),
  closed_hihat: (make, hard) => make.noise(
    { seconds: 0.12, low: 5500 + 1000 * hard, high: 7500 + 3300 * hard, decay: 0.014 + 0.008 * hard }),
  open_hihat: (make, hard) => make.noise(
    { seconds: 0.7, low: 5000 + 1000 * hard, high: 7500 + 3300 * hard, decay: 0.12 + 0.07 * hard }),
  low_tom: (make, hard) => make.sum(
    [1, make.skin({ seconds: 0.5, from: 90 + 45 * hard, to: 82, bend: 0.06, decay: 0.15 })],
    [0.25 * hard ** 2, make.click()]),
  mid_tom: (make, hard) => make.sum(
    [1, make.skin({ seconds: 0.45, from: 125 + 65 * hard, to: 118, bend: 0.05, decay: 0.13 })],
    [0.25 * hard ** 2, make.click()]),
  high_tom: (make, hard) => make.sum(
    [1, make.skin({ seconds: 0.4, from: 172 + 85 * hard, to: 165, bend: 0.04, decay: 0.11 })],
    [0.25 * hard ** 2, make.click()]),
  crash: (make, hard) => make.noise(
    { seconds: 1.8, low: 2500, high: 5500 + 5300 * hard, decay: 0.3 + 0.2 * hard }),
  ride: (make, hard) => make.sum(
    [0.15 + 0.2 * hard, make.metal({ seconds: 1, partials: [3170, 4410, 5230, 6870, 8110], decay: 0.28 })],
    [0.5, make.noise({ seconds: 1, low: 5000, high: 7000 + 3000 * hard, decay: 0.16 })]),
};

/** The kit in an audio context, on line or off. */
class Kit {
  constructor(context) {
    this.context = context;
    /** Made when they are first struck: all at once would halt the page. */
    this.sounds = new Map();
    /** The open hi-hat that may still ring. */
    this.ringing = null;
  }

  /** The sound of a voice at a velocity of MIDI's, at full loudness. */
  sound(voice, velocity) {
    const step = Math.round((velocity / 127) * (HARDNESSES - 1)), name = `${voice} ${step}`;
    if (!this.sounds.has(name)) {
      const bench = new Workbench(this.context.sampleRate, Object.keys(RECIPES).indexOf(voice) + 1);
      const samples = atPeak(RECIPES[voice](bench, step / (HARDNESSES - 1)));
      const buffer = this.context.createBuffer(1, samples.length, this.context.sampleRate);
      buffer.copyToChannel(samples, 0);
      this.sounds.set(name, buffer);
    }
    return this.sounds.get(name);
  }

  /** Plays a sound at a time of the context; strikes come in order of time. Velocity is MIDI's. */
  strike(destination, voice, velocity, when) {
    const gain = new GainNode(this.context, { gain: MIX * (velocity / 127) ** LOUDNESS_EXPONENT });
    const source = new AudioBufferSourceNode(this.context, { buffer: this.sound(voice, velocity) });
    source.connect(gain).connect(destination);
    source.start(when);
    source.onended = () => gain.disconnect();
    if (CHOKES.has(voice)) this.choke(when);
    if (voice === "open_hihat") this.ringing = { source, gain };
  }

  choke(when) {
    if (!this.ringing) return;
    const { source, gain } = this.ringing;
    gain.gain.setValueAtTime(gain.gain.value, when);
    gain.gain.linearRampToValueAtTime(0, when + FADE_SECONDS);
    source.stop(when + FADE_SECONDS);
    this.ringing = null;
  }
}

/** Makes the parts of a sound at a sample rate; each seed has its own noise, always the same. */
class Workbench {
  constructor(rate, seed) {
    this.rate = rate;
    this.random = randomNumbers(seed);
  }

  samples(seconds, value) {
    return Float32Array.from({ length: Math.round(seconds * this.rate) }, (_, place) => value(place / this.rate));
  }

  sum(...parts) {
    const mixed = new Float32Array(Math.max(...parts.map(([, samples]) => samples.length)));
    for (const [gain, samples] of parts) samples.forEach((sample, place) => (mixed[place] += gain * sample));
    return mixed;
  }

  /** A sine whose pitch falls within `bend` and that dies away within `decay`. */
  skin({ seconds, from, to, bend, decay }) {
    let phase = 0;
    return this.samples(seconds, (time) => {
      phase += (2 * Math.PI * (to + (from - to) * Math.exp(-time / bend))) / this.rate;
      return Math.sin(phase) * Math.exp(-time / decay);
    });
  }

  /** Sines without a common fundamental. */
  metal({ seconds, partials, decay }) {
    return this.samples(seconds, (time) => {
      const sines = partials.reduce((sum, hertz) => sum + Math.sin(2 * Math.PI * hertz * time), 0);
      return (sines / partials.length) * Math.exp(-time / decay);
    });
  }

  /** Noise between two frequencies that dies away. */
  noise({ seconds, low, high, decay }) {
    const settle = Math.round(0.02 * this.rate); // the filters start from silence
    const length = Math.round(seconds * this.rate);
    const nearlyNormal = () => this.random() + this.random() + this.random() - 1.5;
    const raw = Float32Array.from({ length: length + settle }, nearlyNormal);
    // Twice a Butterworth filter of fourth order falls as steeply as the band of sound.py.
    for (const kind of ["highpass", "lowpass", "highpass", "lowpass"])
      for (const q of [0.5412, 1.3066]) biquad(raw, kind, kind === "highpass" ? low : high, q, this.rate);
    return atPeak(raw.subarray(settle)).map((sample, place) => sample * Math.exp(-place / this.rate / decay));
  }

  /** The beater or stick. */
  click() {
    return this.noise({ seconds: 0.01, low: 1500, high: 6000, decay: 0.002 });
  }
}

/** Filters in place (coefficients: Bristow-Johnson's Audio EQ Cookbook). */
function biquad(samples, kind, hertz, q, rate) {
  const angle = (2 * Math.PI * hertz) / rate, alpha = Math.sin(angle) / (2 * q), cosine = Math.cos(angle);
  const scale = 1 / (1 + alpha), sign = kind === "lowpass" ? 1 : -1;
  const outer = ((1 - sign * cosine) / 2) * scale, inner = sign * 2 * outer;
  const a1 = -2 * cosine * scale, a2 = (1 - alpha) * scale;
  let x1 = 0, x2 = 0, y1 = 0, y2 = 0;
  for (let place = 0; place < samples.length; place++) {
    const x = samples[place], y = outer * (x + x2) + inner * x1 - a1 * y1 - a2 * y2;
    [x2, x1, y2, y1] = [x1, x, y1, y];
    samples[place] = y;
  }
}

/** The samples with a largest amplitude of 1. */
function atPeak(samples) {
  const peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 1e-9);
  return samples.map((sample) => sample / peak);
}

/** Numbers in 0..1 that look random (the generator mulberry32). */
function randomNumbers(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
