// The view of a job that hosts show beside a tool's answer: MCP Apps (SEP-1865), version 2026-01-26. It talks to the host by
// JSON-RPC over postMessage, and to the server only through the host.
(() => {
  "use strict";

  const ENDED = ["succeeded", "failed", "cancelled", "dead", "expired"];
  const FIGURES = [
    ["net_profit_percentage", "Net profit", (value) => `${signed(value, 2)} %`],
    ["sharpe_ratio", "Sharpe ratio", (value) => fixed(value, 2)],
    ["max_drawdown", "Max drawdown", (value) => `${fixed(value, 2)} %`],
    ["total", "Trades", (value) => fixed(value, 0)],
    ["win_rate", "Won", (value) => `${fixed(value * 100, 1)} %`],
  ];
  const POINTS = 500;
  // So that a host is not asked for every step of a zoom.
  const PAUSE_MS = 250;

  const $ = (id) => document.getElementById(id);
  const waiting = new Map();
  let calls = 0;
  let host = {};
  let chart = null;
  let whole = [];
  let shownJob = "";
  let zoomTimer = 0;

  const fixed = (value, digits) =>
    value.toLocaleString("en-GB", {minimumFractionDigits: digits, maximumFractionDigits: digits}).replace("-", "\u2212");
  const signed = (value, digits) => (value > 0 ? "+" : "") + fixed(value, digits);

  function send(message) {
    window.parent.postMessage({jsonrpc: "2.0", ...message}, "*");
  }

  function notify(method, params = {}) {
    send({method, params});
  }

  function request(method, params) {
    calls += 1;
    const id = calls;
    send({id, method, params});
    return new Promise((resolve, reject) => waiting.set(id, {resolve, reject}));
  }

  function say(text, wrong = false) {
    $("status").textContent = text;
    $("status").classList.toggle("wrong", wrong);
  }

  async function call(name, args) {
    const answer = await request("tools/call", {name, arguments: args});
    const content = answer.structuredContent ?? {};
    if (answer.isError && content.error && !content.job_id) throw new Error(content.error.message);
    return content;
  }

  // Follows a job to its end and draws it.
  async function show(jobId, job) {
    if (shownJob === jobId) return;
    shownJob = jobId;
    try {
      job ??= await call("job_get", {job_id: jobId});
      while (!ENDED.includes(job.state) && shownJob === jobId) {
        const percent = job.progress ? ` (${Math.round(job.progress.fraction * 100)} %)` : "";
        say(`The job is ${job.state}${percent}.`);
        job = await call("job_get", {job_id: jobId, wait_seconds: 20});
      }
      if (shownJob !== jobId) return;
      figures(job.summary?.metrics ?? {});
      if (job.state !== "succeeded") {
        say(`The job is ${job.state}${job.error ? `: ${job.error.message}` : "."}`, true);
        return;
      }
      const found = await call("job_series", {job_id: jobId, max_points: POINTS});
      if (shownJob === jobId) draw(found);
    } catch (error) {
      shownJob = "";
      say(error.message, true);
    }
  }

  function figures(metrics) {
    const shown = FIGURES.filter(([name]) => Number.isFinite(metrics[name])).map(([name, title, write]) => {
      const figure = document.createElement("div");
      const term = document.createElement("dt");
      const value = document.createElement("dd");
      term.textContent = title;
      value.textContent = write(metrics[name]);
      figure.append(term, value);
      return figure;
    });
    $("figures").replaceChildren(...shown);
  }

  function draw(found) {
    whole = found.series;
    $("title").textContent = found.title || "Backtest";
    say("");
    chart?.remove();
    chart = drawChart($("chart"), {title: "Equity", series: whole, unit: found.unit, height: 320, onZoom: zoomed});
  }

  // Finer points where somebody looks closely; the others stay, since the drawdown depends on them.
  function zoomed(from, to) {
    clearTimeout(zoomTimer);
    zoomTimer = setTimeout(async () => {
      const job = shownJob;
      const [first, last] = [whole[0].points[0][0], whole[0].points.at(-1)[0]];
      if (from <= first && to >= last) {
        chart.update({series: whole});
        return;
      }
      try {
        const fine = await call("job_series", {job_id: job, from, to, max_points: POINTS});
        if (job !== shownJob) return;
        const series = whole.map((coarse) => {
          const part = fine.series.find((other) => other.name === coarse.name)?.points ?? [];
          const outside = coarse.points.filter(([time]) => time < from || time > to);
          return {...coarse, points: [...outside, ...part].sort((a, b) => a[0] - b[0])};
        });
        chart.update({series});
        tell(from, to, fine.series[0]?.points ?? []);
      } catch (error) {
        say(error.message, true);
      }
    }, PAUSE_MS);
  }

  // What is looked at, for the model's next turn.
  function tell(from, to, points) {
    if (!host.updateModelContext || points.length < 2) return;
    const day = (time) => new Date(time).toISOString().slice(0, 10);
    const [first, last] = [points[0][1], points.at(-1)[1]];
    const change = first > 0 ? `, ${signed((last / first - 1) * 100, 2)} %` : "";
    const text = `The user looks at the equity of job ${shownJob} from ${day(from)} to ${day(to)}: ${fixed(first, 2)} to ${fixed(last, 2)}${change}.`;
    request("ui/update-model-context", {content: [{type: "text", text}]}).catch(() => {});
  }

  function wear(context = {}) {
    if (context.theme) document.documentElement.dataset.theme = context.theme;
    for (const [name, value] of Object.entries(context.styles?.variables ?? {})) {
      if (value) document.documentElement.style.setProperty(name, value);
    }
  }

  const heard = {
    "ui/notifications/tool-input": ({arguments: args}) => {
      // A tool that is asked for a picture of a job names it, and its answer is the picture alone.
      if (typeof args?.job_id === "string") show(args.job_id);
    },
    "ui/notifications/tool-result": (result) => {
      const job = result.structuredContent;
      if (job?.job_id) show(job.job_id, job);
      else if (result.isError) say(job?.error?.message ?? "The call failed.", true);
    },
    "ui/notifications/tool-cancelled": ({reason}) => say(reason ? `The call was cancelled: ${reason}` : "The call was cancelled."),
    "ui/notifications/host-context-changed": wear,
  };

  window.addEventListener("message", ({source, data}) => {
    if (source !== window.parent || data?.jsonrpc !== "2.0") return;
    if (data.method === undefined) {
      const call = waiting.get(data.id);
      waiting.delete(data.id);
      if (data.error) call?.reject(new Error(data.error.message));
      else call?.resolve(data.result);
    } else if (data.id === undefined) {
      heard[data.method]?.(data.params ?? {});
    } else if (data.method === "ping" || data.method === "ui/resource-teardown") {
      send({id: data.id, result: {}});
    } else {
      send({id: data.id, error: {code: -32601, message: `no method ${data.method}`}});
    }
  });

  async function start() {
    const {hostCapabilities, hostContext} = await request("ui/initialize", {
      protocolVersion: "2026-01-26",
      appInfo: {name: "jesse-jobs", title: "Equity of a backtest", version: "{version}"},
      appCapabilities: {availableDisplayModes: ["inline", "fullscreen"]},
    });
    host = hostCapabilities ?? {};
    wear(hostContext);
    notify("ui/notifications/initialized");
    new ResizeObserver(() => {
      const {width, height} = document.documentElement.getBoundingClientRect();
      notify("ui/notifications/size-changed", {width: Math.ceil(width), height: Math.ceil(height)});
    }).observe(document.documentElement);
  }

  start().catch((error) => say(error.message, true));
})();
