"""What MCP costs an agent: bytes of the list of tools and of the usual answers, calls that they take, and how fast the list is.

usage: mcp.py BINARY

Prints a table and ends with 1 when a bar is missed. Bounded: about a minute. Beside each figure stands what was measured of the
others on the same kind of work: jesse-mcp f1705d5 (github.com/bkuri/jesse-mcp) and the MCP server of Jesse 3.5.3.
"""
import argparse
import base64
import http.client
import json
import os
import signal
import statistics
import sys
import tempfile
import time

from deployment import EXCHANGE, SYMBOL, generate, up

LISTS = 500

arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
arguments.add_argument("binary")
binary = os.path.abspath(arguments.parse_args().binary)
data = tempfile.TemporaryDirectory(prefix="mcp-")
generate(binary, data.name, days=120)
server, address = up(binary, data.name)
connection = http.client.HTTPConnection(address)
headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
rows, missed = [], []


def ask(method, params):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    connection.request("POST", "/mcp", body, headers)
    return json.loads(connection.getresponse().read())["result"]


def size(value):
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def row(what, figure, unit, most, others):
    rows.append(f"| {what} | {figure:,.1f} {unit} | {most:,} {unit} | {others} |" if unit == "ms"
                else f"| {what} | {figure:,} {unit} | {most:,} {unit} | {others} |")
    if figure > most:
        missed.append(what)


def one_call(tool, wanted, most, others):
    answer = ask("tools/call", {"name": tool, "arguments": dict(wanted, wait_seconds=50)})["structuredContent"]
    if answer["state"] != "succeeded":
        raise SystemExit(f"{tool} did not succeed within its one call: {answer}")
    row(f"{tool}, the answer of its one call", size(answer), "bytes", most, others)
    return answer


try:
    tools = ask("tools/list", {})["tools"]
    row("tools/list", size(tools), "bytes", 24_000, "jesse-mcp 54,824; Jesse 231,718 (without output schemas)")
    lean = [{name: value for name, value in tool.items() if name != "outputSchema"} for tool in tools]
    row("tools/list without output schemas", size(lean), "bytes", 16_000, "")
    took = []
    for _ in range(LISTS):
        begin = time.perf_counter()
        ask("tools/list", {})
        took.append((time.perf_counter() - begin) * 1000)
    row("tools/list, p50", statistics.median(took), "ms", 2, "")
    month = {"strategy": "SmaCross", "exchange": EXCHANGE, "symbol": SYMBOL, "timeframe": "1h", "start_date": "2023-02-01",
             "finish_date": "2023-03-01"}
    job = one_call("backtest", month, 2048, "Jesse 486 KB for a year, after polls")
    one_call("backtest_batch", {"base": month, "grid": {"balance": [5000 + 10 * number for number in range(8)]}}, 4096,
             "jesse-mcp 870 KB for 8")
    one_call("monte_carlo", {"job_id": job["job_id"], "method": "returns", "paths": 1000}, 2048, "")
    picture = ask("tools/call", {"name": "job_chart", "arguments": {"job_id": job["job_id"]}})["content"][0]
    row("job_chart, the picture", len(base64.b64decode(picture["data"])), "bytes", 100_000, "")
finally:
    server.send_signal(signal.SIGTERM)
    server.wait(60)
    data.cleanup()

print("| what | measured | bar | others |\n|---|---|---|---|\n" + "\n".join(rows))
if missed:
    print("missed: " + ", ".join(missed))
sys.exit(bool(missed))
