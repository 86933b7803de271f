// What if: price and interval as one field moves, the rest of the house as it is. One request has all of its values.

import { anchor, byId, dollars, html, number, percentOf, roughly, scale, svg, table, ticks } from "./elements.js";
import { isNumeric, isWhole, label, unit } from "./form.js";
import { ask } from "./service.js";

const POINTS = 25;
const ROW = 22; // pixels
const section = byId("what-if");
let chosen = "";

/** Offer the fields of a version; `changed` is called when another one is chosen. Until then, nothing is asked for. */
export function offerFields(names, changed) {
  if (!names.includes(chosen)) chosen = "";
  const buttons = names.map((name) => html("button", { type: "button" }, label(name)));
  const press = () => buttons.forEach((button, at) => button.setAttribute("aria-pressed", names[at] === chosen));
  buttons.forEach((button, at) => button.addEventListener("click", () => {
    chosen = chosen === names[at] ? "" : names[at];
    press();
    changed();
  }));
  press();
  section.hidden = !names.length;
  section.querySelector(".choices").replaceChildren(...buttons);
}

/** Ask for the prices of the chosen field's values, and show them. */
export async function showWhatIf(house, info, query, signal) {
  const figure = section.querySelector("figure");
  const asked = chosen;
  if (!chosen) return figure.replaceChildren();
  const known = [...info.features, ...(info.columns ?? [])].find(({ name }) => name === chosen);
  const own = house[chosen];
  const values = isNumeric(chosen) ? numbers(known, own) : categories(known, own);
  const houses = values.map((value) => ({ ...house, [chosen]: value }));
  const { predictions } = await ask("predict/batch", { query, body: { houses }, signal });
  if (chosen !== asked) return; // another one has been chosen meanwhile
  const points = predictions.map(({ predicted_price: price, confidence_interval }, at) => (
    { value: values[at], isOwn: values[at] === own, price, ...confidence_interval }));
  const rows = points.map(({ value, price, lower, upper }) => [number(value), ...[price, lower, upper].map(dollars)]);
  figure.replaceChildren(...(isNumeric(chosen) ? curve(points) : [dots(points)]), html("details", {},
    html("summary", {}, "As a table"),
    table(`Price by ${label(chosen)}`, [label(chosen), "Price", "From", "To"], rows)));
}

/** Values where most sales are, this house's among them. */
function numbers(known, own) {
  const [from, to] = range(known);
  const place = scale(0, POINTS - 1, from, to);
  const round = isWhole(chosen) ? Math.round : (value) => Number(value.toPrecision(4));
  const values = new Set(Array.from({ length: POINTS }, (_, index) => round(place(index))));
  if (own !== undefined) values.add(own);
  return [...values].toSorted((a, b) => a - b);
}

/** The middle 80 % by the deciles that the version knows, and as much again at both ends. */
function range({ trained_from: lowest, trained_to: highest, bins }) {
  if (bins.length < 4) return [lowest, highest];
  const [from, to] = [bins[1], bins.at(-2)];
  return [Math.max(lowest, 2 * from - to), Math.min(highest, 2 * to - from)];
}

/** The most common categories, this house's among them. */
function categories({ categories: known }, own) {
  const common = known.toSorted((a, b) => b.rows - a.rows).slice(0, POINTS - 1).map(({ value }) => value);
  return own === undefined || common.includes(own) ? common : [own, ...common];
}

/** A line within its band, over an axis. */
function curve(points) {
  const [first, last] = [points[0], points.at(-1)];
  const high = Math.max(...points.map(({ upper }) => upper));
  const x = scale(first.value, last.value, 2, 98);
  const y = scale(0, high, 100, 6);
  const along = (name) => points.map((point) => `${x(point.value).toFixed(2)},${y(point[name]).toFixed(2)}`);
  const title = `Price by ${label(chosen)}: ${dollars(first.price)} at ${number(first.value)}, `
    + `${dollars(last.price)} at ${number(last.value)}`;
  const marks = ticks(first.value, last.value, 5).map((tick) =>
    svg("text", { x: percentOf(x(tick)), y: 14, "text-anchor": anchor(x(tick)) }, number(tick)));
  return [
    svg("svg", { class: "plot", role: "img", "aria-label": title },
      ...ticks(0, high, 4).map((tick) => level(tick, percentOf(y(tick)))),
      svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none" },
        svg("polygon", { class: "band", points: [...along("upper"), ...along("lower").reverse()].join(" ") }),
        svg("polyline", { class: "line", points: along("price").join(" ") })),
      ...points.filter(({ isOwn }) => isOwn).map((own) => marker(own, x(own.value), y))),
    svg("svg", { class: "axis", "aria-hidden": "true" }, ...marks),
    html("p", { class: "axis-title" }, unit(chosen) || label(chosen)),
  ];
}

function level(amount, y) {
  return svg("g", { class: "tick" },
    svg("line", { x1: 0, x2: "100%", y1: y, y2: y }),
    svg("text", { x: 0, y, dy: -4 }, amount ? roughly(amount) : ""));
}

/** This house. */
function marker({ price, lower, upper }, place, y) {
  const x = percentOf(place);
  const [side, dx] = place > 75 ? ["end", -9] : ["start", 9];
  return svg("g", { class: "own" },
    svg("line", { class: "range", x1: x, x2: x, y1: percentOf(y(lower)), y2: percentOf(y(upper)) }),
    svg("circle", { cx: x, cy: percentOf(y(price)), r: 5 }),
    svg("text", { x, y: percentOf(y(price)), dx, dy: -8, "text-anchor": side }, dollars(price)));
}

/** A row for each category, the dearest first. */
function dots(points) {
  const sorted = points.toSorted((a, b) => b.price - a.price);
  const [low, high] = [Math.min(...points.map(({ lower }) => lower)), Math.max(...points.map(({ upper }) => upper))];
  const x = scale(low, high, 24, 99);
  const at = (amount) => percentOf(x(amount));
  const row = ({ value, price, lower, upper, isOwn }, index) => svg("g", { class: isOwn ? "own" : "other" },
    svg("text", { x: 0, y: index * ROW + 19 }, value.slice(0, 18)),
    svg("line", { class: "range", x1: at(lower), x2: at(upper), y1: index * ROW + 15, y2: index * ROW + 15 }),
    svg("circle", { cx: at(price), cy: index * ROW + 15, r: isOwn ? 5 : 4 }));
  const bottom = { class: "tick", y: points.length * ROW + 18 };
  const mark = (tick) => svg("text", { ...bottom, x: at(tick), "text-anchor": anchor(x(tick)) }, roughly(tick));
  const title = `Price by ${label(chosen)}, from ${sorted[0].value} (${dollars(sorted[0].price)}) `
    + `to ${sorted.at(-1).value} (${dollars(sorted.at(-1).price)})`;
  return svg("svg", { class: "dots", role: "img", height: points.length * ROW + 24, "aria-label": title },
    ...sorted.map(row), ...ticks(low, high, 4).map(mark));
}
