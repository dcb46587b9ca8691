// The server's HTTP interface: requests with the API key, errors as the server states them, and server-sent events.

const KEY = "trine.key";

export class ApiError extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Asks the person for a key. The page replaces this; the answer is `{key, remember}` or nothing. */
let askForKey = async () => undefined;
export const onUnauthorized = (ask) => { askForKey = ask; };

const storedKey = () => sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);

export function forgetKey() {
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
}

function keepKey({ key, remember }) {
  forgetKey();
  (remember ? localStorage : sessionStorage).setItem(KEY, key);
}

async function errorOf(response) {
  const text = await response.text().catch(() => "");
  try {
    const { error } = JSON.parse(text);
    const message = typeof error === "string" ? error : error.message;
    if (message) return new ApiError(message, response.status, error.code);
  } catch {
    // Not the API's error: a proxy's page, say.
  }
  return new ApiError(`the server answered ${response.status} ${response.statusText}`.trim(), response.status);
}

/** Several requests that are refused at once ask for one key. */
let asking;

/** Fetches a path of the server. A refused key is asked for once, unless `quiet`. */
export async function request(path, { quiet, ...init } = {}) {
  for (;;) {
    const key = storedKey();
    const headers = { ...init.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    let response;
    try {
      response = await fetch(path, { ...init, headers, cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("the server cannot be reached", 0);
    }
    if (response.ok) return response;
    const error = await errorOf(response);
    if (response.status !== 401 || quiet) throw error;
    if (storedKey() === key) {
      asking ??= askForKey(error.message).finally(() => { asking = undefined; });
      const answer = await asking;
      if (!answer) throw error;
      keepKey(answer);
    }
  }
}

export const getJson = async (path, init) => (await request(path, init)).json();

/** The `data` of each server-sent event of a body, until `[DONE]`. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r(?=.)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        else if (line === "" && data.length) {
          const event = data.join("\n");
          data = [];
          if (event === "[DONE]") return;
          yield event;
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Sends a streamed completion and yields its chunks. An error inside the stream is thrown. */
export async function* chatCompletion(body, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true }, timings_per_token: true }),
    signal,
  });
  for await (const event of events(response.body)) {
    const chunk = JSON.parse(event);
    if (chunk.error) throw new ApiError(chunk.error.message ?? "the server ended the answer", chunk.error.code ?? 500);
    yield chunk;
  }
}
