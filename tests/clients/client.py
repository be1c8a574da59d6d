"""What an agent does, through a Python client of MCP: list, call, follow a job to its end, read a resource, cancel.

client.py mcp1|mcp2|fastmcp BALANCE (http URL | stdio COMMAND...)

BALANCE makes its jobs others than those of other runs.

Prints what it saw as one JSON object. Each client has a venv of its own (scripts/clients), so only one of them can be
imported here.
"""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager

MONTH = {
    "exchange": "Binance Perpetual Futures", "symbol": "BTC-USDT", "timeframe": "1h",
    "start_date": "2023-02-01", "finish_date": "2023-03-01",
}
ENDED = {"succeeded", "failed", "cancelled", "dead", "expired"}


def of(answer, *names):
    """A field under the name that this client's version gives it."""
    return next(getattr(answer, name) for name in names if hasattr(answer, name))


@asynccontextmanager
async def mcp1(kind, target):
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamablehttp_client

    if kind == "http":
        opened = streamablehttp_client(target[0])
    else:
        opened = stdio_client(StdioServerParameters(command=target[0], args=target[1:], env=dict(os.environ)))
    async with opened as streams, ClientSession(*streams[:2]) as session:
        await session.initialize()
        yield session


@asynccontextmanager
async def mcp2(kind, target):
    from mcp import Client, StdioServerParameters

    server = target[0] if kind == "http" else StdioServerParameters(
        command=target[0], args=target[1:], env=dict(os.environ))
    async with Client(server) as client:
        yield client


@asynccontextmanager
async def fastmcp(kind, target):
    # Clients know of tasks once this was imported.
    import fastmcp_tasks  # noqa: F401
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport

    server = target[0] if kind == "http" else StdioTransport(target[0], target[1:], env=dict(os.environ))
    async with Client(server) as client:
        yield client


async def call(client, tool, arguments):
    answer = await client.call_tool(tool, arguments)
    return of(answer, "structured_content", "structuredContent")


async def follow(client, job):
    while job["state"] not in ENDED:
        job = await call(client, "job_get", {"job_id": job["job_id"], "wait_seconds": 25})
    return job


async def created(client, strategy, balance):
    """A task: under another balance if a job ends before the first look at it, as it may on a busy machine."""
    from fastmcp.exceptions import ToolError
    from fastmcp_tasks import call_tool_task

    for more in range(1 if strategy == "LoopsForever" else 20):
        wanted = {**MONTH, "strategy": strategy, "balance": balance + more, "wait_seconds": 0}
        try:
            return await call_tool_task(client, "backtest", wanted)
        except ToolError as error:
            if "did not run as a task" not in str(error):
                raise
    raise SystemExit("no call ends before its job")


async def through_tasks(client, balance):
    """A job followed to its end and one cancelled by the tasks extension, which fastmcp-tasks has."""
    task = await created(client, "SmaCross", balance)
    result = await task.result()
    stuck = await created(client, "LoopsForever", balance)
    await stuck.cancel()
    return {
        "task_is_the_job": result.structured_content["job_id"] == task.task_id,
        "task_followed": result.structured_content["state"],
        "task_cancelled": (await stuck.wait(timeout=100)).status,
    }


async def stuck_job(flavour, client, balance):
    if flavour == "fastmcp":
        # Its plain call follows the task to its end.
        return (await created(client, "LoopsForever", balance)).task_id
    wanted = {**MONTH, "strategy": "LoopsForever", "balance": balance, "wait_seconds": 0}
    return (await call(client, "backtest", wanted))["job_id"]


async def end_of(flavour, client, job_id):
    """How a job that was cancelled ends. FastMCP raises what is an error."""
    while True:
        arguments = {"job_id": job_id, "wait_seconds": 25}
        if flavour == "fastmcp":
            answer = (await client.call_tool("job_get", arguments, raise_on_error=False)).structured_content
        else:
            answer = await call(client, "job_get", arguments)
        if answer["state"] in ENDED:
            return answer["state"]


async def main(flavour, balance, kind, *target):
    async with globals()[flavour](kind, list(target)) as client:
        listed = await client.list_tools()
        tools = [tool.name for tool in (listed if isinstance(listed, list) else listed.tools)]
        strategies = await call(client, "strategy_list", {})
        job = await call(client, "backtest", {**MONTH, "strategy": "SmaCross", "balance": balance})
        job = await follow(client, job)
        uri = f"job://{job['job_id']}/trades"
        if flavour == "mcp1":
            from pydantic import AnyUrl

            uri = AnyUrl(uri)
        read = await client.read_resource(uri)
        contents = read if isinstance(read, list) else read.contents
        stuck = await stuck_job(flavour, client, balance + 100)
        await client.call_tool("job_cancel", {"job_id": stuck})
        tasks = await through_tasks(client, balance + 200) if flavour == "fastmcp" else {}
        print(json.dumps({
            "tools": tools, "strategies": len(strategies["strategies"]), "followed": job["state"],
            "trades": json.loads(contents[0].text)["total"], "cancelled": await end_of(flavour, client, stuck),
            **tasks,
        }))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
