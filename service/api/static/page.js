// The page: what is in the address is in the form, what is in the form is priced, and everything else follows from the
// version that answered. Only the newest change is followed up; what an older one still waits for is given up.

import { byId, date, html, number, percent } from "./elements.js";
import * as form from "./form.js";
import { showComparables } from "./comparables.js";
import { takeFiles } from "./file.js";
import { hidePrice, interval, showPrice } from "./price.js";
import { showReasons } from "./reasons.js";
import { ask, key, pause, Refused } from "./service.js";
import { offerFields, showWhatIf } from "./what_if.js";

const TYPING = 150; // milliseconds without a change, after which a price is asked for
const THINKING = 450; // further ones, after which reasons, comparable sales and the rest are
const COMPARABLES = 5;
const known = new Set(document.body.dataset.parameters.split(" "));
const withoutSales = new Map(); // what the service says of versions that have no sales to compare with
let info = null; // of the version that answered; null if this key may not read it
let described = "";
let newest = new AbortController();
let isEditing = false;

const given = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

async function update({ wait = TYPING, remember = true } = {}) {
  newest.abort();
  newest = new AbortController();
  const { signal } = newest;
  try {
    await pause(wait, signal);
    if (remember) writeAddress();
    const { confidence, model_version } = form.values();
    const answer = await ask("predict", { query: { confidence, model_version }, body: form.house(), signal });
    form.showProblems([]);
    showPrice(answer);
    byId("failure").textContent = "";
    await describe(answer.model_version, signal);
    await pause(THINKING, signal);
    byId("spoken").textContent = `Estimated price ${byId("price").textContent}. ${interval(answer)}.`;
    const query = { confidence, model_version: answer.model_version };
    await Promise.all([showMore(query, signal), showWhatIf(form.house(), info, query, signal)]);
  } catch (error) {
    if (signal.aborted) return;
    fail(error);
  }
}

function fail(error) {
  const rest = form.showProblems(error.problems ?? []);
  byId("failure").textContent = error.problems?.length ? rest.join("; ") : error.message;
  hidePrice();
  showReasons(null);
  showComparables(null);
  if (!(error instanceof Refused)) throw error;
}

/** The house goes into the address: a new entry of the history for each edit, not for each keystroke. */
function writeAddress() {
  const address = `#${new URLSearchParams(form.values())}`;
  if (address === location.hash) return;
  isEditing ? history.replaceState(null, "", address) : history.pushState(null, "", address);
  isEditing = true;
  byId("address").textContent = location.href;
}

/** Reasons and comparable sales, in one request: each answer is a prediction in the journal. */
async function showMore(query, signal) {
  const version = query.model_version;
  const more = {
    explain: known.has("explain") ? "true" : "",
    comparables: known.has("comparables") && !withoutSales.has(version) ? COMPARABLES : "",
  };
  let answer = null;
  try {
    if (more.explain || more.comparables) answer = await ask("predict", { query: { ...query, ...more }, body: form.house(), signal });
  } catch (error) {
    if (error.status !== 404 || !more.comparables) throw error;
    withoutSales.set(version, error.message);
    return showMore(query, signal);
  }
  showReasons(answer);
  showComparables(form.house(), answer?.comparables, withoutSales.get(version));
}

/** What is known of a version: its columns become fields. */
async function describe(version, signal) {
  if (version === described) return;
  try {
    info = await ask("model/info", { query: { model_version: version }, signal });
  } catch (error) {
    if (error.status !== 403) throw error;
    info = null; // this key may predict, but not read
  }
  described = info?.version ?? version;
  const columns = info?.columns ?? [];
  form.showColumns(columns, given());
  offerFields(info ? form.fields() : [], () => update({ wait: 0 }));
  byId("what-if").hidden = !info;
  byId("known").textContent = columns.length ? `, and if known ${columns.map(({ name }) => name).join(", ")}` : "";
  byId("version").replaceChildren(...about(described));
  if (document.body.dataset.report !== undefined) await linkReport(described);
}

function about(version) {
  if (!info) return [`Version ${version}.`];
  const { data, metrics, trained_at: trained } = info;
  const made = data.synthetic ? "made-up sales, so its prices mean nothing" : `${number(data.rows)} sales`;
  const coverage = metrics.intervals.find(({ level }) => level === 0.9)?.coverage;
  const quality = `On sales that it had not seen, it was off by ${percent(metrics.test.mape, 1)} on average`
    + (coverage ? `, and its intervals of 90 % held ${percent(coverage, 1)} of the time.` : ".");
  return [html("strong", {}, version), ` learned from ${made}, on ${date(trained)}. ${quality} `];
}

/** Link the report of a version if it has one. With a key, a link cannot be followed: the report is saved instead. */
async function linkReport(version) {
  const address = `model/report?model_version=${version}`;
  const headers = key() ? { "X-API-Key": key() } : {};
  const answer = await fetch(address, { method: "HEAD", headers }).catch(() => null);
  if (!answer?.ok || version !== described) return;
  const link = html("a", { href: address }, key() ? "Save its report" : "Its report");
  if (key()) {
    link.addEventListener("click", async (event) => {
      event.preventDefault();
      const report = await (await fetch(address, { headers })).blob();
      html("a", { href: URL.createObjectURL(report), download: `report-${version}.html` }).click();
    });
  }
  byId("version").append(link);
}

/** A choice of versions where there are several. */
async function offerVersions() {
  const { models } = await ask("models").catch((error) => {
    if (error.status !== 403) throw error;
    return { models: [] };
  });
  const select = byId("house").elements.model_version;
  const options = models.map(({ version, role, weight }) => html("option", { value: version }, `${version}, ${role}${weight && weight < 100 ? `, ${weight} % of the clients` : ""}`));
  select.replaceChildren(html("option", { value: "" }, "the service decides"), ...options);
  select.closest("label").hidden = models.length < 2;
  select.value = given().model_version ?? "";
}

async function start() {
  form.fill(given());
  byId("house").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("input", ({ target }) => target.form === byId("house") && update());
  document.addEventListener("change", ({ target }) => {
    if (target.form === byId("house")) isEditing = false;
  });
  addEventListener("popstate", () => {
    form.fill(given());
    isEditing = false;
    update({ wait: 0, remember: false });
  });
  takeFiles(() => ({ confidence: form.values().confidence, model_version: described }));
  byId("address").textContent = location.href;
  try {
    await Promise.all([describe(given().model_version || "champion"), offerVersions()]);
  } catch (error) {
    byId("failure").textContent = error.message;
  }
  await update({ wait: 0, remember: false });
}

start();
