// A panel at the side: a column where there is room, and a drawer over the page where there is not.

import { preference, setPreference } from "./store.js";
import { $ } from "./ui.js";

export class Panel {
  /** `opener` opens the panel, `closer` inside it closes it. Below `width` pixels the panel is a drawer. */
  constructor({ name, opener, closer, width, open }) {
    this.name = name;
    this.node = $(`#${name}`);
    this.opener = opener;
    this.wide = matchMedia(`(min-width: ${width}px)`);
    this.standard = open;
    opener.addEventListener("click", () => this.toggle());
    closer.addEventListener("click", () => this.set(false));
    this.node.addEventListener("keydown", (event) => { if (event.key === "Escape" && this.isDrawer) this.set(false); });
    this.wide.addEventListener("change", () => this.#adapt());
    this.#adapt();
  }

  #adapt() {
    this.#show(this.wide.matches && preference(`panel.${this.name}`, this.standard));
  }

  get isOpen() {
    return !this.node.hidden;
  }

  get isDrawer() {
    return this.isOpen && !this.wide.matches;
  }

  toggle() {
    this.set(!this.isOpen);
  }

  set(open) {
    if (open === this.isOpen) return;
    if (this.wide.matches) setPreference(`panel.${this.name}`, open);
    this.#show(open);
    if (open) this.node.querySelector("a, button, textarea, input")?.focus();
    else this.opener.focus();
  }

  /** Closes the panel if it covers the page. */
  closeDrawer() {
    if (this.isDrawer) this.#show(false);
  }

  #show(open) {
    this.node.hidden = !open;
    this.opener.setAttribute("aria-expanded", String(open));
    document.body.classList.toggle(`with-${this.name}`, open);
    const covered = this.isDrawer;
    this.node.classList.toggle("drawer", covered);
    for (const other of document.querySelectorAll("#center, .panel")) if (other !== this.node) other.inert = covered;
    const scrim = $("#scrim");
    scrim.hidden = !covered;
    scrim.onclick = covered ? () => this.set(false) : null;
  }
}
