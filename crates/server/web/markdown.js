// Markdown from a model as elements. The parser gives tokens, and only the elements below are made from them:
// no HTML is parsed, images become links, and links other than http, https and mailto become text.

import MarkdownIt from "./vendor/markdown-it.esm.min.mjs";
import { highlight } from "./highlight.js";
import { formula, mathRules } from "./math.js";
import { button, copyText, el } from "./ui.js";

const parser = new MarkdownIt({ html: false, breaks: true, linkify: false }).use(mathRules);
parser.validateLink = () => true; // `link` below decides.

const ELEMENTS = new Set(["p", "ul", "ol", "li", "blockquote", "strong", "em", "s", "table", "thead", "tbody", "tr", "th", "td"]);

function safeUrl(href) {
  try {
    const url = new URL(href);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
}

function link(href, ...children) {
  const url = safeUrl(href ?? "");
  if (!url) return el("span", { class: "dead-link", title: href }, children);
  return el("a", { href: url, title: url, target: "_blank", rel: "noopener noreferrer nofollow", class: "external" }, children);
}

/** A block of code with its language and a button that copies it. */
export function codeBlock(code, language = "") {
  const text = code.replace(/\n$/, "");
  return el("figure", { class: "code" },
    el("figcaption", {}, el("span", { text: language || "text" }),
      button("copy", "Copy code", (event) => copyText(text, event.currentTarget))),
    el("pre", { tabindex: "0", "aria-label": `Code${language ? `, ${language}` : ""}` }, el("code", {}, highlight(text, language))));
}

const LEAVES = {
  text: (token) => token.content,
  text_special: (token) => token.content,
  html_inline: (token) => token.content,
  html_block: (token) => el("p", { text: token.content }),
  code_inline: (token) => el("code", { text: token.content }),
  fence: (token) => codeBlock(token.content, token.info.trim().split(/\s+/)[0]),
  code_block: (token) => codeBlock(token.content),
  softbreak: () => el("br"),
  hardbreak: () => el("br"),
  hr: () => el("hr"),
  image: (token) => el("span", { class: "image-link" }, "image: ", link(token.attrGet("src"), token.content || token.attrGet("src"))),
  math_inline: (token) => formula(token.content, false),
  math_block: (token) => formula(token.content, true),
};

function open(token) {
  if (token.tag === "a") return link(token.attrGet("href"));
  const heading = /^h([1-6])$/.exec(token.tag);
  // The page has the first two levels.
  if (heading) return el(`h${Math.min(6, Number(heading[1]) + 2)}`, { class: token.tag });
  if (!ELEMENTS.has(token.tag)) return el("span");
  const node = el(token.tag);
  if (token.tag === "ol" && /^\d{1,9}$/.test(token.attrGet("start") ?? "")) node.setAttribute("start", token.attrGet("start"));
  const align = /text-align:(left|center|right)/.exec(token.attrGet("style") ?? "");
  if (align) node.className = `align-${align[1]}`;
  return node;
}

function build(tokens, root) {
  const stack = [root];
  for (const token of tokens) {
    const top = stack.at(-1);
    if (token.type === "inline") build(token.children, top);
    else if (LEAVES[token.type]) top.append(LEAVES[token.type](token));
    else if (token.hidden) continue;
    else if (token.nesting === -1) stack.pop();
    else if (token.nesting === 1) {
      const node = open(token);
      top.append(token.tag === "table" ? el("div", { class: "table", role: "region", "aria-label": "Table", tabindex: "0" }, node) : node);
      stack.push(node);
    } else top.append(token.content);
  }
  return root;
}

/** Tokens of the document, one list for each block at the top. */
function* blocks(tokens) {
  let start = 0;
  for (let i = 0; i < tokens.length; i++) {
    if (tokens[i].level === 0 && tokens[i].nesting !== 1) {
      yield tokens.slice(start, i + 1);
      start = i + 1;
    }
  }
}

const shown = new WeakMap();

/** Shows Markdown in `container`. Blocks that did not change since the last call keep their elements. */
export function renderMarkdown(container, source) {
  const lines = source.split("\n");
  const before = container.firstChild ? shown.get(container) ?? [] : [];
  const keys = [];
  let at = 0;
  for (const block of blocks(parser.parse(source, {}))) {
    const [from, to] = block[0].map ?? [0, 0];
    const key = `${block[0].type} ${lines.slice(from, to).join("\n")}`;
    if (before[at] !== key) {
      const node = build(block, document.createDocumentFragment());
      const old = container.children[at];
      if (old) old.replaceWith(node);
      else container.append(node);
    }
    keys.push(key);
    at++;
  }
  while (container.children.length > at) container.lastElementChild.remove();
  shown.set(container, keys);
}
