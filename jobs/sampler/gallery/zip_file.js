"use strict";
// Many small files as one zip, stored as they are: browsers ask before they save a second file.

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = remainder & 1 ? (remainder >>> 1) ^ 0xedb88320 : remainder >>> 1;
  return remainder;
});
/** Midnight of 1 January 1980, zip's first: the same grooves give the same bytes. */
const ZIP_TIME = 0, ZIP_DATE = 0x21;
const ZIP_VERSION = 20, NAMES_ARE_UTF8 = 0x800, STORED = 0;

/** The bytes of a zip of [name, bytes] pairs, in their order. */
function zipFile(files) {
  const parts = [], directory = [];
  let place = 0;
  for (const [name, bytes] of files) {
    const encoded = new TextEncoder().encode(name);
    const about = littleEndian([
      [ZIP_VERSION, 2], [NAMES_ARE_UTF8, 2], [STORED, 2], [ZIP_TIME, 2], [ZIP_DATE, 2],
      [crc32(bytes), 4], [bytes.length, 4], [bytes.length, 4], [encoded.length, 2], [0, 2],
    ]);
    const local = [littleEndian([[0x04034b50, 4]]), about, encoded, bytes];
    // Made by, as above; no comment, first disk, no attributes; where the file stands.
    directory.push(littleEndian([[0x02014b50, 4], [ZIP_VERSION, 2]]), about);
    directory.push(littleEndian([[0, 2], [0, 2], [0, 2], [0, 4], [place, 4]]), encoded);
    parts.push(...local);
    place += size(local);
  }
  const end = littleEndian([
    [0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [size(directory), 4], [place, 4], [0, 2],
  ]);
  return joined([...parts, ...directory, end]);
}

function crc32(bytes) {
  let remainder = 0xffffffff;
  for (const byte of bytes) remainder = CRC_TABLE[(remainder ^ byte) & 0xff] ^ (remainder >>> 8);
  return (remainder ^ 0xffffffff) >>> 0;
}

/** [value, bytes] pairs, least byte first. */
function littleEndian(fields) {
  return Uint8Array.from(fields.flatMap(([value, bytes]) =>
    Array.from({ length: bytes }, (_, byte) => (value >>> (8 * byte)) & 0xff)));
}

function size(parts) {
  return parts.reduce((sum, part) => sum + part.length, 0);
}

function joined(parts) {
  const bytes = new Uint8Array(size(parts));
  let place = 0;
  for (const part of parts) {
    bytes.set(part, place);
    place += part.length;
  }
  return bytes;
}
