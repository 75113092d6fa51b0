/** One connector in virtual time with the kas it dials, new for each test, and nothing may be left at the end. */
import { expect } from "vitest";
import { Connector, type ConnectorOptions } from "../../src/agentk/connector.ts";
import { builtInMethods, createGrpcMethods } from "../../src/agentk/grpc-methods.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import { turns } from "../support/streams.ts";
import { MemoryKas } from "./memory-kas.ts";

export let kas = new MemoryKas();
export let connector: Connector | null = null;

/** Stops the connector of the test that is over. */
export async function leaveNothing(): Promise<void> {
  const stopped = connector?.stop();
  await turns();
  kas.clock.advance(5_000);
  await turns();
  await stopped;
  expect(connector?.links).toBe(0);
  expect(kas.clock.pending).toBe(0);
  kas = new MemoryKas();
  connector = null;
}

export function start(options: Partial<ConnectorOptions> = {}): Connector {
  const methods = createGrpcMethods(builtInMethods({ echo: true }));
  const log = (message: string, fields: object = {}) => kas.said.push(`${message} ${JSON.stringify(fields)}`);
  connector = new Connector({
    dial: kas.dial,
    services: [],
    openLink,
    execute: (open, stream) => methods.serve(open.method, stream),
    clock: kas.clock,
    random: () => 1,
    identity: { instance: "ns/pod", process: "p1", version: "1.2.3" },
    backoffInitial: 500,
    backoffMax: 15_000,
    log: { info: () => {}, warn: log, error: log },
    connected: (connected) => kas.said.push(JSON.stringify(connected)),
    ...options,
  });
  return connector;
}

/** Lets time pass in steps small enough for PINGs to be answered. */
export async function pass(millis: number): Promise<void> {
  for (let left = millis; left > 0; left -= 500) {
    kas.clock.advance(Math.min(500, left));
    await turns(4);
  }
}
