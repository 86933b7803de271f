// Comparable sales: a table, and where they are if the version knows coordinates. A map would need a foreign host.

import { byId, date, dollars, html, number, percent, scale, svg, table } from "./elements.js";
import { fields, label } from "./form.js";

const LATITUDE = /^lat(itude)?$/i;
const LONGITUDE = /^(lon|lng|long|longitude)$/i;
const MILES = 69.05; // of a degree of latitude
const [WIDTH, HEIGHT] = [480, 320];
const RULERS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]; // miles

/** Show the `comparables` of an answer; without them, nothing. */
export function showComparables(house, sales) {
  const section = byId("comparables");
  section.hidden = !sales?.length;
  if (section.hidden) return;
  const measure = "Similarity is the share of the model's trees that do not tell both houses apart.";
  const hint = html("p", { class: "hint" }, measure);
  section.querySelector("div").replaceChildren(hint, grid(house, sales), ...map(house, sales));
}

/** A grid as appraisers use it: a column for this house and for each sale, and a row for each field that differs. */
function grid(house, sales) {
  const differing = new Set(sales.flatMap(({ differences }) => differences.map(({ field }) => field)));
  const line = (head, cell, own = "") => [head, own, ...sales.map(cell)];
  const isDated = sales.some((sale) => sale.sold_on);
  const dated = [
    line("Sold on", (sale) => (sale.sold_on ? date(sale.sold_on) : "")),
    line("At the valuation date", (sale) => dollars(sale.time_adjusted_price)),
  ];
  const shown = (value) => (value === undefined ? "" : number(value));
  return table("Comparable sales", ["Sale", "This house", ...sales.map((_, index) => number(index + 1))], [
    line("Sold for", (sale) => dollars(sale.price)),
    ...(isDated ? dated : []),
    line("Adjusted to this house", (sale) => dollars(sale.adjusted_price)),
    line("Similarity", (sale) => percent(sale.similarity)),
    ...fields().filter((name) => differing.has(name))
      .map((name) => line(label(name), (sale) => shown(sale.house[name]), shown(house[name]))),
  ]);
}

/** The sales that have coordinates, around this house; nothing if fewer than two have. */
function map(house, sales) {
  const names = Object.keys(sales[0]?.house ?? {});
  const [latitude, longitude] = [LATITUDE, LONGITUDE].map((pattern) => names.find((name) => pattern.test(name)));
  const places = [
    ...sales.map((sale, index) => ({ name: number(index + 1), place: sale.house })),
    { name: "This house", place: house, isOwn: true },
  ].map((one) => ({ ...one, north: one.place[latitude], east: one.place[longitude] }))
    .filter(({ north, east }) => Number.isFinite(north) && Number.isFinite(east));
  return places.length < 2 ? [] : [picture(places)];
}

function picture(places) {
  const middle = (name) => {
    const found = places.map((place) => place[name]);
    return (Math.max(...found) + Math.min(...found)) / 2;
  };
  const [north, east] = [middle("north"), middle("east")];
  const squeeze = Math.cos((north * Math.PI) / 180); // of a degree of longitude
  const found = places.map((one) => (
    { ...one, x: (one.east - east) * squeeze * MILES, y: (one.north - north) * MILES }));
  const aspect = WIDTH / HEIGHT;
  const reach = 1.25 * Math.max(0.05, ...found.flatMap(({ x, y }) => [Math.abs(x) / aspect, Math.abs(y)]));
  const across = scale(-aspect * reach, aspect * reach, 0, WIDTH);
  const up = scale(-reach, reach, HEIGHT, 0);
  const mark = ({ x, y, name, isOwn }) => svg("g", { class: isOwn ? "own" : "other" },
    svg("circle", { cx: across(x), cy: up(y), r: isOwn ? 8 : 11 }),
    svg("text", { x: across(x), y: up(y) + (isOwn ? -14 : 4), "text-anchor": "middle" }, name));
  const ruler = RULERS.findLast((length) => length <= reach) ?? RULERS[0];
  return html("figure", {},
    svg("svg", { class: "map", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Where the sales are" },
      ...found.map(mark),
      svg("path", { class: "ruler", d: `M12 300v6h${(across(ruler) - across(0)).toFixed(1)}v-6` }),
      svg("text", { x: 12, y: 292 }, `${ruler} mi`)),
    html("figcaption", { class: "hint" }, "By coordinates, north at the top; the numbers are those of the table."));
}
