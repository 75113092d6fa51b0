/** `kas`: the server's command line. Its only lines on stdout are those of `startKas`, help and what a check found. */
import { readFileSync } from "node:fs";
import { hostname, networkInterfaces } from "node:os";
import { parseStaticFile } from "../auth/static-file.ts";
import { type KasConfig, type ParsedKasConfig, parseKasConfig } from "../config/kas.ts";
import { MAX_WORKERS } from "../config/worker.ts";
import { failed } from "../failed.ts";
import { tuneCollector } from "../runtime/collector.ts";
import { type CommandProcess, type Exit, execute, program, type Running, serve } from "./command.ts";

export type StartKas = (options: {
  readonly config: KasConfig;
  readonly warnings: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly stdout: (line: string) => void;
  /** Processes that share the work; 1: all of it is done here. */
  readonly workers: number;
}) => Promise<Running>;

const loadServer: StartKas = async ({ workers, ...options }) => {
  if (workers > 1) return (await import("../kas/workers/supervisor.ts")).startWorkers({ ...options, workers });
  tuneCollector();
  return (await import("../kas/start.ts")).startKas(options);
};

type ServeFlags = { readonly configurationFile: string; readonly workers: number };

export function main(process: CommandProcess, start: StartKas = loadServer): Promise<number> {
  const exit: Exit = { code: 0 };
  const kas = program("kas", "The server that GitLab, people and CI reach Kubernetes clusters through.", process);
  kas
    .command("serve")
    .description("run a node until SIGTERM, then drain it; a second signal ends it at once")
    .requiredOption("--configuration-file <file>", "kas.yaml; every setting is in docs/operations.md")
    .option(
      "--workers <n>",
      "processes that share this node's ports, each a node of the ring; above 1 it needs nats",
      workerCount,
      1,
    )
    .action(async ({ configurationFile, workers }: ServeFlags) => {
      const { config, warnings } = load(configurationFile, process);
      const { env } = process;
      const stdout = (line: string) => process.stdout(`${line}\n`);
      const run = () => start({ config, warnings, env, stdout, workers });
      exit.code = await serve(process, run, () => performance.now());
    });
  kas
    .command("worker", { hidden: true })
    .description("one process of `serve --workers`, which starts it")
    .argument("[name]", "for whoever lists processes")
    .action(async () => {
      const { env, onSignal } = process;
      tuneCollector();
      exit.code = await (await import("../kas/workers/worker.ts")).runWorker({ env, onSignal });
    });
  kas
    .command("config")
    .description("work with configuration files")
    .command("check")
    .description("name every fault of a file with its line; exit code 1 where there is one")
    .argument("<file>", "kas.yaml")
    .action((file: string) => {
      for (const warning of check(file, process)) process.stderr(`warning: ${warning}\n`);
      process.stdout(`${file}: no faults\n`);
    });
  return execute(kas, process, exit);
}

function workerCount(text: string): number {
  const workers = Number(text);
  if (Number.isInteger(workers) && workers >= 1 && workers <= MAX_WORKERS) return workers;
  throw failed("invalid", `--workers ${text}: expected a whole number from 1 to ${MAX_WORKERS}`);
}

const readFile = (path: string): string => readFileSync(path, "utf8");

function load(file: string, { env }: CommandProcess): ParsedKasConfig {
  const interfaces = Object.values(networkInterfaces()).flatMap((each) => (each ?? []).map(({ address }) => address));
  return parseKasConfig(readText(file), { file, env, hostname: hostname(), interfaces, readFile });
}

function readText(file: string): string {
  try {
    return readFile(file);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw failed(
      "invalid",
      `the configuration file ${file} cannot be read: ${why}; check its name and permissions`,
      cause,
    );
  }
}

/** The file, what it refers to, and the authentication file; returns the warnings. */
function check(file: string, process: CommandProcess): readonly string[] {
  const { config, warnings } = load(file, process);
  const { static_file } = config.authentication;
  if (static_file !== undefined) parseStaticFile(readText(static_file), static_file);
  return warnings;
}
