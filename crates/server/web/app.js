// Puts the page together: routes, the composer, panels, theme, keys.

import { onUnauthorized } from "./api.js";
import { Chat } from "./chat.js";
import { DEFAULT_SETTINGS, SAMPLERS } from "./generate.js";
import { installShortcuts } from "./keys.js";
import { metricsPage } from "./metrics-page.js";
import { Metrics } from "./metrics.js";
import { Panel } from "./panel.js";
import { settingsPanel } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Status } from "./status.js";
import * as store from "./store.js";
import { newConversation, shownPath, titleOf } from "./tree.js";
import { $, el, icon, placeIcons, toast } from "./ui.js";

placeIcons();

const all = [];
const metrics = new Metrics();
const chat = new Chat(() => status.name || undefined);
const status = new Status(metrics, chat);
const page = metricsPage($("#metrics"), metrics);
const prompt = $("#prompt");
const drafts = new Map();

const sidebarPanel = new Panel({ name: "sidebar", opener: $("#open-sidebar"), closer: $("#close-sidebar"), width: 860, open: true });
const settingsSide = new Panel({ name: "settings", opener: $("#open-settings"), closer: $("#close-settings"), width: 1180, open: false });

const sidebar = new Sidebar(all, {
  isOpen: (conversation) => conversation === chat.conversation && !onMetrics(),
  isBusy: (conversation) => chat.isRunning(conversation),
  open: (conversation) => { location.hash = `#/c/${conversation.id}`; },
  fresh: () => { if (location.hash === "#/") fresh(); else location.hash = "#/"; },
  forget: (conversation) => chat.forget(conversation),
  renamed: () => drawTitle(),
});

const settings = settingsPanel($("#settings-form"), (changed) => {
  const kept = Object.fromEntries(["stop", "top_logprobs", ...SAMPLERS].map((name) => [name, changed[name]]));
  store.setPreference("settings", kept);
  chat.settingsChanged();
  drawChips();
});

// Routes: #/ is a new conversation, #/c/ID one that is kept, #/metrics the metrics.

const onMetrics = () => location.hash === "#/metrics";

function fresh() {
  show(newConversation({ ...DEFAULT_SETTINGS, ...store.preference("settings", {}) }));
}

function show(conversation) {
  if (chat.conversation) drafts.set(chat.conversation.id, prompt.value);
  chat.open(conversation);
  prompt.value = drafts.get(conversation.id) ?? "";
  settings.show(conversation.settings);
  drawChips();
  drawComposer();
}

function route() {
  const id = /^#\/c\/(.+)$/.exec(location.hash)?.[1];
  const known = all.find((conversation) => conversation.id === id);
  if (known) show(known);
  else if (!onMetrics() || !chat.conversation) fresh();
  $("#chat").hidden = onMetrics();
  $("#metrics").hidden = !onMetrics();
  $("#open-settings").hidden = onMetrics();
  if (onMetrics()) settingsSide.closeDrawer();
  document.body.classList.toggle("on-metrics", onMetrics());
  metrics.every(onMetrics() || chat.streaming ? 2000 : 6000);
  sidebarPanel.closeDrawer();
  sidebar.draw();
  drawTitle();
  if (onMetrics()) {
    page.draw();
    $("#metrics").focus();
  } else if (matchMedia("(pointer: fine)").matches) prompt.focus();
}

function drawTitle() {
  const title = onMetrics() ? "Metrics" : titleOf(chat.conversation);
  $("#title").textContent = title;
  document.title = onMetrics() || shownPath(chat.conversation).length ? `${title} · Trine` : "Trine";
}

$("#title").addEventListener("dblclick", () => {
  if (onMetrics() || !all.includes(chat.conversation)) return;
  sidebarPanel.set(true);
  sidebar.rename(chat.conversation);
});

// The composer.

function drawChips() {
  const { format, tools } = chat.conversation.settings;
  $("#schema-chip").hidden = format === "text";
  $("#schema-chip span").textContent = format === "json" ? "JSON" : "Schema";
  $("#tools-chip").hidden = !tools.trim();
}

function drawComposer() {
  const streaming = Boolean(chat.streaming);
  const hadFocus = document.activeElement === $("#send") || document.activeElement === $("#stop");
  $("#send").hidden = streaming;
  $("#stop").hidden = !streaming;
  $("#send").disabled = !prompt.value.trim();
  if (hadFocus) (streaming ? $("#stop") : prompt).focus();
  if (!CSS.supports("field-sizing", "content")) {
    prompt.style.height = "auto";
    prompt.style.height = `${prompt.scrollHeight}px`;
  }
}

function send() {
  const text = prompt.value.trim();
  if (!text || chat.streaming) return;
  prompt.value = "";
  const { conversation } = chat;
  const isNew = !all.includes(conversation);
  if (isNew) all.push(conversation);
  // A model that goes on with texts may be small, and writes nonsense at 1, the temperature of the API.
  if (isNew && status.continues) {
    conversation.settings.temperature ??= 0.7;
    settings.show(conversation.settings);
  }
  chat.send(text);
  if (isNew) history.replaceState(null, "", `#/c/${conversation.id}`);
  sidebar.draw();
  drawTitle();
}

$("#composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("#stop").addEventListener("click", () => chat.stop());
prompt.addEventListener("input", drawComposer);
prompt.addEventListener("keydown", (event) => {
  const touch = matchMedia("(pointer: coarse)").matches;
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !touch) { event.preventDefault(); send(); }
});
for (const chip of [$("#schema-chip"), $("#tools-chip")]) chip.addEventListener("click", () => settingsSide.set(true));
$("#composer").addEventListener("click", (event) => { if (event.target === event.currentTarget) prompt.focus(); });

const tokensToggle = $("#tokens-toggle");
function setTokens(on) {
  chat.setTokens(on);
  tokensToggle.setAttribute("aria-pressed", String(on));
}
tokensToggle.addEventListener("click", () => setTokens(!chat.tokensByDefault()));
tokensToggle.setAttribute("aria-pressed", String(chat.tokensByDefault()));

const BEGINNINGS = ["Once upon a time", "One day, a girl found a box", "The dog was sad because"];
const QUESTIONS = ["Tell me a short story", "Write a table of three planets and their moons", "Explain the softmax function with its formula"];
status.addEventListener("loaded", () => {
  const suggestions = (status.continues ? BEGINNINGS : QUESTIONS).map((text) => {
    const click = () => { prompt.value = text; drawComposer(); prompt.focus(); };
    return el("li", {}, el("button", { type: "button", class: "suggestion", text, on: { click } }));
  });
  $("#suggestions").replaceChildren(...(status.model ? suggestions : []));
});

chat.addEventListener("running", () => {
  metrics.every(onMetrics() || chat.streaming ? 2000 : 6000);
  metrics.poll();
  drawComposer();
  sidebar.draw();
});
chat.addEventListener("changed", () => { sidebar.draw(); drawTitle(); });
metrics.addEventListener("sample", () => { if (onMetrics()) page.draw(); });

// The theme: as the system has it, light, or dark.

const THEMES = { auto: ["auto", "System theme"], light: ["sun", "Light theme"], dark: ["moon", "Dark theme"] };
function drawTheme() {
  const [name, label] = THEMES[document.documentElement.dataset.theme] ?? THEMES.auto;
  $("#theme").replaceChildren(icon(name), el("span", { text: label }));
}
$("#theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
  document.documentElement.dataset.theme = next;
  store.setPreference("theme", next);
  drawTheme();
});
drawTheme();

// The key, when the server refuses.

onUnauthorized((reason) => new Promise((resolve) => {
  const dialog = $("#key-dialog");
  $("#key-reason").textContent = `The server says: ${reason}.`;
  $("#key").value = "";
  dialog.returnValue = "";
  dialog.addEventListener("close", () => {
    const key = $("#key").value.trim();
    resolve(dialog.returnValue === "use" && key ? { key, remember: $("#key-remember").checked } : undefined);
  }, { once: true });
  dialog.showModal();
  $("#key").focus();
}));

// Keys.

const lastAnswer = () => chat.lastView("assistant");
function branch(step) {
  const message = document.activeElement.closest?.(".message") ?? lastAnswer()?.root;
  const [previous, next] = message?.querySelectorAll(".pager button") ?? [];
  (step < 0 ? previous : next)?.click();
}
$("#shortcuts").addEventListener("click", () => $("#shortcuts-dialog").showModal());
installShortcuts([
  { key: "Escape", label: "Stop the answer", run: () => (chat.streaming ? chat.stop() : false) },
  { key: "/", label: "Write a message", run: () => prompt.focus() },
  { key: "n", label: "New conversation", run: () => { location.hash = "#/"; prompt.focus(); } },
  { key: "r", label: "Generate another answer", run: () => { const view = lastAnswer(); if (view && !chat.streaming) chat.regenerate(view.node); } },
  { key: "e", label: "Edit the last message", run: () => chat.lastView("user")?.edit() },
  { key: "[", label: "Previous branch", run: () => branch(-1) },
  { key: "]", label: "Next branch", run: () => branch(1) },
  { key: "t", label: "Show or hide tokens", run: () => setTokens(!chat.tokensByDefault()) },
  { key: "b", label: "Show or hide conversations", run: () => sidebarPanel.toggle() },
  { key: "s", label: "Show or hide settings", run: () => settingsSide.toggle() },
  { key: "m", label: "Metrics and back", run: () => { if (onMetrics()) history.back(); else location.hash = "#/metrics"; } },
  { key: "?", label: "This list", run: () => $("#shortcuts-dialog").showModal() },
], [{ key: "Enter", label: "Send" }, { key: "Shift + Enter", label: "New line" }]);

// Another tab.

store.onChange((id, conversation) => {
  const at = all.findIndex((known) => known.id === id);
  const isOpen = chat.conversation?.id === id;
  // What is being generated or edited here goes on, and is saved over what the other tab has.
  if (isOpen && (chat.streaming || $(".editing"))) return;
  if (at >= 0) all.splice(at, 1);
  if (conversation) all.push(conversation);
  if (isOpen) {
    if (conversation) show(conversation);
    else fresh();
  }
  sidebar.draw();
  drawTitle();
});

// Start.

addEventListener("hashchange", route);
try {
  all.push(...await store.loadAll());
} catch (error) {
  toast(`The browser keeps no conversations here: ${error.message}`);
}
route();
status.load();
