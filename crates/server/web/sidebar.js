// The list of conversations: open, rename, export, delete, import.

import * as store from "./store.js";
import { exportConversations, readConversations } from "./transfer.js";
import { titleOf } from "./tree.js";
import { $, button, el, openMenu, toast } from "./ui.js";

const DAY = 86_400_000;

function groupOf(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (time >= midnight) return "Today";
  if (time >= midnight - DAY) return "Yesterday";
  if (time >= midnight - 7 * DAY) return "Last seven days";
  return new Date(time).toLocaleDateString("en", { month: "long", year: "numeric" });
}

export class Sidebar {
  /** `all` is the list of conversations, shared with the page; `actions` are `{open, isOpen, isBusy, fresh, forget, renamed}`. */
  constructor(all, actions) {
    this.all = all;
    this.actions = actions;
    this.list = $("#conversations");
    $("#filter").addEventListener("input", () => this.draw());
    $("#export-all").addEventListener("click", () => (all.length ? exportConversations(all) : toast("There is no conversation to export.")));
    $("#import").addEventListener("click", () => $("#import-file").click());
    $("#import-file").addEventListener("change", (event) => this.#import(event.target));
  }

  draw() {
    if (this.list.querySelector("input")) return;
    const wanted = $("#filter").value.trim().toLowerCase();
    const matches = (conversation) => titleOf(conversation).toLowerCase().includes(wanted)
      || Object.values(conversation.nodes).some(({ content }) => content.toLowerCase().includes(wanted));
    const shown = (wanted ? this.all.filter(matches) : [...this.all]).sort((a, b) => b.updated - a.updated);
    $("#filter").hidden = this.all.length < 5 && !wanted;
    const focused = this.list.contains(document.activeElement) && document.activeElement.dataset.key;
    let group;
    this.list.replaceChildren(...shown.flatMap((conversation) => {
      const heading = groupOf(conversation.updated);
      const row = this.#row(conversation);
      if (heading === group) return [row];
      group = heading;
      return [el("li", { class: "group", text: heading }), row];
    }));
    if (!shown.length) this.list.append(el("li", { class: "nothing", text: wanted ? "No conversation has these words." : "Conversations are kept in this browser only." }));
    if (focused) this.list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #row(conversation) {
    const title = titleOf(conversation);
    const open = this.actions.isOpen(conversation);
    const more = button("more", `Options of ${title}`, () => openMenu(more, [
      { icon: "edit", label: "Rename", run: () => this.rename(conversation) },
      { icon: "export", label: "Export", run: () => exportConversations([conversation]) },
      { icon: "trash", label: "Delete", run: () => this.#delete(conversation) },
    ]), { "aria-haspopup": "menu", data: { key: `more ${conversation.id}` } });
    const busy = this.actions.isBusy(conversation);
    return el("li", { class: `row${open ? " open" : ""}${busy ? " busy" : ""}`, data: { id: conversation.id } },
      el("a", { href: `#/c/${conversation.id}`, "aria-current": open ? "page" : undefined, data: { key: conversation.id }, title, text: title }),
      busy && el("span", { class: "visually-hidden", text: "is being answered" }), more);
  }

  rename(conversation) {
    const row = this.list.querySelector(`[data-id="${CSS.escape(conversation.id)}"]`);
    if (!row) return;
    const field = el("input", { type: "text", "aria-label": "Title", maxlength: "200", value: titleOf(conversation) });
    let open = true;
    const done = (keep) => {
      if (!open) return;
      open = false;
      field.remove();
      if (keep && field.value.trim()) {
        conversation.title = field.value.trim();
        store.save(conversation).catch(() => {});
      }
      this.draw();
      this.actions.renamed(conversation);
      this.list.querySelector(`[data-key="${CSS.escape(conversation.id)}"]`)?.focus();
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") done(true);
      if (event.key === "Escape") { event.stopPropagation(); done(false); }
    });
    field.addEventListener("blur", () => done(true));
    row.replaceChildren(field);
    field.select();
  }

  async #delete(conversation) {
    const at = this.all.indexOf(conversation);
    this.all.splice(at, 1);
    this.actions.forget(conversation);
    await store.remove(conversation.id);
    if (this.actions.isOpen(conversation)) this.actions.fresh();
    this.draw();
    toast(`“${titleOf(conversation)}” deleted.`, { label: "Undo", run: async () => {
      delete conversation.deleted;
      this.all.push(conversation);
      await store.save(conversation);
      this.draw();
    } });
  }

  async #import(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    try {
      const conversations = readConversations(await file.text());
      for (const conversation of conversations) {
        await store.save(conversation);
        this.all.push(conversation);
      }
      this.draw();
      this.actions.open(conversations[0]);
      toast(conversations.length === 1 ? "Imported one conversation." : `Imported ${conversations.length} conversations.`);
    } catch (error) {
      toast(`“${file.name}” cannot be imported: ${error.message}`);
    }
  }
}
