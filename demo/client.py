"""Plays an AI agent: talks MCP to a running jesse-jobs, with the official client, and shows what an agent gets to see.

usage: client.py URL CHART_FILE
"""
import asyncio
import sys
import time
from pathlib import Path

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

SERVED_AT = "http://127.0.0.1:8100"  # by `make up`
BACKTEST = {
    "strategy": "SmaCross",
    "exchange": "Binance Perpetual Futures",
    "symbol": "BTC-USDT",
    "timeframe": "15m",
    "start_date": "2023-02-01",
    "finish_date": "2024-02-01",
    "hyperparameters": {"fast": 25, "slow": 120},
}
METRICS = [
    ("trades", "total", "{:.0f}"),
    ("net profit", "net_profit_percentage", "{:.2f} %"),
    ("Sharpe ratio", "sharpe_ratio", "{:.2f}"),
    ("largest drawdown", "max_drawdown", "{:.2f} %"),
    ("trades won", "win_rate", "{:.1%}"),
]


class Unexpected(Exception):
    """The demo did not go as it should."""

    def __init__(self, message, error=None):
        super().__init__(message)
        self.error = error or {}  # what a tool answered


def expect(condition, message):
    if not condition:
        raise Unexpected(message)


class ProgressLine:
    """One line that is written anew on a terminal, and lines one after the other elsewhere."""

    def __init__(self):
        self.on_terminal = sys.stdout.isatty()
        self.count = 0

    async def show(self, progress, total, message):
        self.count += 1
        fraction = progress / (total or 1)
        bar = "#" * round(fraction * 30)
        text = f"   [{bar:<30}] {fraction:4.0%}  {message or ''}"
        print(f"\r{text:<80}" if self.on_terminal else text, end="" if self.on_terminal else "\n", flush=True)

    def end(self):
        if self.on_terminal and self.count:
            print("\r" + " " * 80 + "\r", end="")


async def call(session, tool, arguments, progress=None):
    """Answers the structured content, and the seconds that it took."""
    started = time.perf_counter()
    result = await session.call_tool(tool, arguments, progress_callback=progress)
    seconds = time.perf_counter() - started
    if result.isError:
        told = " ".join(getattr(part, "text", "") for part in result.content)
        raise Unexpected(f"{tool} answered an error: {told}", (result.structuredContent or {}).get("error"))
    return result.structuredContent, seconds


async def submitted(session, progress):
    """Answers what was asked for, and the job. Whoever named a campaign on these candles before holds their last days out of research: then
    the backtest ends where the answer says that it may."""
    # `refresh`, so that it runs also when this demo is not run for the first time.
    try:
        return BACKTEST, (await call(session, "backtest", {**BACKTEST, "cache": "refresh"}, progress))[0]
    except Unexpected as refused:
        if refused.error.get("code") != "held_out":
            raise
        wanted = {**BACKTEST, "finish_date": refused.error["detail"]["finish_date"]}
    print(f"   the days from {wanted['finish_date']} on are held out, for a campaign that was named here: it ends there")
    return wanted, (await call(session, "backtest", {**wanted, "cache": "refresh"}, progress))[0]


async def finished(session, job, progress=None):
    """Waits for a job as an agent does: as `next` tells it."""
    while job.get("next"):
        job, _ = await call(session, "job_get", {"job_id": job["job_id"], "wait_seconds": 25}, progress)
    return job


def show_metrics(summary):
    width = max(len(label) for label, _, _ in METRICS)
    for label, name, form in METRICS:
        value = summary["metrics"].get(name)
        print(f"   {label:<{width}}  {'-' if value is None else form.format(value):>10}")


async def demo(session, http, url, chart):
    hello = await session.initialize()
    print(f"{hello.serverInfo.name} {hello.serverInfo.version} at {url} speaks MCP {hello.protocolVersion}")
    tools = [tool.name for tool in (await session.list_tools()).tools]
    print(f"tools: {', '.join(tools)}")
    expect({"backtest", "job_get", "job_cancel", "strategy_list"} <= set(tools), "tools are missing")
    strategies, _ = await call(session, "strategy_list", {})
    names = [strategy["name"] for strategy in strategies["strategies"]]
    print(f"strategies: {', '.join(names)}")
    expect(BACKTEST["strategy"] in names, f"{BACKTEST['strategy']} is not among the strategies")

    print("\n1. A backtest of SmaCross on BTC-USDT: one year of 15-minute candles")
    line, started = ProgressLine(), time.perf_counter()
    wanted, job = await submitted(session, line.show)
    job = await finished(session, job, line.show)
    first_s = time.perf_counter() - started
    line.end()
    expect(job["state"] == "succeeded", f"the backtest is {job['state']}: {job.get('error')}")
    expect(line.count > 0, "no progress was reported")
    show_metrics(job["summary"])
    print(f"   done in {first_s:.1f} s (the candles are a random walk: no strategy earns its fees on them)")

    print("\n2. The same backtest again")
    again, again_s = await call(session, "backtest", wanted)
    expect(again["cached"] and again["state"] == "succeeded", f"it was not answered from the cache: {again}")
    expect(again["summary"]["metrics"] == job["summary"]["metrics"], "the cache answered other metrics")
    print(f"   answered from the cache in {again_s * 1000:.0f} ms, {first_s / again_s:.0f} times as fast")

    print("\n3. A backtest that is cancelled")
    long_one = {**wanted, "timeframe": "1m", "cache": "off", "wait_seconds": 0.5}
    long, _ = await call(session, "backtest", long_one)
    before, started = long["state"], time.perf_counter()
    await call(session, "job_cancel", {"job_id": long["job_id"]})
    long = await finished(session, long)
    expect(long["state"] == "cancelled", f"the cancelled job is {long['state']}")
    print(f"   it was {before}; cancelled within {(time.perf_counter() - started) * 1000:.0f} ms")

    address = f"/v1/jobs/{job['job_id']}/chart.svg"
    answer = await http.get(url + address)
    expect(answer.status_code == 200 and "<svg" in answer.text[:1000], f"no chart: {answer.status_code} {answer.text[:300]}")
    chart.write_text(answer.text, encoding="utf-8")
    print(f"\nEquity and drawdown of the first: {chart} (GET {address})")


async def connected(url, chart):
    # Straight to this machine, whatever proxy is set.
    async with httpx.AsyncClient(trust_env=False, timeout=httpx.Timeout(30, read=120)) as http:
        async with streamable_http_client(f"{url}/mcp", http_client=http) as (read, write, _):
            async with ClientSession(read, write) as session:
                await demo(session, http, url, chart)


def show_how_to_connect():
    print(f"""
`make up` keeps it running on {SERVED_AT}. Connect an agent to it:

  Claude Code   claude mcp add --transport http jesse-jobs {SERVED_AT}/mcp
  Cursor        in ~/.cursor/mcp.json: {{"mcpServers": {{"jesse-jobs": {{"url": "{SERVED_AT}/mcp"}}}}}}
  stdio only    jesse-jobs mcp --url {SERVED_AT}

Your strategies: jesse-jobs up --project YOUR_JESSE_PROJECT. Your candles: jesse-jobs candles import FILE (see --help).""")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        asyncio.run(connected(sys.argv[1].rstrip("/"), Path(sys.argv[2])))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # the task groups of the client wrap what happened
        while getattr(error, "exceptions", None):
            error = error.exceptions[0]
        sys.exit(f"\ndemo: {error if isinstance(error, Unexpected) else repr(error)}")
    show_how_to_connect()


if __name__ == "__main__":
    main()
