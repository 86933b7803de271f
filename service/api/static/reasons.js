// Why this price: a waterfall from the price of an average sale to that of this house.

import { byId, change, dollars, html, percentOf, scale, sentence, svg, table } from "./elements.js";
import { label } from "./form.js";

const ROW = 46; // pixels
const LEAST = 0.8; // percent of the width: what hardly matters is visible, too

/** Show the `explanation` of an answer; without one, nothing. */
export function showReasons(answer) {
  const found = answer.explanation;
  byId("reasons").hidden = !found;
  if (found) byId("reasons").querySelector("figure").replaceChildren(...waterfall(found, answer.predicted_price));
}

function waterfall({ base_price: base, base_width: baseWidth, contributions }, price) {
  const sorted = contributions.toSorted((a, b) => Math.abs(b.price) - Math.abs(a.price));
  let sum = base;
  const steps = sorted.map((part) => ({
    name: nameOf(part),
    from: sum,
    to: (sum += part.price),
    kind: part.price < 0 ? "down" : "up",
    text: change(part.price),
  }));
  const rows = [
    { name: "An average sale", from: base, to: base, kind: "whole", text: dollars(base) },
    ...steps,
    { name: "This house", from: price, to: price, kind: "whole", text: dollars(price) },
  ];
  const title = rows.map(({ name, text }) => `${name} ${text}`).join(", ");
  const amounts = rows.map(({ to }) => to);
  const place = scale(Math.min(...amounts), Math.max(...amounts), 0, 100 - LEAST);
  const picture = svg("svg", { class: "waterfall", role: "img", height: rows.length * ROW, "aria-label": title },
    ...rows.map((row, index) => bar(row, place, index * ROW)));
  const widths = sorted.map((part) => [nameOf(part), change(part.price), change(part.width)]);
  return [picture, html("details", {},
    html("summary", {}, "What makes the interval wider or narrower"),
    table("Contributions to the price and to the width of the interval", ["Of", "Price", "Width of the interval"],
      [["An average sale", dollars(base), dollars(baseWidth)], ...widths]))];
}

const nameOf = ({ group, fields }) => (fields?.length === 1 ? label(fields[0]) : sentence(group));

function bar({ name, from, to, kind, text }, place, top) {
  const [start, end] = [from, to].map(place).toSorted((a, b) => a - b);
  const width = percentOf(Math.max(end - start, LEAST));
  return svg("g", { class: kind },
    svg("text", { x: 0, y: top + 14 }, name),
    svg("text", { x: "100%", y: top + 14, "text-anchor": "end" }, text),
    svg("rect", { x: percentOf(start), width, y: top + 20, height: 12, rx: 2 }));
}
