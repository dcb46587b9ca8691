// The panel of a conversation's settings: system prompt, sampling, form of the answer, tools.

import { DEFAULT_SETTINGS } from "./generate.js";
import { jsonError, schemaDialog } from "./schema.js";
import { el } from "./ui.js";

/** Samplers: `max` and `step` are the slider's; `off` is where a slider without a value stands. */
const NUMBERS = [
  { name: "temperature", label: "Temperature", max: 2, step: 0.05, off: 1, hint: "Below 1 the likely tokens gain, above 1 the unlikely ones. 0 always takes the most likely." },
  { name: "top_p", label: "Top p", max: 1, step: 0.01, off: 1, hint: "Sample from the most likely tokens that together have this probability." },
  { name: "top_k", label: "Top k", max: 200, step: 1, off: 0, hint: "Sample from this many of the most likely tokens. 0 means all." },
  { name: "min_p", label: "Min p", max: 1, step: 0.01, off: 0, hint: "Leave out tokens less likely than this share of the most likely one." },
  { name: "repetition_penalty", label: "Repetition penalty", min: 0.5, max: 2, step: 0.01, off: 1, hint: "Above 1, tokens that already appeared become less likely." },
  { name: "max_tokens", label: "Maximum tokens", min: 1, hint: "The answer ends here at the latest." },
  { name: "seed", label: "Seed", min: 0, hint: "The same seed and settings give the same answer." },
];

const labelled = (label, control, hint) => el("div", { class: "field" }, el("label", { for: control.id, text: label }), hint ? el("p", { class: "hint", id: `${control.id}-hint`, text: hint }) : undefined, control);

/** Builds the panel in `root`. `change(settings)` is called with the settings after each change. */
export function settingsPanel(root, change) {
  let settings = { ...DEFAULT_SETTINGS };
  const updates = [];
  const set = (name, value) => {
    settings[name] = value;
    change(settings);
    update();
  };

  function area(name, label, { hint, rows = 4, ...props }) {
    const control = el("textarea", { id: `set-${name}`, rows, "aria-describedby": hint ? `set-${name}-hint` : undefined, ...props, on: { input: () => set(name, control.value) } });
    updates.push(() => { if (control.value !== settings[name]) control.value = settings[name]; });
    return labelled(label, control, hint);
  }

  function number({ name, label, min = 0, max, step = 1, off, hint }) {
    const id = `set-${name}`;
    const field = el("input", { type: "number", id, min, step: step < 1 ? "any" : step, placeholder: "default", inputmode: "decimal", "aria-describedby": `${id}-hint`, on: {
      input: () => set(name, field.value === "" || Number.isNaN(field.valueAsNumber) ? undefined : field.valueAsNumber),
    } });
    const slider = max && el("input", { type: "range", min, max, step, "aria-label": label, tabindex: "-1", on: { input: () => set(name, slider.valueAsNumber) } });
    const row = el("div", { class: "number" }, el("label", { for: id, text: label }), field, slider, el("p", { class: "hint", id: `${id}-hint`, text: hint }));
    updates.push(() => {
      const value = settings[name];
      if (document.activeElement !== field) field.value = value ?? "";
      row.classList.toggle("set", value !== undefined);
      if (!slider) return;
      slider.value = value ?? off;
      slider.style.setProperty("--fill", `${((slider.valueAsNumber - min) / (max - min)) * 100}%`);
    });
    return row;
  }

  /** A row of choices, of which one holds. `choices` are `[value, label]`. */
  function segments(name, choices, chosen = () => {}) {
    return el("div", { class: "segments" }, choices.map(([value, label]) => {
      const input = el("input", { type: "radio", name, id: `set-${name}-${value}`, value, on: { change: () => { set(name, value); chosen(value); } } });
      updates.push(() => { input.checked = settings[name] === value; });
      return el("span", {}, input, el("label", { for: input.id, text: label }));
    }));
  }

  function formats() {
    const edit = () => schemaDialog(settings.schema, (schema) => set("schema", schema));
    const choices = segments("format", [["text", "Text"], ["json", "JSON"], ["schema", "Schema"]], (value) => {
      if (value === "schema" && !settings.schema.trim()) edit();
    });
    const editButton = el("button", { type: "button", class: "button", id: "edit-schema", text: "Edit schema", on: { click: edit } });
    const summary = el("p", { class: "hint" });
    updates.push(() => {
      editButton.hidden = summary.hidden = settings.format !== "schema";
      summary.textContent = settings.schema.trim() ? describe(settings.schema) : "There is no schema yet: the answer is not restricted.";
    });
    return el("fieldset", { class: "field" }, el("legend", { text: "Form of the answer" }), choices, summary, editButton);
  }

  const toolsError = el("p", { class: "field-error", role: "status" });
  updates.push(() => { toolsError.textContent = settings.tools.trim() ? jsonError(settings.tools, Array.isArray, "expected a list of tools") : ""; });

  root.append(
    area("system", "System prompt", { rows: 4, placeholder: "How the model should behave" }),
    el("h3", { text: "Sampling" }),
    ...NUMBERS.map(number),
    area("stop", "Stop strings", { rows: 2, hint: "One a line. The answer ends before any of them." }),
    el("h3", { text: "Output" }),
    formats(),
    number({ name: "top_logprobs", label: "Alternatives per token", max: 20, step: 1, off: 5, hint: "How many other tokens are kept for each token. 0 keeps no probabilities." }),
    el("h3", { text: "Tools" }),
    area("tools", "Tools as JSON", { rows: 4, spellcheck: "false", class: "mono", placeholder: '[{"type": "function", "function": {"name": …}}]', hint: "The list that the API takes. Calls are shown; you give their results. The page runs nothing." }),
    toolsError,
    el("fieldset", { class: "field" }, el("legend", { text: "Calls" }), segments("tool_choice", [["auto", "Automatic"], ["required", "Always"], ["none", "Never"]])),
    el("button", { type: "button", class: "button quiet", text: "Reset to defaults", on: { click: () => {
      for (const name of Object.keys(settings)) delete settings[name];
      Object.assign(settings, DEFAULT_SETTINGS);
      change(settings);
      update();
    } } }));

  function update() {
    for (const run of updates) run();
  }
  return { show(of) { settings = of; update(); } };
}

function describe(schema) {
  try {
    const { properties, type } = JSON.parse(schema);
    const names = Object.keys(properties ?? {});
    return names.length ? `An object with ${names.join(", ")}.` : `A schema of type ${type ?? "any"}.`;
  } catch {
    return "The schema is not valid JSON.";
  }
}
