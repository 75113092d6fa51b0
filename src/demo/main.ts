/**
 * `npm run demo`: three nodes, two agents, requests through every node, and an account of each hop. It then stays until
 * Ctrl-C, or with `--once` ends: exit code 0 only if every request came back right. Nothing it started outlives it.
 */

import { Failed } from "../failed.ts";
import { failureOf } from "../status.ts";
import { play } from "./play.ts";
import { Printer } from "./print.ts";
import { Stage } from "./stage.ts";

const USAGE = `usage: npm run demo [-- --once] [-- --in-memory]

  --once        end after the requests: exit code 0 only if every one came back right
  --in-memory   three nodes in one process, also where nats-server is installed

KUBECONFIG names the Kubernetes API that the agents reach; without it they reach a small one of the demo's own.`;

const KNOWN = ["--once", "--in-memory", "--help"];

async function main(args: readonly string[]): Promise<number> {
  const terminal = process.stdout.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== "dumb";
  const print = new Printer({ write: (text) => void process.stdout.write(text), terminal });
  const unknown = args.find((arg) => !KNOWN.includes(arg));
  if (unknown !== undefined || args.includes("--help")) {
    print.line(unknown === undefined ? USAGE : `the demo does not know ${unknown}\n\n${USAGE}`);
    return unknown === undefined ? 0 : 2;
  }
  const { promise: told, resolve } = Promise.withResolvers<"told">();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => resolve("told"));
  // Whoever read our words is gone, as with `| head`: there is nobody left to show anything to.
  process.stdout.on("error", () => resolve("told"));
  await using stage = new Stage();
  process.once("exit", () => stage.abandon());
  const options = { once: args.includes("--once"), inMemory: args.includes("--in-memory"), env: process.env };
  const played = play(stage, print, options, told);
  const ended = await Promise.race([played, told.then(() => "told" as const)]).catch((error: unknown) => {
    explain(error);
    return 1;
  });
  if (ended !== "told") return ended;
  played.catch(() => {});
  print.line("\nending: nodes, agents and everything else the demo started");
  return options.once ? 1 : 0;
}

function explain(error: unknown): void {
  const why = error instanceof Failed ? failureOf(error).reason : error instanceof Error ? error.stack : String(error);
  process.stderr.write(`\nthe demo failed: ${why}\n`);
}

process.exit(await main(process.argv.slice(2)));
