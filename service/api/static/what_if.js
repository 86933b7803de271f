// What if: price and interval as one field moves, the rest of the house as it is. One request for all of its values.

import { byId, dollars, html, number, roughly, scale, svg, table, ticks } from "./elements.js";
import { isNumeric, label, unit } from "./form.js";
import { ask } from "./service.js";

const POINTS = 25;
const place = byId("what-if");
let chosen = "";

/** Offer the fields of a version; `changed` is called when another one is chosen. */
export function offerFields(names, changed) {
  if (!names.includes(chosen)) chosen = "";
  const buttons = names.map((name) => html("button", { type: "button", "aria-pressed": String(name === chosen) }, label(name)));
  buttons.forEach((button, index) => button.addEventListener("click", () => {
    chosen = chosen === names[index] ? "" : names[index];
    buttons.forEach((other, at) => other.setAttribute("aria-pressed", String(names[at] === chosen)));
    changed();
  }));
  place.querySelector(".choices").replaceChildren(...buttons);
}

/** Ask for the prices of the chosen field's values, and show them. */
export async function showWhatIf(house, info, query, signal) {
  const figure = place.querySelector("figure");
  if (!chosen || !info) return figure.replaceChildren();
  const known = [...info.features, ...(info.columns ?? [])].find(({ name }) => name === chosen);
  const values = isNumeric(chosen) ? numbers(known, house[chosen]) : categories(known, house[chosen]);
  const houses = values.map((value) => ({ ...house, [chosen]: value }));
  const { predictions } = await ask("predict/batch", { query, body: { houses }, signal });
  const points = predictions.map((found, index) => ({
    value: values[index], price: found.predicted_price, ...found.confidence_interval, own: values[index] === house[chosen],
  }));
  const heads = [label(chosen), "Price", "From", "To"];
  const rows = points.map((point) => [number(point.value), ...[point.price, point.lower, point.upper].map(dollars)]);
  figure.replaceChildren(isNumeric(chosen) ? curve(points) : dots(points),
    html("details", {}, html("summary", {}, "As a table"), table(`Price by ${label(chosen)}`, heads, rows)));
}

/** Where most sales are: the middle 80 %, by the deciles that a version knows, and as much again at both ends. */
function range({ trained_from: lowest, trained_to: highest, bins }) {
  if (bins.length < 4) return [lowest, highest];
  const [from, to] = [bins[1], bins.at(-2)];
  return [Math.max(lowest, 2 * from - to), Math.min(highest, 2 * to - from)];
}

/** Values over that range, this house's among them. */
function numbers(known, own) {
  const [from, to] = range(known);
  const isWhole = isWholeField(chosen);
  const found = Array.from({ length: POINTS }, (_, index) => from + ((to - from) * index) / (POINTS - 1));
  const values = new Set(found.map((value) => (isWhole ? Math.round(value) : Number(value.toPrecision(4)))));
  if (own !== undefined) values.add(own);
  return [...values].toSorted((a, b) => a - b);
}

const isWholeField = (name) => [...byId("house").elements].find((input) => input.name === name).step === "1.0";

function categories({ categories: known }, own) {
  const common = known.toSorted((a, b) => b.rows - a.rows).slice(0, POINTS - 1).map(({ value }) => value);
  return own === undefined || common.includes(own) ? common : [own, ...common];
}

function curve(points) {
  const x = scale(points[0].value, points.at(-1).value, 2, 98);
  const high = Math.max(...points.map(({ upper }) => upper));
  const y = scale(0, high, 100, 6);
  const at = (point, amount) => `${x(point.value).toFixed(2)},${y(amount).toFixed(2)}`;
  const band = [...points.map((point) => at(point, point.upper)), ...points.toReversed().map((point) => at(point, point.lower))];
  const own = points.find((point) => point.own);
  const title = `Price by ${label(chosen).toLowerCase()}, from ${dollars(points[0].price)} at ${number(points[0].value)} to ${dollars(points.at(-1).price)} at ${number(points.at(-1).value)}`;
  return html("div", {},
    svg("svg", { class: "plot", role: "img", "aria-label": title },
      ...grid(high, y),
      svg("svg", { class: "stretched", viewBox: "0 0 100 100", preserveAspectRatio: "none" },
        svg("polygon", { class: "band", points: band.join(" ") }),
        svg("polyline", { class: "line", points: points.map((point) => at(point, point.price)).join(" ") })),
      ...(own ? marker(x(own.value), own, y) : [])),
    axis(points[0].value, points.at(-1).value, x));
}

function grid(high, y) {
  return ticks(0, high, 4).map((tick) => svg("g", { class: "tick" },
    svg("line", { x1: "0%", x2: "100%", y1: `${y(tick)}%`, y2: `${y(tick)}%` }),
    ...(tick ? [svg("text", { x: 0, y: `${y(tick)}%`, dy: -4 }, roughly(tick))] : [])));
}

function marker(x, own, y) {
  const near = x > 75 ? ["end", -9] : ["start", 9];
  return [
    svg("line", { class: "range", x1: `${x}%`, x2: `${x}%`, y1: `${y(own.lower)}%`, y2: `${y(own.upper)}%` }),
    svg("circle", { class: "own", cx: `${x}%`, cy: `${y(own.price)}%`, r: 5 }),
    svg("text", { class: "own", x: `${x}%`, y: `${y(own.price)}%`, dx: near[1], dy: -8, "text-anchor": near[0] }, dollars(own.price)),
  ];
}

function axis(from, to, x) {
  const marks = ticks(from, to, 5).map((tick) => svg("text", {
    x: `${x(tick)}%`, y: 14, "text-anchor": x(tick) < 8 ? "start" : x(tick) > 92 ? "end" : "middle",
  }, number(tick)));
  return html("div", {}, svg("svg", { class: "axis", "aria-hidden": "true" }, ...marks), html("p", { class: "axis-title" }, unit(chosen) || label(chosen)));
}

/** Categories: a row for each, by price. */
function dots(points) {
  const sorted = points.toSorted((a, b) => b.price - a.price);
  const high = Math.max(...sorted.map(({ upper }) => upper));
  const low = Math.min(...sorted.map(({ lower }) => lower));
  const x = scale(low, high, 24, 99);
  const rows = sorted.map(({ value, price, lower, upper, own }, index) => {
    const y = index * 22 + 15;
    return svg("g", { class: own ? "own" : "other" },
      svg("text", { x: 0, y: y + 4 }, String(value).slice(0, 18)),
      svg("line", { class: "range", x1: `${x(lower)}%`, x2: `${x(upper)}%`, y1: y, y2: y }),
      svg("circle", { cx: `${x(price)}%`, cy: y, r: own ? 5 : 4 }));
  });
  const marks = ticks(low, high, 4).map((tick) => svg("text", { class: "tick", x: `${x(tick)}%`, y: points.length * 22 + 18, "text-anchor": x(tick) > 92 ? "end" : "middle" }, roughly(tick)));
  return svg("svg", { class: "dots", role: "img", height: points.length * 22 + 24, "aria-label": `Price by ${label(chosen).toLowerCase()}, highest first: ${sorted.slice(0, 3).map(({ value, price }) => `${value} ${dollars(price)}`).join(", ")}` }, ...rows, ...marks);
}
