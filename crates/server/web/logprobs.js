// Tokens with their probabilities, as kept with a message: `t` text, `b` bytes where they are no whole characters,
// `p` log probability, `a` the most probable alternatives.

const encoder = new TextEncoder();

function compactOne({ token, bytes, logprob }) {
  const own = encoder.encode(token);
  const same = !bytes || (bytes.length === own.length && bytes.every((byte, i) => byte === own[i]));
  return { t: token, p: Math.max(logprob, -100), ...(same ? {} : { b: bytes }) };
}

/** Tokens from the `logprobs` of a choice. */
export function compact(logprobs) {
  return (logprobs?.content ?? []).map((entry) => ({
    ...compactOne(entry),
    a: (entry.top_logprobs ?? []).map(compactOne).sort((x, y) => y.p - x.p),
  }));
}

export const bytesOf = (token) => (token.b ? Uint8Array.from(token.b) : encoder.encode(token.t));

/** The text of tokens, joined as bytes, since one character may be several tokens. `whole` is false if the last is unfinished. */
export function joinTokens(tokens) {
  const parts = tokens.map(bytesOf);
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  try {
    return { text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(all), whole: true };
  } catch {
    return { text: new TextDecoder("utf-8", { ignoreBOM: true }).decode(all), whole: false };
  }
}

/** Whether a token is not text but ends an answer, by the names that models give such tokens. */
export const endsAnswer = ({ t, b }) => !b && /^(|<[|｜][^<>]+[|｜]>|<\/s>|<eos>|<end_of_turn>)$/.test(t);

export const sameToken = (a, b) => a.t === b.t && String(a.b ?? "") === String(b.b ?? "");

/** How a token is written where it stands alone: spaces and line ends are visible, lone bytes in hexadecimal. */
export function visible(token) {
  if (token.b) return token.b.map((byte) => `‹${byte.toString(16).toUpperCase().padStart(2, "0")}›`).join("");
  if (endsAnswer(token)) return token.t || "‹end›";
  return token.t.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥");
}

export function percent(logprob) {
  const value = Math.exp(logprob) * 100;
  if (value >= 99.95) return "100%";
  if (value >= 0.05) return `${value.toFixed(1)}%`;
  return value >= 0.0005 ? `${value.toFixed(3)}%` : "<0.001%";
}

/** The exponential of the mean negative log probability. */
export function perplexity(tokens) {
  return Math.exp(-tokens.reduce((sum, token) => sum + token.p, 0) / tokens.length);
}
