"""Submits a backtest, follows it while it runs, reads its result, and asks what that is worth.

    JESSE_JOBS_URL=http://127.0.0.1:8100 JESSE_JOBS_KEY=jj_... python backtest.py
"""

import json
from collections.abc import Iterator

import httpx
from jesse_jobs import answer, connect

BACKTEST = {
    "strategy": "SmaCross",
    "exchange": "Binance Perpetual Futures",
    "symbol": "BTC-USDT",
    "timeframe": "1h",
    "start_date": "2023-02-01",
    "finish_date": "2023-04-20",
    "hyperparameters": {"fast": 10},
}
METRICS = {
    "total": "trades",
    "net_profit_percentage": "net profit, %",
    "sharpe_ratio": "Sharpe ratio",
    "max_drawdown": "largest drawdown, %",
    "win_rate": "share won",
}


def follow(client: httpx.Client, job_id: str) -> Iterator[dict]:
    """The job as it stands, whenever that has changed, until it has ended. Where a connection ends before, the next goes on."""
    seen = {}
    while True:
        with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=seen) as response:
            if response.is_error:
                answer(response)
            event = {}
            for line in response.iter_lines():
                if line:
                    name, _, value = line.partition(":")
                    event[name] = value.removeprefix(" ")
                elif "data" in event:
                    yield json.loads(event["data"])
                    if event["event"] == "end":
                        return
                    seen, event = {"last-event-id": event["id"]}, {}


def wait_for(client: httpx.Client, job: dict) -> dict:
    """The same without a stream: each call waits, and answers when the job has ended or the time is up."""
    while job["state"] in ("queued", "scheduled", "running", "waiting"):
        job = answer(client.get(f"/v1/jobs/{job['job_id']}", params={"wait": 30}))
    return job


with connect() as client:
    job = answer(client.post("/v1/jobs", json={"kind": "backtest", "spec": BACKTEST}))
    for job in follow(client, job["job_id"]):
        progress = job.get("progress", {"fraction": 0})
        print(f"{job['state']:<10} {progress['fraction']:4.0%}" if job["state"] == "running" else job["state"])
    if job["state"] != "succeeded":
        raise SystemExit(f"{job['error']['code']}: {job['error']['message']}")

    # A part of the result: with trades and all it may have megabytes.
    metrics = answer(client.get(f"/v1/jobs/{job['job_id']}/result", params={"fields": "metrics"}))["metrics"]
    print()
    for name, label in METRICS.items():
        print(f"{label:<20} {metrics[name]:>10.2f}")

    report = answer(client.post("/v1/jobs", json={"kind": "risk_report", "spec": {"job_id": job["job_id"]}}))
    report = wait_for(client, report)
    if report["state"] != "succeeded":
        raise SystemExit(f"{report['error']['code']}: {report['error']['message']}")
    print()
    print(client.get(f"/v1/jobs/{report['job_id']}/report.md").raise_for_status().text)
