// Elements and numbers as people read them. Texts are always text: nothing here or elsewhere parses HTML.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export const html = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

const whole = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", notation: "compact" });
const changed = new Intl.NumberFormat("en-US", {
  style: "currency", currency: "USD", maximumFractionDigits: 0, signDisplay: "exceptZero",
});
const plain = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 7, useGrouping: "min2" });
const day = new Intl.DateTimeFormat("en-US", { dateStyle: "medium", timeZone: "UTC" });

export const dollars = (amount) => whole.format(amount);
export const roughly = (amount) => short.format(amount);
export const change = (amount) => changed.format(amount);
export const number = (value) => (typeof value === "number" ? plain.format(value) : String(value));
export const percent = (share, digits = 0) => `${(share * 100).toFixed(digits)} %`;
export const date = (text) => day.format(new Date(text));
export const sentence = (name) => name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");

/** A table with a caption; a row is an array of cells, and a cell a text or an element. Wide ones scroll by keyboard too. */
export function table(caption, heads, rows) {
  const cell = (content) => html("td", { class: content.length < 16 && "figure" }, content);
  return html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    html("table", {},
      html("caption", { class: "unseen" }, caption),
      html("thead", {}, html("tr", {}, ...heads.map((head) => html("th", { scope: "col" }, head)))),
      html("tbody", {}, ...rows.map((row) => html("tr", {}, ...row.map(cell))))));
}

/** A function from [from, to] to percent of a width or height, with a margin at both ends. */
export function scale(from, to, start = 0, end = 100) {
  const size = to - from || 1;
  return (value) => start + ((value - from) / size) * (end - start);
}

/** Round numbers from `from` to `to`, about `count` of them. */
export function ticks(from, to, count = 4) {
  const rough = (to - from || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const found = [];
  for (let tick = Math.ceil(from / step) * step; tick <= to + step * 1e-9; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}
