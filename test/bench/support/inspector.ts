/** Asks a node process to collect its garbage, by its inspector, so that its memory can be compared. */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import type { Child } from "../../e2e/support/child.ts";

/** Small young generation, so that what is garbage does not look like memory. */
export const INSPECTED = { NODE_OPTIONS: "--inspect=127.0.0.1:0 --max-semi-space-size=1" } as const;

export async function collectGarbage(child: Child): Promise<void> {
  const url = child
    .stderr()
    .match(/ws:\/\/\S+/g)
    ?.at(-1);
  if (!url) throw new Error(`${child.name} has no inspector`);
  const inspector = new WebSocket(url);
  await once(inspector, "open");
  for (const id of [1, 2, 3]) {
    inspector.send(JSON.stringify({ id, method: "HeapProfiler.collectGarbage" }));
    await once(inspector, "message");
  }
  inspector.close();
  await once(inspector, "close");
  await sleep(1_000);
}
