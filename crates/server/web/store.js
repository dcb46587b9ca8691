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

export const save = (conversation) => conversations("readwrite", (store) => store.put(structuredClone(conversation)));
export const remove = (id) => conversations("readwrite", (store) => store.delete(id));

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
