// An answer as its tokens: each is tinted by its probability, shows its alternatives when pointed at,
// and offers them as other continuations.

import { endsAnswer, joinTokens, percent, perplexity, sameToken, visible } from "./logprobs.js";
import { el, placeBeside } from "./ui.js";

/** Probabilities below these bounds get the tints 4, 3, 2 and 1. */
const TINTS = [0.05, 0.2, 0.5, 0.9];

function tint(logprob) {
  const at = TINTS.findIndex((bound) => Math.exp(logprob) < bound);
  return at < 0 ? 0 : TINTS.length - at;
}

/** The card that belongs to the token which is pointed at or focused. There is one in the page. */
let card;
let shownFor;
let pinned = false;
let timer;

function hide() {
  clearTimeout(timer);
  card?.remove();
  shownFor?.removeAttribute("aria-expanded");
  card = shownFor = undefined;
  pinned = false;
}

const hideSoon = () => {
  clearTimeout(timer);
  if (!pinned) timer = setTimeout(hide, 200);
};

function bar(logprob) {
  const fill = el("span");
  fill.style.width = `${Math.exp(logprob) * 100}%`;
  return el("span", { class: "bar", "aria-hidden": "true" }, fill);
}

function alternativeRow(view, index, token, alternative) {
  const chosen = sameToken(token, alternative);
  const { whole } = joinTokens([...view.tokens.slice(0, index), alternative]);
  const ends = endsAnswer(alternative);
  const usable = !chosen && whole && view.onAlternative;
  const row = el("button", {
    type: "button", class: "alternative", disabled: !usable, tabindex: "-1",
    title: chosen ? "This is the token of the answer." : ends ? "End the answer here" : whole ? "Continue from here with this token" : "Part of a character: nothing can continue from it.",
    on: { click: () => { hide(); view.onAlternative(index, alternative); } },
  }, el("span", { class: "alternative-text", text: visible(alternative) }), bar(alternative.p),
  el("span", { class: "alternative-percent", text: percent(alternative.p) }));
  if (chosen) {
    row.classList.add("chosen");
    row.append(el("span", { class: "visually-hidden", text: "the token of the answer" }));
  }
  return row;
}

function showCard(view, span) {
  clearTimeout(timer);
  if (shownFor === span) return;
  hide();
  const index = Number(span.dataset.index);
  const token = view.tokens[index];
  if (!token) return;
  const listed = token.a?.some((alternative) => sameToken(alternative, token)) ? token.a : [...(token.a ?? []), token];
  const rank = listed.findIndex((alternative) => sameToken(alternative, token));
  card = el("div", { class: "token-card", role: "dialog", "aria-label": `Alternatives to ${visible(token)}` },
    el("div", { class: "token-card-head" }, el("b", { text: visible(token) }), el("span", { text: percent(token.p) }),
      el("small", { text: `log probability ${token.p.toFixed(2)}${token.a?.length ? rank < token.a.length ? `, rank ${rank + 1}` : `, not among the first ${token.a.length}` : ""}` })),
    listed.map((alternative) => alternativeRow(view, index, token, alternative)),
    view.onAlternative && listed.length > 1 ? el("p", { text: "Choose one to continue from it as a new branch." }) : undefined);
  card.addEventListener("pointerenter", () => clearTimeout(timer));
  card.addEventListener("pointerleave", hideSoon);
  card.addEventListener("keydown", (event) => cardKey(event, span));
  card.addEventListener("focusout", (event) => { if (event.relatedTarget && !card?.contains(event.relatedTarget)) hide(); });
  document.body.append(card);
  placeBeside(card, span.getClientRects()[0] ?? span.getBoundingClientRect());
  shownFor = span;
  span.setAttribute("aria-expanded", "true");
}

function cardKey(event, span) {
  const rows = [...card.querySelectorAll(".alternative:enabled")];
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    event.preventDefault();
    rows[(rows.indexOf(document.activeElement) + step + rows.length) % rows.length]?.focus();
  } else if (event.key === "Escape" || event.key === "Tab") {
    event.preventDefault();
    event.stopPropagation();
    hide();
    span.focus();
  }
}

document.addEventListener("pointerdown", (event) => { if (card && !card.contains(event.target) && !event.target.closest(".token")) hide(); });
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !card || card.contains(document.activeElement)) return;
  event.stopPropagation();
  hide();
}, { capture: true });
document.addEventListener("scroll", (event) => { if (card && !card.contains(event.target)) hide(); }, { capture: true, passive: true });
addEventListener("hashchange", hide);

function tokenSpan(token, index) {
  if (token.given) return el("span", { class: "given", data: { index }, text: token.t });
  // A lone byte is shown where the whole characters are not.
  const special = token.b || endsAnswer(token);
  const text = special ? visible(token) : token.t;
  return el("span", { class: `token tint-${tint(token.p)}${special ? " special" : ""}${token.forced ? " forced" : ""}`, role: "button", tabindex: "-1",
    "aria-haspopup": "dialog", "aria-label": `${visible(token)}, ${percent(token.p)}`, data: { index }, text });
}

/** Keyboard in the tokens: arrows move, Home and End jump, Enter opens the alternatives. */
function tokenKey(view, event) {
  const span = event.target.closest(".token");
  if (!span) return;
  const spans = view.text.children;
  const at = Number(span.dataset.index);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: spans.length - 1 }[event.key];
  if (spans[to]?.matches(".token")) {
    event.preventDefault();
    span.tabIndex = -1;
    spans[to].tabIndex = 0;
    spans[to].focus();
  } else if (event.key === "Enter" || event.key === " " || event.key === "ArrowDown") {
    event.preventDefault();
    showCard(view, span);
    pinned = true;
    card?.querySelector(".alternative:enabled")?.focus();
  }
}

/** A view of tokens. `update` shows the tokens that were added since; `onAlternative(index, token)` continues from another token. */
export function tokenView(onAlternative) {
  const figures = el("span");
  const summary = el("p", { class: "token-summary" }, ["over 90%", "50–90%", "20–50%", "5–20%", "under 5%"].map((label, step) =>
    el("span", {}, el("i", { class: `tint-${step}` }), label)), figures);
  const text = el("div", { class: "token-text", role: "group", "aria-label": "Tokens. Arrow keys move, Enter shows the alternatives." });
  const view = { root: el("div", { class: "token-view" }, text, summary), text, tokens: [], onAlternative, update };
  text.addEventListener("pointermove", (event) => {
    const span = event.target.closest(".token");
    // Text that grows or scrolls under a pointer at rest shows no card.
    const still = event.movementX === 0 && event.movementY === 0;
    if (!span || pinned || still || event.pointerType === "touch") return;
    clearTimeout(timer);
    timer = setTimeout(() => showCard(view, span), card ? 30 : 90);
  });
  text.addEventListener("pointerleave", hideSoon);
  text.addEventListener("click", (event) => {
    const span = event.target.closest(".token");
    if (!span || getSelection().toString()) return;
    pinned = false;
    showCard(view, span);
    pinned = true;
  });
  text.addEventListener("keydown", (event) => tokenKey(view, event));

  function update(tokens) {
    if (tokens.length < text.childElementCount) text.replaceChildren();
    view.tokens = tokens;
    const added = document.createDocumentFragment();
    for (let i = text.childElementCount; i < tokens.length; i++) added.append(tokenSpan(tokens[i], i));
    text.append(added);
    if (!text.querySelector("[tabindex='0']")) text.querySelector(".token")?.setAttribute("tabindex", "0");
    const scored = tokens.filter(({ given }) => !given);
    if (scored.length) figures.textContent = `perplexity ${perplexity(scored).toFixed(2)}`;
  }
  return view;
}
