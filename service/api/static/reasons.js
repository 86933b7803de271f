// Why this price: a waterfall from the base price to the price, by groups of fields.

import { byId, change, dollars, html, scale, sentence, svg, table } from "./elements.js";
import { label } from "./form.js";

const ROW = 46; // pixels
const BAR = 12;

/** Show the `explanation` of an answer; without one, nothing. */
export function showReasons(answer) {
  const found = answer?.explanation;
  byId("reasons").hidden = !found;
  if (!found) return;
  byId("reasons").querySelector("figure").replaceChildren(...waterfall(found, answer.predicted_price));
}

const nameOf = ({ group, fields = [] }) => (fields.length === 1 ? label(fields[0]) : sentence(group));

function waterfall({ base_price: base, base_width: baseWidth, contributions }, price) {
  const sorted = contributions.toSorted((a, b) => Math.abs(b.price) - Math.abs(a.price));
  let sum = base;
  const steps = sorted.map((part) => ({ name: nameOf(part), from: sum, to: (sum += part.price), amount: part.price }));
  const ends = [base, price, ...steps.map(({ to }) => to)];
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const place = scale(low, high, 0, 99);
  const rows = [
    row("A typical sale", dollars(base), place, base, base, "whole", 0),
    ...steps.map((step, index) => row(step.name, change(step.amount), place, step.from, step.to, step.amount < 0 ? "down" : "up", index + 1)),
    row("This house", dollars(price), place, price, price, "whole", steps.length + 1),
  ];
  const told = `${steps.map(({ name, amount }) => `${name} ${change(amount)}`).join(", ")}`;
  const picture = svg("svg", { class: "waterfall", role: "img", height: rows.length * ROW, "aria-label": `From ${dollars(base)} to ${dollars(price)}: ${told}` }, ...rows);
  const widths = sorted.filter((part) => part.width !== undefined);
  const cells = widths.map((part) => [nameOf(part), change(part.price), change(part.width)]);
  return [picture, html("details", {}, html("summary", {}, "What makes the interval wider or narrower"),
    table("Contributions to price and width of the interval", ["", "Price", "Width of the interval"],
      [["A typical sale", dollars(base), dollars(baseWidth)], ...cells]))];
}

function row(name, amount, place, from, to, kind, index) {
  const [start, end] = [from, to].map(place).toSorted((a, b) => a - b);
  const top = index * ROW;
  return svg("g", { class: kind },
    svg("text", { x: 0, y: top + 14 }, name),
    svg("text", { x: "100%", y: top + 14, "text-anchor": "end", class: "figure" }, amount),
    svg("rect", { x: `${start.toFixed(2)}%`, width: `${Math.max(end - start, 0.8).toFixed(2)}%`, y: top + 20, height: BAR, rx: 2 }));
}
