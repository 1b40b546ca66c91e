"use strict";
// What each button, field and key does; the last script, as the page is used from here on.

function on(id, event, action) {
  byId(id).addEventListener(event, action);
}

const sortBy = byId("sort"), likeness = new Option("", BY_LIKENESS);
sortBy.append(...[["as sampled", BY_PLACE], ...grooves.columns.map(({ label }, column) => [label, column])]
  .map(([label, value]) => new Option(label, value)), likeness);
on("sort", "change", () => {
  criteria.sort(Number(sortBy.value));
  byId("descending").setAttribute("aria-pressed", criteria.descending);
  choose();
});
on("descending", "click", () => {
  criteria.descending = !criteria.descending;
  byId("descending").setAttribute("aria-pressed", criteria.descending);
  choose();
});
on("text", "input", () => {
  criteria.text = byId("text").value.trim();
  choose();
});
on("text", "keydown", (event) => event.key === "Enter" && act.leaveSearch());
on("favourites-only", "change", () => {
  criteria.favouritesOnly = byId("favourites-only").checked;
  choose();
});
on("compact", "change", act.toggleList);
on("clear", "click", () => {
  criteria.clear();
  showCriteria();
  choose();
  wall.element.focus();
});
on("filter-button", "click", () => openFilters(!document.body.classList.contains("filtering")));
on("save-midi", "click", () => saveFavourites(saveMidi));
on("save-row", "click", () => saveFavourites(saveRow));
on("save-list", "click", () => saveList(grooves, favourites.inOrder()));
on("help-button", "click", act.help);
stage.part("play").addEventListener("click", act.playActive);
stage.part("favour").addEventListener("click", () => act.favour(stage.item));
stage.part("save").addEventListener("click", () => act.save(stage.item));
stage.part("likeness").addEventListener("click", act.sortByLikeness);
stage.part("edit").addEventListener("click", act.toggleEditing);
stage.part("undo").addEventListener("click", act.undo);
listenToEdits(stage.part("large"), stage, edits, {
  hear,
  say,
  begin: () => hearing.isOfGroove(stage.item) || hear(() => hearing.leaveSource()),
  done: drawEdits,
});
on("tempo", "input", () => setRate(byId("tempo").valueAsNumber / 100));
on("tempo", "dblclick", () => setRate(1));
on("bpm", "input", () => {
  if (byId("bpm").value && byId("bpm").checkValidity()) hear(() => (hearing.bpm = byId("bpm").valueAsNumber));
});
on("bpm", "keydown", (event) => event.key === "Enter" && wall.element.focus());
on("bpm", "focus", () => byId("bpm").select());
on("bpm", "blur", () => stage.tellTempo());
on("same-tempo", "change", () => hear(() => {
  hearing.bpm = byId("same-tempo").checked ? Math.round(hearing.tempo(stage.item)) : null;
}));
stage.part("choices").addEventListener("change", (event) => hear(() => hearing.choose(event.target.value)));
on("volume", "input", () => player.setVolume(byId("volume").valueAsNumber / 100));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  wall.palette = stage.palette = colours();
  wall.refresh();
  stage.draw();
  pad?.draw();
});

function takeAddress() {
  criteria.takeAddress(location.hash.slice(1), grooves);
  hearing.bpm = criteria.bpm;
  showCriteria();
  choose();
}

addEventListener("hashchange", takeAddress);
listenToKeys(wall, act);
tellFavourites();
takeAddress();
wall.element.focus();
