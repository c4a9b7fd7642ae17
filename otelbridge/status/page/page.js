// Asks /status every second and keeps the page in step with it. A part is redrawn only when it has changed, so that
// focus, selection and what is folded open stay where they are.

import * as parts from "/parts.js";
import { clock, duration, make } from "/words.js";

const EVERY_MS = 1000;
const PATIENCE_MS = 5000;
const SMOOTHING = 0.4; // of the newest rate: steady enough to read, quick enough to see
const MOVING = new Set(["subscriptions"]); // redrawn every time: their timeline moves with the clock

const drawn = new Map();
const rates = new Map(parts.STATIONS.map(([name]) => [name, []]));
let before = null;
let heardAt = null;

const place = (id) => document.getElementById(id);

function draw(id, status, key = id) {
  const shown = JSON.stringify(status[key] ?? null);
  if (drawn.get(id) === shown && !MOVING.has(id)) return;
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

function drawRoad(status) {
  const seconds = before ? status.now_unix_seconds - before.now_unix_seconds : 0;
  const road = place("road");
  if (!road.children.length) road.append(...parts.STATIONS.map(([name]) => make("li", { "data-station": name })));
  parts.STATIONS.forEach((station, at) => {
    const [name, , , counter] = station;
    const past = rates.get(name);
    if (seconds > 0) {
      const now = Math.max(0, (counter(status) - counter(before)) / seconds);
      past.push(past.length ? SMOOTHING * now + (1 - SMOOTHING) * past.at(-1) : now);
      if (past.length > parts.SAMPLES) past.shift();
    }
    road.children[at].replaceChildren(...parts.station(station, status, past));
  });
}

function drawVerdict(status) {
  const made = parts.verdict(status);
  const said = made.map((element) => element.textContent).join(" ").replace(/[\d,:]+/g, "#");
  if (drawn.get("verdict-words") === said) {
    // Only figures have changed: a screen reader need not hear it again.
    place("verdict").setAttribute("aria-live", "off");
  } else {
    place("verdict").setAttribute("aria-live", "polite");
    drawn.set("verdict-words", said);
  }
  place("verdict").replaceChildren(...made);
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
  drawVerdict(status);
  drawRoad(status);
  for (const id of ["subscriptions", "ledger", "queue", "delivery", "gaps", "history", "probes", "certificates", "settings"]) {
    draw(id, status);
  }
  place("events-section").hidden = !(status.events ?? []).length;
  draw("events", status);
  before = status;
}

function tick() {
  const now = Date.now() / 1000;
  for (const element of document.querySelectorAll("time[data-since]")) {
    const text = `${duration(Math.max(0, now - Number(element.dataset.since)))} ago`;
    if (element.textContent !== text) element.textContent = text;
  }
}

async function ask() {
  try {
    const answer = await fetch("/status", { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
    if (!answer.ok) throw new Error(`the bridge answered ${answer.status}`);
    show(await answer.json());
    heardAt = Date.now() / 1000;
    place("trouble").hidden = true;
    document.body.classList.remove("stale");
    place("freshness").textContent = `live, ${clock(heardAt)} UTC`;
  } catch (error) {
    document.body.classList.add("stale");
    const trouble = place("trouble");
    if (trouble.hidden) {
      trouble.textContent = `The bridge does not answer; what stands here is from ${heardAt ? clock(heardAt) : "never"}. ${error.message ?? ""}`;
      trouble.hidden = false;
    }
    place("freshness").textContent = "not live";
  }
  tick();
  setTimeout(ask, document.hidden ? EVERY_MS * 5 : EVERY_MS);
}

document.addEventListener("visibilitychange", tick);
ask();
