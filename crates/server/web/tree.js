// A conversation is a tree of messages. Each message remembers its parent; `chosen` says which child is shown.

export const ROOT = "root";

export const newId = () => (crypto.randomUUID ? crypto.randomUUID() : `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 12)}`);

export function newConversation(settings) {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, settings: structuredClone(settings), nodes: {}, chosen: {} };
}

/** Adds a message under `parent` and shows it. */
export function addNode(conversation, parent, fields) {
  const node = { id: newId(), parent, created: Date.now(), role: "user", content: "", ...fields };
  conversation.nodes[node.id] = node;
  conversation.updated = node.created;
  conversation.chosen[parent] = node.id;
  return node;
}

export function children(conversation, id) {
  return Object.values(conversation.nodes).filter((node) => node.parent === id);
}

export const siblings = (conversation, node) => children(conversation, node.parent);

/** The messages that are shown, from the first to the last. */
export function shownPath(conversation) {
  const path = [];
  for (let id = ROOT; ;) {
    const next = conversation.nodes[conversation.chosen[id]] ?? children(conversation, id).at(-1);
    if (!next) return path;
    path.push(next);
    id = next.id;
  }
}

/** The messages from the first to `node`. */
export function pathTo(conversation, node) {
  const path = [];
  for (let at = node; at; at = conversation.nodes[at.parent]) path.unshift(at);
  return path;
}

/** Removes a message with everything after it. Returns a function that puts them back. */
export function removeNode(conversation, node) {
  const removed = [node];
  for (let i = 0; i < removed.length; i++) removed.push(...children(conversation, removed[i].id));
  const chosen = { ...conversation.chosen };
  const order = Object.keys(conversation.nodes);
  for (const { id } of removed) {
    delete conversation.nodes[id];
    delete conversation.chosen[id];
  }
  delete conversation.chosen[node.parent];
  return () => {
    const nodes = { ...conversation.nodes, ...Object.fromEntries(removed.map((gone) => [gone.id, gone])) };
    const rank = (id) => { const at = order.indexOf(id); return at < 0 ? order.length : at; };
    conversation.nodes = Object.fromEntries(Object.entries(nodes).sort(([a], [b]) => rank(a) - rank(b)));
    Object.assign(conversation.chosen, chosen);
  };
}

/** What the list of conversations shows: the given title, or the first words of the first message. */
export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const first = shownPath(conversation).find((node) => node.role === "user");
  const line = first?.content.trim().split("\n", 1)[0] ?? "";
  return line.length > 60 ? `${line.slice(0, 57).trimEnd()}…` : line || "New conversation";
}
