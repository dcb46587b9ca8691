// Keyboard shortcuts, and the dialog that lists them.

import { preference, setPreference } from "./store.js";
import { $, el } from "./ui.js";

const inField = (target) => target.closest?.("input, textarea, select, [contenteditable]") !== null;
const nameOf = (key) => ({ Escape: "Esc", " ": "Space" })[key] ?? key;

/** Handles `shortcuts`, a list of `{key, label, run}`; a single key works outside text fields only. `shown` are listed, too. */
export function installShortcuts(shortcuts, shown) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const withControl = event.ctrlKey || event.metaKey;
    for (const { key, control, label, run } of shortcuts) {
      if (event.key.toLowerCase() !== key.toLowerCase() || Boolean(control) !== withControl || event.altKey || !label) continue;
      if (!control && key.length === 1 && (inField(event.target) || !preference("singleKeys", true))) continue;
      if (run() === false) continue;
      event.preventDefault();
      return;
    }
  });
  $("#shortcuts-list").replaceChildren(...[...shown, ...shortcuts].map(({ key, control, label }) => el("div", {},
    el("dt", {}, ...[control && "Ctrl", nameOf(key)].filter(Boolean).flatMap((name) => [el("kbd", { text: name }), " "])), el("dd", { text: label }))));
  const single = $("#single-keys");
  single.checked = preference("singleKeys", true);
  single.addEventListener("change", () => setPreference("singleKeys", single.checked));
}
