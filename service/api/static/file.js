// A file of houses, priced in parts: read in slices, so that the page stays responsive, and one batch at a time.

import { byId, dollars, html, number, table } from "./elements.js";
import { Reader, isNumber, line, separatorOf } from "./csv.js";
import { fields, isNumeric, label, required } from "./form.js";
import { ask, Refused } from "./service.js";

const SLICE = 64 * 1024; // bytes, which take a millisecond or two
const SHOWN = 200; // rows with a price, and as many without
const AT_ONCE = Math.min(Number(document.body.dataset.maxRows), 500);
const place = byId("file");
const [input, cancel, download, progress, told, rows] =
  ["input", ".cancel", ".download", "progress", ".told", ".rows"].map((selector) => place.querySelector(selector));
let running = null;

/** Take files that are chosen or dropped; `options` gives the query of a batch when one begins. */
export function takeFiles(options) {
  const take = (file) => file && price(file, options());
  input.addEventListener("change", () => {
    take(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  cancel.addEventListener("click", () => running?.abort());
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    take(event.dataTransfer.files[0]);
  });
}

async function price(file, query) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const result = new Result();
  begin(file);
  try {
    for await (const batch of batches(file, result)) {
      await priceBatch(batch, query, result, signal);
      told.textContent = result.summary(`${file.name}: `);
    }
    told.textContent = result.summary(`${file.name} is done: `);
  } catch (error) {
    if (signal.aborted && running.signal !== signal) return; // another file has been taken
    told.textContent = `${signal.aborted ? "Canceled." : error.message} ${result.summary("")}`;
  }
  finish(result);
}

function begin(file) {
  told.textContent = `${file.name}: reading.`;
  rows.replaceChildren();
  URL.revokeObjectURL(download.href);
  [cancel.hidden, progress.hidden, download.hidden, progress.value] = [false, false, true, 0];
  place.scrollIntoView({ block: "nearest" });
}

function finish(result) {
  [cancel.hidden, progress.hidden, download.hidden] = [true, true, result.lines.length < 2];
  if (result.lines.length > 1) download.href = URL.createObjectURL(new Blob(result.lines, { type: "text/csv" }));
}

/** Rows of the file in batches, each with its number and its house. */
async function* batches(file, result) {
  const decoder = new TextDecoder();
  let reader = null;
  let batch = [];
  let count = 0;
  for (let start = 0; start < file.size || !reader; start += SLICE) {
    const bytes = await file.slice(start, start + SLICE).arrayBuffer();
    const isLast = start + SLICE >= file.size;
    const text = decoder.decode(bytes, { stream: !isLast });
    reader ??= new Reader(separatorOf(text));
    for (const cells of [...reader.push(text), ...(isLast ? reader.end() : [])]) {
      count += 1;
      if (!result.header) result.begin(cells);
      else if (cells.length > 1 || cells[0].trim()) batch.push({ count, cells, house: result.house(cells) });
    }
    while (batch.length >= AT_ONCE) yield batch.splice(0, AT_ONCE);
    progress.value = Math.min(1, (start + SLICE) / file.size);
  }
  if (batch.length) yield batch;
}

/** Price a batch. Rows that the service names as not valid are marked, and the others are sent again. */
async function priceBatch(batch, query, result, signal) {
  let left = batch;
  while (left.length) {
    try {
      const { predictions } = await ask("predict/batch", { query, body: { houses: left.map(({ house }) => house) }, signal });
      left.forEach((row, index) => { row.answer = predictions[index]; });
      left = [];
    } catch (error) {
      const named = error instanceof Refused ? rowsOf(error.problems) : new Map();
      if (!named.size && error.status !== 413) throw error;
      if (!named.size && left.length === 1) named.set(0, [error.message]);
      if (!named.size) {
        const half = Math.ceil(left.length / 2);
        await priceBatch(left.slice(0, half), query, new Silent(), signal);
        left = left.slice(half);
        continue;
      }
      left.forEach((row, index) => { row.reason = named.get(index)?.join("; "); });
      left = left.filter(({ reason }) => !reason);
    }
  }
  result.add(batch);
}

/** The problems of each row, by its place in the batch. */
function rowsOf(problems) {
  const found = new Map();
  for (const { loc, msg } of problems) {
    const [, of, row, name] = loc;
    if (of === "houses" && Number.isInteger(row)) found.set(row, [...(found.get(row) ?? []), name ? `${label(name)}: ${msg}` : msg]);
  }
  return found;
}

class Silent {
  add() {}
}

/** What a file came to: the lines of the download, and a table of its beginning and of its bad rows. */
class Result {
  lines = [];
  #priced = 0;
  #bad = 0;
  #body = null;

  begin(cells) {
    const names = new Map(fields().map((name) => [name.toLowerCase(), name]));
    this.header = cells.map((cell) => cell.replace(/^\uFEFF/, "").trim());
    this.columns = this.header.map((head) => names.get(head.toLowerCase()) ?? names.get(head.toLowerCase().replaceAll(/\s+/g, "_")));
    const missing = required().filter((name) => !this.columns.includes(name));
    if (missing.length) throw new Error(`The file lacks the column ${missing.join(", ")}. Its first row must name the columns.`);
    this.lines.push(line([...this.header, "predicted_price", "lower", "upper", "confidence_level", "model_version", "warnings", "problem"]));
    const listing = table("Prices of the file", ["Row", ...required().map(label), "Price", "From", "To", "Remark"], []);
    this.#body = listing.querySelector("tbody");
    rows.replaceChildren(listing);
  }

  house(cells) {
    const found = {};
    this.columns.forEach((name, index) => {
      const text = cells[index]?.trim();
      if (name && text) found[name] = isNumeric(name) && isNumber(text) ? Number(text) : text;
    });
    return found;
  }

  add(batch) {
    for (const { count, cells, house, answer, reason } of batch) {
      const found = answer ?? {};
      const { lower, upper } = found.confidence_interval ?? {};
      const warnings = (found.warnings ?? []).map(({ msg }) => msg).join("; ");
      const padded = this.header.map((_, index) => cells[index] ?? "");
      this.lines.push(line([...padded, found.predicted_price, lower, upper, found.confidence_level, found.model_version, warnings, reason]));
      const order = reason ? (this.#bad += 1) : (this.#priced += 1);
      if (order > SHOWN) continue;
      const figures = reason ? ["", "", ""] : [found.predicted_price, lower, upper].map(dollars);
      const shown = [number(count), ...required().map((name) => number(house[name] ?? "")), ...figures, reason ?? warnings];
      this.#body.append(html("tr", { class: reason ? "bad" : false }, ...shown.map((text, index) => html("td", { class: index < shown.length - 1 ? "figure" : false }, text))));
    }
  }

  summary(name) {
    const parts = [`${number(this.#priced)} priced`, `${number(this.#bad)} not valid`];
    const more = Math.max(this.#priced, this.#bad) > SHOWN ? ` The table shows the first ${SHOWN} of each; the download has all.` : "";
    return `${name}${parts.join(", ")}.${more}`;
  }
}
