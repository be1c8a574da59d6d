"""Runs a grid of backtests, is told of its end by a signed message, and prints the best of them.

    JESSE_JOBS_URL=http://127.0.0.1:8100 JESSE_JOBS_KEY=jj_... python batch.py

The server must be allowed to send here: `--webhook-allow 127.0.0.1` (WEBHOOK_ALLOW). From another machine it needs an address of yours:
RECEIVER_HOST and RECEIVER_PORT.
"""

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from threading import Thread

import httpx
from jesse_jobs import answer, connect
from standardwebhooks import Webhook, WebhookVerificationError

HOST = os.environ.get("RECEIVER_HOST", "127.0.0.1")
PORT = int(os.environ.get("RECEIVER_PORT", "0"))
# As long as a batch may take.
LONGEST_S = 3600
LARGEST_MESSAGE = 64 * 1024
BATCH = {
    "base": {
        "strategy": "SmaCross",
        "exchange": "Binance Perpetual Futures",
        "symbol": "BTC-USDT",
        "start_date": "2023-02-01",
        "finish_date": "2023-03-01",
    },
    "grid": {"timeframe": ["30m", "1h"], "hyperparameters": {"fast": [10, 15], "slow": [40, 60]}},
}


def receiver(secret: str) -> tuple[ThreadingHTTPServer, SimpleQueue]:
    """A server for messages, and those that are signed with the secret and recent, as they come."""
    webhook, messages = Webhook(secret), SimpleQueue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            # The bytes that came are what is signed.
            body = self.rfile.read(min(int(self.headers.get("content-length", 0)), LARGEST_MESSAGE))
            try:
                messages.put(webhook.verify(body, dict(self.headers)))
                self.send_response(204)
            except WebhookVerificationError:
                self.send_response(401)
            self.end_headers()

        def log_message(self, *_):
            pass

    return ThreadingHTTPServer((HOST, PORT), Receiver), messages


def jobs_of(client: httpx.Client, batch_id: str) -> Iterator[dict]:
    """All jobs of a batch, page by page."""
    params = {"limit": 100}
    while True:
        page = answer(client.get(f"/v1/batches/{batch_id}/jobs", params=params))
        yield from page["jobs"]
        if page["next_cursor"] is None:
            return
        params["cursor"] = page["next_cursor"]


def sharpe(job: dict) -> float:
    """What jobs are ranked by. Where there was no trade there is none."""
    return job["summary"]["metrics"]["sharpe_ratio"] or float("-inf")


with connect() as client:
    # Messages to URLs that requests name are signed with a secret of their own.
    secret = answer(client.get("/v1/webhooks/jobs/secret"))["secret"]
    server, messages = receiver(secret)
    Thread(target=server.serve_forever, daemon=True).start()

    batch = answer(client.post("/v1/batches", json=BATCH | {"webhook": f"http://{HOST}:{server.server_port}/"}))
    print(f"batch {batch['job_id']}: {batch['jobs']['total']} backtests")
    # A message may come twice, and those of other batches may come too.
    while (message := messages.get(timeout=LONGEST_S))["data"]["job_id"] != batch["job_id"]:
        pass
    server.shutdown()
    print(f"{message['type']}, verified: {message['data']['state']}\n")

    succeeded = [job for job in jobs_of(client, batch["job_id"]) if job["state"] == "succeeded"]
    print(f"{'Sharpe':>7} {'profit, %':>10} {'trades':>7}  of")
    for job in sorted(succeeded, key=sharpe, reverse=True)[:5]:
        metrics, spec = job["summary"]["metrics"], job["spec"]
        values = " ".join(f"{name}={value}" for name, value in spec["hyperparameters"].items())
        print(
            f"{metrics['sharpe_ratio'] or 0:7.2f} {metrics['net_profit_percentage']:10.2f} {metrics['total']:7}"
            f"  {spec['routes'][0]['timeframe']} {values}"
        )
