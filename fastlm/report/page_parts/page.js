// The page: controls, legend, charts and tables of the runs in #values; updates of running runs.

const values = JSON.parse(document.getElementById("values").textContent);
const runs = [];
const view = { x: "step", xScale: "linear", yScale: "linear", smooth: 0, hidden: new Set(), zoom: null };
const $ = (id) => document.getElementById(id);

const LOSSES = [
  { id: "val-loss", title: "Validation loss", unit: "nats per token", part: "eval", column: "val_loss", show: loss, tick: (v) => short(v, 4), marked: "resumes", height: 330 },
  { id: "train-loss", title: "Training loss", unit: "nats per token", part: "train", column: "loss", show: loss, tick: (v) => short(v, 4), marked: "all", height: 330 },
];
const DETAILS = [
  { id: "tokens-per-second", title: "Throughput", unit: "tokens/s", part: "train", column: "tokens_per_second", show: whole, tick: short, zero: true, height: 210 },
  { id: "mfu", title: "MFU", unit: "share of the bf16 peak", part: "train", column: "mfu", show: percent, zero: true, height: 210 },
  { id: "memory", title: "Memory", unit: "peak", part: "train", column: "memory", show: bytes, steps: BINARY, zero: true, height: 210 },
  { id: "grad-norm", title: "Gradient norm", unit: "before clipping", part: "train", column: "grad_norm", show: (v) => trimmed(v, 4), tick: (v) => short(v, 4), height: 210 },
  { id: "lr", title: "Learning rate", unit: "of the first group", part: "train", column: "lr", show: (v) => trimmed(v, 3), zero: true, height: 210 },
];

let isDue = false;
function redraw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    for (const chart of charts) chart.draw();
    $("reset").hidden = view.zoom === null;
  });
}

const charts = [];
for (const [place, specs] of [["losses", LOSSES], ["details", DETAILS]]) {
  for (const spec of specs) {
    const chart = new Chart(spec, view, () => runs, redraw);
    charts.push(chart);
    $(place).append(chart.figure);
  }
}

// ---- controls

function choice(label, name, options) {
  const buttons = options.map(([value, text]) =>
    element("button", {
      type: "button", "data-set": `${name}=${value}`, "aria-pressed": String(view[name] === value),
      onclick: () => {
        if (name === "x" || (name === "xScale" && view.zoom && view.zoom[0] <= 0)) view.zoom = null;
        view[name] = value;
        for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.set === `${name}=${value}`));
        redraw();
      },
    }, text),
  );
  return element("div", { class: "choice", role: "group", "aria-label": label }, element("span", { "aria-hidden": "true" }, label), element("div", { class: "buttons" }, ...buttons));
}

function smoothing() {
  const told = element("span", { class: "quiet" }, "off");
  const slider = element("input", {
    id: "smoothing", type: "range", min: 0, max: 0.98, step: 0.02, value: 0,
    oninput: () => {
      view.smooth = Number(slider.value);
      told.textContent = view.smooth ? view.smooth.toFixed(2) : "off";
      redraw();
    },
  });
  return element("div", { class: "choice" }, element("label", { for: "smoothing", class: "quiet" }, "Smoothing"), slider, told);
}

$("controls").append(
  choice("Over", "x", [["step", "Steps"], ["tokens", "Tokens"], ["seconds", "Seconds"]]),
  choice("X scale", "xScale", [["linear", "Linear"], ["log", "Log"]]),
  choice("Y scale", "yScale", [["linear", "Linear"], ["log", "Log"]]),
  smoothing(),
  element("button", { type: "button", id: "reset", hidden: true, onclick: () => { view.zoom = null; redraw(); } }, "Show all"),
);

// Replaces the nodes of an element; keyboard focus and scroll position are kept.
function replace(id, nodes) {
  const within = (selector) => [...$(id).querySelectorAll(selector)];
  const focusable = "button, summary, [tabindex]";
  const focused = within(focusable).indexOf(document.activeElement);
  const scrolled = within(".scroll").map((node) => node.scrollLeft);
  $(id).replaceChildren(...nodes);
  within(".scroll").forEach((node, i) => { node.scrollLeft = scrolled[i] || 0; });
  if (focused >= 0) within(focusable)[focused]?.focus({ preventScroll: true });
}

// ---- legend

function legend() {
  const entries = runs.map((run) =>
    element("button", {
      type: "button", class: "run", "data-legend": run.id, "aria-pressed": String(!view.hidden.has(run.id)),
      title: `${run.folder}\nclick: show or hide; Shift and click: show it alone`,
      onclick: (event) => {
        if (event.shiftKey) view.hidden = new Set(runs.filter((other) => other !== run).map((other) => other.id));
        else if (!view.hidden.delete(run.id)) view.hidden.add(run.id);
        legend();
        redraw();
      },
    }, swatch(run), run.name),
  );
  const all = (text, hidden) =>
    element("button", { type: "button", "data-legend": text, onclick: () => { view.hidden = new Set(hidden()); legend(); redraw(); } }, text);
  const both = runs.length > 1 ? [all("Show every run", () => []), all("Hide every run", () => runs.map((run) => run.id))] : [];
  replace("legend", [...entries, ...both]);
  key();
}

// Explains the marks in the curves, of those kinds that occur.
function key() {
  const kinds = new Set(runs.flatMap((run) => run.marks.map((mark) => mark.kind)));
  const mark = (node) => drawn("svg", { width: 14, height: 14, "aria-hidden": "true" }, node);
  const line = (name) => mark(drawn("line", { class: name, x1: 7, x2: 7, y1: 0, y2: 14, stroke: "currentColor" }));
  const nodes = [];
  if (kinds.has("spike")) nodes.push(mark(symbol("spike", 7, 7, "currentColor")), " loss spike");
  if (kinds.has("not finite")) nodes.push(mark(symbol("not finite", 7, 7, "currentColor")), " step that was not finite");
  if (kinds.has("resume")) nodes.push(line("resume"), " resumed");
  if (runs.some((run) => run.budget)) nodes.push(line("budget"), " time budget (over seconds)");
  $("key").replaceChildren(...nodes);
}

// ---- texts and tables

function tables() {
  replace("table", [comparison(runs, tables)]);
  $("notes").replaceChildren(...notes(runs));
}

function describe() {
  const made = new Date(values.made * 1000);
  $("about").textContent = `${count(runs.length, "run", "runs")}, ${values.poll_seconds ? "followed since" : "made"} ${made.toLocaleString()}`;
  document.title = runs.length === 1 ? `${runs[0].name} – fastlm` : `${count(runs.length, "run", "runs")} – fastlm`;
  const [kept, rows] = ["n_kept", "n_rows"].map((name) => runs.reduce((sum, run) => sum + run[name], 0));
  const marks = runs.reduce((sum, run) => sum + Math.max(0, run.n_marks - run.marks.length), 0);
  $("thinned").textContent = (kept < rows
    ? `${whole(kept)} of ${whole(rows)} logged points are shown: the minimum and maximum of every interval, so that spikes remain. Smoothing uses these points.`
    : `All ${count(rows, "logged point is", "logged points are")} shown.`) + (marks ? ` The ${whole(marks)} smallest spikes are not marked.` : "");
  const open = new Map([...document.querySelectorAll("details")].map((node) => [node.dataset.of, node.open]));
  replace("configuration", differences(runs, "config", "configuration"));
  replace("environment", differences(runs, "environment", "environment", ["arguments"]));
  const texts = samples(runs);
  replace("samples", texts);
  $("samples-section").hidden = !texts.length;
  for (const node of document.querySelectorAll("details")) if (open.has(node.dataset.of)) node.open = open.get(node.dataset.of);
  tables();
}

// ---- runs, and their updates

function take(run) {
  const i = runs.findIndex((known) => known.id === run.id);
  if (i < 0) {
    runs.push({ ...run, number: runs.length });
    placeMarks(runs[runs.length - 1]);
    return;
  }
  const known = runs[i];
  run.number = known.number;
  const hasRead = known.position[0] > 0; // at position 0 the update replaces the known rows
  if (!run.is_new && hasRead) {
    for (const part of ["train", "eval"]) {
      for (const [name, column] of Object.entries(run[part])) run[part][name] = known[part][name].concat(column);
    }
    run.marks = known.marks.concat(run.marks);
    run.log_notes = known.log_notes.concat(run.log_notes);
    for (const name of ["n_marks", "n_rows", "n_kept"]) run[name] += known[name];
  }
  placeMarks(run);
  runs[i] = run;
}

// A resume row has no clock values: it gets those of the row before it.
function placeMarks(run) {
  for (const mark of run.marks) {
    const before = run.train.step.findLastIndex((step) => step !== null && step <= mark.step);
    for (const name of ["tokens", "seconds"]) mark[name] ??= before < 0 ? 0 : run.train[name][before];
  }
}

async function follow() {
  const known = Object.fromEntries(runs.map((run) => [run.id, [...run.position, run.version]]));
  try {
    const reply = await fetch("/news", { method: "POST", body: JSON.stringify(known) });
    if (!reply.ok) throw new Error(await reply.text());
    const { runs: changed } = await reply.json();
    changed.forEach(take);
    if (changed.length) {
      legend();
      describe();
      redraw();
    }
    const latest = Math.max(0, ...runs.map((run) => run.changed));
    const when = latest ? `; last row at ${new Date(latest * 1000).toLocaleTimeString()}` : "";
    tellLive(`Following ${count(runs.length, "run", "runs")}${when}.`);
  } catch {
    const text = "The command that serves this page does not answer: the page shows its last values.";
    tellLive(text);
    if ($("spoken").textContent !== text) $("spoken").textContent = text;
  }
  setTimeout(follow, values.poll_seconds * 1000);
}

function tellLive(text) {
  $("live").hidden = false;
  if ($("live").textContent !== text) $("live").textContent = text;
}

// ---- light and dark

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
function theme(chosen) {
  if (chosen) document.documentElement.dataset.theme = chosen;
  const isDark = (document.documentElement.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";
  $("theme").setAttribute("aria-pressed", String(isDark));
  return isDark;
}
$("theme").addEventListener("click", () => theme(theme() ? "light" : "dark"));
prefersDark.addEventListener("change", () => theme());

values.runs.forEach(take);
theme();
legend();
describe();
if (!runs.length) tellLive("No run yet.");
new ResizeObserver(redraw).observe(document.body);
redraw();
if (values.poll_seconds) setTimeout(follow, values.poll_seconds * 1000);
