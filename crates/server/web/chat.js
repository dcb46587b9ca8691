// The conversation that is open: sending, stopping, branching, and showing its messages.

import { generate } from "./generate.js";
import { endsAnswer, joinTokens } from "./logprobs.js";
import { messageView } from "./message.js";
import * as store from "./store.js";
import { ROOT, addNode, pathTo, removeNode, shownPath } from "./tree.js";
import { $, announce, perFrame, toast } from "./ui.js";

/** Answers that are being generated, by the id of their conversation. */
const running = new Map();

/** Which calls of a message have a result: the messages of tools right after it say. */
function resultsAfter(path, at) {
  const ids = new Set();
  for (let next = at + 1; path[next]?.role === "tool"; next++) ids.add(path[next].toolCallId);
  return ids;
}

export class Chat extends EventTarget {
  /** `model()` names the model that requests ask for. */
  constructor(model) {
    super();
    this.model = model;
    this.views = new Map();
    this.version = 0;
    this.thread = $("#messages");
    this.scroller = $("#scroller");
    this.draw = perFrame(() => this.#draw());
    this.scroller.addEventListener("scroll", () => this.#showJump(), { passive: true });
    $("#jump").addEventListener("click", () => this.scrollToEnd());
    setInterval(() => this.#saveRunning(), 1500);
  }

  open(conversation) {
    if (this.conversation === conversation) return;
    this.conversation = conversation;
    this.views.clear();
    this.thread.replaceChildren();
    this.#draw();
    this.dispatchEvent(new Event("opened"));
    this.scrollToEnd("instant");
  }

  get streaming() {
    return running.get(this.conversation?.id);
  }

  /** Whether a conversation, shown or not, is being answered. */
  isRunning(conversation) {
    return running.has(conversation.id);
  }

  tokensByDefault() {
    return store.preference("tokens", false);
  }

  setTokens(on) {
    store.setPreference("tokens", on);
    for (const view of this.views.values()) view.toggleTokens(on);
  }

  /** Saves the conversation and tells who lists it. */
  async #changed(conversation = this.conversation) {
    this.version++;
    this.dispatchEvent(new CustomEvent("changed", { detail: conversation }));
    this.#draw();
    if (conversation.deleted) return;
    try {
      await store.save(conversation);
    } catch (error) {
      if (!this.warned) toast(`The browser could not keep the conversation: ${error.message}`);
      this.warned = true;
    }
  }

  /** Ends the answer of a conversation that is deleted, and keeps it from being saved. */
  forget(conversation) {
    conversation.deleted = true;
    running.get(conversation.id)?.controller.abort();
  }

  #saveRunning() {
    for (const { conversation } of running.values()) if (!conversation.deleted) store.save(conversation).catch(() => {});
  }

  send(text) {
    const parent = shownPath(this.conversation).at(-1)?.id ?? ROOT;
    const question = addNode(this.conversation, parent, { role: "user", content: text });
    return this.answer(question.id);
  }

  /** Generates an answer under a message: a new one, or one that has begun as `fields` say. */
  async answer(parent, fields = {}) {
    const node = addNode(this.conversation, parent, { role: "assistant", ...fields });
    await this.#generate(node);
  }

  async #generate(node) {
    const { conversation } = this;
    if (running.has(conversation.id)) this.stop();
    const controller = new AbortController();
    const entry = { conversation, node, controller, spoken: node.content.length };
    running.set(conversation.id, entry);
    this.dispatchEvent(new Event("running"));
    this.#changed();
    this.scrollToEnd();
    announce("The model answers.");
    await generate(conversation, node, {
      model: this.model(),
      signal: controller.signal,
      changed: () => { this.#speak(entry, false); this.draw(); },
    });
    if (running.get(conversation.id) === entry) running.delete(conversation.id);
    this.#speak(entry, true);
    announce(node.error ? `The answer ended with an error: ${node.error}` : node.finish === "stopped" ? "Stopped." : "The answer is complete.");
    this.dispatchEvent(new Event("running"));
    await this.#changed(conversation);
  }

  /** Has a screen reader speak what has come since, whole sentences at a time. */
  #speak(entry, all) {
    if (entry.conversation !== this.conversation) return;
    const rest = entry.node.content.slice(entry.spoken);
    const end = all ? rest.length : Math.max(...[". ", "! ", "? ", "\n"].map((mark) => rest.lastIndexOf(mark))) + 1;
    if (end > (all ? 0 : 60)) {
      announce(rest.slice(0, end).trim());
      entry.spoken += end;
    }
  }

  stop() {
    this.streaming?.controller.abort();
  }

  regenerate(node) {
    return this.answer(node.parent);
  }

  /** Goes on with an answer that was stopped or reached its limit. */
  resume(node) {
    return this.#generate(node);
  }

  /** A changed question is asked as a branch; a changed answer becomes a branch that can be continued. */
  edit(node, text) {
    const { role, parent } = node;
    const changed = addNode(this.conversation, parent, { role, content: text, ...(role === "tool" ? { toolCallId: node.toolCallId } : {}) });
    if (role === "assistant") {
      changed.finish = "edited";
      return this.#changed();
    }
    return this.answer(changed.id);
  }

  /** Continues an answer from another token than the one it had at `index`, as a branch. */
  branch(node, index, token) {
    const before = structuredClone(node.tokens.slice(0, index));
    const tokens = [...before, { ...token, a: node.tokens[index].a, forced: true }];
    const { reasoning } = node;
    if (!endsAnswer(token)) return this.answer(node.parent, { content: joinTokens(tokens).text, tokens, reasoning });
    addNode(this.conversation, node.parent, { role: "assistant", content: joinTokens(before).text, tokens, reasoning, finish: "stop" });
    return this.#changed();
  }

  /** Answers a tool call; when all calls of the message have a result, the model goes on. */
  giveResult(node, call, content) {
    const path = shownPath(this.conversation);
    const at = path.indexOf(node);
    const given = resultsAfter(path, at);
    const result = addNode(this.conversation, path[at + given.size].id, { role: "tool", content, toolCallId: call.id });
    given.add(call.id);
    return node.toolCalls.every(({ id }) => given.has(id)) ? this.answer(result.id) : this.#changed();
  }

  choose(node) {
    if (!node) return;
    this.conversation.chosen[node.parent] = node.id;
    this.#changed();
    this.views.get(node.id).root.querySelector(".pager button:enabled").focus();
  }

  remove(node) {
    const { conversation } = this;
    if (this.streaming && pathTo(conversation, this.streaming.node).includes(node)) this.stop();
    const restore = removeNode(conversation, node);
    this.#changed();
    toast("Message deleted.", { label: "Undo", run: () => { restore(); this.#changed(conversation); } });
  }

  settingsChanged() {
    if (Object.keys(this.conversation.nodes).length) this.#changed();
  }

  /** The view of the last message of a role that is shown. */
  lastView(role) {
    const node = this.conversation && shownPath(this.conversation).findLast((shown) => shown.role === role);
    return node && this.views.get(node.id);
  }

  atEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < 60;
  }

  scrollToEnd(behavior) {
    requestAnimationFrame(() => this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior }));
  }

  #showJump() {
    $("#jump").hidden = this.atEnd();
  }

  #draw() {
    const { conversation, thread } = this;
    if (!conversation) return;
    const follow = this.atEnd();
    const focused = thread.contains(document.activeElement);
    const path = shownPath(conversation);
    path.forEach((node, at) => {
      let view = this.views.get(node.id);
      if (!view || view.node !== node) this.views.set(node.id, (view = messageView(node, this)));
      if (thread.children[at] !== view.root) thread.insertBefore(view.root, thread.children[at] ?? null);
      const streaming = this.streaming?.node === node;
      // While one message grows, the others are as they were.
      if (streaming || view.drawn !== this.version) view.update({ conversation, streaming, answered: resultsAfter(path, at), atEnd: at === path.length - 1 });
      view.drawn = this.version;
    });
    while (thread.children.length > path.length) thread.lastElementChild.remove();
    $("#welcome").hidden = path.length > 0;
    // Who acted on a message that is gone goes on at the one that took its place.
    if (focused && !thread.contains(document.activeElement)) (thread.lastElementChild ?? $("#prompt")).focus({ preventScroll: true });
    if (follow) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.#showJump();
  }
}
