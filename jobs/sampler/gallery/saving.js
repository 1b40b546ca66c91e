"use strict";
// What a visitor takes along: grooves as MIDI, and the list that `jobs.sample --pick` reads.

/** Saves one groove as MIDI, several as a zip of MIDI files, each as it is heard. */
function saveMidi(grooves, hearing, items) {
  const files = items.map((item) => {
    const name = hearing.name(item);
    return [`${name}.mid`, midiFile(grooves, name, hearing.hits(item), hearing.tempo(item))];
  });
  if (files.length === 1) saveFile(...files[0], "audio/midi");
  else saveFile("favourites.zip", zipFile(files), "application/zip");
}

/** Saves ids, one a line. */
function saveList(grooves, items) {
  saveFile("favourites.txt", items.map((item) => `${grooves.ids[item]}\n`).join(""), "text/plain");
}

function saveFile(name, content, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
