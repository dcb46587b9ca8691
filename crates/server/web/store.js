// What the browser keeps: conversations in IndexedDB, preferences in localStorage. Nothing leaves the browser.

const PREFERENCES = "trine.preferences";

function whole(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

let database;
function open() {
  if (!database) {
    const request = indexedDB.open("trine", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("conversations", { keyPath: "id" });
    database = whole(request);
  }
  return database;
}

async function conversations(mode, run) {
  const db = await open();
  return whole(run(db.transaction("conversations", mode).objectStore("conversations")));
}

/** All conversations, the newest first. */
export async function loadAll() {
  const all = await conversations("readonly", (store) => store.getAll());
  return all.sort((a, b) => b.updated - a.updated);
}

/** Other tabs hear of what changes in this one. */
const channel = new BroadcastChannel("trine.conversations");

/** Calls `run(id, conversation)` when another tab saved a conversation, and without one when it removed it. */
export function onChange(run) {
  channel.onmessage = async ({ data: id }) => run(id, await conversations("readonly", (store) => store.get(id)));
}

export async function save(conversation) {
  await conversations("readwrite", (store) => store.put(structuredClone(conversation)));
  channel.postMessage(conversation.id);
}

export async function remove(id) {
  await conversations("readwrite", (store) => store.delete(id));
  channel.postMessage(id);
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(PREFERENCES)) ?? {};
  } catch {
    return {};
  }
}

const preferences = read();

/** A preference, or `fallback` where none is kept. */
export const preference = (name, fallback) => preferences[name] ?? fallback;

export function setPreference(name, value) {
  preferences[name] = value;
  try {
    localStorage.setItem(PREFERENCES, JSON.stringify(preferences));
  } catch {
    // A browser that keeps nothing still has the value until the page is closed.
  }
}
