// What an agent does, through a TypeScript client of MCP: list, call, follow a job to its end, read a resource, cancel.
//
// node --input-type=module - sdk|client BALANCE (http URL | stdio COMMAND...) <client.mjs
//
// in the folder that has node_modules (scripts/clients makes it). `sdk` is version 1 of the SDK, `client` version 2, which
// by HTTP follows tasks too, with ext-tasks. Prints what it saw as one JSON object. BALANCE makes its jobs others than
// those of other runs.

const [flavour, balanceText, kind, ...target] = process.argv.slice(2);
const balance = Number(balanceText);
const info = { name: "what-agents-do", version: "1.0.0" };
const month = {
  exchange: "Binance Perpetual Futures", symbol: "BTC-USDT", timeframe: "1h",
  start_date: "2023-02-01", finish_date: "2023-03-01",
};
const ended = ["succeeded", "failed", "cancelled", "dead", "expired"];

async function connected() {
  const [main, http, stdio] = flavour === "sdk"
    ? ["@modelcontextprotocol/sdk/client/index.js", "@modelcontextprotocol/sdk/client/streamableHttp.js",
       "@modelcontextprotocol/sdk/client/stdio.js"]
    : ["@modelcontextprotocol/client", "@modelcontextprotocol/client", "@modelcontextprotocol/client/stdio"];
  const { Client } = await import(main);
  const { StreamableHTTPClientTransport } = await import(http);
  const { StdioClientTransport } = await import(stdio);
  const transport = kind === "http"
    ? new StreamableHTTPClientTransport(new URL(target[0]))
    : new StdioClientTransport({ command: target[0], args: target.slice(1), env: process.env });
  const options = flavour === "sdk" ? {} : { versionNegotiation: { mode: "auto" } };
  const client = new Client(info, { capabilities: {}, ...options });
  await client.connect(transport);
  return client;
}

const client = await connected();
const call = async (name, args) => (await client.callTool({ name, arguments: args })).structuredContent;

async function endOf(job_id) {
  for (;;) {
    const job = await call("job_get", { job_id, wait_seconds: 25 });
    if (ended.includes(job.state)) return job.state;
  }
}

// The client cannot send what it does not know; ext-tasks asks its host for a way to.
async function throughTasks() {
  const { createTaskSessionFromClient, resultFromTaskOutcome } = await import("@modelcontextprotocol/ext-tasks/client");
  const clientCapabilities = { extensions: { "io.modelcontextprotocol/tasks": {} } };
  const rawDispatch = async (request, options) => {
    const name = request.params?.name;
    const response = await fetch(target[0], {
      method: "POST",
      headers: {
        "content-type": "application/json", accept: "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28", "mcp-method": request.method, ...(name && { "mcp-name": name }),
        ...options?.context?.headers,
      },
      body: JSON.stringify({ jsonrpc: "2.0", id: crypto.randomUUID(), ...request }),
    });
    const answer = await response.json();
    return answer.error ? { kind: "error", error: answer.error } : { kind: "result", result: answer.result };
  };
  const session = createTaskSessionFromClient(client, {
    endpointId: "jesse-jobs", rawDispatch,
    v2RequestFraming: { protocolVersion: "2026-07-28", clientInfo: info, clientCapabilities },
  });
  // Another balance if a job ends before the first look at it, as it may on a busy machine.
  const created = async (strategy, first) => {
    for (let more = 0; more < (strategy === "LoopsForever" ? 1 : 20); more++) {
      const args = { ...month, strategy, balance: first + more, wait_seconds: 0 };
      const execution = await session.callTool("backtest", args);
      if (execution.kind === "task") return execution;
    }
    throw new Error("no call ends before its job");
  };
  const followed = await created("SmaCross", balance + 200);
  const followedId = followed.handle.taskId;
  const result = resultFromTaskOutcome((await followed.settle()).outcome).structuredContent;
  const stuck = await created("LoopsForever", balance + 200);
  await stuck.cancel();
  const { outcome } = await stuck.settle();
  await session.close();
  return {
    task_is_the_job: result.job_id === followedId, task_followed: result.state, task_cancelled: outcome.status,
  };
}

const tools = (await client.listTools()).tools.map((tool) => tool.name);
const { strategies } = await call("strategy_list", {});
const job = await call("backtest", { ...month, strategy: "SmaCross", balance, wait_seconds: 25 });
const followed = ended.includes(job.state) ? job.state : await endOf(job.job_id);
const { contents } = await client.readResource({ uri: `job://${job.job_id}/trades` });
const stuck = await call("backtest", { ...month, strategy: "LoopsForever", balance: balance + 100, wait_seconds: 0 });
await call("job_cancel", { job_id: stuck.job_id });
const tasks = flavour === "client" && kind === "http" ? await throughTasks() : {};
console.log(JSON.stringify({
  tools, strategies: strategies.length, followed, trades: JSON.parse(contents[0].text).total,
  cancelled: await endOf(stuck.job_id), ...tasks,
}));
await client.close();
