"use strict";
// The stage below the wall: the groove that is meant or plays, large, with the names of its drums and its figures.

class Stage {
  constructor(element, grooves, favourites, player, hearing) {
    Object.assign(this, { element, grooves, favourites, player, hearing });
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
    this.part("choices").append(...hearing.choices.map((choice) => this.choice(choice)));
    new ResizeObserver(() => this.draw()).observe(this.part("large"));
  }

  choice({ name, about }) {
    const label = document.getElementById("choice").content.firstElementChild.cloneNode(true);
    label.title = about;
    label.querySelector("input").value = name;
    label.querySelector("span").textContent = name;
    return label;
  }

  /** Shows a groove; undefined: there is none. */
  show(item) {
    this.item = item;
    const there = item !== undefined, playing = there && this.player.item === item;
    this.part("id").textContent = there ? this.grooves.ids[item] : "no groove";
    this.element.querySelectorAll("button, input:not(#volume)").forEach((control) => (control.disabled = !there));
    this.part("play").setAttribute("aria-pressed", playing);
    this.part("favour").setAttribute("aria-pressed", there && this.favourites.has(item));
    this.element.classList.toggle("playing", playing);
    const columns = there ? [...this.grooves.columns.keys()] : [];
    this.part("figures").replaceChildren(...columns.flatMap((column) => this.figure(column)));
    this.part("origin").textContent = there ? this.origin() : "";
    this.tellTempo();
    this.tellChoice();
    this.draw();
  }

  /** Where the groove came from. */
  origin() {
    const names = this.grooves.sourcesOf(this.item).map((row) => this.grooves.sources[row]);
    return names.length ? `from ${names.join(" to ")}` : "";
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
    if (this.item === undefined) return;
    const tempo = this.hearing.tempo(this.item), field = document.getElementById("bpm"), slider = this.part("tempo");
    slider.value = (100 * tempo) / this.grooves.tempo(this.item);
    slider.setAttribute("aria-valuetext", `${Math.round(tempo)} quarter notes per minute`);
    // Not while somebody types into it.
    if (field !== document.activeElement) field.value = Math.round(tempo);
    document.getElementById("same-tempo").checked = this.hearing.bpm !== null;
  }

  tellChoice() {
    const { name } = this.hearing.choice;
    this.part("choices").querySelectorAll("input").forEach((input) => (input.checked = input.value === name));
    this.element.classList.toggle("of-source", this.item !== undefined && !this.hearing.isOfGroove(this.item));
  }

  draw() {
    const canvas = this.part("large").querySelector("canvas"), { clientWidth, clientHeight } = canvas;
    // Too narrow a page has no room for it.
    if (!clientWidth) return;
    if (this.item === undefined) canvas.width = 0;
    else drawGroove(canvas, this.grooves, this.hearing.hits(this.item), clientWidth, clientHeight, this.palette);
  }

  movePlayhead(step) {
    const playhead = this.part("playhead");
    const x = stepX(this.grooves, step, playhead.parentElement.clientWidth);
    playhead.style.transform = `translateX(${x}px)`;
  }
}
