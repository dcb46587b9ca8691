// The dialog for a JSON Schema: rows of fields for what most schemas are, and the text for all of them.

import { button, el } from "./ui.js";

/** Types of a field: how each is written as a schema. `options` are the words of a choice. */
const TYPES = {
  text: { label: "Text", schema: () => ({ type: "string" }) },
  number: { label: "Number", schema: () => ({ type: "number" }) },
  integer: { label: "Whole number", schema: () => ({ type: "integer" }) },
  boolean: { label: "Yes or no", schema: () => ({ type: "boolean" }) },
  choice: { label: "Choice", schema: ({ options }) => ({ type: "string", enum: options }) },
  texts: { label: "List of texts", schema: () => ({ type: "array", items: { type: "string" } }) },
  numbers: { label: "List of numbers", schema: () => ({ type: "array", items: { type: "number" } }) },
};

/** What is wrong with a text that should be JSON, or nothing. */
export function jsonError(text, accept, expected) {
  try {
    return accept(JSON.parse(text)) ? "" : expected;
  } catch (error) {
    return error.message;
  }
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

export function toSchema(fields) {
  const named = fields.filter(({ name }) => name.trim());
  return {
    type: "object",
    properties: Object.fromEntries(named.map((field) => [field.name.trim(), { ...TYPES[field.type].schema(field), ...(field.description ? { description: field.description } : {}) }])),
    required: named.filter(({ required }) => required).map(({ name }) => name.trim()),
    additionalProperties: false,
  };
}

/** The fields of a schema, or nothing if rows cannot show all it says. */
export function toFields(schema) {
  if (typeof schema?.properties !== "object" || schema.properties === null) return undefined;
  const required = Array.isArray(schema.required) ? schema.required : [];
  const fields = Object.entries(schema.properties).map(([name, property]) => {
    const { description = "", ...rest } = property ?? {};
    const options = Array.isArray(rest.enum) && rest.enum.every((word) => typeof word === "string") ? rest.enum : [];
    const type = Object.keys(TYPES).find((key) => same(TYPES[key].schema({ options }), rest));
    return { name, type, options, description, required: required.includes(name) };
  });
  if (fields.some(({ type }) => !type)) return undefined;
  const { properties, required: _, ...others } = schema;
  return same(others, { type: "object", additionalProperties: false }) ? fields : undefined;
}

const emptyField = () => ({ name: "", type: "text", options: [], description: "", required: true });

function fieldRow(field, change, remove) {
  const input = (name, label, props = {}) => {
    const control = el("input", { type: "text", "aria-label": label, placeholder: label, spellcheck: "false", ...props, on: { input: () => { field[name] = control.value; change(); } } });
    control.value = field[name];
    return control;
  };
  const options = el("input", { type: "text", class: "wide", "aria-label": "Choices, separated by commas", placeholder: "Choices, separated by commas", on: {
    input: () => { field.options = options.value.split(",").map((word) => word.trim()).filter(Boolean); change(); },
  } });
  options.value = field.options.join(", ");
  options.hidden = field.type !== "choice";
  const type = el("select", { "aria-label": "Type", on: { change: () => { field.type = type.value; options.hidden = field.type !== "choice"; change(); } } },
    Object.entries(TYPES).map(([value, { label }]) => el("option", { value, text: label })));
  type.value = field.type;
  const required = el("input", { type: "checkbox", on: { change: () => { field.required = required.checked; change(); } } });
  required.checked = field.required;
  return el("div", { class: "schema-row", role: "group", "aria-label": "Field" }, input("name", "Name", { class: "name" }), type,
    el("label", { class: "check" }, required, "required"), button("trash", "Remove this field", remove), options, input("description", "Description", { class: "wide", spellcheck: "true" }));
}

/** Opens the dialog. `done(text)` is called with the schema's text when it is accepted. */
export function schemaDialog(text, done) {
  const rows = el("div", { class: "schema-rows" });
  const note = el("p", { class: "hint" });
  const area = el("textarea", { class: "mono", rows: "12", spellcheck: "false", "aria-label": "JSON Schema" });
  const error = el("p", { class: "field-error", role: "status" });
  const accept = el("button", { type: "submit", class: "button primary", text: "Use schema" });
  let fields;

  const check = () => {
    error.textContent = area.value.trim() ? jsonError(area.value, (value) => typeof value === "object" || typeof value === "boolean", "expected an object") : "";
    accept.disabled = error.textContent !== "";
  };
  const write = () => {
    area.value = JSON.stringify(toSchema(fields), null, 2);
    check();
  };
  const drawRows = () => {
    rows.replaceChildren(...(fields ?? []).map((field) => fieldRow(field, write, () => {
      fields.splice(fields.indexOf(field), 1);
      drawRows();
      write();
      add.focus();
    })));
    add.hidden = !fields;
    note.textContent = fields ? "" : "This schema says more than rows can show. Edit its text.";
  };
  const read = () => {
    check();
    if (error.textContent) return;
    fields = area.value.trim() ? toFields(JSON.parse(area.value)) : [];
    drawRows();
  };
  const add = button("plus", "Add a field", () => {
    fields.push(emptyField());
    drawRows();
    rows.lastElementChild.querySelector("input").focus();
  }, { text: "Add a field" });

  const dialog = el("dialog", { class: "wide-dialog", "aria-labelledby": "schema-title" }, el("form", { method: "dialog", on: { submit: () => done(area.value.trim()) } },
    el("header", {}, el("h2", { id: "schema-title", text: "Schema of the answer" }), button("close", "Close", () => dialog.close())),
    el("div", { class: "schema-columns" },
      el("section", { "aria-label": "Fields" }, el("h3", { text: "Fields" }), note, rows, add),
      el("section", { "aria-label": "Text" }, el("h3", { text: "JSON Schema" }), area, error)),
    el("footer", {}, el("button", { type: "button", class: "button quiet", text: "Clear", on: { click: () => { area.value = ""; read(); } } }), accept)));
  area.addEventListener("input", read);
  area.value = text;
  read();
  if (fields?.length === 0) {
    fields.push(emptyField());
    drawRows();
  }
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
