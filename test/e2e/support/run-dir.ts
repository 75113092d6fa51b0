/** Where a run keeps what its processes read and write. Every directory is removed at the end unless KAS_TEST_KEEP is set. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The checkout's root: tests are started there. */
export const ROOT = process.cwd();

export class RunDir implements Disposable {
  readonly path: string;

  constructor(name: string) {
    this.path = mkdtempSync(join(tmpdir(), `kas-e2e-${name}-`));
  }

  file(...names: string[]): string {
    return join(this.path, ...names);
  }

  [Symbol.dispose](): void {
    if (!process.env.KAS_TEST_KEEP) rmSync(this.path, { recursive: true, force: true, maxRetries: 3 });
  }
}
