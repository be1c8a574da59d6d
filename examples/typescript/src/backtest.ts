/**
 * Submits a backtest, follows it while it runs, reads its result, and asks what that is worth.
 *
 *     npm run build && JESSE_JOBS_URL=http://127.0.0.1:8100 JESSE_JOBS_KEY=jj_... npm run backtest
 */

import { answered, client, hasEnded, succeeded, type Job } from "./client.js";

const spec = {
  strategy: "SmaCross",
  exchange: "Binance Perpetual Futures",
  symbol: "BTC-USDT",
  timeframe: "1h",
  start_date: "2023-02-01",
  finish_date: "2023-04-20",
  hyperparameters: { fast: 10 },
};
const metricsShown = {
  total: "trades",
  net_profit_percentage: "net profit, %",
  sharpe_ratio: "Sharpe ratio",
  max_drawdown: "largest drawdown, %",
  win_rate: "share won",
};

/** The job as it stands, whenever that has changed, until it has ended. Where a connection ends before, the next goes on. */
async function* follow(id: string): AsyncGenerator<Job> {
  let seen: string | undefined;
  for (;;) {
    const header = seen === undefined ? {} : { "Last-Event-ID": seen };
    const params = { path: { id }, header };
    const stream = answered(await client.GET("/v1/jobs/{id}/events", { params, parseAs: "stream" }));
    let text = "";
    for await (const chunk of stream!.pipeThrough(new TextDecoderStream())) {
      const events = (text + chunk).split("\n\n");
      text = events.pop()!;
      for (const event of events) {
        const fields = Object.fromEntries(event.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
        if (!fields.data) continue;
        yield JSON.parse(fields.data);
        if (fields.event === "end") return;
        seen = fields.id;
      }
    }
  }
}

/** The same without a stream: each call waits, and answers when the job has ended or the time is up. */
async function waitFor(job: Job): Promise<Job> {
  while (!hasEnded(job)) {
    const params = { path: { id: job.job_id }, query: { wait: 30 } };
    job = answered(await client.GET("/v1/jobs/{id}", { params }));
  }
  return succeeded(job);
}

let job = answered(await client.POST("/v1/jobs", { body: { kind: "backtest", spec } }));
for await (job of follow(job.job_id)) {
  const progress = job.state === "running" ? ` ${Math.round((job.progress?.fraction ?? 0) * 100)}%` : "";
  console.log(job.state + progress);
}
succeeded(job);

// A part of the result: with trades and all it may have megabytes.
const params = { path: { id: job.job_id }, query: { fields: "metrics" } };
const { metrics } = answered(await client.GET("/v1/jobs/{id}/result", { params }));
console.log();
for (const [name, label] of Object.entries(metricsShown)) {
  const value = (metrics as Record<string, number>)[name];
  console.log(label.padEnd(20), value?.toFixed(2).padStart(10) ?? "-");
}

const asked = await client.POST("/v1/jobs", { body: { kind: "risk_report", spec: { job_id: job.job_id } } });
const report = await waitFor(answered(asked));
const page = await client.GET("/v1/jobs/{id}/report.md", { params: { path: { id: report.job_id } }, parseAs: "text" });
console.log(`\n${answered(page)}`);
