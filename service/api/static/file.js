// A file of houses, priced in parts: it is read in slices, so that no task is long, and there is one batch at a time.

import { Reader, isNumber, line, separatorOf } from "./csv.js";
import { byId, dollars, html, number, row, table } from "./elements.js";
import { fields, isNumeric, label, required } from "./form.js";
import { ask } from "./service.js";

const SLICE = 64 * 1024; // bytes, which take a few milliseconds
const BATCH = Math.min(Number(document.body.dataset.maxRows), 500); // rows
const SHOWN = 200; // rows with a price, and as many without
const ADDED = ["predicted_price", "lower", "upper", "confidence_level", "model_version", "warnings", "problem"];
const [cancel, download, progress, state, rows] =
  [".cancel", ".download", "progress", ".told", ".rows"].map((part) => byId("file").querySelector(part));
let running = null;

cancel.addEventListener("click", () => running.abort());

/** Price a file; a former one is given up. `query` is that of its batches. */
export async function priceFile(file, query) {
  running?.abort();
  const { signal } = (running = new AbortController());
  const isNewest = () => running.signal === signal;
  const result = new Result();
  begin(file);
  try {
    for await (const batch of batches(file, result)) {
      await priceBatch(batch, query, signal);
      if (!isNewest()) return;
      result.add(batch);
      state.textContent = `${file.name}: ${result.summary()}`;
    }
    state.textContent = `${file.name} is done: ${result.summary()}`;
  } catch (error) {
    if (!isNewest()) return;
    state.textContent = `${signal.aborted ? "Canceled." : error.message} ${result.summary()}`;
  }
  end(result);
}

function begin(file) {
  state.textContent = `${file.name} is being read.`;
  rows.replaceChildren();
  URL.revokeObjectURL(download.href);
  [cancel.hidden, progress.hidden, download.hidden, progress.value] = [false, false, true, 0];
}

function end(result) {
  [cancel.hidden, progress.hidden, download.hidden] = [true, true, result.lines.length < 2];
  download.href = URL.createObjectURL(new Blob(result.lines, { type: "text/csv" }));
}

/** The rows of a file in batches: each row with its number, its cells and its house. */
async function* batches(file, result) {
  const decoder = new TextDecoder(); // takes a byte order mark away
  let reader = null;
  let count = 0;
  const batch = [];
  for (let start = 0; start < file.size; start += SLICE) {
    const isLast = start + SLICE >= file.size;
    const text = decoder.decode(await file.slice(start, start + SLICE).arrayBuffer(), { stream: !isLast });
    reader ??= new Reader(separatorOf(text));
    for (const cells of [...reader.push(text), ...(isLast ? reader.end() : [])]) {
      count += 1;
      if (count === 1) result.begin(cells);
      else if (cells.length > 1 || cells[0].trim()) batch.push({ count, cells, house: result.house(cells) });
    }
    while (batch.length >= BATCH) yield batch.splice(0, BATCH);
    progress.value = start / file.size;
  }
  if (batch.length) yield batch;
}

/** Give each row its answer or its problem: rows that the service names are not valid; the others are sent again. */
async function priceBatch(batch, query, signal) {
  if (!batch.length) return;
  try {
    const body = { houses: batch.map(({ house }) => house) };
    const { predictions } = await ask("predict/batch", { query, body, signal });
    batch.forEach((one, index) => (one.answer = predictions[index]));
  } catch (error) {
    const named = (error.problems ?? []).filter(({ loc }) => loc[1] === "houses" && loc.length > 2);
    if (error.status === 413 && batch.length > 1) {
      const half = batch.length >> 1;
      await priceBatch(batch.slice(0, half), query, signal);
      await priceBatch(batch.slice(half), query, signal);
      return;
    }
    if (!named.length) throw error;
    for (const { loc: [, , index, name], msg } of named) {
      const former = batch[index].problem;
      batch[index].problem = `${former ? `${former}; ` : ""}${name ? `${label(name)}: ` : ""}${msg}`;
    }
    await priceBatch(batch.filter(({ problem }) => !problem), query, signal);
  }
}

/** The lines of the download, and a table of the first rows. */
class Result {
  lines = [];
  #counts = { priced: 0, bad: 0 };
  #body = null;

  /** Take the first row, which names the columns. Raises an error if one of the contract is not there. */
  begin(cells) {
    const known = new Map(fields().map((name) => [name.toLowerCase(), name]));
    const heads = cells.map((cell) => cell.trim().toLowerCase());
    this.width = cells.length;
    this.names = heads.map((head) => known.get(head) ?? known.get(head.replaceAll(/\s+/g, "_")));
    const missing = required().filter((name) => !this.names.includes(name));
    if (missing.length) throw new Error(`The first row must name the columns; not found: ${missing.join(", ")}.`);
    this.lines.push(line([...cells, ...ADDED]));
    const shown = table("Prices of the file", ["Row", "Price", "From", "To", "Remark"], []);
    this.#body = shown.querySelector("tbody");
    rows.replaceChildren(shown);
  }

  /** A number stays a text if it is none, so that the service names the row. */
  house(cells) {
    const given = this.names.map((name, index) => [name, cells[index]?.trim()]).filter(([name, text]) => name && text);
    const read = (name, text) => (isNumeric(name) && isNumber(text) ? Number(text) : text);
    return Object.fromEntries(given.map(([name, text]) => [name, read(name, text)]));
  }

  add(batch) {
    for (const one of batch) {
      const { predicted_price: price, confidence_interval: interval, warnings = [], ...rest } = one.answer ?? {};
      const remark = one.problem ?? warnings.map(({ msg }) => msg).join("; ");
      const cells = Array.from({ length: this.width }, (_, index) => one.cells[index]);
      this.lines.push(line([
        ...cells, price, interval?.lower, interval?.upper, rest.confidence_level, rest.model_version,
        one.problem ? "" : remark, one.problem,
      ]));
      const order = (this.#counts[one.problem ? "bad" : "priced"] += 1);
      if (order > SHOWN) continue;
      const prices = interval ? [price, interval.lower, interval.upper].map(dollars) : ["", "", ""];
      this.#body.append(row([number(one.count), ...prices, remark], { class: one.problem ? "bad" : false }));
    }
  }

  summary() {
    const { priced, bad } = this.#counts;
    const isCut = Math.max(priced, bad) > SHOWN;
    return `${number(priced)} priced, ${number(bad)} not valid.`
      + (isCut ? ` The table shows the first ${SHOWN} of each; the download has all.` : "");
  }
}
