"use strict";
// The stage below the wall: the groove that is meant or plays, large, with the names of its drums and its figures.

class Stage {
  constructor(element, grooves, favourites, player) {
    Object.assign(this, { element, grooves, favourites, player });
    this.part = (name) => element.querySelector(`.${name}`);
    this.palette = colours();
    this.item = undefined;
    const names = [...grooves.drums].reverse().map(({ label }, row) => {
      const name = document.createElement("li");
      name.textContent = label;
      name.style.setProperty("--drum", `var(--drum-${(grooves.drums.length - 1 - row) % DRUM_COLOURS})`);
      return name;
    });
    this.part("drums").append(...names);
    new ResizeObserver(() => this.draw()).observe(this.part("large"));
  }

  /** Shows a groove; undefined: there is none. */
  show(item) {
    this.item = item;
    const there = item !== undefined, playing = there && this.player.item === item;
    this.part("id").textContent = there ? this.grooves.ids[item] : "no groove";
    this.element.querySelectorAll(".play, .favour, .save, .likeness").forEach((button) => (button.disabled = !there));
    this.part("play").setAttribute("aria-pressed", playing);
    this.part("favour").setAttribute("aria-pressed", there && this.favourites.has(item));
    this.element.classList.toggle("playing", playing);
    const columns = there ? [...this.grooves.columns.keys()] : [];
    this.part("figures").replaceChildren(...columns.flatMap((column) => this.figure(column)));
    this.tellTempo();
    this.draw();
  }

  figure(column) {
    const { label, about } = this.grooves.columns[column];
    const name = document.createElement("dt"), value = document.createElement("dd");
    name.textContent = label;
    name.title = about;
    value.textContent = this.grooves.figureText(column, this.item);
    return [name, value];
  }

  /** The tempo that sounds, beside its slider. */
  tellTempo() {
    const slider = this.part("tempo"), percent = `${Math.round(this.player.rate * 100)} %`;
    const bpm = this.item === undefined ? "" : `${Math.round(this.grooves.tempo(this.item) * this.player.rate)} bpm`;
    this.part("bpm").textContent = bpm;
    this.part("percent").textContent = percent;
    slider.setAttribute("aria-valuetext", `${bpm}, ${percent}`);
  }

  draw() {
    const canvas = this.part("large").querySelector("canvas"), { clientWidth, clientHeight } = canvas;
    // Too narrow a page has no room for it.
    if (!clientWidth) return;
    if (this.item === undefined) canvas.width = 0;
    else drawGroove(canvas, this.grooves, this.item, clientWidth, clientHeight, this.palette);
  }

  movePlayhead() {
    const playhead = this.part("playhead");
    const x = stepX(this.grooves, this.player.position(), playhead.parentElement.clientWidth);
    playhead.style.transform = `translateX(${x}px)`;
  }
}
