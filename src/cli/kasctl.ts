/**
 * `kasctl`: asks a node's observability listener and prints what it says, as a table or as the JSON resource itself. What
 * changes something is a POST, and the node asked is the node that changes.
 */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { isAgentId } from "../../actors/ids.ts";
import { failed } from "../failed.ts";
import { type CommandProcess, type Exit, execute, program } from "./command.ts";
import { renderTable } from "./table.ts";

type Options = { readonly server: string; readonly tokenFile?: string; readonly output: string };

const TIMEOUT = 15_000;

export function main(process: CommandProcess): Promise<number> {
  const exit: Exit = { code: 0 };
  const kasctl = program("kasctl", "Looks into a running cluster of kas nodes, and moves its agents.", process);
  const print = async (options: Options, path: string, list: string | null, method: Method = "GET") => {
    const resource = await fetchResource(options, path, method);
    const json = options.output === "json";
    process.stdout(json ? `${JSON.stringify(resource, null, 2)}\n` : renderTable(resource, list));
  };
  listed(kasctl.command("agents").description("agents that are connected, and where")).action((options: Options) =>
    print(options, "/api/v1/agents", "agents"),
  );
  listed(kasctl.command("nodes").description("nodes of the cluster as this one sees them")).action((options: Options) =>
    print(options, "/api/v1/nodes", "nodes"),
  );
  listed(
    kasctl.command("streams").description("links of the node with agents, and how many streams run on each"),
  ).action((options: Options) => print(options, "/api/v1/streams", "agentLinks"));
  listed(kasctl.command("route").description("what a request to this agent would do now, and why"))
    .argument("<agent>", "agent id")
    .action((agent: string, options: Options) => print(options, `/api/v1/route/${agentId(agent)}`, null));
  listed(kasctl.command("status").description("whether the node is ready; exit code 1 where it is not")).action(
    (options: Options) => status(options, process, exit),
  );
  const change = (name: string, description: string) => listed(kasctl.command(name).description(description));
  change(
    "drain",
    "take the node out of service: not ready, off the ring, its agents go elsewhere; it goes on running",
  ).action((options: Options) => print(options, "/api/v1/drain", null, "POST"));
  change("undrain", "take drain back").action((options: Options) => print(options, "/api/v1/undrain", null, "POST"));
  change("rebalance", "ask agents of every node that has more than its share to connect anew").action(
    (options: Options) => print(options, "/api/v1/rebalance", "nodes", "POST"),
  );
  change("disconnect", "end the agent's connections to the node; it connects anew")
    .argument("<agent>", "agent id")
    .action((agent: string, options: Options) => print(options, `/api/v1/disconnect/${agentId(agent)}`, null, "POST"));
  return execute(kasctl, process, exit);
}

type Method = "GET" | "POST";

function agentId(text: string): number {
  if (!isAgentId(Number(text))) throw failed("invalid", `${text} is no agent id: expected a number such as 42`);
  return Number(text);
}

const listed = (command: Command): Command =>
  command
    .option("--server <url>", "observability listener of any node", "http://127.0.0.1:8151")
    .option(
      "--token-file <file>",
      "token of an operator; not needed on the node itself while no operator is configured",
    )
    .option("-o, --output <format>", "table or json", "table")
    .hook("preAction", (_, action) => {
      const { output } = action.opts<Options>();
      if (output !== "table" && output !== "json") throw failed("invalid", `-o ${output}: expected table or json`);
    });

async function status(options: Options, process: CommandProcess, exit: Exit): Promise<void> {
  const response = await ask(options, "/readiness");
  if (response.status !== 200 && response.status !== 503) throw unexpected(options, "/readiness", response.status, "");
  const phase = (await response.text()).trim();
  const ready = response.status === 200;
  const resource = { server: options.server, ready, phase };
  process.stdout(options.output === "json" ? `${JSON.stringify(resource, null, 2)}\n` : renderTable(resource, null));
  exit.code = ready ? 0 : 1;
}

async function fetchResource(options: Options, path: string, method: Method): Promise<unknown> {
  const response = await ask(options, path, method);
  const text = await response.text();
  if (response.status !== 200) throw unexpected(options, path, response.status, text);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw failed(
      "protocol",
      `${options.server}${path} did not answer with JSON: is it an observability listener of kas?`,
      cause,
    );
  }
}

async function ask({ server, tokenFile }: Options, path: string, method: Method = "GET"): Promise<Response> {
  if (!URL.canParse(server) || !/^https?:/.test(server)) {
    throw failed("invalid", `--server ${server}: expected http://host:port of an observability listener`);
  }
  const headers = tokenFile ? { authorization: `Bearer ${readToken(tokenFile)}` } : {};
  try {
    return await fetch(new URL(path, server), { method, headers, signal: AbortSignal.timeout(TIMEOUT) });
  } catch (cause) {
    const why = reasonOf(cause);
    throw failed(
      "upstream-unreachable",
      `${server} did not answer (${why}): is kas running, and --server its observability listener?`,
      cause,
    );
  }
}

function readToken(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch (cause) {
    throw failed("invalid", `--token-file ${file} cannot be read: check its name and permissions`, cause);
  }
}

/** `fetch` says only "fetch failed"; why is in its cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError") return `no answer within ${TIMEOUT / 1000} s`;
  const { cause } = error;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  return code || (cause instanceof Error ? cause.message : error.message);
}

/** A node says why it refuses. */
function reasonIn(body: string): string | null {
  try {
    const said: unknown = JSON.parse(body);
    return said && typeof said === "object" && "reason" in said ? String(said.reason) : null;
  } catch {
    return null;
  }
}

function unexpected({ server }: Options, path: string, status: number, body: string): Error {
  const reason = reasonIn(body);
  if (reason && status !== 401) return failed(status === 403 ? "forbidden" : "invalid", `${server}: ${reason}`);
  if (status === 401) return failed("unauthenticated", `${server} wants an operator's token: give --token-file`);
  if (status === 403) return failed("forbidden", `${server} refused ${path}: this operator's role does not allow it`);
  if (status === 404) {
    return failed(
      "invalid",
      `${server} has no ${path}: this kas is older than this kasctl, or --server is not its observability listener`,
    );
  }
  const detail = body.trim().slice(0, 500);
  return failed("internal", `${server} answered ${path} with ${status}${detail ? `: ${detail}` : ""}`);
}
