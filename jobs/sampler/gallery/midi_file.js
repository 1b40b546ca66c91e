"use strict";
// A groove as a standard MIDI file of format 1, byte for byte that of musicvae/midi/writer.py, and as long as the loop: a
// track with name, tempo and metre, and a track with the hits. A hit before the first beat is at the end of the loop, or
// in the silent bar of a lead-in.

/** The channel that General MIDI keeps for drums, counted from 0. */
const DRUM_CHANNEL = 9;
/** Written length of a hit: a 32nd note. */
const HIT_QUARTERS = 1 / 8;
/** What the MIDI standard recommends where a release has no velocity. */
const OFF_VELOCITY = 64;
/** Tells readers of a file that its early hits are at its end, as LOOP_MARK of musicvae/midi/settings.py. */
const LOOP_MARK = "loop: early hits are at the end";

/** The bytes of a file with hits of `Grooves.hits`, at a tempo in quarter notes a minute. */
function midiFile(grooves, name, hits, tempo) {
  const { grid, ticksPerQuarter, leadIn } = grooves;
  const bars = grid.bars + (leadIn ? 1 : 0), loop = bars * grid.beatsPerBar * ticksPerQuarter;
  const wraps = !leadIn && hits.some(({ tick }) => tick < 0);
  const about = [
    meta(0x03, ascii(name)),
    ...(wraps ? [meta(0x01, ascii(LOOP_MARK))] : []),
    meta(0x51, bigEndian(roundToEven(60e6 / tempo), 3)),
    // Beats a bar, a quarter (2 to the power of 2) a beat, MIDI clocks a click, 32nd notes a quarter.
    meta(0x58, [grid.beatsPerBar, 2, 24, 8]),
  ];
  const notes = noteEvents(midiNotes(grooves, hits, loop), ticksPerQuarter, loop);
  const header = [...bigEndian(1, 2), ...bigEndian(2, 2), ...bigEndian(ticksPerQuarter, 2)];
  return Uint8Array.from([
    ...chunk("MThd", header),
    ...track(about.map((bytes) => ({ tick: 0, bytes })), loop),
    ...track([{ tick: 0, bytes: meta(0x03, ascii("drums")) }, ...notes], loop),
  ]);
}

/** Events in order of time as a track that ends at a tick. */
function track(events, end) {
  const bytes = [];
  let before = 0;
  for (const event of [...events, { tick: end, bytes: meta(0x2f, []) }]) {
    bytes.push(...variableLength(event.tick - before), ...event.bytes);
    before = event.tick;
  }
  return chunk("MTrk", bytes);
}

/** Hits as notes: one {tick, pitch, velocity} each, in order of time. */
function midiNotes({ grid, drums, ticksPerQuarter, leadIn }, hits, loop) {
  const bar = leadIn ? grid.beatsPerBar * ticksPerQuarter : 0;
  const notes = hits.map(({ drum, velocity, tick }) => {
    const later = tick + bar;
    return { tick: later < 0 ? later + loop : later, pitch: drums[drum].pitch, velocity };
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
    events.push({ tick: end, on: 0, pitch, bytes: [0x80 | DRUM_CHANNEL, pitch, OFF_VELOCITY] });
  }
  return events.sort((one, other) => one.tick - other.tick || one.on - other.on || one.pitch - other.pitch);
}

function meta(kind, data) {
  return [0xff, kind, ...variableLength(data.length), ...data];
}

function chunk(name, data) {
  return [...ascii(name), ...bigEndian(data.length, 4), ...data];
}

function ascii(text) {
  return [...new TextEncoder().encode(text)];
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
