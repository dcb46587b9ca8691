// One message: its text as Markdown, as tokens or as JSON, what was thought and called, and what can be done with it.

import { codeBlock, renderMarkdown } from "./markdown.js";
import { tokenView } from "./tokens.js";
import { siblings } from "./tree.js";
import { button, copyText, count, duration, el, openMenu, short } from "./ui.js";

const FINISHED = { length: "token limit", stopped: "stopped", error: "ended by an error", content_filter: "filtered", edited: "edited" };

/** One line about how an answer was made. */
function statsLine({ stats, finish }, streaming) {
  const parts = [];
  if (stats?.tokens) parts.push(`${count(stats.tokens)} ${stats.tokens === 1 ? "token" : "tokens"}`);
  if (stats?.rate) parts.push(`${short(stats.rate)} tokens/s`);
  if (stats?.first !== undefined) parts.push(`first after ${duration(stats.first)}`);
  if (stats?.prompt !== undefined) parts.push(`prompt ${count(stats.prompt)}${stats.cached ? `, ${count(stats.cached)} cached` : ""}`);
  if (!streaming && FINISHED[finish]) parts.push(FINISHED[finish]);
  return parts.join(" · ");
}

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

/** Whether a text is JSON, or may become it while it is still being written. */
function isJson(text, streaming) {
  if (!/^\s*[[{]/.test(text)) return false;
  if (streaming && /^\s*\{\s*("|$)/.test(text)) return true;
  try {
    return typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}

/** A tool call, folded to one line, with a field for its result if that is wanted. */
function toolCall(call, onResult) {
  const details = el("details", { class: "fold tool-call" },
    el("summary", { data: { icon: "tool" } }, el("span", { class: "fold-title" }, "Calls ", el("code", { text: call.name || "a tool" })),
      el("span", { class: "fold-hint", text: call.arguments.replace(/\s+/g, " ").slice(0, 80) })),
    codeBlock(pretty(call.arguments), "json"));
  if (!onResult) return el("div", {}, details);
  const field = el("textarea", { rows: "2", placeholder: "Result of the call", "aria-label": `Result of ${call.name}` });
  const form = el("form", { class: "tool-result", on: { submit: (event) => { event.preventDefault(); onResult(field.value); } } },
    field, el("button", { type: "submit", class: "button", text: "Give result" }));
  return el("div", {}, details, form);
}

/** Sets a text only if it is another, since a selection in it would be lost. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The view of a message. `actions` are the conversation's; `update` shows the message as it is now. */
export function messageView(node, actions) {
  const isUser = node.role === "user";
  const root = el("article", { class: `message ${node.role}`, tabindex: "-1", data: { id: node.id } });
  const body = el("div", { class: "body" });
  const calls = el("div", { class: "calls" });
  const error = el("p", { class: "message-error", role: "alert", hidden: true });
  const thinking = el("details", { class: "fold thinking", hidden: true },
    el("summary", {}, el("span", { class: "fold-title" })), el("div", { class: "thought" }));
  const stats = el("p", { class: "stats" });
  const pager = el("div", { class: "pager", role: "group", "aria-label": "Branches", hidden: true });
  const tools = el("div", { class: "tools", role: "toolbar", "aria-label": "Message" });
  const view = { root, node, update, edit, toggleTokens };
  let tokens;
  let showTokens = !isUser && actions.tokensByDefault();
  let last = {};

  const tokensButton = button("tokens", "Show tokens and their probabilities", () => toggleTokens(!showTokens), { "aria-pressed": "false" });
  const resumeButton = button("play", "Continue this answer", () => actions.resume(node));
  const redoButton = node.role === "assistant"
    ? button("redo", "Generate another answer", () => actions.regenerate(node))
    : button("redo", "Generate an answer", () => actions.answer(node.id));
  const moreButton = button("more", "More", () => openMenu(moreButton, [
    { icon: "edit", label: node.role === "assistant" ? "Edit answer" : "Edit", run: edit },
    { icon: "trash", label: "Delete from here", run: () => actions.remove(node) },
  ]), { "aria-haspopup": "menu" });
  tools.append(button("copy", "Copy", (event) => copyText(node.content, event.currentTarget)));
  if (isUser) tools.append(button("edit", "Edit and send again", edit));
  tools.append(redoButton);
  if (node.role === "assistant") tools.append(resumeButton, tokensButton);
  tools.append(moreButton);
  const foot = el("footer", {}, pager, tools, stats);
  root.append(el("h2", { class: "visually-hidden", text: isUser ? "You" : node.role === "tool" ? "Result" : "Model" }), thinking, body, calls, error, foot);

  function toggleTokens(on) {
    showTokens = on;
    draw();
  }

  function drawBody() {
    const { streaming } = last;
    const inTokens = showTokens && node.tokens?.length > 0;
    if (!inTokens && tokens) tokens = undefined;
    if (isUser) setText(body, node.content);
    else if (node.role === "tool") body.firstChild ?? body.append(el("details", { class: "fold" },
      el("summary", {}, el("span", { class: "fold-title", text: "Result" }), el("span", { class: "fold-hint", text: node.content.slice(0, 80) })), codeBlock(pretty(node.content), "json")));
    else if (inTokens) {
      if (!tokens || tokens.root.parentNode !== body) {
        tokens = tokenView((index, token) => actions.branch(node, index, token));
        body.replaceChildren(tokens.root);
      }
      tokens.update(node.tokens);
    } else {
      if (body.dataset.mode !== "markdown") body.replaceChildren();
      renderMarkdown(body, isJson(node.content, streaming) ? `\`\`\`json\n${pretty(node.content)}\n\`\`\`` : node.content);
    }
    body.dataset.mode = inTokens ? "tokens" : "markdown";
    body.classList.toggle("waiting", Boolean(streaming && !node.content && !node.reasoning));
    body.hidden = !node.content && !streaming && node.role !== "user";
  }

  function drawThinking() {
    thinking.hidden = !node.reasoning;
    if (!node.reasoning) return;
    const busy = last.streaming && !node.content;
    thinking.classList.toggle("busy", Boolean(busy));
    setText(thinking.querySelector(".fold-title"), busy ? "Thinking…" : node.thought ? `Thought for ${node.thought < 10 ? node.thought.toFixed(1) : Math.round(node.thought)} s` : "Thoughts");
    setText(thinking.querySelector(".thought"), node.reasoning.trim());
  }

  /** Calls that did not change stay as they are, with what was opened and typed. */
  function drawCalls() {
    (node.toolCalls ?? []).forEach((call, at) => {
      const wanted = !last.streaming && !last.answered.has(call.id);
      const key = JSON.stringify([call, wanted]);
      const old = calls.children[at];
      if (old?.key === key) return;
      const fresh = toolCall(call, wanted ? (text) => actions.giveResult(node, call, text) : undefined);
      fresh.key = key;
      fresh.firstChild.open = old?.firstChild.open ?? false;
      if (old) old.replaceWith(fresh);
      else calls.append(fresh);
    });
  }

  function drawPager() {
    const all = siblings(last.conversation, node);
    const at = all.indexOf(node);
    pager.hidden = all.length < 2;
    if (pager.hidden) return pager.replaceChildren();
    const focused = pager.contains(document.activeElement) ? [...pager.children].indexOf(document.activeElement) : -1;
    pager.replaceChildren(
      button("left", "Previous branch", () => actions.choose(all[at - 1]), { disabled: at === 0 }),
      el("span", { text: `${at + 1} / ${all.length}`, "aria-label": `Branch ${at + 1} of ${all.length}` }),
      button("right", "Next branch", () => actions.choose(all[at + 1]), { disabled: at === all.length - 1 }));
    if (focused >= 0) (pager.children[focused].disabled ? pager.querySelector("button:enabled") : pager.children[focused])?.focus();
  }

  function draw() {
    const { streaming } = last;
    root.classList.toggle("streaming", Boolean(streaming));
    root.setAttribute("aria-busy", String(Boolean(streaming)));
    drawThinking();
    if (!root.classList.contains("editing")) drawBody();
    drawCalls();
    error.hidden = !node.error;
    error.textContent = node.error ?? "";
    stats.textContent = statsLine(node, streaming);
    stats.title = node.model ?? "";
    drawPager();
    redoButton.hidden = node.role !== "assistant" && !last.atEnd;
    tokensButton.hidden = !node.tokens?.length;
    tokensButton.setAttribute("aria-pressed", String(showTokens));
    resumeButton.hidden = !node.content || Boolean(node.toolCalls?.length) || !["length", "stopped", "error", "edited"].includes(node.finish);
    tools.hidden = Boolean(streaming);
  }

  /** `state`: the conversation, whether the message is being generated, which tool calls have a result, and whether no message follows. */
  function update(state) {
    last = state;
    draw();
  }

  function edit() {
    if (last.streaming || root.classList.contains("editing")) return;
    root.classList.add("editing");
    const field = el("textarea", { "aria-label": "Text of the message" });
    field.value = node.content;
    const done = (save) => {
      root.classList.remove("editing");
      form.replaceWith(body);
      draw();
      if (save) actions.edit(node, field.value);
      else moreButton.focus();
    };
    const form = el("form", { class: "edit", on: {
      submit: (event) => { event.preventDefault(); done(true); },
      keydown: (event) => {
        if (event.key === "Escape") { event.stopPropagation(); done(false); }
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); done(true); }
      },
    } }, field, el("div", { class: "edit-buttons" },
      el("button", { type: "button", class: "button quiet", text: "Cancel", on: { click: () => done(false) } }),
      el("button", { type: "submit", class: "button primary", text: node.role === "assistant" ? "Save as a branch" : "Send" })));
    body.replaceWith(form);
    field.focus();
  }
  return view;
}
