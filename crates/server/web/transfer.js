// Conversations to files and back. A file may come from anywhere: only what is known is taken, and only in its type.

import { DEFAULT_SETTINGS, SAMPLERS } from "./generate.js";
import { ROOT, newConversation, newId, titleOf } from "./tree.js";
import { saveFile } from "./ui.js";

const FORMAT = "trine-conversations";

export function exportConversations(conversations) {
  const day = new Date().toISOString().slice(0, 10);
  const name = conversations.length === 1 ? titleOf(conversations[0]).replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40).replace(/^-|-$/g, "").toLowerCase() : `conversations-${day}`;
  saveFile(`${name || "conversation"}.json`, JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 1));
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const string = (value) => (typeof value === "string" ? value : "");
const list = (value) => (Array.isArray(value) ? value : []);
const finite = (value) => (typeof value === "number" && Number.isFinite(value) ? value : undefined);

/** `{name: value}` without what is undefined. */
const present = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== ""));

function token(value, nested = true) {
  const bytes = list(value?.b).filter((byte) => Number.isInteger(byte) && byte >= 0 && byte < 256);
  return {
    t: string(value?.t),
    p: finite(value?.p) ?? -100,
    ...(bytes.length ? { b: bytes } : {}),
    ...(value?.forced === true ? { forced: true } : {}),
    ...(value?.given === true ? { given: true } : {}),
    ...(nested ? { a: list(value?.a).map((alternative) => token(alternative, false)) } : {}),
  };
}

/** The text of a message, which the API also writes as a list of parts. */
const textOf = (content) => (Array.isArray(content) ? content.map((part) => string(part?.text)).join("") : string(content));

/** A message as this page keeps it, or as the API has it. */
function message(value, id, parent) {
  const role = ["user", "assistant", "tool"].includes(value.role) ? value.role : "user";
  const calls = list(value.toolCalls ?? value.tool_calls).filter(isObject).map((call, at) => ({
    id: string(call.id) || `call_${at}`,
    name: string(call.name ?? call.function?.name),
    arguments: string(call.arguments ?? call.function?.arguments),
  }));
  const tokens = list(value.tokens).filter(isObject).map((one) => token(one));
  const stats = isObject(value.stats) ? present(Object.fromEntries(["tokens", "prompt", "cached", "first", "rate", "total"].map((name) => [name, finite(value.stats[name])]))) : undefined;
  return {
    id, parent, role, created: finite(value.created) ?? Date.now(), content: textOf(value.content),
    ...present({
      reasoning: string(value.reasoning ?? value.reasoning_content), thought: finite(value.thought), finish: string(value.finish), error: string(value.error),
      model: string(value.model), toolCallId: string(value.toolCallId ?? value.tool_call_id), stats,
      toolCalls: calls.length ? calls : undefined, tokens: tokens.length ? tokens : undefined,
    }),
  };
}

function settings(value) {
  const result = { ...DEFAULT_SETTINGS };
  for (const name of ["system", "stop", "schema", "tools"]) result[name] = string(value?.[name]);
  if (["text", "json", "schema"].includes(value?.format)) result.format = value.format;
  if (["auto", "required", "none"].includes(value?.tool_choice)) result.tool_choice = value.tool_choice;
  const top = finite(value?.top_logprobs);
  if (top !== undefined) result.top_logprobs = Math.max(0, Math.min(20, Math.round(top)));
  for (const name of SAMPLERS) if (finite(value?.[name]) !== undefined) result[name] = value[name];
  return result;
}

/** A list of messages, one after the other, as other programs write them. */
function fromMessages(value) {
  const conversation = newConversation(settings({}));
  conversation.title = string(value.title);
  let parent = ROOT;
  for (const entry of value.messages.filter(isObject)) {
    if (entry.role === "system" || entry.role === "developer") {
      conversation.settings.system = textOf(entry.content);
      continue;
    }
    const node = message(entry, newId(), parent);
    conversation.nodes[node.id] = node;
    parent = node.id;
  }
  return conversation;
}

/** A conversation of this page, with new ids, so that an import never overwrites. */
function fromTree(value) {
  const conversation = newConversation(settings(value.settings));
  conversation.title = string(value.title);
  conversation.created = finite(value.created) ?? conversation.created;
  conversation.updated = finite(value.updated) ?? conversation.updated;
  const entries = Object.entries(value.nodes).filter(([, node]) => isObject(node));
  const ids = new Map([[ROOT, ROOT], ...entries.map(([id]) => [id, newId()])]);
  for (const [id, node] of entries) {
    if (!ids.has(node.parent)) throw new Error(`message "${id}" has no parent "${node.parent}"`);
    conversation.nodes[ids.get(id)] = message(node, ids.get(id), ids.get(node.parent));
  }
  // A message that does not descend from the root would never be shown, and a cycle never ends.
  for (const node of Object.values(conversation.nodes)) {
    let steps = 0;
    for (let at = node; at; at = conversation.nodes[at.parent]) if (steps++ > entries.length) throw new Error("its messages form a cycle");
  }
  for (const [from, to] of Object.entries(isObject(value.chosen) ? value.chosen : {})) {
    const child = ids.get(to);
    if (ids.has(from) && conversation.nodes[child]?.parent === ids.get(from)) conversation.chosen[ids.get(from)] = child;
  }
  return conversation;
}

/** The conversations in the text of a file. Throws where it has none. */
export function readConversations(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch (error) {
    throw new Error(`it is not JSON: ${error.message}`);
  }
  const found = Array.isArray(file) && file.every((entry) => entry?.role) ? [{ messages: file }]
    : isObject(file) && Array.isArray(file.conversations) ? file.conversations : list(isObject(file) ? [file] : file);
  const conversations = found.filter(isObject).flatMap((value) => (isObject(value.nodes) ? [fromTree(value)] : Array.isArray(value.messages) ? [fromMessages(value)] : []));
  if (!conversations.length) throw new Error("expected conversations or a list of messages, found neither");
  return conversations;
}
