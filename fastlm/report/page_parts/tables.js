// The tables below the curves: comparison, differences of configuration and environment, samples.

const last = (values) => {
  for (let i = values.length - 1; i >= 0; i--) if (values[i] !== null) return values[i];
  return null;
};

// A value from the summary of a run that ended, otherwise the last one in the log (isSoFar).
function found(run, name, source, column) {
  const value = run.state === "finished" || run.state === "stopped" ? run.summary[name] : null;
  if (value !== null) return { value, isSoFar: false };
  return { value: source ? last(run[source][column]) : null, isSoFar: true };
}

const COLUMNS = [
  { name: "Run", text: true, of: (run) => ({ value: run.name }) },
  { name: "State", text: true, of: (run) => ({ value: run.state }) },
  { name: "Val loss", show: loss, best: Math.min, of: (run) => found(run, "val_loss", "eval", "val_loss"), title: "nats per token, over the validation file" },
  { name: "Bits/byte", show: loss, best: Math.min, of: (run) => found(run, "bits_per_byte") },
  { name: "Steps", show: whole, of: (run) => found(run, "step", "train", "step") },
  { name: "Tokens", show: short, of: (run) => found(run, "tokens", "train", "tokens") },
  { name: "Time", show: clock, of: (run) => found(run, "elapsed_seconds", "train", "seconds"), title: "on the budget's clock, h:mm:ss" },
  { name: "Tokens/s", show: whole, best: Math.max, of: (run) => found(run, "tokens_per_second", "train", "tokens_per_second") },
  { name: "MFU", show: percent, best: Math.max, of: (run) => found(run, "mfu", "train", "mfu"), title: "share of the chip's bf16 peak that the model's FLOPs use" },
  { name: "Memory", show: bytes, best: Math.min, of: (run) => found(run, "peak_memory_bytes", "train", "memory"), title: "peak" },
  { name: "Parameters", show: short, of: (run) => ({ value: run.summary.n_parameters }) },
];

const sorting = { column: 2, falls: false };

function comparison(runs, redraw) {
  const chosen = COLUMNS[sorting.column];
  const sorted = [...runs].sort((a, b) => {
    const [x, y] = [chosen.of(a).value, chosen.of(b).value];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = chosen.text ? x.localeCompare(y, "en", { numeric: true }) : x - y;
    return sorting.falls ? -order : order;
  });
  const best = COLUMNS.map((column) => {
    const values = column.best ? runs.map((run) => column.of(run)).filter((v) => v.value !== null && !v.isSoFar).map((v) => v.value) : [];
    return values.length > 1 ? column.best(...values) : null;
  });
  const heads = COLUMNS.map((column, i) => {
    const isChosen = i === sorting.column;
    const arrow = isChosen ? (sorting.falls ? " ▼" : " ▲") : "";
    const sort = () => {
      sorting.falls = isChosen ? !sorting.falls : false;
      sorting.column = i;
      redraw();
    };
    return element(
      "th",
      { scope: "col", class: column.text ? "text" : null, "aria-sort": isChosen ? (sorting.falls ? "descending" : "ascending") : null },
      element("button", { type: "button", onclick: sort, title: column.title }, column.name + arrow),
    );
  });
  const rows = sorted.map((run) =>
    element("tr", {}, ...COLUMNS.map((column, i) => cell(run, column, best[i]))),
  );
  return scrolling("Comparison of runs", element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows)));
}

function cell(run, column, best) {
  if (column.name === "Run") return nameCell(run);
  const { value, isSoFar } = column.of(run);
  if (column.name === "State") {
    return element("td", { class: "text" }, element("span", { class: `state ${value.replace(" ", "-")}` }, value));
  }
  if (value === null) return element("td", { class: "missing" }, "–");
  const kind = isSoFar ? "so-far" : value === best ? "best" : null;
  return element("td", { class: kind, title: isSoFar ? "so far, from the log" : null }, column.show(value));
}

function nameCell(run) {
  return element("th", { scope: "row", title: run.folder }, swatch(run), " ", run.name);
}

function scrolling(label, table) {
  return element("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": label }, table);
}

// Fields whose values differ between runs; a missing field counts as different.
function differing(runs, part, ignored = []) {
  const known = runs.filter((run) => Object.keys(run[part]).length);
  const names = [...new Set(known.flatMap((run) => Object.keys(run[part])))];
  return names.filter((name) => !ignored.includes(name) && new Set(known.map((run) => run[part][name])).size > 1);
}

function differences(runs, part, what, ignored) {
  const nodes = [];
  const names = differing(runs, part, ignored);
  const known = runs.filter((run) => Object.keys(run[part]).length);
  if (known.length > 1 && names.length) {
    const heads = ["Run", ...names].map((name) => element("th", { scope: "col", class: "text" }, name));
    const rows = known.map((run) =>
      element("tr", {}, nameCell(run), ...names.map((name) => {
        const value = run[part][name];
        return element("td", { class: value === undefined ? "text missing" : "text" }, value === undefined ? "–" : value);
      })),
    );
    nodes.push(element("p", { class: "quiet" }, `${count(names.length, "field differs", "fields differ")}; all others are the same in ${count(known.length, "run", "runs")}.`));
    nodes.push(scrolling(`Differences of ${what}`, element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows))));
  } else if (known.length > 1) {
    nodes.push(element("p", { class: "quiet" }, `The ${what} of all ${known.length} runs is the same.`));
  }
  for (const run of known) nodes.push(fields(run, part, what, known.length === 1));
  if (!known.length) nodes.push(element("p", { class: "quiet" }, `No run has a ${what} that can be read.`));
  return nodes;
}

function fields(run, part, what, isOpen) {
  const pairs = Object.entries(run[part]).map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value)),
  );
  return element("details", { open: isOpen, "data-of": `${part} ${run.id}` }, element("summary", {}, `${run.name}: whole ${what}`), element("dl", {}, ...pairs));
}

function samples(runs) {
  return runs
    .filter((run) => run.sample)
    .map((run, i) => element("details", { open: i === 0, "data-of": `sample ${run.id}` }, element("summary", {}, swatch(run), " ", run.name), element("pre", {}, run.sample)));
}

function notes(runs) {
  const lines = [];
  const data = differing(runs, "config", []).filter((name) => ["data.path", "model.vocab_size"].includes(name));
  if (data.length) lines.push(`Losses compare only within one data set and vocabulary: these runs differ in ${data.join(" and ")}.`);
  if (runs.some((run) => COLUMNS[2].of(run).isSoFar && COLUMNS[2].of(run).value !== null)) {
    lines.push("Values in italics are the last ones in a log; a validation loss among them covers only part of the file.");
  }
  for (const run of runs) for (const note of [...run.notes, ...run.log_notes]) lines.push(`${run.name}: ${note}`);
  return lines.map((line) => element("li", {}, line));
}
