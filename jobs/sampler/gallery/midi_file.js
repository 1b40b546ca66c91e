"use strict";
// A groove as a standard MIDI file: the pitches, ticks and velocities of musicvae/midi/writer.py, and as long as the loop.

/** The channel that General MIDI keeps for drums, counted from 0. */
const DRUM_CHANNEL = 9;
/** Written length of a hit: a 32nd note. */
const HIT_QUARTERS = 1 / 8;

/** The bytes of a file of one track, for a groove of a page. */
function midiFile(grooves, item) {
  const { grid, ticksPerQuarter } = grooves;
  const loop = Math.round((grooves.numSteps * ticksPerQuarter) / grid.stepsPerBeat);
  const microseconds = Math.round(60e6 / grooves.tempo(item));
  const events = [
    { tick: 0, bytes: meta(0x03, [...new TextEncoder().encode(grooves.ids[item])]) },
    { tick: 0, bytes: meta(0x51, bigEndian(microseconds, 3)) },
    // Beats a bar, a quarter (2 to the power of 2) a beat, MIDI clocks a click, 32nd notes a quarter.
    { tick: 0, bytes: meta(0x58, [grid.beatsPerBar, 2, 24, 8]) },
    ...noteEvents(grooves, item, loop),
    { tick: loop, bytes: meta(0x2f, []) },
  ];
  const track = [];
  let before = 0;
  for (const { tick, bytes } of events) {
    track.push(...variableLength(tick - before), ...bytes);
    before = tick;
  }
  const header = [...bigEndian(0, 2), ...bigEndian(1, 2), ...bigEndian(ticksPerQuarter, 2)];
  return Uint8Array.from([...chunk("MThd", header), ...chunk("MTrk", track)]);
}

/** The hits of a groove as notes: one {tick, pitch, velocity} each, in the order of `Grooves.hits`. */
function midiNotes(grooves, item) {
  const ticksPerStep = grooves.ticksPerQuarter / grooves.grid.stepsPerBeat;
  return grooves.hits(item).map(({ step, drum, velocity, offset }) => {
    // Within its own step, so that reading the file gives the same hits; nothing lies before the first tick.
    const first = Math.max(0, Math.ceil((step - 0.5) * ticksPerStep));
    const last = Math.ceil((step + 0.5) * ticksPerStep) - 1;
    const tick = Math.min(Math.max(roundToEven((step + offset) * ticksPerStep), first), last);
    return { tick, pitch: grooves.drums[drum].pitch, velocity };
  });
}

/** Note-ons and note-offs in order of time; a note ends before its pitch is struck again, and with the loop. */
function noteEvents(grooves, item, loop) {
  const length = Math.round(grooves.ticksPerQuarter * HIT_QUARTERS), again = new Map(), events = [];
  for (const { tick, pitch, velocity } of midiNotes(grooves, item).reverse()) {
    const end = Math.min(tick + length, again.get(pitch) ?? loop);
    again.set(pitch, tick);
    events.push({ tick, on: 1, pitch, bytes: [0x90 | DRUM_CHANNEL, pitch, velocity] });
    events.push({ tick: end, on: 0, pitch, bytes: [0x80 | DRUM_CHANNEL, pitch, 0] });
  }
  return events.sort((one, other) => one.tick - other.tick || one.on - other.on || one.pitch - other.pitch);
}

/** As numpy rounds: what lies in the middle goes to the even neighbour. */
function roundToEven(value) {
  const below = Math.floor(value), rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

function meta(kind, data) {
  return [0xff, kind, ...variableLength(data.length), ...data];
}

function chunk(name, data) {
  return [...new TextEncoder().encode(name), ...bigEndian(data.length, 4), ...data];
}

function bigEndian(value, size) {
  return Array.from({ length: size }, (_, byte) => (value >>> (8 * (size - 1 - byte))) & 0xff);
}

/** Seven bits a byte, all but the last marked. */
function variableLength(value) {
  const bytes = [value & 0x7f];
  for (value >>= 7; value; value >>= 7) bytes.unshift((value & 0x7f) | 0x80);
  return bytes;
}
