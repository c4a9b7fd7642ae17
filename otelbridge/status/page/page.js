// Polls /status every second and redraws the sections that have changed; the others keep focus, selection and open
// details.

import * as parts from "/parts.js";
import { clock, duration, make } from "/format.js";

const POLL_INTERVAL_MS = 1000;
const REQUEST_TIMEOUT_MS = 5000;
const SMOOTHING = 0.4; // weight of the newest rate in the moving average
const ALWAYS_REDRAWN = new Set(["subscriptions"]); // their timeline moves with the clock

const drawn = new Map();
const rates = new Map(parts.COMPONENTS.map(([name]) => [name, []]));
let before = null;
let lastAnswerAt = null;

const place = (id) => document.getElementById(id);

function draw(id, status, key = id) {
  const shown = JSON.stringify(status[key] ?? null);
  if (drawn.get(id) === shown && !ALWAYS_REDRAWN.has(id)) return;
  drawn.set(id, shown);
  const target = place(id);
  const open = keepFocus(target);
  target.replaceChildren(...parts[id](status));
  open();
}

// Redrawing must not throw a keyboard user out of a table that scrolls.
function keepFocus(target) {
  const focused = target.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  return () => {
    if (focused) target.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  };
}

function drawComponents(status) {
  const seconds = before ? status.now_unix_seconds - before.now_unix_seconds : 0;
  const components = place("components");
  if (!components.children.length) components.append(...parts.COMPONENTS.map(([name]) => make("li", { "data-component": name })));
  parts.COMPONENTS.forEach((component, at) => {
    const [name, , , counter] = component;
    const history = rates.get(name);
    if (seconds > 0) {
      const now = Math.max(0, (counter(status) - counter(before)) / seconds);
      history.push(history.length ? SMOOTHING * now + (1 - SMOOTHING) * history.at(-1) : now);
      if (history.length > parts.SAMPLES) history.shift();
    }
    components.children[at].replaceChildren(...parts.component(component, status, history));
  });
}

function drawAnswers(status) {
  const items = parts.answers(status);
  const words = items.map((element) => element.textContent).join(" ").replace(/[\d,:]+/g, "#");
  if (drawn.get("answers-words") === words) {
    // Only figures have changed: a screen reader need not hear it again.
    place("answers").setAttribute("aria-live", "off");
  } else {
    place("answers").setAttribute("aria-live", "polite");
    drawn.set("answers-words", words);
  }
  place("answers").replaceChildren(...items);
}

function show(status) {
  const worst = (status.answers ?? [])[0]?.word;
  const where = status.node || status.pod;
  document.title = [worst, where, "otelbridge"].filter(Boolean).join(" · ");
  place("identity").textContent = [
    status.node ? `node ${status.node}` : "",
    status.pod ? `pod ${status.pod}` : "",
    where ? "" : status.instance ?? "",
    status.version ? `version ${status.version}` : "",
    status.state ?? "",
    status.started_unix_seconds ? `up ${duration(status.now_unix_seconds - status.started_unix_seconds)}` : "",
  ].filter(Boolean).join(" · ");
  drawAnswers(status);
  drawComponents(status);
  for (const id of ["subscriptions", "ledger", "queue", "delivery", "gaps", "roads", "coverage", "history", "probes", "certificates", "settings"]) {
    draw(id, status);
  }
  for (const [id, shown] of [["floods", status.floods], ["process_traces", status.process_traces], ["events", (status.events ?? []).length]]) {
    place(`${id}-section`).hidden = !shown;
    draw(id, status);
  }
  before = status;
}

function tick() {
  const now = Date.now() / 1000;
  for (const element of document.querySelectorAll("time[data-since]")) {
    const text = `${duration(Math.max(0, now - Number(element.dataset.since)))} ago`;
    if (element.textContent !== text) element.textContent = text;
  }
}

async function poll() {
  try {
    const answer = await fetch("/status", { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS), cache: "no-store" });
    if (!answer.ok) throw new Error(`the bridge answered ${answer.status}`);
    show(await answer.json());
    lastAnswerAt = Date.now() / 1000;
    place("error").hidden = true;
    document.body.classList.remove("stale");
    place("freshness").textContent = `live, ${clock(lastAnswerAt)} UTC`;
  } catch (failure) {
    document.body.classList.add("stale");
    const error = place("error");
    if (error.hidden) {
      error.textContent = `The bridge does not answer; what stands here is from ${lastAnswerAt ? clock(lastAnswerAt) : "never"}. ${failure.message ?? ""}`;
      error.hidden = false;
    }
    place("freshness").textContent = "not live";
  }
  tick();
  setTimeout(poll, document.hidden ? POLL_INTERVAL_MS * 5 : POLL_INTERVAL_MS);
}

document.addEventListener("visibilitychange", tick);
poll();
