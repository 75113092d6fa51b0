/**
 * Real NATS servers for tests, on ports of their own. A server that is stopped or killed can be started again on the same
 * port. Without the binary the tests are skipped with one line, unless KAS_TEST_REQUIRE names `nats`.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export interface NatsServer extends AsyncDisposable {
  readonly url: string;
  readonly routeUrl: string;
  readonly running: boolean;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** As a crash. */
  kill(): Promise<void>;
  freeze(): void;
  thaw(): void;
  /** Asks its clients to go elsewhere, one after the other, and then ends. */
  lameDuck(): void;
}

const BINARY = process.env.NATS_SERVER ?? "nats-server";
const present = spawnSync(BINARY, ["--version"]).status === 0;

/** Use as `describe.skipIf(!natsAvailable())`. */
export function natsAvailable(): boolean {
  if (present) return true;
  if ((process.env.KAS_TEST_REQUIRE ?? "").split(",").includes("nats")) {
    throw new Error(`KAS_TEST_REQUIRE asks for nats, but ${BINARY} cannot be run`);
  }
  console.warn(`skipped: tests that need NATS, because ${BINARY} cannot be run`);
  return false;
}

const CLIENT = /Listening for client connections on [^ ]*:(\d+)/;
const ROUTE = /Listening for route connections on [^ ]*:(\d+)/;

class Server implements NatsServer {
  readonly #args: readonly string[];
  readonly #cluster: readonly string[] | null;
  #process: ChildProcess | null = null;
  #port = "-1";
  #routePort = "-1";

  constructor(args: readonly string[], cluster: readonly string[] | null) {
    this.#args = args;
    this.#cluster = cluster;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.#port}`;
  }

  get routeUrl(): string {
    return `nats://127.0.0.1:${this.#routePort}`;
  }

  get running(): boolean {
    return this.#process !== null && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  async start(): Promise<void> {
    const args = ["-a", "127.0.0.1", "-p", this.#port, ...this.#args];
    if (this.#cluster) {
      args.push("--cluster_name", "test", "--cluster", `nats://127.0.0.1:${this.#routePort}`);
      if (this.#cluster.length > 0) args.push("--routes", this.#cluster.join(","));
    }
    const child = spawn(BINARY, args, { stdio: ["ignore", "ignore", "pipe"] });
    this.#process = child;
    const said: string[] = [];
    for await (const line of createInterface({ input: child.stderr })) {
      said.push(line);
      this.#port = CLIENT.exec(line)?.[1] ?? this.#port;
      this.#routePort = ROUTE.exec(line)?.[1] ?? this.#routePort;
      if (line.includes("Server is ready") && !this.#cluster) break;
      if (this.#cluster && this.#routePort !== "-1" && ROUTE.test(line)) break;
    }
    if (child.exitCode !== null || this.#port === "-1")
      throw new Error(`nats-server did not start:\n${said.join("\n")}`);
    child.stderr.resume();
  }

  stop(): Promise<void> {
    return this.#end("SIGTERM");
  }

  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  freeze(): void {
    this.#process?.kill("SIGSTOP");
  }

  thaw(): void {
    this.#process?.kill("SIGCONT");
  }

  lameDuck(): void {
    this.#process?.kill("SIGUSR2");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGCONT");
    child.kill(signal);
    await exited;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}

export async function startNatsServer(args: readonly string[] = []): Promise<NatsServer> {
  const server = new Server(args, null);
  await server.start();
  return server;
}

/** Servers that know each other; clients of one reach clients of all. */
export async function startNatsCluster(size = 3, args: readonly string[] = []): Promise<readonly NatsServer[]> {
  const servers: NatsServer[] = [];
  for (let i = 0; i < size; i++) {
    const server = new Server(
      args,
      servers.map((s) => s.routeUrl),
    );
    await server.start();
    servers.push(server);
  }
  return servers;
}
