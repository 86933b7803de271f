// The version that answers: its columns, what it learned from, its report, and the others that are in service.

import { byId, date, html, number, percent } from "./elements.js";
import * as form from "./form.js";
import { ask, key } from "./service.js";

const hasReports = document.body.dataset.report !== undefined;
const LEVEL = 0.9; // of the interval whose coverage is shown

/** The version that is shown: its name, and the answer of /model/info, or null if the key may not read it. */
export const shown = { name: "", info: null };

/** Show a version, if another one is shown; returns whether it was. */
export async function showVersion(name, given, signal) {
  if (name === shown.name) return false;
  shown.info = await readable(ask("model/info", { query: { model_version: name }, signal }));
  shown.name = shown.info?.version ?? name;
  const columns = shown.info?.columns ?? [];
  form.showColumns(columns, given);
  byId("known").textContent = columns.length ? `, and if known ${columns.map((column) => column.name).join(", ")}` : "";
  byId("version").replaceChildren(html("strong", {}, shown.name), ...(shown.info ? [about(shown.info)] : []));
  if (hasReports) linkReport(shown.name);
  return true;
}

/** An answer, or null if the key lacks the scope: it may predict, but not read. */
async function readable(answer) {
  try {
    return await answer;
  } catch (error) {
    if (error.status === 403) return null;
    throw error;
  }
}

function about({ data, metrics, trained_at: trained }) {
  const source = data.synthetic ? "made-up sales, so that its prices mean nothing" : `${number(data.rows)} sales`;
  const coverage = metrics.intervals.find(({ level }) => level === LEVEL)?.coverage;
  const held = coverage === undefined ? "" : `, and ${percent(coverage, 1)} of its intervals of ${percent(LEVEL)} held`;
  return ` learned from ${source}, on ${date(trained)}. `
    + `On sales that it had not seen, it was off by ${percent(metrics.test.mape, 1)} on average${held}. `;
}

/** Link the report of a version if it has one. No link carries a key: with one, the report is saved instead. */
async function linkReport(name) {
  const address = `model/report?model_version=${encodeURIComponent(name)}`;
  const fetched = (method) => fetch(address, { method, headers: key() ? { "X-API-Key": key() } : {} });
  const answer = await fetched("HEAD").catch(() => null);
  if (!answer?.ok || name !== shown.name) return;
  const link = html("a", { href: address }, key() ? "Save its report" : "Its report");
  if (key()) link.addEventListener("click", async (event) => {
    event.preventDefault();
    const href = URL.createObjectURL(await (await fetched("GET")).blob());
    html("a", { href, download: `report-${name}.html` }).click();
  });
  byId("version").append(link);
}

/** Offer a choice of versions where several are in service; `asked` is the one in the address. */
export async function offerVersions(asked = "") {
  const { models } = (await readable(ask("models"))) ?? { models: [] };
  const select = byId("house").elements.model_version;
  const share = (weight) => (weight > 0 && weight < 100 ? `, ${weight} % of the clients` : "");
  const options = models.map(({ version, role, weight }) =>
    html("option", { value: version }, `${version}, ${role}${share(weight)}`));
  if (asked && !options.some(({ value }) => value === asked)) {
    options.push(html("option", { value: asked }, models.length ? `${asked}, not in service` : asked));
  }
  select.replaceChildren(html("option", { value: "" }, "the service decides"), ...options);
  select.value = asked;
  select.closest("label").hidden = options.length < 2;
}
