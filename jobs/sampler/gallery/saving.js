"use strict";
// What a visitor takes along: grooves as MIDI, and the list that `jobs.sample --pick` reads.

/** A groove as a file, as it is heard. */
function fileOf(grooves, heard) {
  return new File([midiFile(grooves, heard.name, [heard])], `${heard.name}.mid`, { type: "audio/midi" });
}

/** Saves one groove as MIDI, several as a zip of MIDI files. */
async function saveMidi(grooves, hearing, items) {
  const files = items.map((item) => fileOf(grooves, hearing.of(item)));
  if (files.length === 1) return saveFile(files[0]);
  const contents = await Promise.all(files.map(async (file) => [file.name, new Uint8Array(await file.arrayBuffer())]));
  saveFile(new File([zipFile(contents)], "favourites.zip", { type: "application/zip" }));
}

/** Saves several grooves as one MIDI file, one after the other. */
function saveRow(grooves, hearing, items) {
  const bytes = midiFile(grooves, "favourites", items.map((item) => hearing.of(item)));
  saveFile(new File([bytes], "favourites.mid", { type: "audio/midi" }));
}

/** Lets a groove be dropped as a MIDI file: on the desktop or a sequencer where the browser can, and on other pages. */
function dragMidi(transfer, grooves, heard) {
  const file = fileOf(grooves, heard), bytes = midiFile(grooves, heard.name, [heard]);
  transfer.effectAllowed = "copy";
  transfer.items.add(file);
  const address = `data:${file.type};base64,${btoa(String.fromCharCode(...bytes))}`;
  transfer.setData("DownloadURL", `${file.type}:${file.name}:${address}`);
}

/** Saves ids, one a line. */
function saveList(grooves, items) {
  const lines = items.map((item) => `${grooves.ids[item]}\n`);
  saveFile(new File(lines, "favourites.txt", { type: "text/plain" }));
}

function saveFile(file) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
