// A line chart of values over time with the drawdown below it: no dependencies, no inline style, no network.
//
//   const chart = drawChart(element, {
//     title: "Equity",                     // what is drawn, for the legend and for screen readers
//     series: [                            // the first is the main one; at most five get a colour of their own
//       {name: "Equity", points: [[1704067200000, 10000], [1704153600000, null], ...]},
//       {name: "Buy and hold", points: [...], benchmark: true},      // a dashed grey line without a drawdown
//     ],
//     unit: "USDT",                        // written behind values; "%" is written without a space
//     digits: 2,                           // most digits behind the point; left out: as many as the range needs
//     drawdown: true,                      // false: no second panel
//     height: 340,                         // of the drawing, in pixels; less on a phone
//     onZoom: (from, to) => {},            // told of each new range in ms, e.g. to fetch finer points; reset gives the whole
//   });
//   chart.update({series: [...]});         // other points, same zoom; takes what drawChart takes
//   chart.zoom(from, to); chart.reset();   // in milliseconds since 1970
//   chart.remove();
//
// Points are [milliseconds since 1970 (UTC), value]. They need not be sorted. A value that is null or no number breaks the line.
// From 0 to some 10,000 points for each series draw fluently: what is seen is thinned to the extremes of each pixel.
// The drawdown is value / highest value so far - 1, over all points and not only those in view; where the highest
// value so far is not positive there is none.
//
// What was in `element` is replaced, so a picture for readers without scripts may stand in it. Elements with
// `data-chart="id"` are drawn by themselves from the JSON in `<script type="application/json" id="id">`, those with
// `data-chart-source="url"` from the JSON that the URL answers; `element.chart` is then the chart.
//
// Mouse: move to read, drag to zoom, Shift and drag to move, double click to see all. The wheel zooms with Ctrl (so does a trackpad's
// pinch) or once the chart has the focus, so that a page can be scrolled past it. Touch: one finger reads, two zoom and move.
// Keys: arrows read, Shift and arrows move, + and - zoom, Home and End go to the ends, Escape or 0 shows all.
//
// Colours are CSS variables: --chart-1 to --chart-5, --chart-benchmark, --chart-drawdown, --chart-ink, --chart-muted, --chart-grid and
// --chart-surface. They follow `prefers-color-scheme`, or `data-theme="light"` or "dark" on any element around the chart.
const drawChart = (() => {
  "use strict";

  // Zero specificity (:where), so that any rule of the page wins.
  const LIGHT = `--chart-1:#1d5fc4;--chart-2:#a85100;--chart-3:#0a7871;--chart-4:#7d3fb3;--chart-5:#b01e4b;--chart-benchmark:#6b7280;
    --chart-drawdown:#b4232a;--chart-ink:#1b1f24;--chart-muted:#59636e;--chart-grid:#e4e7eb;--chart-surface:#fff;`;
  const DARK = `--chart-1:#6ea8fe;--chart-2:#f2a65a;--chart-3:#4fd1c5;--chart-4:#c39bf5;--chart-5:#ff8fab;--chart-benchmark:#9aa4b0;
    --chart-drawdown:#ff8182;--chart-ink:#e6e9ed;--chart-muted:#9aa4b0;--chart-grid:#2a3038;--chart-surface:#14171b;`;
  const STYLE = `
    :where(.chart){${LIGHT}}
    @media (prefers-color-scheme:dark){:where(.chart){${DARK}}}
    :where([data-theme=light] .chart){${LIGHT}}
    :where([data-theme=dark] .chart){${DARK}}
    :where(.chart){color:var(--chart-ink);font:12px/1.4 system-ui,sans-serif;font-variant-numeric:tabular-nums;min-width:0}
    :where(.chart-head){display:flex;gap:8px;align-items:flex-start;justify-content:space-between}
    :where(.chart-legend){display:flex;flex-wrap:wrap;gap:2px 16px;margin:0;padding:0;list-style:none;min-height:3em}
    :where(.chart-legend li){display:inline-flex;gap:6px;align-items:baseline;overflow-wrap:anywhere}
    :where(.chart-legend .chart-name){color:var(--chart-muted)}
    :where(.chart-legend svg){flex:none;width:14px;height:8px}
    :where(.chart-tools){display:flex;flex:none;gap:4px}
    :where(.chart-tools button){font:inherit;line-height:1;min-width:28px;height:28px;padding:0 8px;color:inherit;cursor:pointer;
      background:transparent;border:1px solid var(--chart-grid);border-radius:6px}
    :where(.chart-tools button:disabled){color:var(--chart-muted);cursor:default;opacity:.6}
    :where(.chart-tools button:focus-visible,.chart-plot:focus-visible){outline:2px solid var(--chart-1);outline-offset:2px}
    :where(.chart-plot){position:relative;touch-action:pan-y;cursor:crosshair;user-select:none;-webkit-user-select:none;border-radius:4px}
    :where(.chart-plot>svg){display:block;width:100%;overflow:visible}
    :where(.chart text){fill:var(--chart-muted);font-size:11px}
    :where(.chart-grid){stroke:var(--chart-grid);shape-rendering:crispEdges}
    :where(.chart-line){fill:none;stroke-width:1.6;stroke-linejoin:round}
    :where(.chart-thin){stroke-width:1.1}
    :where(.chart-dashed){stroke-dasharray:5 4}
    :where(.chart-area){stroke:none;fill-opacity:.12}
    :where(.chart-cross){stroke:var(--chart-muted);stroke-dasharray:3 3;shape-rendering:crispEdges}
    :where(.chart-band){fill:var(--chart-1);fill-opacity:.14}
    :where(.chart-empty){margin:0;padding:24px 0;color:var(--chart-muted)}
    :where(.chart-unseen){position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
    @media (forced-colors:active){:where(.chart-line){stroke:CanvasText}}`;

  const MINUTE = 60e3, HOUR = 60 * MINUTE, DAY = 24 * HOUR, MONTH = 30.4 * DAY, YEAR = 365.25 * DAY;
  // [about how long, in months or milliseconds, how a label is written]
  const STEPS = [
    ...[1, 5, 15, 30].map((n) => [n * MINUTE, n * MINUTE, "time"]),
    ...[1, 3, 6, 12].map((n) => [n * HOUR, n * HOUR, "time"]),
    ...[1, 2, 7, 14].map((n) => [n * DAY, n * DAY, "day"]),
    ...[1, 2, 3, 6].map((n) => [n * MONTH, n, "month"]),
    ...[1, 2, 5, 10, 20, 50].map((n) => [n * YEAR, n * 12, "year"]),
  ];
  // A Monday, so that weeks start on one.
  const MONDAY = 4 * DAY;
  const DATE = new Intl.DateTimeFormat("en-GB", {timeZone: "UTC", year: "numeric", month: "short", day: "numeric"});
  const DAY_MONTH = new Intl.DateTimeFormat("en-GB", {timeZone: "UTC", month: "short", day: "numeric"});
  const MONTH_NAME = new Intl.DateTimeFormat("en-GB", {timeZone: "UTC", month: "short"});

  let styled = false;
  let charts = 0;

  function style() {
    if (styled) return;
    styled = true;
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    document.adoptedStyleSheets = [sheet, ...document.adoptedStyleSheets];
  }

  function html(name, attributes, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  function svg(name, attributes, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  // The first index whose time is not before `time`.
  function place(points, time) {
    let low = 0, high = points.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (points[middle][0] < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // The index of the point nearest to a time, or -1.
  function nearest(points, time) {
    const after = place(points, time);
    if (after === 0) return points.length ? 0 : -1;
    if (after === points.length) return after - 1;
    return points[after][0] - time < time - points[after - 1][0] ? after : after - 1;
  }

  function drawdownOf(points) {
    let peak = -Infinity;
    return points.map(([time, value]) => {
      if (value === null) return [time, null];
      peak = Math.max(peak, value);
      return [time, peak > 0 ? (value / peak - 1) * 100 : null];
    });
  }

  // Points that are sorted, with null for what is no number.
  function clean(points) {
    const kept = [];
    let sorted = true;
    for (const point of Array.isArray(points) ? points : []) {
      const [time, value] = Array.isArray(point) ? point : [];
      if (!Number.isFinite(time)) continue;
      if (kept.length && kept[kept.length - 1][0] > time) sorted = false;
      kept.push([time, Number.isFinite(value) ? value : null]);
    }
    return sorted ? kept : kept.sort((a, b) => a[0] - b[0]);
  }

  function read(spec) {
    const list = Array.isArray(spec.series) ? spec.series : [];
    let colors = 0;
    const series = list.map((one, index) => {
      const points = clean(one.points);
      const benchmark = Boolean(one.benchmark);
      const color = benchmark ? "var(--chart-benchmark)" : `var(--chart-${(colors++ % 5) + 1})`;
      return {name: String(one.name ?? `Series ${index + 1}`), points, benchmark, color};
    }).filter((one) => one.points.length > 0);
    for (const one of series) {
      one.drawdown = spec.drawdown === false || one.benchmark ? null : drawdownOf(one.points);
    }
    const firsts = series.map((one) => one.points[0][0]);
    const lasts = series.map((one) => one.points[one.points.length - 1][0]);
    let from = Math.min(...firsts), to = Math.max(...lasts);
    if (from === to) [from, to] = [from - 12 * HOUR, to + 12 * HOUR];
    return {series, from, to, any: series.some((one) => one.points.some((point) => point[1] !== null))};
  }

  // Round numbers between two others, about so many.
  function ticks(low, high, about) {
    const raw = (high - low) / Math.max(about, 1);
    const size = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].find((factor) => factor * size >= raw) * size;
    const found = [];
    for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++) found.push(index * step);
    return {found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (step / size === 2.5 ? 1 : 0))};
  }

  function timeTicks(from, to, most) {
    const wanted = (to - from) / Math.max(most, 1);
    const [, step, kind] = STEPS.find(([length]) => length >= wanted) ?? STEPS[STEPS.length - 1];
    const found = [];
    if (kind === "time" || kind === "day") {
      const origin = kind === "day" && step % (7 * DAY) === 0 ? MONDAY : 0;
      for (let time = Math.ceil((from - origin) / step) * step + origin; time <= to; time += step) found.push(time);
    } else {
      const start = new Date(from);
      const month = start.getUTCFullYear() * 12 + start.getUTCMonth();
      for (let index = Math.floor(month / step) * step; ; index += step) {
        const time = Date.UTC(Math.floor(index / 12), ((index % 12) + 12) % 12, 1);
        if (time > to) break;
        if (time >= from) found.push(time);
      }
    }
    return found.map((time) => [time, timeLabel(time, kind)]);
  }

  function timeLabel(time, kind) {
    const date = new Date(time);
    const [year, january, first] = [String(date.getUTCFullYear()), date.getUTCMonth() === 0, date.getUTCDate() === 1];
    if (kind === "year" || (january && first && time % DAY === 0)) return year;
    if (kind === "month") return MONTH_NAME.format(date);
    if (kind === "day" || time % DAY === 0) return DAY_MONTH.format(date);
    return date.toISOString().slice(11, 16);
  }

  function when(time, withClock) {
    const date = new Date(time);
    return withClock ? `${DATE.format(date)}, ${date.toISOString().slice(11, 16)} UTC` : DATE.format(date);
  }

  // What can be told apart at this width: where a pixel has many points, its first, lowest, highest and last.
  function visible(points, from, to, width) {
    const low = Math.max(0, place(points, from) - 1);
    const high = Math.min(points.length, place(points, to) + 1);
    if (high - low <= width * 3) return points.slice(low, high);
    const kept = [];
    for (let start = low; start < high;) {
      const edge = Math.floor(((points[start][0] - from) / (to - from)) * width);
      let end = start, least = start, most = start, gap = -1;
      for (; end < high && Math.floor(((points[end][0] - from) / (to - from)) * width) === edge; end++) {
        const value = points[end][1];
        if (value === null) gap = end;
        else {
          if (points[least][1] === null || value < points[least][1]) least = end;
          if (points[most][1] === null || value > points[most][1]) most = end;
        }
      }
      const chosen = new Set([start, least, most, end - 1]);
      if (gap >= 0) chosen.add(gap);
      kept.push(...[...chosen].sort((a, b) => a - b).map((index) => points[index]));
      start = end;
    }
    return kept;
  }

  function extent(parts) {
    let low = Infinity, high = -Infinity;
    for (const [, value] of parts.flat()) {
      if (value === null) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    return low <= high ? [low, high] : null;
  }

  // The path of a line with its gaps, the same closed down to `base` for an area, and what stands alone between gaps.
  function paths(points, x, y, base) {
    let line = "", area = "";
    const alone = [];
    for (let start = 0; start < points.length;) {
      if (points[start][1] === null) {
        start++;
        continue;
      }
      let end = start;
      let segment = "";
      for (; end < points.length && points[end][1] !== null; end++) {
        segment += `${segment ? "L" : "M"}${x(points[end][0]).toFixed(1)} ${y(points[end][1]).toFixed(1)}`;
      }
      if (end - start === 1) alone.push(points[start]);
      else {
        line += segment;
        area += `${segment}L${x(points[end - 1][0]).toFixed(1)} ${base}L${x(points[start][0]).toFixed(1)} ${base}Z`;
      }
      start = end;
    }
    return {line, area, alone};
  }

  class Chart {
    constructor(element, spec) {
      style();
      this.element = element;
      this.clip = `chart-clip-${++charts}`;
      this.pointers = new Map();
      this.cross = null;
      this.band = null;
      this.legend = html("ul", {class: "chart-legend"});
      this.out = html("button", {type: "button", "aria-label": "Zoom out", title: "Zoom out (-)"}, "−");
      this.in = html("button", {type: "button", "aria-label": "Zoom in", title: "Zoom in (+)"}, "+");
      this.all = html("button", {type: "button", title: "Show the whole range (Escape)"}, "Reset");
      this.drawing = svg("svg", {role: "img"});
      this.plot = html("div", {
        class: "chart-plot", tabindex: "0", role: "group", "aria-roledescription": "interactive chart",
      }, this.drawing);
      this.spoken = html("p", {class: "chart-unseen", "aria-live": "polite"});
      const tools = html("div", {class: "chart-tools"}, this.out, this.in, this.all);
      this.root = html("div", {class: "chart"}, html("div", {class: "chart-head"}, this.legend, tools), this.plot, this.spoken);
      element.replaceChildren(this.root);
      this.listen();
      this.spec = {};
      this.update(spec);
      this.resized = new ResizeObserver(() => this.render());
      this.resized.observe(this.plot);
    }

    update(spec) {
      const before = this.data;
      this.spec = {...this.spec, ...spec};
      this.data = read(this.spec);
      const zoomed = before && (this.from > before.from || this.to < before.to);
      if (zoomed) {
        this.from = clamp(this.from, this.data.from, this.data.to);
        this.to = clamp(this.to, this.from, this.data.to);
      }
      if (!zoomed || this.from === this.to) [this.from, this.to] = [this.data.from, this.data.to];
      this.plot.setAttribute("aria-label", `${this.spec.title ?? "Chart"}: arrow keys read it, plus and minus zoom, Escape shows all`);
      this.drawing.setAttribute("aria-label", this.summary());
      this.render();
    }

    zoom(from, to) {
      const {from: first, to: last} = this.data;
      // Three of the closest points that there are, or it would be a zoom into nothing.
      const span = last - first;
      const count = Math.max(...this.data.series.map((one) => one.points.length), 2);
      const length = clamp(to - from, Math.min(span, (3 * span) / (count - 1)), span);
      const middle = (from + to) / 2;
      const start = clamp(middle - length / 2, first, last - length);
      if (!Number.isFinite(start) || (start === this.from && start + length === this.to)) return;
      [this.from, this.to] = [start, start + length];
      this.render();
      this.spec.onZoom?.(this.from, this.to);
    }

    reset() {
      this.zoom(this.data.from, this.data.to);
    }

    remove() {
      this.resized.disconnect();
      this.root.remove();
    }

    scale(factor, around) {
      this.zoom(around - (around - this.from) * factor, around + (this.to - around) * factor);
    }

    move(by) {
      this.zoom(this.from + by, this.to + by);
    }

    number(value, digits, withUnit = true) {
      const unit = withUnit ? this.spec.unit : "";
      const text = value.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits}).replace("-", "−");
      return unit ? `${text}${unit === "%" ? "" : "\u00a0"}${unit}` : text;
    }

    digits(low, high) {
      if (Number.isInteger(this.spec.digits)) return clamp(this.spec.digits, 0, 12);
      if (this.spec.unit === "%") return 2;
      const size = Math.max(high - low, Math.abs(high) * 1e-4, 1e-9);
      return clamp(Math.ceil(-Math.log10(size)) + 2, 0, 10);
    }

    // What a reader who does not see it is told.
    summary() {
      const {series, any} = this.data;
      if (!any) return `${this.spec.title ?? "Chart"}: nothing to draw`;
      const sentences = series.map((one) => {
        const there = one.points.filter((point) => point[1] !== null);
        if (!there.length) return `${one.name}: no values.`;
        const [low, high] = extent([there]);
        const digits = this.digits(low, high);
        const [first, last] = [there[0], there[there.length - 1]];
        const change = first[1] > 0 ? ` (${percent((last[1] / first[1] - 1) * 100)})` : "";
        let text = `${one.name}: from ${this.number(first[1], digits)} on ${when(first[0])} to ${this.number(last[1], digits)} on ` +
          `${when(last[0])}${change}; lowest ${this.number(low, digits)}, highest ${this.number(high, digits)}.`;
        const fallen = one.drawdown?.filter((point) => point[1] !== null) ?? [];
        if (fallen.length) {
          const deepest = fallen.reduce((a, b) => (b[1] < a[1] ? b : a));
          text += deepest[1] < 0 ? ` Deepest drawdown ${percent(deepest[1])} on ${when(deepest[0])}.` : " No drawdown.";
        }
        return text;
      });
      return `${this.spec.title ?? "Chart"}. ${sentences.join(" ")}`;
    }

    render() {
      const width = this.plot.clientWidth;
      const {any, series} = this.data;
      const zoomed = this.from > this.data.from || this.to < this.data.to;
      this.all.disabled = this.out.disabled = !zoomed;
      this.in.disabled = !any;
      if (!any || width < 40) {
        this.drawing.replaceChildren();
        this.drawing.setAttribute("height", any ? "0" : "40");
        if (!any) this.drawing.append(svg("text", {x: 0, y: 24}, "Nothing to draw: there are no values."));
        this.legend.replaceChildren();
        return;
      }
      const tall = Math.max(160, (this.spec.height ?? 340) * (width < 480 ? 0.8 : 1));
      const below = series.some((one) => one.drawdown);
      const {from, to} = this;
      const parts = series.map((one) => visible(one.points, from, to, width));
      // What is in view decides the scale; if there is only a gap, what is around it does.
      const seen = (part) => part.filter(([time]) => time >= from && time <= to);
      let [low, high] = extent(parts.map(seen)) ?? extent(parts) ?? extent(series.map((one) => one.points));
      // What does not change lies in the middle of a band, not of rounding errors.
      const flat = high - low < Math.abs(high) * 1e-6;
      const margin = flat ? Math.max(Math.abs(high) * 0.02, 1e-9) : (high - low) * 0.06;
      [low, high] = [low - margin, high + margin];
      const top = 8, axis = 22, between = below ? 22 : 0;
      const room = tall - top - axis - between;
      const upper = below ? Math.round(room * 0.7) : room;
      const marks = ticks(low, high, upper / 44);
      const labels = marks.found.map((value) => this.number(value, Math.min(marks.digits, 10), this.spec.unit === "%"));
      const left = Math.min(Math.max(...labels.map((label) => label.length), below ? 6 : 3) * 6.4 + 10, width * 0.35);
      const right = 6;
      const inner = Math.max(width - left - right, 10);
      const x = (time) => left + ((time - from) / (to - from)) * inner;
      const y = (value) => top + (1 - (value - low) / (high - low)) * upper;
      this.geometry = {left, inner, top, tall, axis, x, y};

      const clip = svg("clipPath", {id: this.clip}, svg("rect", {x: left, y: 0, width: inner, height: tall}));
      const lines = svg("g", {"clip-path": `url(#${this.clip})`});
      const frame = svg("g", {});
      const rule = (at) => frame.append(svg("line", {class: "chart-grid", x1: left, x2: left + inner, y1: at, y2: at}));
      const label = (text, at) =>
        frame.append(svg("text", {x: left - 8, y: at + 4, "text-anchor": "end"}, text));
      marks.found.forEach((value, index) => {
        rule(y(value));
        label(labels[index], y(value));
      });
      const draw = (one, part, scale, base, {color, fill, thin}) => {
        const {line, area, alone} = paths(part, x, scale, base);
        const kind = `chart-line${thin ? " chart-thin" : ""}${one.benchmark ? " chart-dashed" : ""}`;
        if (fill && area) lines.append(svg("path", {class: "chart-area", d: area, fill: color}));
        if (line) lines.append(svg("path", {class: kind, d: line, stroke: color}));
        for (const [time, value] of alone) lines.append(svg("circle", {cx: x(time), cy: scale(value), r: 2, fill: color}));
      };
      // The main line comes last, on top of the others.
      for (let index = series.length - 1; index >= 0; index--) {
        const fill = index === 0 && !series[0].benchmark && series.length < 3;
        draw(series[index], parts[index], y, top + upper, {color: series[index].color, fill, thin: index > 0});
      }
      if (below) {
        const start = top + upper + between, height = room - upper;
        const fallen = series.map((one) => (one.drawdown ? visible(one.drawdown, from, to, width) : []));
        const deepest = Math.min((extent(fallen.map(seen)) ?? [0])[0], -1) * 1.08;
        const down = (value) => start + (value / deepest) * height;
        const steps = ticks(deepest, 0, Math.max(height / 36, 1));
        for (const value of steps.found) {
          rule(down(value));
          label(percent(value === 0 ? 0 : value, steps.digits, false), down(value));
        }
        frame.append(svg("text", {x: left, y: start - 7}, "Drawdown"));
        const single = series.filter((one) => one.drawdown).length === 1;
        for (let index = series.length - 1; index >= 0; index--) {
          const color = single ? "var(--chart-drawdown)" : series[index].color;
          if (series[index].drawdown) draw(series[index], fallen[index], down, start, {color, fill: single, thin: true});
        }
        this.geometry.down = down;
      }
      for (const [time, text] of timeTicks(from, to, inner / 70)) {
        const at = x(time);
        frame.append(svg("line", {class: "chart-grid", x1: at, x2: at, y1: tall - axis, y2: tall - axis + 4}));
        const anchor = at < left + 18 ? "start" : at > left + inner - 18 ? "end" : "middle";
        frame.append(svg("text", {x: at, y: tall - 5, "text-anchor": anchor}, text));
      }
      this.over = svg("g", {"aria-hidden": "true"});
      this.drawing.setAttribute("viewBox", `0 0 ${width} ${tall}`);
      this.drawing.setAttribute("height", tall);
      this.drawing.replaceChildren(svg("defs", {}, clip), frame, lines, this.over);
      this.point();
    }

    // Draws what follows the pointer, and says in the legend what is there: at the crosshair, or at the end of what is seen.
    point() {
      if (!this.geometry || !this.data.any) return;
      const {x, y, top, tall, axis, left, inner} = this.geometry;
      const time = this.cross ?? this.to;
      const main = this.data.series[0];
      const withClock = main.points.some(([at]) => at % DAY !== 0);
      const entries = [];
      const dots = [];
      let shown = time;
      this.data.series.forEach((one, index) => {
        const at = one.points[nearest(one.points, time)];
        if (index === 0) shown = at[0];
        const values = extent([one.points]);
        const value = at[1] === null || !values ? "no value" : this.number(at[1], this.digits(...values));
        entries.push([one.color, one.name, value, one.benchmark]);
        if (at[1] !== null && at[0] >= this.from && at[0] <= this.to) {
          dots.push(svg("circle", {cx: x(at[0]), cy: y(at[1]), r: 3.5, fill: one.color, stroke: "var(--chart-surface)"}));
        }
      });
      const compared = this.data.series.filter((one) => one.drawdown);
      if (compared.length === 1) {
        const fallen = compared[0].drawdown[nearest(compared[0].drawdown, time)][1];
        entries.push(["var(--chart-drawdown)", "Drawdown", fallen === null ? "no value" : percent(fallen), false]);
      }
      this.legend.replaceChildren(
        html("li", {}, html("span", {class: "chart-name"}, when(shown, withClock))),
        ...entries.map(([color, name, value, dashed]) => {
          const dash = dashed ? {"stroke-dasharray": "4 3"} : {};
          const line = svg("line", {x1: 0, x2: 14, y1: 4, y2: 4, stroke: color, "stroke-width": 2.5, ...dash});
          const swatch = svg("svg", {viewBox: "0 0 14 8", "aria-hidden": "true"}, line);
          return html("li", {}, swatch, html("span", {class: "chart-name"}, name), html("span", {}, value));
        }),
      );
      this.reading = `${when(shown, withClock)}: ${entries.map(([, name, value]) => `${name} ${value}`).join(", ")}`;
      const over = [];
      if (this.band) {
        const [a, b] = this.band.map((at) => clamp(x(at), left, left + inner));
        over.push(svg("rect", {class: "chart-band", x: Math.min(a, b), y: top, width: Math.abs(b - a), height: tall - top - axis}));
      }
      if (this.cross !== null) {
        over.push(svg("line", {class: "chart-cross", x1: x(shown), x2: x(shown), y1: top, y2: tall - axis}), ...dots);
      }
      this.over.replaceChildren(...over);
    }

    timeAt(event) {
      if (!this.geometry) return null;
      const {left, inner} = this.geometry;
      const at = event.clientX - this.plot.getBoundingClientRect().left;
      return this.from + (clamp(at - left, 0, inner) / inner) * (this.to - this.from);
    }

    listen() {
      const {plot} = this;
      this.in.addEventListener("click", () => this.scale(0.5, this.cross ?? (this.from + this.to) / 2));
      this.out.addEventListener("click", () => this.scale(2, (this.from + this.to) / 2));
      this.all.addEventListener("click", () => this.reset());
      plot.addEventListener("dblclick", () => this.reset());
      plot.addEventListener("keydown", (event) => this.key(event));
      plot.addEventListener("blur", () => this.leave());
      plot.addEventListener("pointerleave", () => this.pointers.size || this.leave());
      plot.addEventListener("wheel", (event) => this.wheel(event), {passive: false});
      plot.addEventListener("pointerdown", (event) => this.down(event));
      plot.addEventListener("pointermove", (event) => this.moved(event));
      for (const name of ["pointerup", "pointercancel"]) plot.addEventListener(name, (event) => this.up(event));
    }

    leave() {
      this.cross = null;
      this.point();
    }

    wheel(event) {
      const around = this.timeAt(event);
      const meant = event.ctrlKey || event.metaKey || document.activeElement === this.plot;
      if (around === null || !meant) return;
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        this.move((event.deltaX / this.geometry.inner) * (this.to - this.from));
      } else {
        this.scale(Math.exp(clamp(event.deltaY, -60, 60) * (event.ctrlKey ? 0.01 : 0.004)), around);
      }
      this.cross = this.timeAt(event);
      this.point();
    }

    down(event) {
      if (event.button !== 0 || !this.geometry) return;
      this.pointers.set(event.pointerId, event.clientX);
      this.plot.setPointerCapture(event.pointerId);
      const time = this.timeAt(event);
      if (event.pointerType === "touch") {
        this.band = this.grip = null;
        this.cross = time;
      } else if (event.shiftKey) this.grip = event.clientX;
      else this.band = [time, time];
      this.point();
    }

    moved(event) {
      const time = this.timeAt(event);
      if (time === null) return;
      const before = this.pointers.get(event.pointerId);
      if (before !== undefined && this.pointers.size === 2) {
        const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
        const [was, is] = [Math.abs(before - other), Math.abs(event.clientX - other)];
        this.pointers.set(event.pointerId, event.clientX);
        const middle = this.timeAt({clientX: (event.clientX + other) / 2});
        if (was > 4 && is > 4) this.scale(was / is, middle);
        this.move(((before - event.clientX) / 2 / this.geometry.inner) * (this.to - this.from));
        this.cross = null;
        return;
      }
      if (before !== undefined) this.pointers.set(event.pointerId, event.clientX);
      if (this.grip != null && before !== undefined) {
        this.move(((this.grip - event.clientX) / this.geometry.inner) * (this.to - this.from));
        this.grip = event.clientX;
      }
      if (this.band) this.band[1] = time;
      this.cross = time;
      this.point();
    }

    up(event) {
      if (!this.pointers.delete(event.pointerId)) return;
      const {band} = this;
      this.band = this.grip = null;
      // A few pixels are a click, not a range.
      if (band && Math.abs(this.geometry.x(band[0]) - this.geometry.x(band[1])) > 6) {
        this.zoom(Math.min(...band), Math.max(...band));
      }
      if (event.pointerType === "touch" && this.pointers.size === 0) this.cross = null;
      this.point();
    }

    key(event) {
      if (!this.data.any || event.ctrlKey || event.metaKey || event.altKey) return;
      const {points} = this.data.series[0];
      const span = this.to - this.from;
      const low = place(points, this.from), high = Math.max(place(points, this.to + 1) - 1, low);
      const step = Math.max(1, Math.round((high - low) / 120));
      const here = this.cross === null ? high : nearest(points, this.cross);
      const go = (index) => (this.cross = points[clamp(index, low, Math.min(high, points.length - 1))]?.[0] ?? null);
      const middle = this.cross ?? this.from + span / 2;
      switch (event.key) {
        case "ArrowLeft": event.shiftKey ? this.move(-span / 10) : go(this.cross === null ? high : here - step); break;
        case "ArrowRight": event.shiftKey ? this.move(span / 10) : go(this.cross === null ? low : here + step); break;
        case "Home": go(low); break;
        case "End": go(high); break;
        case "+": case "=": this.scale(0.5, middle); break;
        case "-": this.scale(2, middle); break;
        case "0": case "Escape": this.reset(); this.cross = null; break;
        default: return;
      }
      event.preventDefault();
      this.point();
      this.spoken.textContent = this.reading ?? "";
    }
  }

  function percent(value, digits = 2, sign = true) {
    const text = Math.abs(value).toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits});
    const zero = Number(text.replaceAll(",", "")) === 0;
    return `${zero ? "" : value < 0 ? "−" : sign ? "+" : ""}${text}%`;
  }

  return (element, spec) => new Chart(element, spec);
})();

(() => {
  const start = () => {
    for (const element of document.querySelectorAll("[data-chart]")) {
      const data = document.getElementById(element.dataset.chart);
      if (data) element.chart = drawChart(element, JSON.parse(data.textContent));
    }
    for (const element of document.querySelectorAll("[data-chart-source]")) {
      // If it cannot be had, what stands there for readers without scripts is left.
      fetch(element.dataset.chartSource).then((answer) => (answer.ok ? answer.json() : null)).then((spec) => {
        if (spec) element.chart = drawChart(element, spec);
      }).catch(() => {});
    }
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
