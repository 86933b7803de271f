// The page: what is in the address is in the form, what is in the form is priced, and all else follows from the version
// that answered. Only the newest change is followed up; what an older one still waits for is given up.

import { byId } from "./elements.js";
import { showComparables } from "./comparables.js";
import { takeFiles } from "./drop.js";
import * as form from "./form.js";
import { hidePrice, interval, showPrice } from "./price.js";
import { showReasons } from "./reasons.js";
import { ask, pause, Refused } from "./service.js";
import { offerVersions, shown, showVersion } from "./version.js";
import { offerFields, showWhatIf } from "./what_if.js";

const TYPING = 150; // milliseconds without a change, after which a price is asked for
const THINKING = 450; // further ones, after which reasons, comparable sales and the rest are
const MORE = { explain: "true", comparables: "5" }; // parameters of services that have them, and what is asked for
const house = byId("house");
const parameters = new Set(document.body.dataset.parameters.split(" "));
const lacking = new Set(); // versions with the parameter that they cannot answer
let newest = new AbortController();
let priced = null; // the query and the signal of the price that is shown, once typing has paused
let edit = 0; // the number of the present one: an input is edited until its change is committed
let written = -1; // the edit that the newest entry of the history is of

const given = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

/** Price the form: at once, or when typing pauses. */
async function update(wait = 0) {
  newest.abort();
  newest = new AbortController();
  const { signal } = newest;
  const own = edit;
  try {
    await pause(wait, signal);
    if (wait) writeAddress(own);
    const { confidence, model_version } = form.values();
    const answer = await ask("predict", { query: { confidence, model_version }, body: form.house(), signal });
    await show(answer, signal);
    await pause(THINKING, signal);
    byId("spoken").textContent = `Estimated price ${byId("price").textContent}. ${interval(answer)}.`;
    const query = { confidence, model_version: answer.model_version };
    priced = { query, signal };
    await Promise.all([showMore(query, signal), showWhatIf(form.house(), shown.info, query, signal)]);
  } catch (error) {
    if (signal.aborted) return;
    fail(error);
  }
}

/** Another field of what if is chosen. Before typing has paused, it is shown with all else. */
async function moveField() {
  if (!priced || priced.signal.aborted) return;
  try {
    await showWhatIf(form.house(), shown.info, priced.query, priced.signal);
  } catch (error) {
    if (!priced.signal.aborted) fail(error);
  }
}

async function show(answer, signal) {
  form.showProblems([]);
  byId("failure").textContent = "";
  showPrice(answer);
  if (!(await showVersion(answer.model_version, given(), signal))) return;
  offerFields(shown.info ? form.fields() : [], moveField);
  await offerVersions(form.values().model_version);
}

/** Reasons and comparable sales, in one request if the version has both: each answer is a prediction in the journal. */
async function showMore(query, signal) {
  const offered = Object.keys(MORE).filter((name) => parameters.has(name));
  const answer = await askMore(query, offered.filter((name) => !lacking.has(query.model_version + name)), signal);
  showReasons(answer);
  showComparables(form.house(), answer.comparables);
}

async function askMore(query, names, signal) {
  if (!names.length) return {};
  const more = Object.fromEntries(names.map((name) => [name, MORE[name]]));
  try {
    return await ask("predict", { query: { ...query, ...more }, body: form.house(), signal });
  } catch (error) {
    if (error.status !== 404) throw error;
    if (names.length === 1) {
      lacking.add(query.model_version + names[0]);
      return {};
    }
    const answers = [];
    for (const name of names) answers.push(await askMore(query, [name], signal));
    return Object.assign({}, ...answers);
  }
}

function fail(error) {
  const problems = error.problems ?? [];
  const rest = form.showProblems(problems);
  byId("failure").textContent = problems.length ? rest.join("; ") || "Correct the marked fields." : error.message;
  hidePrice();
  showReasons({});
  showComparables();
  if (!(error instanceof Refused)) throw error;
}

/** The house goes into the address: an entry of the history for each edit, not for each keystroke. */
function writeAddress(own) {
  const address = `#${new URLSearchParams(form.values())}`;
  if (address !== location.hash) history[own === written ? "replaceState" : "pushState"](null, "", address);
  written = own;
  byId("address").textContent = location.href;
}

function readAddress() {
  form.fill(given());
  edit += 1;
  byId("address").textContent = location.href;
}

async function start() {
  house.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("input", ({ target }) => {
    if (target.form === house) update(TYPING);
  });
  document.addEventListener("change", ({ target }) => {
    if (target.form === house) edit += 1;
  });
  addEventListener("popstate", () => {
    readAddress();
    update();
  });
  takeFiles(() => ({ confidence: form.values().confidence, model_version: shown.name }));
  readAddress();
  const { model_version: asked } = given();
  // Both, also if one of them fails: without the choice of versions, another than the one in the address would answer.
  const begun = await Promise.allSettled([showVersion(asked || "champion", given()), offerVersions(asked)]);
  const failed = begun.find(({ status }) => status === "rejected");
  if (failed) fail(failed.reason);
  else offerFields(shown.info ? form.fields() : [], moveField);
  await update();
}

start();
