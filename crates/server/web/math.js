// Formulas in Markdown: $...$ and \(...\) in a line, $$...$$ and \[...\] alone; drawn as MathML by Temml.

import { el } from "./ui.js";

const DELIMITERS = [["$$", "$$", true], ["\\[", "\\]", true], ["\\(", "\\)", false], ["$", "$", false]];

/** A formula as MathML, or its source where it is no TeX. */
export function formula(source, display) {
  const holder = el("span", { class: display ? "formula display" : "formula" });
  if (source.length > 4000) return el("code", { text: source });
  try {
    globalThis.temml.render(source, holder, { displayMode: display, throwOnError: true, trust: false, maxExpand: 200, maxSize: [20, 20], strict: false });
  } catch {
    return el("code", { class: "formula", title: "This formula cannot be drawn.", text: source });
  }
  if (display) Object.entries({ tabindex: "0", role: "group", "aria-label": "Formula" }).forEach(([name, value]) => holder.setAttribute(name, value));
  return holder;
}

function inlineMath(state, silent) {
  const { src, pos } = state;
  const delimiter = DELIMITERS.find(([open]) => src.startsWith(open, pos));
  if (!delimiter) return false;
  const [open, close, display] = delimiter;
  const from = pos + open.length;
  let to = src.indexOf(close, from);
  while (to > 0 && close.startsWith("$") && src[to - 1] === "\\") to = src.indexOf(close, to + 1);
  if (to <= from || to >= state.posMax) return false;
  const content = src.slice(from, to);
  // As Pandoc has it, so that "$5 and $6" are prices.
  if (open === "$" && (/^\s|\s$/.test(content) || /\d/.test(src[to + 1] ?? ""))) return false;
  if (!silent) {
    const token = state.push(display ? "math_block" : "math_inline", "math", 0);
    token.content = content.trim();
  }
  state.pos = to + close.length;
  return true;
}

function blockMath(state, startLine, endLine, silent) {
  const first = state.src.slice(state.bMarks[startLine] + state.tShift[startLine], state.eMarks[startLine]);
  const delimiter = DELIMITERS.find(([open, , display]) => display && first.startsWith(open));
  if (!delimiter) return false;
  const [open, close] = delimiter;
  const body = [first.slice(open.length)];
  let line = startLine;
  while (!body.at(-1).includes(close)) {
    line++;
    if (line >= endLine) return false;
    body.push(state.getLines(line, line + 1, state.blkIndent, false));
  }
  const [last, after] = body.at(-1).split(close);
  if (after.trim()) return false;
  if (silent) return true;
  body[body.length - 1] = last;
  const token = state.push("math_block", "math", 0);
  token.content = body.join("\n").trim();
  token.map = [startLine, line + 1];
  state.line = line + 1;
  return true;
}

/** The parser's rules for formulas. */
export function mathRules(parser) {
  parser.inline.ruler.before("escape", "math", inlineMath);
  parser.block.ruler.before("fence", "math", blockMath, { alt: ["paragraph", "blockquote", "list"] });
}
