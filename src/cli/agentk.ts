/** `agentk`: the agent's command line, with the flags of GitLab's agentk. */
import { type AgentkFlags, type AgentkOptions, parseAgentkConfig } from "../config/agentk.ts";
import { tuneCollector } from "../runtime/collector.ts";
import { type CommandProcess, type Exit, execute, program, type Running, serve } from "./command.ts";

export type StartAgentk = (options: AgentkOptions) => Promise<Running>;

const loadAgent: StartAgentk = async (options) => {
  tuneCollector();
  return (await import("../agentk/start.ts")).startAgentk(options);
};

const gather = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

export function main(process: CommandProcess, start: StartAgentk = loadAgent): Promise<number> {
  const exit: Exit = { code: 0 };
  const agentk = program("agentk", "Runs in a cluster, dials out to kas and executes what it is sent.", process)
    .option("--kas-address <url>", "kas: grpc://, grpcs://, ws:// or wss:// with a host")
    .option("--token-file <file>", "the agent's token, or the environment variable AGENTK_TOKEN")
    .option("--kubeconfig <file>", "how to reach the Kubernetes API; else the pod's service account")
    .option("--context <name>", "context of the kubeconfig")
    .option("--service <name=url>", "in-cluster service that callers may reach; repeatable", gather)
    .option("--kas-ca-cert-file <file>", "PEM certificates to trust for kas, besides the system's")
    .option("--ca-cert-file <file>", "older name of --kas-ca-cert-file")
    .option("--kas-header <header>", "'Name: value' to send to kas; repeatable", gather)
    .option("--kas-tls-server-name <name>", "name to expect in the certificate of kas")
    .option("--kas-insecure-skip-tls-verify", "trust any certificate of kas; for tests only")
    .option("--observability-listen-address <address>", "metrics and probes (default: 127.0.0.1:0)")
    .option("--observability-listen-cert-file <file>", "PEM certificate for them")
    .option("--observability-listen-key-file <file>", "PEM key for them")
    .option("--log-level <level>", "debug, info, warn or error (default: info)")
    .action(async ({ caCertFile, ...flags }: AgentkFlags & { caCertFile?: string }) => {
      const config = parseAgentkConfig(caCertFile ? { kasCaCertFile: caCertFile, ...flags } : flags, process.env);
      // What agentk starts, and whoever reads its environment, shall not find the token there.
      delete process.env.AGENTK_TOKEN;
      const stdout = (line: string) => process.stdout(`${line}\n`);
      const run = () => start({ config, env: process.env, stdout });
      exit.code = await serve(process, run, () => performance.now());
    });
  return execute(agentk, process, exit);
}
