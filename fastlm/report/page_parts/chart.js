// A chart of one value of all runs over steps, tokens or seconds, drawn as SVG.

const MARGIN = { left: 54, right: 12, top: 10, bottom: 26 };
const MOST_IN_READOUT = 12;
const MOST_SPOKEN = 4;
const LEAST_ZOOM = 1e-9; // smallest range, as a share of x; far above floating-point resolution

class Chart {
  // spec: { id, title, part, column, show, zero, height }; view: settings of the controls, shared by all charts
  constructor(spec, view, runs, changed) {
    Object.assign(this, { spec, view, runs, changed });
    this.at = null; // x value of the cursor
    this.drag = null;
    this.svg = drawn("svg", {
      class: "chart", tabindex: 0, role: "application", "aria-roledescription": "chart", height: spec.height,
      onpointermove: (event) => this.pointed(event),
      onpointerdown: (event) => this.pressed(event),
      onpointerup: (event) => this.released(event),
      onpointercancel: () => { this.drag = null; this.draw(); },
      onpointerleave: (event) => { if (event.pointerType === "mouse" && this.drag === null) this.leave(); },
      ondblclick: () => this.zoom(null),
      onkeydown: (event) => this.key(event),
      onblur: () => this.leave(),
    });
    this.readout = element("div", { class: "readout", hidden: true });
    this.figure = element("figure", { id: spec.id }, element("figcaption", {}, element("h3", {}, spec.title), element("span", { class: "quiet" }, spec.unit || "")), this.svg, this.readout);
  }

  get hasData() {
    return this.runs().some((run) => run[this.spec.part][this.spec.column].some((v) => v !== null));
  }

  // Points of the visible runs that the scales can show.
  series() {
    const { view, spec } = this;
    const [isLogX, isLogY] = [view.xScale === "log", view.yScale === "log"];
    return this.runs().filter((run) => !view.hidden.has(run.id)).map((run) => {
      const columns = run[spec.part];
      const [xs, ys] = [[], []];
      columns[view.x].forEach((x, i) => {
        if (x === null || (isLogX && x <= 0)) return;
        const y = columns[spec.column][i];
        xs.push(x);
        ys.push(y === null || (isLogY && y <= 0) ? null : y);
      });
      return { run, xs, ys, smooth: view.smooth > 0 ? smoothed(ys, view.smooth) : ys };
    });
  }

  draw() {
    this.figure.hidden = !this.hasData;
    const width = this.svg.clientWidth;
    if (this.figure.hidden || !width) return;
    const { view, spec } = this;
    this.width = width;
    this.all = this.series();
    const budgets = this.budgets();
    const xDomain = view.zoom || this.xDomain(budgets);
    const inside = (x) => x >= xDomain[0] && x <= xDomain[1];
    let [low, high] = [Infinity, -Infinity];
    for (const { xs, ys } of this.all) {
      ys.forEach((y, i) => {
        if (y !== null && inside(xs[i])) [low, high] = [Math.min(low, y), Math.max(high, y)];
      });
    }
    if (low > high) [low, high] = [view.yScale === "log" ? 0.1 : 0, 1];
    if (spec.zero && view.yScale !== "log") low = Math.min(0, low);
    this.x = scale(view.xScale, xDomain, [MARGIN.left, width - MARGIN.right], 0);
    this.y = scale(view.yScale, [low, high], [spec.height - MARGIN.bottom, MARGIN.top], 0.04);
    const clip = `clip-${spec.id}`;
    const area = { x: MARGIN.left, y: MARGIN.top - 4, width: Math.max(0, width - MARGIN.left - MARGIN.right), height: spec.height - MARGIN.top - MARGIN.bottom + 8 };
    const curves = drawn("g", { "clip-path": `url(#${clip})` });
    for (const one of this.all) this.drawRun(curves, one);
    for (const budget of budgets) {
      const line = drawn("line", { class: "budget", x1: this.x(budget), x2: this.x(budget), y1: MARGIN.top, y2: spec.height - MARGIN.bottom });
      line.append(drawn("title", {}, `time budget: ${clock(budget)}`));
      curves.append(line);
    }
    this.overlay = drawn("g", {});
    this.svg.setAttribute("viewBox", `0 0 ${width} ${spec.height}`);
    this.svg.setAttribute("aria-label", this.label());
    this.svg.replaceChildren(drawn("defs", {}, drawn("clipPath", { id: clip }, drawn("rect", area))), this.grid(), curves, this.overlay);
    this.showCursor();
  }

  label() {
    const n = this.all.filter((one) => one.ys.some((y) => y !== null)).length;
    return `${this.spec.title} against ${AXES[this.view.x].name} of ${count(n, "run", "runs")}; arrow keys tell the values`;
  }

  xDomain(budgets) {
    let [low, high] = [Infinity, -Infinity];
    for (const { xs } of this.all) {
      if (xs.length) [low, high] = [Math.min(low, xs[0]), Math.max(high, xs[xs.length - 1])];
    }
    if (low > high) return this.view.xScale === "log" ? [1, 10] : [0, 1];
    if (this.view.xScale !== "log") low = Math.min(0, low);
    for (const budget of budgets) if (budget <= high * 1.25) high = Math.max(high, budget * 1.01);
    return low === high ? [low, low + 1] : [low, high];
  }

  budgets() {
    if (this.view.x !== "seconds") return [];
    return [...new Set(this.all.map((one) => one.run.budget).filter((budget) => budget > 0))];
  }

  drawRun(group, { run, xs, ys, smooth }) {
    const attributes = { stroke: colour(run), "stroke-dasharray": dash(run), "data-run": run.id };
    if (smooth !== ys) group.append(drawn("path", { ...attributes, class: "raw", d: this.path(xs, ys) }));
    group.append(drawn("path", { ...attributes, class: "curve", d: this.path(xs, smooth) }));
    const isShort = ys.length <= 40;
    ys.forEach((y, i) => {
      // A point between two gaps has no line, so it gets a circle.
      const isAlone = (i === 0 || ys[i - 1] === null) && (i + 1 >= ys.length || ys[i + 1] === null);
      if (y !== null && (isAlone || (isShort && this.spec.part === "eval"))) {
        group.append(drawn("circle", { class: "point", cx: this.x(xs[i]), cy: this.y(smooth[i]), r: 2.5, fill: colour(run) }));
      }
    });
    if (this.spec.marked) for (const mark of run.marks) this.drawMark(group, run, mark);
  }

  drawMark(group, run, mark) {
    const value = mark[this.view.x];
    if (value === null || (this.view.xScale === "log" && value <= 0)) return;
    const x = this.x(value);
    const [top, bottom] = [MARGIN.top, this.spec.height - MARGIN.bottom];
    const title = drawn("title", {}, `${run.name}, step ${whole(mark.step)}: ${markText(mark)}`);
    if (mark.kind === "resume") {
      group.append(drawn("line", { class: "mark resume", stroke: colour(run), x1: x, x2: x, y1: top, y2: bottom, "data-kind": mark.kind }, title));
    } else if (this.spec.marked === "all") {
      const isShown = mark.loss !== null && (this.view.yScale !== "log" || mark.loss > 0);
      const y = isShown ? Math.max(top + 4, Math.min(bottom - 4, this.y(mark.loss))) : top + 5;
      group.append(symbol(mark.kind, x, y, colour(run), title));
    }
  }

  path(xs, ys) {
    const [points, parts] = [thinned(xs, ys, this.x, this.width), []];
    let isPen = false;
    for (const i of points) {
      if (ys[i] === null) { isPen = false; continue; }
      parts.push(`${isPen ? "L" : "M"}${this.x(xs[i]).toFixed(1)} ${this.y(ys[i]).toFixed(1)}`);
      isPen = true;
    }
    return parts.join("");
  }

  grid() {
    const group = drawn("g", { "aria-hidden": "true" });
    const { height } = this.spec;
    const [left, right, bottom] = [MARGIN.left, this.width - MARGIN.right, height - MARGIN.bottom];
    const n = Math.max(3, Math.floor((right - left) / 86));
    for (const tick of ticks(this.x, n, this.view.x === "seconds" ? DURATIONS : null)) {
      const x = this.x(tick);
      group.append(drawn("line", { class: "grid", x1: x, x2: x, y1: MARGIN.top, y2: bottom }));
      group.append(drawn("text", { x, y: bottom + 16, "text-anchor": x > right - 18 ? "end" : "middle" }, AXES[this.view.x].tick(tick)));
    }
    for (const tick of ticks(this.y, Math.max(3, Math.floor(height / 44)), this.spec.steps)) {
      const y = this.y(tick);
      group.append(drawn("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }));
      group.append(drawn("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, (this.spec.tick || this.spec.show)(tick)));
    }
    group.append(drawn("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
    return group;
  }

  // ---- pointer and keyboard

  valueAt(event) {
    const box = this.svg.getBoundingClientRect();
    return this.x.inverse(Math.max(MARGIN.left, Math.min(this.width - MARGIN.right, event.clientX - box.left)));
  }

  pointed(event) {
    if (!this.x) return;
    this.at = this.valueAt(event);
    this.showCursor();
  }

  pressed(event) {
    this.pointed(event); // a tap sends no move events
    if (event.button !== 0 || event.pointerType !== "mouse" || !this.x) return;
    this.drag = this.valueAt(event);
    this.svg.setPointerCapture(event.pointerId);
  }

  released(event) {
    if (this.drag === null) return;
    const [a, b] = [this.drag, this.valueAt(event)].sort((p, q) => p - q);
    this.drag = null;
    if (Math.abs(this.x(a) - this.x(b)) > 8) this.zoom([a, b]);
    else this.showCursor();
  }

  zoom(domain) {
    if (domain && domain[1] - domain[0] < LEAST_ZOOM * Math.abs(domain[1])) return;
    this.view.zoom = domain;
    this.changed();
  }

  leave() {
    this.at = null;
    this.drag = null;
    this.showCursor();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.x) return;
    const [low, high] = this.x.domain;
    const all = [...new Set(this.all.flatMap((one) => one.xs.filter((x, i) => one.ys[i] !== null && x >= low && x <= high)))].sort((a, b) => a - b);
    const stride = event.shiftKey ? 10 : 1;
    const now = this.at === null ? -1 : nearest(all, this.at);
    const go = (i) => { if (all.length) this.at = all[Math.max(0, Math.min(all.length - 1, i))]; };
    if (event.key === "ArrowRight") go(now + stride);
    else if (event.key === "ArrowLeft") go(now < 0 ? all.length - 1 : now - stride);
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(all.length - 1);
    else if (event.key === "Escape") this.at = null;
    else if (event.key === "0") this.zoom(null);
    else if (event.key === "+" || event.key === "=" || event.key === "-") this.zoomKey(event.key !== "-");
    else return;
    event.preventDefault();
    this.showCursor();
    document.getElementById("spoken").textContent = this.at === null ? "" : this.spoken();
  }

  zoomKey(isIn) {
    if (!isIn && !this.view.zoom) return;
    const [left, right] = [MARGIN.left, this.width - MARGIN.right];
    const middle = this.at === null ? (left + right) / 2 : this.x(this.at);
    const factor = isIn ? 0.5 : 2;
    const [full0, full1] = this.xDomain(this.budgets());
    const domain = [this.x.inverse(middle - (middle - left) * factor), this.x.inverse(middle + (right - middle) * factor)];
    const cut = [Math.max(full0, domain[0]), Math.min(full1, domain[1])];
    this.zoom(cut[0] <= full0 && cut[1] >= full1 ? null : cut);
  }

  // The nearest point of each visible run, in ascending order of y.
  nearestPoints() {
    return this.all.flatMap((one) => {
      const known = one.xs.map((_, i) => i).filter((i) => one.ys[i] !== null);
      if (!known.length) return [];
      const i = known[nearest(known.map((k) => one.xs[k]), this.at)];
      return [{ run: one.run, x: one.xs[i], y: one.ys[i], drawnY: one.smooth[i] }];
    }).sort((a, b) => a.y - b.y);
  }

  spoken() {
    const { show, title } = this.spec;
    const points = this.nearestPoints();
    const where = AXES[this.view.x].show;
    const told = points.slice(0, MOST_SPOKEN).map((p) => `${p.run.name} ${show(p.y)}${p.x === this.at ? "" : ` (${where(p.x)})`}`);
    if (points.length > MOST_SPOKEN) told.push(`and ${points.length - MOST_SPOKEN} more`);
    return `${title} at ${where(this.at)}: ${told.join(", ")}`;
  }

  showCursor() {
    if (!this.overlay) return;
    this.overlay.replaceChildren();
    this.readout.hidden = this.at === null;
    if (this.at === null) return;
    const x = this.x(this.at);
    const [top, bottom] = [MARGIN.top, this.spec.height - MARGIN.bottom];
    if (this.drag !== null) {
      const [a, b] = [x, this.x(this.drag)].sort((p, q) => p - q);
      this.overlay.append(drawn("rect", { class: "band", x: a, width: b - a, y: top, height: bottom - top }));
    }
    this.overlay.append(drawn("line", { class: "cursor", x1: x, x2: x, y1: top, y2: bottom }));
    const points = this.nearestPoints();
    for (const p of points) {
      const [px, py] = [this.x(p.x), this.y(p.drawnY)];
      if (px >= MARGIN.left - 1 && px <= this.width - MARGIN.right + 1) this.overlay.append(drawn("circle", { class: "dot", cx: px, cy: py, r: 4, fill: colour(p.run) }));
    }
    const { show } = this.spec;
    const rows = points.slice(0, MOST_IN_READOUT).map((p) =>
      element("tr", {}, element("td", {}, swatch(p.run)), element("td", {}, ending(p.run.name)), element("td", { class: "value" }, show(p.y)), element("td", { class: "quiet" }, AXES[this.view.x].show(p.x))),
    );
    const more = points.length > MOST_IN_READOUT ? element("div", { class: "quiet" }, `and ${points.length - MOST_IN_READOUT} more`) : null;
    this.readout.replaceChildren(...[element("div", { class: "quiet" }, AXES[this.view.x].show(this.at)), element("table", {}, element("tbody", {}, ...rows)), more].filter(Boolean));
    this.readout.style.left = "0";
    const wide = this.readout.offsetWidth;
    const isRoom = x + 26 + wide <= this.figure.clientWidth;
    this.readout.style.left = `${isRoom ? x + 26 : Math.max(0, x - wide - 6)}px`;
    this.readout.style.top = "40px";
  }
}

const AXES = {
  step: { name: "steps", show: (v) => `step ${whole(v)}`, tick: (v) => short(v) },
  tokens: { name: "tokens", show: (v) => `${short(v)} tokens`, tick: (v) => short(v) },
  seconds: { name: "seconds", show: clock, tick: duration },
};
const DURATIONS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000];
const BINARY = Array.from({ length: 32 }, (_, i) => 2 ** (i + 20));

function markText(mark) {
  if (mark.kind === "spike") return `spike of ${mark.sigmas === null ? "?" : mark.sigmas} sigma, loss ${mark.loss === null ? "?" : trimmed(mark.loss, 4)}`;
  return mark.kind === "resume" ? "resumed" : "loss or gradients not finite";
}

function symbol(kind, x, y, ink, title) {
  const shape = kind === "spike"
    ? { d: `M${x} ${y - 5}L${x + 5} ${y + 4}L${x - 5} ${y + 4}Z`, fill: ink }
    : { d: `M${x - 4} ${y - 4}L${x + 4} ${y + 4}M${x - 4} ${y + 4}L${x + 4} ${y - 4}`, stroke: ink, "stroke-width": 2.5 };
  return drawn("path", { class: "mark", "data-kind": kind, ...shape }, ...(title ? [title] : []));
}

// Exponential moving average with bias correction; gaps stay gaps.
function smoothed(ys, weight) {
  let [sum, total] = [0, 0];
  return ys.map((y) => {
    if (y === null) return null;
    sum = sum * weight + y * (1 - weight);
    total = total * weight + (1 - weight);
    return sum / total;
  });
}

// Indices of the points to draw: minimum and maximum of each pixel, and gaps.
function thinned(xs, ys, x, width) {
  if (xs.length <= 2 * width) return xs.keys();
  const kept = new Set([0, xs.length - 1]);
  let [pixel, least, largest] = [null, 0, 0];
  const keep = () => kept.add(least).add(largest);
  xs.forEach((value, i) => {
    if (ys[i] === null) { kept.add(i); return; }
    if (Math.floor(x(value)) !== pixel) {
      if (pixel !== null) keep();
      [pixel, least, largest] = [Math.floor(x(value)), i, i];
    }
    if (ys[i] < ys[least]) least = i;
    if (ys[i] > ys[largest]) largest = i;
  });
  keep();
  return [...kept].sort((a, b) => a - b);
}

// Index of the value nearest to x in an ascending list.
function nearest(xs, x) {
  let [low, high] = [0, xs.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - xs[low - 1] < xs[low] - x ? low - 1 : low;
}

function scale(kind, [low, high], [from, to], padding) {
  const [f, g] = kind === "log" ? [Math.log10, (v) => 10 ** v] : [(v) => v, (v) => v];
  let [a, b] = [f(low), f(high)];
  const room = b > a ? (b - a) * padding : Math.abs(a) * 0.1 || 0.5;
  if (padding || a === b) [a, b] = [low === 0 && kind !== "log" ? 0 : a - room, b + room];
  const at = (v) => from + ((f(v) - a) / (b - a)) * (to - from);
  return Object.assign(at, { inverse: (p) => g(a + ((p - from) / (to - from)) * (b - a)), domain: [g(a), g(b)], isLog: kind === "log" });
}

// Tick positions at round values; steps: candidate distances for units that are not decimal.
function ticks(at, n, steps) {
  const [low, high] = at.domain;
  if (at.isLog && high / low >= 20) return logTicks(low, high, n, steps);
  const rough = (high - low) / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = (steps && steps.find((s) => s >= rough)) || [1, 2, 5, 10].find((f) => f * power >= rough * 0.999) * power;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function logTicks(low, high, n, steps) {
  const decades = Math.log10(high / low);
  let found = [];
  if (steps && decades < 4) {
    found = steps.filter((step) => step >= low && step <= high);
  } else {
    const factors = decades * 3 <= n ? [1, 2, 5] : [1];
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
      for (const factor of factors) found.push(Number((factor * 10 ** power).toPrecision(12)));
    }
    found = found.filter((tick) => tick >= low && tick <= high);
  }
  const stride = Math.max(1, Math.ceil(found.length / n));
  return found.filter((_, i) => i % stride === 0);
}
