/**
 * Runs a grid of backtests, is told of its end by a signed message, and prints the best of them.
 *
 *     npm run build && JESSE_JOBS_URL=http://127.0.0.1:8100 JESSE_JOBS_KEY=jj_... npm run batch
 *
 * The server must be allowed to send here: `--webhook-allow 127.0.0.1` (WEBHOOK_ALLOW). From another machine it needs an address of
 * yours: RECEIVER_HOST and RECEIVER_PORT.
 */

import { on, once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

import { Webhook } from "standardwebhooks";

import { answered, client, type Job } from "./client.js";

const host = process.env.RECEIVER_HOST ?? "127.0.0.1";
const port = Number(process.env.RECEIVER_PORT ?? 0);
const batch = {
  base: {
    strategy: "SmaCross",
    exchange: "Binance Perpetual Futures",
    symbol: "BTC-USDT",
    start_date: "2023-02-01",
    finish_date: "2023-03-01",
  },
  grid: { timeframe: ["30m", "1h"], hyperparameters: { fast: [10, 15], slow: [40, 60] } },
};

interface Message {
  type: string;
  data: { job_id: string; state: string };
}

/** A server for messages; it emits `message` for those that are signed with the secret and recent. */
function receiver(secret: string) {
  const webhook = new Webhook(secret);
  const server = createServer(async (request, response) => {
    try {
      // The bytes that came are what is signed.
      const message = webhook.verify(await buffer(request), request.headers as Record<string, string>);
      response.writeHead(204).end();
      server.emit("message", message);
    } catch {
      response.writeHead(401).end();
    }
  });
  return server;
}

/** All jobs of a batch, page by page. */
async function* jobsOf(id: string): AsyncGenerator<Job> {
  let cursor: string | null | undefined;
  do {
    const query = { limit: 100, ...(cursor && { cursor }) };
    const page = answered(await client.GET("/v1/batches/{id}/jobs", { params: { path: { id }, query } }));
    yield* page.jobs;
    cursor = page.next_cursor;
  } while (cursor);
}

interface Row {
  sharpe_ratio: number | null;
  net_profit_percentage: number;
  total: number;
  timeframe: string;
  [hyperparameter: string]: unknown;
}

const rounded = (value: number) => Math.round(value * 100) / 100;

function row({ summary, spec }: Job): Row {
  const { sharpe_ratio, net_profit_percentage, total } = summary!.metrics as Row;
  const { routes, hyperparameters } = spec as { routes: [{ timeframe: string }]; hyperparameters: object };
  return {
    // Where there was no trade there is none.
    sharpe_ratio: sharpe_ratio === null ? null : rounded(sharpe_ratio),
    net_profit_percentage: rounded(net_profit_percentage),
    total,
    timeframe: routes[0].timeframe,
    ...hyperparameters,
  };
}

// Messages to URLs that requests name are signed with a secret of their own.
const { secret } = answered(await client.GET("/v1/webhooks/{id}/secret", { params: { path: { id: "jobs" } } }));
const server = receiver(secret!);
const messages = on(server, "message");
await once(server.listen(port, host), "listening");
const webhook = `http://${host}:${(server.address() as AddressInfo).port}/`;

const { job_id, jobs } = answered(await client.POST("/v1/batches", { body: { ...batch, webhook } }));
console.log(`batch ${job_id}: ${jobs?.total} backtests`);
// A message may come twice, and those of other batches may come too.
for await (const [message] of messages as AsyncIterable<[Message]>) {
  if (message.data.job_id !== job_id) continue;
  console.log(`${message.type}, verified: ${message.data.state}\n`);
  break;
}
server.close();
server.closeAllConnections();

const rows: Row[] = [];
for await (const job of jobsOf(job_id)) {
  if (job.state === "succeeded") rows.push(row(job));
}
rows.sort((a, b) => (b.sharpe_ratio ?? -Infinity) - (a.sharpe_ratio ?? -Infinity));
console.table(rows.slice(0, 5));
