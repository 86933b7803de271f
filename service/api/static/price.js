// The price, its interval as a bar, and what the answer has besides.

import {
  anchor, byId, date, dollars, html, number, percent, percentOf, roughly, scale, svg, ticks,
} from "./elements.js";
import { label, unit } from "./form.js";

const EDGE = 4; // forecast standard deviations from the price to both ends of the bar

/** Show the answer of /predict. */
export function showPrice(answer) {
  byId("price").textContent = dollars(answer.predicted_price);
  byId("interval").textContent = interval(answer);
  byId("level").textContent = percent(answer.confidence_level);
  byId("bar").replaceChildren(bar(answer));
  byId("warnings").replaceChildren(...notes(answer).map((text) => html("li", {}, text)));
  const day = answer.valued_as_of;
  byId("valued").textContent = day ? `Valued as of ${date(day)}, the last sale that this version learned from.` : "";
}

/** No price is shown, rather than that of another house. */
export function hidePrice() {
  byId("price").textContent = "–";
  for (const id of ["interval", "level", "valued"]) byId(id).textContent = "";
  for (const id of ["bar", "warnings"]) byId(id).replaceChildren();
}

export function interval({ confidence_level: level, confidence_interval: { lower, upper } }) {
  return `${percent(level)} of such houses sell for ${dollars(lower)} to ${dollars(upper)}`;
}

/** The ends of the bar do not depend on the level, so that the band moves with it. */
function bar({ predicted_price: price, confidence_interval: { lower, upper }, fsd }) {
  const factor = fsd ? Math.exp(EDGE * fsd) : (1.5 * upper) / price;
  const [from, to] = [Math.min(price / factor, lower), Math.max(price * factor, upper)];
  const place = scale(from, to, 1, 99);
  const at = (amount) => percentOf(place(amount));
  const strip = (name, start, end) =>
    svg("rect", { class: name, x: at(start), width: percentOf(place(end) - place(start)), y: 14, height: 12, rx: 6 });
  const mark = (tick) => svg("g", { class: "tick" },
    svg("line", { x1: at(tick), x2: at(tick), y1: 34, y2: 40 }),
    svg("text", { x: at(tick), y: 54, "text-anchor": anchor(place(tick)) }, roughly(tick)));
  const title = `From ${dollars(lower)} to ${dollars(upper)}, price ${dollars(price)}`;
  return svg("svg", { class: "bar", role: "img", "aria-label": title },
    strip("ground", from, to),
    strip("band", lower, upper),
    svg("line", { class: "mark", x1: at(price), x2: at(price), y1: 6, y2: 34 }),
    ...ticks(from, to, 4).map(mark));
}

/** Warnings, and what was not given, in plain words. */
function notes({ warnings = [], not_given: missing = [] }) {
  const absent = `Not given: ${missing.map(label).join(", ")}. Each, if known, may narrow the interval.`;
  return [...warnings.map(plainly), ...(missing.length ? [absent] : [])];
}

function plainly({ field, value, trained_from: from, trained_to: to }) {
  if (from === undefined) return `${label(field)}: this version has not seen this value, and prices it as unknown.`;
  const range = `${number(from)} to ${number(to)}`;
  return `${label(field)}: ${number(value)} ${unit(field)} is outside of ${range}, which this version has seen. `
    + "The price is an extrapolation.";
}
