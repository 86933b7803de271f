// The form: the fields of the contract, which the page comes with, and the columns of the version that answers.

import { byId, html, number, sentence } from "./elements.js";

const form = byId("house");
const columns = byId("columns");
const inputs = () => [...form.elements].filter((element) => element.name);
const named = (name) => inputs().find((input) => input.name === name);
const ofHouse = () => inputs().filter((input) => input.required || columns.contains(input));
const initial = values();

export const label = (name) => named(name)?.dataset.label ?? sentence(name);
export const unit = (name) => named(name)?.dataset.unit ?? "";
export const isNumeric = (name) => named(name).type === "number";
export const isWhole = (name) => Number(named(name).step) === 1;

/** The names of the fields of a house, the contract's first; and the names of those that a house must have. */
export const fields = () => ofHouse().map((input) => input.name);
export const required = () => fields().filter((name) => named(name).required);

/** The text of each input by name; what is empty is left out. */
export function values() {
  return Object.fromEntries(inputs().map((input) => [input.name, input.value.trim()]).filter(([, text]) => text));
}

/** The house as the service takes it; what is empty is left out. */
export function house() {
  const given = ofHouse().filter((input) => input.value.trim());
  const read = ({ type, value }) => (type === "number" ? Number(value) : value.trim());
  return Object.fromEntries(given.map((input) => [input.name, read(input)]));
}

/** Take values by name. A field without one gets what the page came with, and a column nothing. */
export function fill(given) {
  for (const input of inputs()) input.value = given[input.name] ?? initial[input.name] ?? "";
}

/** Make fields of the columns of a version. Their values are those of the former version, or in `given`. */
export function showColumns(known, given) {
  const kept = { ...given, ...values() };
  columns.hidden = !known.length;
  columns.querySelectorAll(".field").forEach((field) => field.remove());
  columns.append(...known.map((column, index) => field(column, `column-${index}`, kept[column.name])));
}

/** `id` is made up, since a name may have spaces. */
function field(column, id, value) {
  const { name, kind, unit: of, categories } = column;
  const text = column.description ?? sentence(name);
  const isNumber = kind === "number";
  const range = `${number(column.trained_from)} to ${number(column.trained_to)}`;
  const input = html("input", {
    id, name, form: "house", value, placeholder: " ", "data-label": text, "data-unit": of,
    "aria-describedby": `${of ? `${id}-unit ` : ""}${id}-hint ${id}-problem`,
    ...(isNumber
      ? { type: "number", inputmode: "decimal", step: "any", min: column.minimum, max: column.maximum }
      : { type: "text", list: `${id}-list` }),
  });
  return html("div", { class: "field" },
    html("div", { class: "head" },
      html("label", { for: id }, text),
      html("span", { class: "hint", id: `${id}-hint` }, isNumber ? range : `one of ${categories.length}`)),
    html("span", { class: "input" }, input, html("span", { class: "unit", id: `${id}-unit` }, of ?? "")),
    html("p", { class: "problem", id: `${id}-problem` }),
    ...(isNumber ? [] : [choices(`${id}-list`, categories)]));
}

function choices(id, categories) {
  const options = categories.map(({ value, rows }) => html("option", { value }, `${number(rows)} sales`));
  return html("datalist", { id }, ...options);
}

/** Show each problem beside its field; returns the sentences of those that belong to none. */
export function showProblems(problems) {
  const placed = inputs().filter((input) => byId(`${input.id}-problem`));
  for (const input of placed) {
    const own = problems.filter(({ loc }) => loc.at(-1) === input.name).map(({ msg }) => msg);
    if (input.validity.badInput) own.splice(0, own.length, "Input should be a number");
    byId(`${input.id}-problem`).textContent = own.join("; ");
    input.ariaInvalid = own.length ? "true" : null;
  }
  return problems.filter(({ loc }) => !placed.some(({ name }) => name === loc.at(-1))).map(({ msg }) => msg);
}
