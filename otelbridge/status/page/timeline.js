// Draws a subscription's states and recorded gaps as a bar over time.

import { clock, duration, make } from "/format.js";

const MAX_SPAN_SECONDS = 3600;
const MIN_SPAN_SECONDS = 120;
const SHORTEST_STRETCH_SECONDS = 0.5; // shorter ones, as the first connecting, are left out
const SEEING = new Set(["watching", "suspect"]);
const MOODS = { watching: "good", suspect: "warn", connecting: "blind", waiting: "blind", holding: "bad" };

// [{state, from, to, why}] within the window, oldest first.
function segments(subscription, from, now) {
  const changes = subscription.timeline ?? [];
  const found = [];
  changes.forEach((change, at) => {
    const to = at + 1 < changes.length ? changes[at + 1].unix_seconds : now;
    if (to > from) found.push({ state: change.state, why: change.why, from: Math.max(from, change.unix_seconds), to });
  });
  return found;
}

// Neighbouring states in which nothing is seen are one blind stretch.
function blindStretches(parts) {
  const stretches = [];
  let open = null;
  for (const part of parts) {
    if (SEEING.has(part.state) || part.state === "closed" || part.state === "draining") {
      open = null;
    } else if (open) {
      open.to = part.to;
      open.why = part.why || open.why;
    } else {
      open = { from: part.from, to: part.to, why: part.why };
      stretches.push(open);
    }
  }
  return stretches.filter((stretch) => stretch.to - stretch.from >= SHORTEST_STRETCH_SECONDS);
}

const legend = () =>
  make(
    "p",
    { class: "quiet legend", "aria-hidden": "true" },
    ...[["good", "seeing"], ["warn", "suspect"], ["blind", "blind"], ["bad", "blind until an operator helps"], ["idle", "not started, or ending"], ["none", "not running"]].map(([mood, word]) =>
      make("span", {}, make("i", {}, make("span", { class: `stretch ${mood}` })), word),
    ),
    make("span", {}, make("i", { class: "of-gap" }, make("span", { class: "mark" })), "gap on record"),
  );

export function timeline(subscription, gaps, startedAt, now) {
  const span = Math.min(MAX_SPAN_SECONDS, Math.max(MIN_SPAN_SECONDS, now - startedAt));
  const from = now - span;
  const parts = segments(subscription, from, now);
  const blind = blindStretches(parts);
  const place = (element, begins, ends) => {
    element.style.left = `${(100 * (Math.max(begins, from) - from)) / span}%`;
    element.style.width = `${(100 * (Math.min(ends, now) - Math.max(begins, from))) / span}%`;
    return element;
  };
  const bar = make("div", { class: "bar", "aria-hidden": "true" });
  for (const part of parts) {
    const title = `${part.state} from ${clock(part.from)} for ${duration(part.to - part.from)}${part.why ? `: ${part.why}` : ""}`;
    bar.append(place(make("span", { class: `stretch ${MOODS[part.state] ?? "idle"}`, "data-state": part.state, title }), part.from, part.to));
  }
  const marks = make("div", { class: "marks", "aria-hidden": "true" });
  for (const gap of gaps) {
    if (gap.upstream === subscription.upstream && gap.ended_unix_seconds > from) {
      const title = `${gap.stream}: ${gap.cause}, ${duration(gap.ended_unix_seconds - gap.started_unix_seconds)}`;
      marks.append(place(make("span", { class: "mark", title }), gap.started_unix_seconds, gap.ended_unix_seconds));
    }
  }
  const told = blind.map((stretch) =>
    make("li", {}, `${clock(stretch.from)}, ${duration(stretch.to - stretch.from)}${stretch.to === now ? " so far" : ""}`, stretch.why ? `: ${stretch.why}` : ""),
  );
  const summary = blind.length
    ? `${blind.length} blind ${blind.length === 1 ? "stretch" : "stretches"} in the last ${duration(span)}`
    : `no blind stretch in the last ${duration(span)}`;
  return make(
    "div",
    { class: "timeline" },
    bar,
    marks,
    make("div", { class: "axis", "aria-hidden": "true" }, make("span", {}, `${clock(from)} UTC`), make("span", {}, "now")),
    legend(),
    make("p", { class: "quiet" }, summary),
    told.length ? make("ul", { class: "stretches" }, ...told.slice(-5)) : null,
  );
}
