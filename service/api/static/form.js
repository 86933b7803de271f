// The form: the fields of the contract, which the page comes with, and the columns of the version that answers.

import { byId, html, number, sentence } from "./elements.js";

const form = byId("house");
const inputs = () => [...form.elements].filter((element) => element.name);
const isColumn = (input) => input.closest("#columns") !== null;
const initial = Object.fromEntries(inputs().map((input) => [input.name, input.value]));

const named = (name) => inputs().find((input) => input.name === name);

export const label = (name) => named(name)?.dataset.label ?? sentence(name);
export const unit = (name) => named(name)?.dataset.unit ?? "";

/** What the form holds, as text by name; what is empty is left out. */
export function values() {
  return Object.fromEntries(inputs().map((input) => [input.name, input.value.trim()]).filter(([, text]) => text));
}

/** The house as the service takes it; what is empty is left out. */
export function house() {
  const found = inputs().filter((input) => input.type !== "range" && input.type !== "select-one" && input.value.trim());
  return Object.fromEntries(found.map((input) => [input.name, input.type === "number" ? Number(input.value) : input.value.trim()]));
}

/** Take values by name; a field without one gets what the page came with, and a column nothing. */
export function fill(given) {
  for (const input of inputs()) input.value = given[input.name] ?? initial[input.name] ?? "";
}

/** Make fields of the columns of a version; a column that the former version had too keeps its value. */
export function showColumns(columns, given) {
  const kept = { ...given, ...values() };
  const place = byId("columns");
  place.hidden = !columns.length;
  place.querySelectorAll(".field").forEach((field) => field.remove());
  place.append(...columns.map((column, index) => field(column, `column-${index}`, kept[column.name] ?? "")));
}

/** `id` is made up, since a name may have spaces. */
function field(column, id, value) {
  const { name, unit: of = "" } = column;
  const text = column.description ?? sentence(name);
  const described = [of && `${id}-unit`, `${id}-hint`, `${id}-problem`].filter(Boolean).join(" ");
  const common = { id, name, form: "house", value, "data-label": text, "data-unit": of, placeholder: " ", "aria-describedby": described };
  const isNumber = column.kind === "number";
  const input = isNumber
    ? html("input", { ...common, type: "number", inputmode: "decimal", step: "any", min: column.minimum ?? undefined, max: column.maximum ?? undefined })
    : html("input", { ...common, type: "text", list: `${id}-list` });
  const hint = isNumber
    ? `${number(column.trained_from)} to ${number(column.trained_to)}`
    : `one of ${column.categories.length}`;
  return html("div", { class: "field" },
    html("div", { class: "head" }, html("label", { for: id }, text), html("span", { class: "hint", id: `${id}-hint` }, hint)),
    html("span", { class: "input" }, input, ...(of ? [html("span", { class: "unit", id: `${id}-unit` }, of)] : [])),
    html("p", { class: "problem", id: `${id}-problem` }),
    ...(isNumber ? [] : [choices(id, column.categories)]));
}

function choices(id, categories) {
  const options = categories.map(({ value, rows }) => html("option", { value }, `${number(rows)} sales`));
  return html("datalist", { id: `${id}-list` }, ...options);
}

/** Show each problem beside its field; returns those that belong to none. */
export function showProblems(problems) {
  for (const input of inputs()) {
    const place = byId(`${input.id}-problem`);
    if (!place) continue;
    const own = problems.filter(({ loc }) => loc.at(-1) === input.name).map(({ msg }) => msg);
    if (input.validity.badInput) own.splice(0, own.length, "Input should be a number");
    place.textContent = own.join("; ");
    own.length ? input.setAttribute("aria-invalid", "true") : input.removeAttribute("aria-invalid");
  }
  const names = new Set(inputs().map((input) => input.name));
  return problems.filter(({ loc }) => !names.has(loc.at(-1))).map(({ msg }) => msg);
}

/** The names of the fields that a house has, contract first. */
export const fields = () => inputs().filter((input) => input.required || isColumn(input)).map((input) => input.name);
export const required = () => inputs().filter((input) => input.required).map((input) => input.name);
export const isNumeric = (name) => named(name)?.type === "number";
