/**
 * What the demo has running: a folder of its own under the temporary one, processes, servers. Everything is taken down
 * together, once; what would be started after that is refused.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { failed } from "../failed.ts";
import { Child, type Program } from "./child.ts";

export class Stage implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), "kas-demo-"));
  readonly #children: Child[] = [];
  readonly #servers = new AsyncDisposableStack();
  #down = false;

  get down(): boolean {
    return this.#down;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** Readable by this user only: most of it is secret. Gives the file's path. */
  write(name: string, text: string): string {
    writeFileSync(this.path(name), text, { mode: 0o600 });
    return this.path(name);
  }

  spawn(program: Program): Child {
    if (this.#down) throw failed("cancelled", "the demo is ending");
    const child = new Child(program);
    this.#children.push(child);
    return child;
  }

  use<Server extends AsyncDisposable>(server: Server): Server {
    return this.#servers.use(server);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#down) return;
    this.#down = true;
    // The newest first: agents, then nodes, then the bus between them.
    for (const kind of ["agentk", "kas", ""]) {
      await Promise.all(this.#children.filter(({ name }) => name.startsWith(kind)).map((child) => child.end()));
    }
    await this.#servers.disposeAsync();
    this.abandon();
  }

  /** At once, for a process that is about to be gone. */
  abandon(): void {
    this.#down = true;
    for (const child of this.#children) child.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
