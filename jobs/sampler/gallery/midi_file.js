"use strict";
// A groove as a standard MIDI file: the pitches, ticks and velocities of musicvae/midi/writer.py, and as long as the loop.
// A hit before the first beat is at the end of it, or in the silent bar of a lead-in.

/** The channel that General MIDI keeps for drums, counted from 0. */
const DRUM_CHANNEL = 9;
/** Written length of a hit: a 32nd note. */
const HIT_QUARTERS = 1 / 8;
/** Tells readers of a file that its early hits are at its end, as LOOP_MARK of musicvae/midi/settings.py. */
const LOOP_MARK = "loop: early hits are at the end";

/** The bytes of a file of one track, for a groove of a page. */
function midiFile(grooves, item) {
  const { grid, ticksPerQuarter } = grooves;
  const bars = grid.bars + (grooves.leadIn ? 1 : 0), loop = bars * grid.beatsPerBar * ticksPerQuarter;
  const wraps = !grooves.leadIn && grooves.hits(item).some(({ tick }) => tick < 0);
  const microseconds = Math.round(60e6 / grooves.tempo(item));
  const events = [
    { tick: 0, bytes: meta(0x03, [...new TextEncoder().encode(grooves.ids[item])]) },
    ...(wraps ? [{ tick: 0, bytes: meta(0x01, [...new TextEncoder().encode(LOOP_MARK)]) }] : []),
    { tick: 0, bytes: meta(0x51, bigEndian(microseconds, 3)) },
    // Beats a bar, a quarter (2 to the power of 2) a beat, MIDI clocks a click, 32nd notes a quarter.
    { tick: 0, bytes: meta(0x58, [grid.beatsPerBar, 2, 24, 8]) },
    ...noteEvents(midiNotes(grooves, item, loop), grooves.ticksPerQuarter, loop),
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

/** The hits of a groove as notes: one {tick, pitch, velocity} each, in order of time. */
function midiNotes(grooves, item, loop) {
  const bar = grooves.leadIn ? grooves.grid.beatsPerBar * grooves.ticksPerQuarter : 0;
  const notes = grooves.hits(item).map(({ drum, velocity, tick }) => {
    const later = tick + bar;
    return { tick: later < 0 ? later + loop : later, pitch: grooves.drums[drum].pitch, velocity };
  });
  return notes.sort((one, other) => one.tick - other.tick);
}

/** Note-ons and note-offs in order of time; a note ends before its pitch is struck again, and with the loop. */
function noteEvents(notes, ticksPerQuarter, loop) {
  const length = Math.max(1, roundToEven(ticksPerQuarter * HIT_QUARTERS)), again = new Map(), events = [];
  for (const { tick, pitch, velocity } of notes.reverse()) {
    const end = Math.min(tick + length, again.get(pitch) ?? loop);
    again.set(pitch, tick);
    events.push({ tick, on: 1, pitch, bytes: [0x90 | DRUM_CHANNEL, pitch, velocity] });
    events.push({ tick: end, on: 0, pitch, bytes: [0x80 | DRUM_CHANNEL, pitch, 0] });
  }
  return events.sort((one, other) => one.tick - other.tick || one.on - other.on || one.pitch - other.pitch);
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
