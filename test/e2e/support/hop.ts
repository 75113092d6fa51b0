/** Asserts the way a request took: that the ingress opened streams to another node, or none. */
import { expect } from "vitest";
import type { KasNode } from "./kas-node.ts";

const opened = async (ingress: KasNode, hop: "local" | "remote") =>
  (await ingress.metrics()).sum("kas_streams_opened_total", { hop });

/** Runs `act` and asserts that it opened at least one stream from `ingress` to another node. */
export async function remoteHop<Value>(ingress: KasNode, act: () => Promise<Value>): Promise<Value> {
  const before = await opened(ingress, "remote");
  const value = await act();
  expect(await opened(ingress, "remote"), `streams from ${ingress.name} to another node`).toBeGreaterThan(before);
  return value;
}

/** Runs `act` and asserts that every stream it opened stayed on `ingress`. */
export async function localHop<Value>(ingress: KasNode, act: () => Promise<Value>): Promise<Value> {
  const [remote, local] = [await opened(ingress, "remote"), await opened(ingress, "local")];
  const value = await act();
  expect(await opened(ingress, "local"), `streams that stayed on ${ingress.name}`).toBeGreaterThan(local);
  expect(await opened(ingress, "remote"), `streams from ${ingress.name} to another node`).toBe(remote);
  return value;
}
