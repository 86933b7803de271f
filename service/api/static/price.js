// The price, its interval as a bar, and what the answer says besides.

import { byId, date, dollars, html, number, percent, roughly, scale, svg, ticks } from "./elements.js";
import { label, unit } from "./form.js";

const EDGE = 4; // forecast standard deviations from the price to both ends of the bar

/** Show the answer of /predict. */
export function showPrice(answer) {
  const { lower, upper } = answer.confidence_interval;
  byId("price").textContent = dollars(answer.predicted_price);
  byId("interval").textContent = interval(answer);
  byId("level").textContent = percent(answer.confidence_level);
  byId("bar").replaceChildren(bar(answer.predicted_price, lower, upper, answer.fsd));
  byId("warnings").replaceChildren(...notes(answer).map((text) => html("li", {}, text)));
  byId("valued").textContent = answer.valued_as_of ? `Valued as of ${date(answer.valued_as_of)}, the last sale that this version learned from.` : "";
}

/** Nothing is shown instead of a price that belongs to another house. */
export function hidePrice() {
  byId("price").textContent = "–";
  for (const id of ["interval", "level", "valued"]) byId(id).textContent = "";
  for (const id of ["bar", "warnings"]) byId(id).replaceChildren();
}

export const interval = ({ confidence_level: level, confidence_interval: { lower, upper } }) =>
  `${percent(level)} of such houses sell for ${dollars(lower)} to ${dollars(upper)}`;

function bar(price, lower, upper, fsd) {
  const edge = fsd ? Math.exp(EDGE * fsd) : (1.5 * upper) / price;
  const [from, to] = [Math.min(price / edge, lower), Math.max(price * edge, upper)];
  const place = scale(from, to, 1, 99);
  const at = (amount) => `${place(amount).toFixed(2)}%`;
  const marks = ticks(from, to, 4).map((tick) => svg("g", { class: "tick" },
    svg("line", { x1: at(tick), x2: at(tick), y1: 34, y2: 40 }),
    svg("text", { x: at(tick), y: 54, "text-anchor": place(tick) < 6 ? "start" : place(tick) > 94 ? "end" : "middle" }, roughly(tick))));
  return svg("svg", { class: "bar", role: "img", "aria-label": `From ${dollars(lower)} to ${dollars(upper)}, price ${dollars(price)}` },
    svg("rect", { class: "ground", x: at(from), width: `${(place(to) - place(from)).toFixed(2)}%`, y: 14, height: 12, rx: 6 }),
    svg("rect", { class: "band", x: at(lower), width: `${(place(upper) - place(lower)).toFixed(2)}%`, y: 14, height: 12, rx: 6 }),
    svg("line", { class: "mark", x1: at(price), x2: at(price), y1: 6, y2: 34 }),
    ...marks);
}

/** Warnings, and what was not given, in plain words. */
function notes({ warnings = [], not_given: missing = [] }) {
  const found = warnings.map((warning) => (warning.trained_from === undefined
    ? `${label(warning.field)}: this version has not seen this value, and prices it as unknown.`
    : `${label(warning.field)}: ${number(warning.value)} ${unit(warning.field)} is outside of what this version has seen `
      + `(${number(warning.trained_from)} to ${number(warning.trained_to)}). The price is an extrapolation.`));
  if (missing.length) found.push(`Not given: ${missing.map(label).join(", ")}. What is not known makes the interval wider.`);
  return found;
}
