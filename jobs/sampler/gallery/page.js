"use strict";
// The page: brings the parts together and says what can be done with them.

const grooves = Grooves.embedded();
const criteria = new Criteria(grooves.first);
const favourites = new Favourites(grooves, favouritesChanged);
const edits = new Edits(grooves, favourites.names);
const hearing = new Hearing(grooves, edits);
const player = new Player(grooves, hearing, showState);
const byId = (id) => document.getElementById(id);
/** Whether a tap on a groove plays it, as nothing points at it before. */
const fingers = matchMedia("(pointer: coarse)");
/** Whether the playheads move from beat to beat alone. */
const lessMotion = matchMedia("(prefers-reduced-motion: reduce)");
/** Figures under a card, beside the one that sorts. */
const CAPTIONS = 3;
/** The next frame of the playheads. */
let frame = 0;
/** The groove that was chosen on the pad last, until another one is chosen on the wall. */
let padItem = null;

const act = {
  /** A card was touched. */
  choose: (item) => {
    padItem = null;
    wall.activate(wall.items.indexOf(item));
    if (fingers.matches && player.item === null) player.play(item);
    else moved();
  },
  /** A card is to be heard, or not any more. */
  play: (item) => {
    const stops = player.item === item;
    padItem = null;
    wall.activate(wall.items.indexOf(item));
    if (item !== stage.item) hearing.leaveSource();
    if (stops) player.stop();
    else player.play(item);
  },
  favour: (item) => {
    favourites.toggle(item);
    say(`${grooves.ids[item]} is ${favourites.has(item) ? "a favourite" : "not a favourite any more"}`);
  },
  save: (item) => saveMidi(grooves, hearing, [item]),
  drag: (transfer, item) => {
    if (item !== stage.item) hear(() => hearing.leaveSource());
    dragMidi(transfer, grooves, hearing.of(item));
  },
  /** A finger is on a point of the pad. */
  pad: (item) => {
    padItem = item;
    player.playNext(item);
    const place = wall.items.indexOf(item);
    if (place >= 0) wall.activate(place);
    setStage();
    say(grooves.ids[item]);
  },
  moved,
  playActive: () => (player.item === null ? withActive((item) => player.play(item)) : player.stop()),
  favourActive: () => withActive(act.favour),
  saveActive: () => withActive(act.save),
  toggleSource: () => {
    hear(() => hearing.toggleSource());
    say(`${hearing.choice.name} is heard`);
  },
  toggleEditing: () => {
    hear(() => hearing.leaveSource());
    stage.setEditing(!stage.editing);
    if (!stage.editing) wall.element.focus();
  },
  undo: () => withActive((item) => {
    const undone = edits.has(item);
    hear(() => edits.undo(item));
    say(undone ? `a change of ${grooves.ids[item]} is undone` : "nothing to undo");
    drawEdits();
  }),
  /** Others in the order of their distance to the chosen one. */
  sortByLikeness: () => withActive((item) => {
    criteria.like = item;
    criteria.sort(BY_LIKENESS);
    showCriteria();
    choose();
  }),
  toggleList: () => {
    criteria.compact = !criteria.compact;
    showCriteria();
    wall.activate(wall.active);
    keepAddress();
  },
  search: () => {
    openFilters(true);
    byId("text").focus();
  },
  leaveSearch: () => {
    openFilters(false);
    if (stage.editing) act.toggleEditing();
    wall.element.focus();
  },
  help: () => byId("help").showModal(),
};

const wall = new Wall(byId("wall"), { grooves, favourites, edits, hearing, player, act });
const stage = new Stage(byId("stage"), grooves, favourites, player, hearing);
const pad = grooves.pad && new Pad(byId("pad"), grooves, edits, player, act);
const filters = new Filters(byId("filters"), grooves, criteria, choose);

/** Keys act on the groove that is seen on the stage, as its buttons do. */
function withActive(action) {
  if (stage.item !== undefined) action(stage.item);
}

/** After somebody went to another groove: it is what is heard, if anything is. */
function moved() {
  padItem = null;
  if (wall.activeItem !== stage.item) hearing.leaveSource();
  if (player.item !== null && player.item !== wall.activeItem && wall.activeItem !== undefined)
    player.play(wall.activeItem);
  setStage();
}

/** Changes what is heard. */
function hear(change) {
  player.change(change);
  criteria.bpm = hearing.bpm;
  keepAddress();
  wall.relabel();
  setStage();
}

/** What plays is on the stage, though filters may have taken it from the wall; or what the pad was left at. */
function setStage() {
  stage.show(player.item ?? padItem ?? wall.activeItem);
}

/** Pictures show what was edited. */
function drawEdits() {
  wall.refresh();
  pad?.draw();
}

/** Plays faster or slower than the groove's own tempo; all grooves have the tempo of this one, if they share it. */
function setRate(rate) {
  hear(() => {
    if (hearing.bpm === null) hearing.rate = rate;
    else hearing.bpm = Math.round(grooves.tempo(stage.item) * rate);
  });
}

/** Applies the criteria, and begins at the top unless told otherwise. */
function choose(active = 0) {
  wall.show(chosenItems(grooves, favourites, criteria), captionColumns(), active);
  setStage();
  const count = wall.items.length.toLocaleString("en"), all = grooves.count.toLocaleString("en");
  const text = criteria.filters ? `${count} of ${all} grooves` : `${all} grooves`;
  byId("shown").textContent = text;
  byId("nothing").hidden = wall.items.length > 0;
  byId("clear").hidden = !criteria.filters;
  byId("filter-button").textContent = criteria.filters ? `Filters: ${count}` : "Filters";
  say(text);
  keepAddress();
}

/** A view can be kept: its address has the filters and the order. */
function keepAddress() {
  try {
    history.replaceState(null, "", `#${criteria.toAddress(grooves)}`);
  } catch (error) {
    // Some browsers refuse more than a hundred in half a minute; the next one comes through.
    if (error.name !== "SecurityError") throw error;
  }
}

/** Fields say what is asked for. */
function showCriteria() {
  byId("text").value = criteria.text;
  byId("favourites-only").checked = criteria.favouritesOnly;
  byId("descending").setAttribute("aria-pressed", criteria.descending);
  byId("compact").checked = criteria.compact;
  document.body.classList.toggle("compact", criteria.compact);
  wall.layOut();
  likeness.hidden = criteria.like === null;
  likeness.textContent = criteria.like === null ? "" : `like ${grooves.ids[criteria.like]}`;
  sortBy.value = criteria.sortBy;
  filters.build();
}

/** The figure that sorts comes first; the tempo stands above every card already. */
function captionColumns() {
  const isNumber = (column) => grooves.columns[column].kind === "number";
  const numbers = [...grooves.columns.keys()].filter((column) => column > 0 && isNumber(column));
  const sorting = numbers.filter((column) => column === criteria.sortBy);
  return [...sorting, ...numbers.filter((column) => column !== criteria.sortBy)].slice(0, CAPTIONS);
}

function showState() {
  wall.relabel();
  pad?.mark();
  setStage();
  cancelAnimationFrame(frame);
  movePlayheads();
}

function movePlayheads() {
  if (player.item === null) return;
  const position = player.position(), { stepsPerBeat } = grooves.grid;
  const step = lessMotion.matches ? position - (position % stepsPerBeat) : position;
  wall.movePlayhead(step);
  stage.movePlayhead(step);
  frame = requestAnimationFrame(movePlayheads);
}

function favouritesChanged() {
  if (criteria.favouritesOnly) choose(wall.active);
  wall.relabel();
  setStage();
  tellFavourites();
}

function tellFavourites() {
  byId("favourites").textContent = favourites.size.toLocaleString("en");
  ["save-midi", "save-row", "save-list"].forEach((id) => (byId(id).disabled = favourites.size === 0));
  byId("not-kept").hidden = favourites.kept;
}

/** Saves the grooves themselves, also while the source of one is heard. */
function saveFavourites(save) {
  hear(() => hearing.leaveSource());
  save(grooves, hearing, favourites.inOrder());
}

/** On a narrow page the filters lie over the wall; on a wide one they are always there. */
function openFilters(open) {
  document.body.classList.toggle("filtering", open);
  byId("filter-button").setAttribute("aria-expanded", open);
}

/** Tells a screen reader. */
function say(text) {
  byId("said").textContent = text;
}
