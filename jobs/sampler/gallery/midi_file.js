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

/**
 * The bytes of a file with one groove, or several in a row, each {name, hits of `Grooves.hits`, tempo in quarter notes a
 * minute}. Of several, each has a marker with its name; what comes before its first beat is at the end of the one before.
 */
function midiFile(grooves, name, parts) {
  const { grid, ticksPerQuarter, leadIn } = grooves, bar = grid.beatsPerBar * ticksPerQuarter;
  const start = leadIn ? bar : 0, length = grid.bars * bar, end = start + parts.length * length;
  const wraps = !leadIn && parts[0].hits.some(({ tick }) => tick < 0);
  const about = [
    meta(0x03, ascii(name)),
    ...(wraps ? [meta(0x01, ascii(LOOP_MARK))] : []),
    meta(0x51, tempoBytes(parts[0].tempo)),
    // Beats a bar, a quarter (2 to the power of 2) a beat, MIDI clocks a click, 32nd notes a quarter.
    meta(0x58, [grid.beatsPerBar, 2, 24, 8]),
  ].map((bytes) => ({ tick: 0, bytes }));
  const changes = parts.length === 1 ? [] : parts.flatMap((part, number) => [
    { tick: start + number * length, bytes: meta(0x06, ascii(part.name)) },
    ...(number ? [{ tick: start + number * length, bytes: meta(0x51, tempoBytes(part.tempo)) }] : []),
  ]);
  const notes = parts.flatMap(({ hits }, number) => midiNotes(grooves, hits, start + number * length, end));
  const header = [...bigEndian(1, 2), ...bigEndian(2, 2), ...bigEndian(ticksPerQuarter, 2)];
  return Uint8Array.from([
    ...chunk("MThd", header),
    ...track([...about, ...changes], end),
    ...track([{ tick: 0, bytes: meta(0x03, ascii("drums")) }, ...noteEvents(notes, ticksPerQuarter, end)], end),
  ]);
}

function tempoBytes(tempo) {
  return bigEndian(roundToEven(60e6 / tempo), 3);
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

/** Hits as notes {tick, pitch, velocity}, from a tick of a file on; those before the file are at its end. */
function midiNotes({ drums }, hits, start, end) {
  return hits.map(({ drum, velocity, tick }) => {
    const inFile = tick + start;
    return { tick: inFile < 0 ? inFile + end : inFile, pitch: drums[drum].pitch, velocity };
  });
}

/** Note-ons and note-offs in order of time; a note ends before its pitch is struck again, and with the file. */
function noteEvents(notes, ticksPerQuarter, end) {
  const length = Math.max(1, roundToEven(ticksPerQuarter * HIT_QUARTERS)), again = new Map(), events = [];
  for (const { tick, pitch, velocity } of notes.sort((one, other) => other.tick - one.tick)) {
    const off = Math.min(tick + length, again.get(pitch) ?? end);
    again.set(pitch, tick);
    events.push({ tick, on: 1, pitch, bytes: [0x90 | DRUM_CHANNEL, pitch, velocity] });
    events.push({ tick: off, on: 0, pitch, bytes: [0x80 | DRUM_CHANNEL, pitch, OFF_VELOCITY] });
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
