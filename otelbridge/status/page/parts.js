// Makes each section of the page from its part of the status document.

import { timeline } from "/timeline.js";
import { ago, badge, bytes, clock, count, date, duration, make, plural, rate, sum, table } from "/format.js";

const STATE_MOODS = { watching: "good", suspect: "warn", connecting: "warn", waiting: "warn", holding: "bad", delivering: "good", delayed: "warn", held: "bad", opening: "warn" };
const LEVEL_MOODS = { error: "bad", warning: "warn" };
const EXPIRY_WARNING_SECONDS = 14 * 86400;
const SHOWN = 30;

const state = (name) => badge(name, STATE_MOODS[name] ?? "plain");
const none = (text) => make("p", { class: "quiet" }, text);
const facts = (...pairs) =>
  make("dl", {}, ...pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));

// The three answers, worst first, as the bridge gives them.
const MOOD_WORDS = { bad: "now", warn: "now", past: "since the start", good: "well" };
export function answers(document) {
  return (document.answers ?? []).map((answer) =>
    make(
      "li",
      { class: `answer ${answer.mood}` },
      make("h3", {}, answer.question, " ", badge(MOOD_WORDS[answer.mood] ?? answer.mood, answer.mood)),
      make("p", {}, answer.sentence),
      answer.runbook ? make("p", { class: "quiet" }, "Runbook: ", runbook(document.runbook_url, answer.runbook)) : null,
    ),
  );
}

const runbook = (url, section) =>
  url ? make("a", { href: `${url}#${section}`, rel: "noreferrer" }, section) : make("span", { class: "mono" }, `docs/runbook.md#${section}`);

export function subscriptions(document) {
  const all = document.subscriptions ?? [];
  if (!all.length) return [none("There is no subscription yet.")];
  return all.map((one) => {
    const streams = Object.entries(one.streams ?? {}).map(([name, stream]) => [
      name,
      state(stream.state),
      count(stream.events),
      ago(stream.last_event_unix_seconds),
      stream.error ?? "",
    ]);
    return make(
      "article",
      { class: "card", "data-upstream": one.upstream },
      make("h3", {}, make("span", { class: "mono" }, one.upstream), " ", state(one.state), " ", make("small", {}, "since ", clock(one.since_unix_seconds))),
      one.last_error ? make("p", { class: "error" }, one.error_class ? `${one.error_class}: ` : "", one.last_error) : null,
      Number.isFinite(one.next_attempt_in_seconds) ? make("p", {}, `Next attempt in ${duration(one.next_attempt_in_seconds)}, number ${count(one.attempts_in_a_row + 1)} in a row.`) : null,
      timeline(one, document.gaps ?? [], document.started_unix_seconds ?? document.now_unix_seconds, document.now_unix_seconds),
      table(`Streams of ${one.upstream}`, [["Stream"], ["State"], ["Events since the start", "number"], ["Last event"], ["Trouble"]], streams),
    );
  });
}

export function ledger(document) {
  if (!document.ledger?.streams) return [none("There are no figures yet.")];
  const reasons = (named) => {
    const items = Object.entries(named ?? {}).filter(([, records]) => records);
    return items.length ? make("ul", { class: "named" }, ...items.map(([name, records]) => make("li", {}, `${count(records)} ${name}`))) : "0";
  };
  const rows = Object.entries(document.ledger.streams).map(([name, a]) => [
    name,
    count(a.received),
    count(a.delivered),
    count(a.rejected),
    reasons(a.dropped),
    reasons(a.filtered),
    count(a.summarised),
    count(a.doubled ?? 0),
    count(a.held),
    a.residue ? badge(`no, ${count(a.residue)} off`, "bad") : badge("yes", "good"),
  ]);
  const columns = [["Stream"], ["Received", "number"], ["Delivered", "number"], ["Rejected", "number"], ["Dropped", "number"], ["Filtered", "number"], ["Summarised", "number"], ["Doubled", "number"], ["Held", "number"], ["Balances"]];
  return [none("Since this queue was made, over all restarts: received = delivered + rejected + dropped + filtered + summarised + doubled + held"), table("Ledger", columns, rows)];
}

export function queue(document) {
  const q = document.queue;
  if (!q) return [none("There are no figures yet.")];
  const share = q.max_bytes ? q.bytes / q.max_bytes : 0;
  const meter = make("meter", { min: 0, max: 1, low: 0.7, high: 0.9, optimum: 0, value: share, "aria-label": "Queue filled" }, `${Math.round(share * 100)} %`);
  return [
    q.degraded ? make("p", { class: "error" }, "The disk does not accept writes: records wait in memory.") : null,
    meter,
    facts(
      ["Held", plural(q.records, "record")],
      ["On disk", `${bytes(q.bytes)} of ${bytes(q.max_bytes)} (${Math.round(share * 100)} %)`],
      ["Oldest", q.oldest_age_seconds === null ? "none held" : `${duration(q.oldest_age_seconds)} old`],
      ["In memory only", q.memory_records ? count(q.memory_records) : ""],
      ["Dead letters", count(q.dead_letters)],
      ["File", make("span", { class: "mono" }, q.path ?? "")],
    ),
  ].filter(Boolean);
}

export function delivery(document) {
  const all = document.delivery ?? [];
  if (!all.length) return [none("Nothing has been sent yet.")];
  return all.map((d) =>
    make(
      "article",
      {},
      make("h3", {}, make("span", { class: "mono" }, d.endpoint), " ", state(d.state)),
      d.code || d.why ? make("p", { class: "error" }, [d.code, d.why].filter(Boolean).join(": "), d.cure ? ` ${d.cure}` : "") : null,
      facts(
        ["Taken since the start", plural(d.records, "record")],
        ["Refused since the start", count(d.rejected)],
        ["Requests since the start", count(d.requests)],
        ["Last taken", ago(d.last_accepted_unix_seconds)],
        ["Waits between tries", ["delayed", "held"].includes(d.state) ? duration(d.delay_seconds) : ""],
      ),
    ),
  );
}

export function gaps(document) {
  const all = document.gaps ?? [];
  if (!all.length) return [none("None since the start.")];
  const lost = (gap) => (gap.lost_records !== null ? `${count(gap.lost_records)} lost` : gap.estimated_records !== null ? `about ${count(gap.estimated_records)}` : gap.covered_by ? `by ${gap.covered_by}` : "unknown");
  const rows = all.slice(-SHOWN).reverse().map((gap) => [
    clock(gap.started_unix_seconds),
    duration(gap.ended_unix_seconds - gap.started_unix_seconds),
    gap.stream || gap.node || "",
    gap.upstream || "here",
    gap.cause.replaceAll("_", " "),
    lost(gap),
    gap.detail,
  ]);
  return [table("Blind stretches", [["From"], ["Length", "number"], ["Stream"], ["Upstream"], ["Cause"], ["Records", "number"], ["Detail"]], rows)];
}

// Lines that say the same, but for figures and times, are one line: "27 times".
function grouped(entries) {
  const groups = new Map();
  for (const entry of entries) {
    const words = Object.entries(entry.fields ?? {}).filter(([name, value]) => typeof value === "string" && name !== "latest" && name !== "connection_id");
    const key = JSON.stringify([entry.sentence, words]);
    const group = groups.get(key) ?? { times: 0 };
    groups.delete(key); // the latest of a group gives its place
    groups.set(key, { entry, times: group.times + 1 + (entry.more ?? 0) });
  }
  return [...groups.values()];
}

export function history(document) {
  // A line that was held back comes later than it happened.
  const all = (document.history ?? []).toSorted((one, other) => one.unix_seconds - other.unix_seconds);
  if (!all.length) return [none("Nothing has been said yet.")];
  const items = grouped(all).slice(-SHOWN).reverse().map(({ entry, times }) =>
    make(
      "li",
      {},
      make("time", {}, clock(entry.unix_seconds)),
      badge(entry.level, LEVEL_MOODS[entry.level] ?? "plain"),
      make("span", { class: "said" }, entry.sentence, " ", times > 1 ? badge(`${count(times)} times`, "plain") : null, " ", ...Object.entries(entry.fields ?? {}).map(([name, value]) => make("span", { class: "field" }, make("b", {}, `${name} `), typeof value === "string" ? value : JSON.stringify(value)))),
    ),
  );
  return [make("ul", { class: "log" }, ...items)];
}

export function events(document) {
  const items = (document.events ?? []).slice().reverse().map((event) =>
    make("li", {}, make("time", {}, clock(event.unix_seconds)), badge(event.stream, "plain"), make("span", { class: "said mono" }, event.text)),
  );
  return [make("ul", { class: "log" }, ...items)];
}

export function probes(document) {
  const rows = Object.entries(document.probes ?? {}).map(([name, probe]) => [
    make("a", { href: `/${name}?verbose` }, name),
    badge(probe.ok ? "ok" : "no", probe.ok ? "good" : "bad"),
    make("ul", { class: "named" }, ...probe.checks.filter((check) => !check.ok || name === "readyz").map((check) => make("li", {}, `${check.name}: ${check.why}`))),
  ]);
  return [table("Probes", [["Probe"], ["Answer"], ["Why"]], rows)];
}

export function certificates(document) {
  const all = document.certificates ?? [];
  if (!all.length) return [none("None in use: the connections are not encrypted, or use the system's.")];
  const rows = all.map((one) => {
    const left = one.expires_unix_seconds - document.now_unix_seconds;
    const mood = left <= 0 ? "bad" : left < EXPIRY_WARNING_SECONDS ? "warn" : "good";
    return [make("span", { class: "mono" }, one.server), one.use, badge(left <= 0 ? "expired" : `${duration(left)} left`, mood), date(one.expires_unix_seconds)];
  });
  return [table("Certificates", [["Server"], ["Use"], ["Expires"], ["On"]], rows)];
}

const COVERAGE = {
  silent: ["silent for longer than usual", "bad"],
  unknown: ["blind meanwhile: unknown", "warn"],
  never: ["never since the start", "warn"],
  usual: ["as usual", "good"],
};

export function coverage(document) {
  if (!document.coverage) return [none("Not learnt; telemetry.coverage turns it on.")];
  if (!document.coverage.length) return [none("Nothing has been heard of yet.")];
  const worst = Object.keys(COVERAGE);
  const rows = [...document.coverage]
    .sort((one, other) => worst.indexOf(one.answer) - worst.indexOf(other.answer))
    .map((one) => [
      one.kind,
      make("span", { class: "mono" }, one.name),
      badge(...(COVERAGE[one.answer] ?? [one.answer, "warn"])),
      date(one.last_unix_seconds),
      one.usual_seconds === null ? "not known yet" : duration(one.usual_seconds),
    ]);
  return [table("Coverage", [["Kind"], ["Name"], ["Answer"], ["Last heard of"], ["Usual interval"]], rows)];
}

export function roads(document) {
  if (!document.roads) return [none("One road to each event; feed.roads compares several.")];
  const rows = document.roads.roads.map((one) => [
    make("span", { class: "mono" }, one.upstream),
    count(one.compared),
    badge(one.compared ? `${count(one.missed)}, ${((100 * one.missed) / one.compared).toFixed(2)} %` : "not known yet", one.missed ? "warn" : "good"),
    count(one.unknown),
    Object.entries(one.nodes).sort((a, b) => b[1] - a[1]).slice(0, 5).map(([node, missed]) => `${node || "others"} ${count(missed)}`).join(", ") || "none",
    one.never_brought.slice(0, 5).join(", ") || "none",
  ]);
  return [table("Roads", [["Road"], ["Compared", "number"], ["Missed"], ["Unknown", "number"], ["Mostly of"], ["Never brought"]], rows)];
}

export function floods(document) {
  if (!document.floods?.length) return [none("None now.")];
  const rows = document.floods.map((one) => [make("span", { class: "mono" }, one.kind), count(one.events), clock(one.first_unix_seconds)]);
  return [table("Floods", [["Kind"], ["Events in this minute", "number"], ["Since"]], rows)];
}

export function process_traces(document) {
  const p = document.process_traces ?? {};
  return [
    facts(
      ["Processes that are no spans yet", count(p.processes)],
      ["Remembered as parents", count(p.remembered)],
      ["Spans", `${count(p.spans)}, their ends estimated`],
      ["Whose parent is unknown", count(p.orphans)],
      ["Sent early, as the bound was reached", badge(count(p.early), p.early ? "warn" : "good")],
    ),
  ];
}

export function settings(document) {
  const flat = [];
  const walk = (path, value) => {
    if (value && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length) {
      for (const [key, inner] of Object.entries(value)) walk(path ? `${path}.${key}` : key, inner);
    } else {
      flat.push([path, make("span", { class: "mono" }, typeof value === "string" ? value : JSON.stringify(value))]);
    }
  };
  walk("", document.settings ?? {});
  return [table("Settings", [["Setting"], ["Value"]], flat)];
}

export const SAMPLES = 60; // rates kept for a sparkline, one a second

// The components in the order of an event's way: name, verb, unit, the counter behind the rate, a note.
export const COMPONENTS = [
  ["feed", "receives", "events/s", (d) => (d.subscriptions ?? []).reduce((total, one) => total + sum(Object.fromEntries(Object.entries(one.streams ?? {}).map(([name, s]) => [name, s.events]))), 0), (d) => plural((d.subscriptions ?? []).length, "subscription")],
  ["gate", "filters", "dropped/s", (d) => Object.values(d.ledger?.streams ?? {}).reduce((total, a) => total + sum(a.filtered), 0), () => "by your rules"],
  ["mapping", "translates", "records/s", (d) => Object.values(d.ledger?.streams ?? {}).reduce((total, a) => total + a.received - sum(a.filtered) - a.summarised - (a.doubled ?? 0), 0), (d) => `${plural(d.buffer?.events ?? 0, "event")} waiting`],
  ["queue", "holds", "records/s out", (d) => Object.values(d.ledger?.streams ?? {}).reduce((total, a) => total + a.received - sum(a.filtered) - a.summarised - (a.doubled ?? 0) - a.held, 0), (d) => `${count(d.queue?.records ?? 0)} held`],
  ["send", "delivers", "records/s", (d) => Object.values(d.ledger?.streams ?? {}).reduce((total, a) => total + a.delivered, 0), (d) => (d.delivery ?? []).map((one) => one.state).join(", ") || "idle"],
];

export function component([name, verb, unit, , note], document, history) {
  const peak = Math.max(1, ...history);
  const first = SAMPLES - history.length;
  const points = history.map((value, at) => `${first + at},${(20 - (18 * value) / peak).toFixed(1)}`).join(" ");
  const svg = window.document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ viewBox: `0 0 ${SAMPLES - 1} 21`, preserveAspectRatio: "none", "aria-hidden": "true", class: "spark" })) svg.setAttribute(key, value);
  const line = window.document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points);
  svg.append(line);
  return [
    make("span", { class: "component" }, name),
    make("span", { class: "quiet" }, ` ${verb}`),
    make("p", { class: "figure" }, make("b", {}, rate(history.at(-1))), ` ${unit}`),
    svg,
    make("p", { class: "quiet" }, note(document)),
  ];
}
