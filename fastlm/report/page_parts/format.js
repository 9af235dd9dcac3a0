// Number formats, and DOM elements built without HTML strings: a run's text is never parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "1 2"];
const N_COLOURS = 8;

function element(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function drawn(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function colour(run) {
  return `var(--c${run.number % N_COLOURS})`;
}

function dash(run) {
  return DASHES[Math.floor(run.number / N_COLOURS) % DASHES.length];
}

function swatch(run) {
  const line = drawn("line", { x1: 1, x2: 27, y1: 6, y2: 6, stroke: colour(run), "stroke-width": 3, "stroke-dasharray": dash(run) });
  return drawn("svg", { width: 28, height: 12, "aria-hidden": "true" }, line);
}

// 1234567 -> "1.23M"
function short(value, digits = 3) {
  const size = Math.abs(value);
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= unit) return `${trimmed(value / (letter === "k" ? 1e3 : unit), digits)}${letter}`;
  }
  return trimmed(value, digits);
}

function trimmed(value, digits) {
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e15)) return value.toExponential(digits - 1).replace(/\.?0+e/, "e");
  const rounded = Number(value.toPrecision(digits));
  return Math.abs(rounded) >= 1e4 ? rounded.toLocaleString("en") : String(rounded);
}

function whole(value) {
  return Math.round(value).toLocaleString("en");
}

function loss(value) {
  return value.toFixed(4);
}

function percent(value) {
  return `${trimmed(value * 100, 3)} %`;
}

// 5400 -> "1:30:00"
function clock(seconds) {
  const all = Math.max(0, Math.round(seconds));
  const two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(all / 3600);
  const rest = `${hours ? two(Math.floor(all / 60) % 60) : Math.floor(all / 60)}:${two(all % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}

// 5400 -> "1.5 h", for axes
function duration(seconds) {
  const size = Math.abs(seconds);
  if (size >= 7200) return `${trimmed(seconds / 3600, 3)} h`;
  if (size >= 60) return `${trimmed(seconds / 60, 3)} min`;
  return `${trimmed(seconds, 3)} s`;
}

function bytes(value) {
  for (const [unit, name] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (Math.abs(value) >= unit) return `${trimmed(value / unit, 3)} ${name}`;
  }
  return `${trimmed(value, 3)} B`;
}

function count(n, one, many) {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

// Shortened name of a run: names in a sweep differ at their ends.
function ending(name) {
  return name.length > 34 ? `…${name.slice(-33)}` : name;
}
