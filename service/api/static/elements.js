// Elements, and numbers as people read them. A text stays a text: neither this module nor another parses HTML.

const SVG = "http://www.w3.org/2000/svg";
const SHORT = 16; // characters of a cell that is not broken into lines

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export function html(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

export const byId = (id) => document.getElementById(id);

const money = { style: "currency", currency: "USD", maximumFractionDigits: 0 };
const whole = new Intl.NumberFormat("en-US", money);
const short = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", notation: "compact" });
const signed = new Intl.NumberFormat("en-US", { ...money, signDisplay: "exceptZero" });
const plain = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 7, useGrouping: "min2" });
const day = new Intl.DateTimeFormat("en-US", { dateStyle: "medium", timeZone: "UTC" });

export const dollars = (amount) => whole.format(amount);
export const roughly = (amount) => short.format(amount);
export const change = (amount) => signed.format(amount);
export const number = (value) => (typeof value === "number" ? plain.format(value) : String(value));
export const percent = (share, digits = 0) => `${(share * 100).toFixed(digits)} %`;
export const date = (text) => day.format(new Date(text));
export const sentence = (name) => name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");

/** A table with a caption, of texts. A wide one scrolls, by keyboard too. */
export function table(caption, heads, rows) {
  return html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    html("table", {},
      html("caption", { class: "unseen" }, caption),
      html("thead", {}, html("tr", {}, ...heads.map((head) => html("th", { scope: "col" }, head)))),
      html("tbody", {}, ...rows.map((cells) => row(cells)))));
}

/** A row of a table; its first cell is its head. */
export function row([head, ...cells], attributes = {}) {
  return html("tr", attributes,
    html("th", { scope: "row" }, head),
    ...cells.map((text) => html("td", { class: text.length < SHORT && "figure" }, text)));
}

/** The function from [from, to] to [start, end], which are percent of a width or height unless they are given. */
export function scale(from, to, start = 0, end = 100) {
  const size = to - from || 1;
  return (value) => start + ((value - from) / size) * (end - start);
}

/** Round numbers from `from` to `to`, at most `count` and one more. */
export function ticks(from, to, count) {
  const rough = (to - from || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const first = Math.ceil(from / step);
  const last = Math.floor(to / step);
  const found = Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => (first + index) * step);
  return found.map((tick) => Number(tick.toPrecision(12)));
}

/** Where the text of a mark at so many percent is anchored, so that it stays within its picture. */
export const anchor = (place) => (place < 7 ? "start" : place > 93 ? "end" : "middle");
export const percentOf = (place) => `${place.toFixed(2)}%`;
