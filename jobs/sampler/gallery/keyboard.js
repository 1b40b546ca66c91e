"use strict";
// Keys that work all over the page, but where a field or a button needs them itself.

/** `act` has what keys do; see page.js. */
function listenToKeys(wall, act) {
  const toPlace = (place) => () => wall.activate(place());
  const keys = {
    ArrowLeft: toPlace(() => wall.active - 1),
    ArrowRight: toPlace(() => wall.active + 1),
    ArrowUp: toPlace(() => (wall.active < wall.columns ? wall.active : wall.active - wall.columns)),
    ArrowDown: toPlace(() => wall.active + wall.columns),
    PageUp: toPlace(() => wall.active - wall.columns * wall.pageRows),
    PageDown: toPlace(() => wall.active + wall.columns * wall.pageRows),
    Home: toPlace(() => 0),
    End: toPlace(() => wall.items.length - 1),
    " ": act.playActive,
    Enter: act.playActive,
    f: act.favourActive,
    m: act.saveActive,
    s: act.toggleSource,
    e: act.toggleEditing,
    u: act.undo,
    l: act.sortByLikeness,
    v: act.toggleList,
    "/": act.search,
    "?": act.help,
    Escape: act.leaveSearch,
  };
  document.addEventListener("keydown", (event) => {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!(key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]") || needsKey(event.target, key)) return;
    event.preventDefault();
    keys[key]();
    if (key.startsWith("Arrow") || key.startsWith("Page") || key === "Home" || key === "End") act.moved();
  });
}

/** Whether what has the focus has a use of its own for a key. */
function needsKey(target, key) {
  if (key === "Escape") return false;
  if (target.matches("input[type=range], input[type=radio], .points")) return /^(Arrow|Page|Home|End)/.test(key);
  if (target.matches("input[type=checkbox], button, summary")) return key === " " || key === "Enter";
  return target.matches("input, select, textarea");
}
