// Colours for code: comments, strings, numbers, keywords and calls, by one regular expression for each family of languages.

import { el } from "./ui.js";

const words = (list) => list.split(" ");
const C_WORDS = words("abstract as async await auto bool boolean break case catch char class const constexpr continue crate default delete do double else enum export extends extern false final finally float fn for from func function go if impl implements import in inline instanceof int interface let long loop match mod module move mut namespace new nil null package private protected pub public ref return self short signed sizeof static struct super switch template this throw throws trait true try type typedef typename undefined union unsafe unsigned use using var virtual void volatile where while yield");
const PYTHON_WORDS = words("and as assert async await break class continue def del elif else except False finally for from global if import in is lambda match None nonlocal not or pass raise return True try while with yield end then local function nil do begin require module self unless until");
const SHELL_WORDS = words("if then else elif fi for while until do done case esac function in return export local set cd echo exit source sudo");
const SQL_WORDS = words("select from where insert into values update set delete create table index view drop alter join left right inner outer on group by order having limit offset union all distinct as and or not null is in like between case when then else end primary key foreign references with");

const STRING = String.raw`"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?`;
const NUMBER = String.raw`\b(?:0[xX][\da-fA-F_]+|0[bB][01_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\w*\b`;

function family(comment, keywords, string = STRING, flags = "g") {
  return new RegExp(`(?<comment>${comment})|(?<string>${string})|(?<number>${NUMBER})|\\b(?<keyword>${keywords.join("|")})\\b|(?<call>\\b[A-Za-z_]\\w*(?=!?\\())`, flags);
}

const SLASHES = String.raw`//[^\n]*|/\*[\s\S]*?(?:\*/|$)`;
const HASH = String.raw`#[^\n]*`;
const FAMILIES = {
  c: family(SLASHES, C_WORDS, String.raw`"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])'|\x60(?:\\.|[^\x60\\])*\x60?`),
  js: family(SLASHES, C_WORDS, `${STRING}|${String.raw`\x60(?:\\.|[^\x60\\])*\x60?`}`),
  python: family(HASH, PYTHON_WORDS, String.raw`"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|${STRING}`),
  shell: family(String.raw`(?<=^|\s)#[^\n]*`, SHELL_WORDS),
  sql: family(String.raw`--[^\n]*|/\*[\s\S]*?(?:\*/|$)`, SQL_WORDS, STRING, "gi"),
  data: family(HASH, words("true false null yes no")),
};
const LANGUAGES = Object.fromEntries(Object.entries({
  c: "c cpp c++ cc h hpp rust rs go java kotlin swift csharp cs zig dart scala php proto css scss",
  js: "js javascript jsx ts typescript tsx mjs",
  python: "python py ruby rb lua r julia jl elixir nim",
  shell: "sh bash shell zsh console fish dockerfile makefile",
  sql: "sql sqlite postgres mysql",
  data: "json jsonc yaml yml toml ini",
}).flatMap(([name, aliases]) => words(aliases).map((alias) => [alias, name])));

/** Pieces of code as text and spans. Code in an unknown language, or too long to colour at every change, stays plain. */
export function highlight(code, language) {
  const pattern = FAMILIES[LANGUAGES[language.toLowerCase()]];
  if (!pattern || code.length > 30_000) return [code];
  const pieces = [];
  let at = 0;
  for (const match of code.matchAll(pattern)) {
    if (match.index > at) pieces.push(code.slice(at, match.index));
    const kind = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
    pieces.push(el("span", { class: `code-${kind}`, text: match[0] }));
    at = match.index + match[0].length;
  }
  pieces.push(code.slice(at));
  return pieces;
}
