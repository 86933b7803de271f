// Comparable sales: a table, and where they are if the version knows coordinates. No map, and so no foreign host.

import { byId, date, dollars, html, number, percent, scale, svg, table } from "./elements.js";
import { label } from "./form.js";

const LATITUDE = /^lat(itude)?$/i;
const LONGITUDE = /^(lon|lng|long|longitude)$/i;
const MILES = 69.05; // of a degree of latitude

/** Show the `comparables` of an answer; `missing` is the service's sentence if the version has none. */
export function showComparables(house, sales, missing = "") {
  const section = byId("comparables");
  section.hidden = !sales && !missing;
  const place = section.querySelector("div");
  if (!sales) return place.replaceChildren(html("p", { class: "hint" }, missing));
  place.replaceChildren(listing(sales), ...map(house, sales));
}

function listing(sales) {
  const isDated = sales.some((sale) => sale.sold_on);
  const heads = ["", "Sold for", ...(isDated ? ["Sold on", "At the valuation date"] : []), "Adjusted to this house", "Similarity", "What differs"];
  const rows = sales.map((sale, index) => [
    String(index + 1),
    dollars(sale.price),
    ...(isDated ? [sale.sold_on ? date(sale.sold_on) : "", dollars(sale.time_adjusted_price ?? sale.price)] : []),
    dollars(sale.adjusted_price),
    percent(sale.similarity),
    differences(sale.differences ?? []),
  ]);
  return table("Comparable sales", heads, rows);
}

function differences(found) {
  const parts = found.map(({ field, sale, house }) => `${label(field)} ${shown(sale)}, here ${shown(house)}`);
  return parts.join("; ") || "nothing";
}

const shown = (value) => (value === null || value === undefined ? "not known" : number(value));

/** Where the sales are, around this house. */
function map(house, sales) {
  const names = Object.keys(sales[0]?.house ?? {});
  const [latitude, longitude] = [LATITUDE, LONGITUDE].map((pattern) => names.find((name) => pattern.test(name)));
  const isPlaced = (one) => Number.isFinite(one[latitude]) && Number.isFinite(one[longitude]);
  const placed = sales.map((sale, index) => ({ ...sale.house, name: String(index + 1), price: sale.price })).filter(isPlaced);
  if (isPlaced(house)) placed.push({ ...house, name: "This house", isOwn: true });
  if (placed.length < 2) return [];
  return [picture(placed.map((one) => ({ ...one, north: one[latitude], east: one[longitude] })))];
}

function picture(places) {
  const middle = (key) => (Math.max(...places.map((one) => one[key])) + Math.min(...places.map((one) => one[key]))) / 2;
  const [north, east] = [middle("north"), middle("east")];
  const squeeze = Math.cos((north * Math.PI) / 180);
  const miles = places.map((one) => ({ ...one, x: (one.east - east) * squeeze * MILES, y: (one.north - north) * MILES }));
  const reach = Math.max(0.05, ...miles.flatMap(({ x, y }) => [Math.abs(x) / 1.5, Math.abs(y)])) * 1.25;
  const x = scale(-1.5 * reach, 1.5 * reach, 0, 480);
  const y = scale(-reach, reach, 320, 0);
  const marks = miles.toSorted((a, b) => Boolean(a.isOwn) - Boolean(b.isOwn)).map((one) => svg("g", { class: one.isOwn ? "own" : "other" },
    svg("circle", { cx: x(one.x), cy: y(one.y), r: one.isOwn ? 8 : 11 }),
    svg("text", { x: x(one.x), y: y(one.y) + (one.isOwn ? -14 : 4), "text-anchor": "middle" }, one.name)));
  const bar = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50].findLast((length) => length <= reach) ?? 0.05;
  const ruler = svg("g", { class: "ruler" },
    svg("path", { d: `M12 300v6h${(x(bar) - x(0)).toFixed(1)}v-6` }), svg("text", { x: 12, y: 292 }, `${bar} mi`));
  return html("figure", {},
    svg("svg", { class: "map", viewBox: "0 0 480 320", role: "img", "aria-label": "Where the comparable sales are, north at the top" }, ...marks, ruler),
    html("figcaption", { class: "hint" }, "By coordinates, north at the top; the numbers are those of the table."));
}
