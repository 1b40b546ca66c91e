"use strict";
// Which grooves are favourites. They are kept in the browser, by groove and not by place or page: sorting, filtering,
// a page that was moved or a job that grew lose none.

const FAVOURITES_KEY = "drum gallery favourites";

class Favourites {
  /** `changed` is called after every change, be it made in another window. */
  constructor(grooves, changed) {
    this.names = grooves.ids.map((id, item) => `${id} ${Favourites.fingerprint(grooves, item)}`);
    this.items = new Set();
    this.changed = changed;
    /** Whether the browser keeps them; some do not for pages opened from disk. */
    this.kept = true;
    this.load();
    addEventListener("storage", (event) => {
      if (event.key !== FAVOURITES_KEY) return;
      this.load();
      this.changed();
    });
  }

  /** Tells grooves of one id in different jobs apart: FNV-1a of the tokens. */
  static fingerprint(grooves, item) {
    let hash = 0x811c9dc5;
    for (let place = item * grooves.numSteps; place < (item + 1) * grooves.numSteps; place++)
      hash = Math.imul(hash ^ grooves.tokens[place], 0x01000193);
    return (hash >>> 0).toString(36);
  }

  has(item) {
    return this.items.has(item);
  }

  get size() {
    return this.items.size;
  }

  /** In the order of the job. */
  inOrder() {
    return [...this.items].sort((one, other) => one - other);
  }

  toggle(item) {
    const adds = !this.items.has(item);
    if (adds) this.items.add(item);
    else this.items.delete(item);
    // Read anew: another window may have changed it, and other pages keep their favourites in it too.
    const stored = this.stored();
    if (adds) stored.add(this.names[item]);
    else stored.delete(this.names[item]);
    try {
      localStorage.setItem(FAVOURITES_KEY, JSON.stringify([...stored]));
    } catch {
      this.kept = false;
    }
    this.changed();
  }

  load() {
    const stored = this.stored();
    // Without a store, what is marked in this window is all there is.
    if (!this.kept) return;
    this.items.clear();
    this.names.forEach((name, item) => stored.has(name) && this.items.add(item));
  }

  stored() {
    try {
      const names = JSON.parse(localStorage.getItem(FAVOURITES_KEY) ?? "[]");
      return new Set(Array.isArray(names) ? names : []);
    } catch (error) {
      // What is no JSON is nobody's favourite; what may not be read is not kept either.
      this.kept = error instanceof SyntaxError;
      return new Set();
    }
  }
}
