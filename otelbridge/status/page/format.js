// Formats values for people, and makes elements: strings become text nodes, never markup.

const COUNT = new Intl.NumberFormat("en");
// UTC like the log, the records and the runbook, whatever clock the reader's machine goes by.
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false, timeZone: "UTC" });
const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeZone: "UTC" });
const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];

export const count = (value) => (Number.isFinite(value) ? COUNT.format(value) : "unknown");

export function rate(value) {
  if (!Number.isFinite(value)) return "0";
  return value >= 100 ? COUNT.format(Math.round(value)) : value.toFixed(value && value < 10 ? 1 : 0);
}

export function bytes(value) {
  if (!Number.isFinite(value)) return "unknown";
  let power = 0;
  while (value >= 1024 && power < BYTES.length - 1) {
    value /= 1024;
    power += 1;
  }
  return `${value.toFixed(value < 10 && power ? 1 : 0)} ${BYTES[power]}`;
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "unknown";
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  const parts = [];
  let left = Math.round(seconds);
  for (const [unit, size] of UNITS) {
    if (left >= size || (parts.length && left)) {
      parts.push(`${Math.floor(left / size)} ${unit}`);
      left %= size;
    }
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

export const clock = (unixSeconds) => CLOCK.format(new Date(unixSeconds * 1000));
export const date = (unixSeconds) => DATE.format(new Date(unixSeconds * 1000));
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
export const sum = (values) => Object.values(values ?? {}).reduce((total, value) => total + value, 0);

// make("td", {class: "number"}, "text", childElement): strings become text nodes, never markup.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

// A time that ticks by itself: "12 s ago".
export const ago = (unixSeconds) =>
  unixSeconds ? make("time", { "data-since": unixSeconds, title: new Date(unixSeconds * 1000).toISOString() }) : "never";

export const badge = (text, mood) => make("span", { class: `badge ${mood}` }, text);

// A table that becomes a list of cards on a phone: each cell carries its column's name.
export function table(caption, columns, rows) {
  const head = make("tr", {}, ...columns.map(([name, kind]) => make("th", { scope: "col", class: kind }, name)));
  const body = rows.map((cells) =>
    make(
      "tr",
      {},
      ...cells.map((cell, at) =>
        make(at ? "td" : "th", { scope: at ? null : "row", class: columns[at][1], "data-column": columns[at][0] }, cell),
      ),
    ),
  );
  return make(
    "div",
    { class: "scroll", tabindex: 0, role: "group", "aria-label": caption },
    make("table", {}, make("caption", { class: "hidden" }, caption), make("thead", {}, head), make("tbody", {}, ...body)),
  );
}
