// CSV (RFC 4180), read piece by piece, and written so that a spreadsheet takes no cell for a formula: see
// https://owasp.org/www-community/attacks/CSV_Injection.

const FORMULA = /^[=+\-@\t\r]/;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** The separator of a file, by its first line: the one that it has most of. */
export function separatorOf(text) {
  const [line] = text.split(/\r?\n/, 1);
  return [",", ";", "\t", "|"].toSorted((a, b) => line.split(b).length - line.split(a).length)[0];
}

/** Splits text into rows of cells. Cells in quotes may have separators, quotes (doubled) and ends of lines. */
export class Reader {
  #cell = "";
  #cells = [];
  #isQuoted = false; // within quotes
  #isAfterQuote = false; // a quote that ends them, or the first of two
  #isAfterReturn = false;

  constructor(separator) {
    this.separator = separator;
  }

  /** The rows that end within `text`. */
  push(text) {
    const rows = [];
    for (const character of text) {
      if (this.#isQuoted) this.#quoted(character);
      else this.#plain(character, rows);
    }
    return rows;
  }

  /** What is left: the last row, if no line ends behind it. */
  end() {
    return this.#cell || this.#cells.length ? [this.#row()] : [];
  }

  #quoted(character) {
    if (character === '"') [this.#isQuoted, this.#isAfterQuote] = [false, true];
    else this.#cell += character;
  }

  #plain(character, rows) {
    const isSecond = character === '"' && this.#isAfterQuote;
    const isLineFeedOfPair = character === "\n" && this.#isAfterReturn;
    this.#isAfterQuote = false;
    this.#isAfterReturn = character === "\r";
    if (isSecond) {
      this.#cell += '"';
      this.#isQuoted = true;
    } else if (character === '"' && this.#cell === "") this.#isQuoted = true;
    else if (character === this.separator) {
      this.#cells.push(this.#cell);
      this.#cell = "";
    } else if (character === "\n" || character === "\r") {
      if (!isLineFeedOfPair) rows.push(this.#row());
    } else this.#cell += character;
  }

  #row() {
    const row = [...this.#cells, this.#cell];
    [this.#cells, this.#cell] = [[], ""];
    return row;
  }
}

export const isNumber = (text) => NUMBER.test(text);

/** A line of a CSV file. A text that a spreadsheet would compute gets an apostrophe in front. */
export function line(cells) {
  return `${cells.map((cell) => quoted(harmless(String(cell ?? "")))).join(",")}\r\n`;
}

const harmless = (text) => (FORMULA.test(text) && !isNumber(text) ? `'${text}` : text);
const quoted = (text) => (/[",\r\n;']/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
