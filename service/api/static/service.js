// Requests to the service that this page belongs to. A request waits while the service is gone or busy, and until a
// key has been entered if one is required. What the service refuses is raised as `Refused`.

import { byId, html } from "./elements.js";

const KEY = "appraiser-key";
const CLIENT = "appraiser-client";
const GONE = new Set([502, 503, 504]);
const LONGEST_WAIT = 8; // seconds

export class Refused extends Error {
  constructor(status, detail) {
    super(typeof detail === "string" ? detail : "The request is not valid.");
    this.status = status;
    /** What is wrong, field by field: {loc, msg}. */
    this.problems = Array.isArray(detail) ? detail : [];
  }
}

export const key = () => sessionStorage.getItem(KEY);

/** The answer to a request, parsed. `query` leaves out what is empty; with a `body` it is a POST. */
export async function ask(path, { query = {}, body, signal } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined);
  const address = given.length ? `${path}?${new URLSearchParams(given)}` : path;
  for (let attempt = 0; ; attempt += 1) {
    const used = key();
    const { status, content, retryAfter } = await send(address, body, used, signal);
    if (status >= 200 && status < 300) return content;
    if (status === 401) await newKey(content.detail, used, signal);
    else if (status === 429) await wait("Too many requests: the service asks to wait.", retryAfter || 1, signal);
    else if (!status || GONE.has(status)) {
      const reason = content?.detail ?? "The service does not answer.";
      await wait(reason, retryAfter || Math.min(2 ** attempt, LONGEST_WAIT), signal);
    } else throw new Refused(status, content?.detail ?? `The service answered ${status}.`);
  }
}

async function send(address, body, used, signal) {
  const headers = { Accept: "application/json", "X-Client-Id": client() };
  if (used) headers["X-API-Key"] = used;
  const request = { headers, signal, cache: "no-store" };
  if (body !== undefined) {
    request.method = "POST";
    request.body = JSON.stringify(body);
    headers["Content-Type"] = "application/json";
  }
  try {
    const answer = await fetch(address, request);
    const content = await answer.json().catch((error) => {
      if (answer.ok) throw error; // the connection broke within the answer
    });
    return { status: answer.status, content, retryAfter: Number(answer.headers.get("Retry-After")) };
  } catch {
    signal?.throwIfAborted();
    return { status: 0 };
  }
}

/** A name for this tab, so that a split of the clients keeps it on one version. */
function client() {
  const found = sessionStorage.getItem(CLIENT) ?? Math.random().toString(36).slice(2);
  sessionStorage.setItem(CLIENT, found);
  return found;
}

/** Resolves after so many milliseconds; rejects when `signal` aborts. */
export function pause(milliseconds, signal) {
  return unlessAborted(new Promise((resolve) => setTimeout(resolve, milliseconds)), signal);
}

function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const give = () => reject(signal.reason);
    if (signal.aborted) give();
    signal.addEventListener("abort", give, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", give));
  });
}

const waiting = new Map();

/** Say why the page waits, and count the seconds. */
async function wait(reason, seconds, signal) {
  const name = Symbol(reason);
  try {
    for (let left = seconds; left > 0; left -= 1) {
      waiting.set(name, [reason, ` The next attempt is in ${Math.ceil(left)} s.`]);
      showWaiting();
      await pause(Math.min(left, 1) * 1000, signal);
    }
  } finally {
    setTimeout(() => { // the next attempt is soon answered: until then the state stays
      waiting.delete(name);
      showWaiting();
    }, 300);
  }
}

function showWaiting() {
  const [found] = waiting.values();
  const state = byId("state");
  document.body.classList.toggle("waiting", Boolean(found)); // what is shown is of before
  if (!found) state.replaceChildren();
  else if (state.firstChild?.textContent === found[0]) state.lastChild.textContent = found[1]; // said once, counted on
  else state.replaceChildren(html("span", {}, found[0]), html("span", { "aria-hidden": "true" }, found[1]));
}

let entered = null;

/** Resolves when there is another key than `used`. */
function newKey(reason, used, signal) {
  if (key() !== used) return Promise.resolve();
  entered ??= new Promise((resolve) => {
    const form = byId("key");
    const before = document.activeElement;
    byId("key-reason").textContent = reason;
    form.hidden = false;
    byId("key-text").focus();
    form.onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, byId("key-text").value.trim());
      byId("key-text").value = "";
      form.hidden = true;
      entered = null;
      before?.focus();
      resolve();
    };
  });
  return unlessAborted(entered, signal);
}
