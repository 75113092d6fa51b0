/** Many clients in a process of its own (`idle-clients.ts`), and the agents that kas must know for them. */
import { join } from "node:path";
import { Child } from "../../e2e/support/child.ts";
import { NODE } from "../../e2e/support/kas-node.ts";
import { ROOT, type RunDir } from "../../e2e/support/run-dir.ts";
import { merge, staticFile, type Tree } from "../../e2e/support/settings.ts";

const TOKEN = "idle-agent-";
/** Above those of the usual file, which are there too. */
const idle = (id: number) => ({ id: 1_000 + id, name: `idle-${id}`, project_id: 10, tokens: [`${TOKEN}${id}`] });

/** Settings of a node that admits agents as fast as it can. */
export const UNLIMITED = { agent: { listen: { handshakes_per_second: 0 } } } as const;

/** The usual users and agents, and so many more that do nothing. */
export function usersWith(count: number): Tree {
  const usual = staticFile();
  const more = Array.from({ length: count }, (_, i) => idle(i + 1));
  return merge(usual, { agents: [...(usual.agents as readonly unknown[]), ...more] });
}

export type FleetOptions = {
  readonly kind: "agents" | "calls";
  readonly address: string;
  readonly dir: RunDir;
  /** Dials under way at once. */
  readonly atOnce?: number;
  readonly caFile?: string | undefined;
};

export class Fleet implements AsyncDisposable {
  readonly #child: Child;

  constructor({ kind, address, dir, atOnce = 50, caFile }: FleetOptions) {
    const script = join(ROOT, "test", "bench", "idle-clients.ts");
    const args = [script, kind, caFile ? "grpcs" : "grpc", address, String(atOnce), TOKEN];
    // Trusted by the whole process: an authority of each dial's own would be parsed with all others at each dial.
    const env = caFile ? { NODE_EXTRA_CA_CERTS: caFile } : {};
    this.#child = new Child({ name: `many-${kind}`, command: NODE, args, dir, env });
  }

  /** Resolves when there are so many. */
  async grow(count: number): Promise<void> {
    this.#child.write(`${count}\n`);
    await this.#child.line(`${count} clients`, (line) => line.msg === "up" && line.count === count, 180_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }
}
