/** What a node does with a stream that another node opened: hand it to an agent held here, answer it, or refuse it. */
import { expect, it } from "vitest";
import type { AgentId } from "../../actors/ids.ts";
import { NODE_ITSELF } from "../../src/cluster/node-service.ts";
import { StreamLimit } from "../../src/cluster/stream-limit.ts";
import { Failed } from "../../src/failed.ts";
import { type InboundOptions, serveInbound } from "../../src/kas/inbound.ts";
import { encodeOpen, type Open } from "../../src/link/messages.ts";
import type { Stream } from "../../src/link/stream.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import { answers, dies, refuses, request, resets, stalls, turns } from "../support/streams.ts";

const agent = 7 as AgentId;

const openOf = (changes: Partial<Open>): Uint8Array => {
  const { trace: _, ...rest } = request(agent);
  const own = { requestId: "r" as never, prefer: 0, exclude: [], traceparent: "", tracestate: "" } as const;
  return encodeOpen({ ...rest, ...own, ...changes });
};

/** The asking node's end, written down. */
class Asking implements Stream {
  readonly told: string[] = [];
  readonly queued = 0;
  accept(): void {
    this.told.push("accept");
  }
  head(): void {
    this.told.push("head");
  }
  data(bytes: Uint8Array): void {
    this.told.push(`data ${Buffer.from(bytes)}`);
  }
  trailer(): void {
    this.told.push("trailer");
  }
  end(): void {
    this.told.push("end");
  }
  stop(): void {
    this.told.push("stop");
  }
  reset(): void {
    this.told.push("reset");
  }
  consumed(): void {}
  group(key: number | string): void {
    this.told.push(`group ${key}`);
  }
}

async function node() {
  const [cluster, kas] = await StreamCluster.of("a");
  if (!kas) throw new RangeError("no node");
  const counted: string[] = [];
  const options: InboundOptions = {
    holder: kas.holder,
    methods: new Map([["asked", () => () => {}]]),
    opened: ({ kind }) => counted.push(`opened ${kind}`),
    closed: ({ kind }, reason) => counted.push(`closed ${kind} ${reason}`),
    refused: (code) => counted.push(`refused ${code}`),
  };
  return { cluster, kas, options, counted };
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return error instanceof Failed ? error.failure.code : String(error);
  }
  return "none";
}

it("hands a request to an agent held here, in its agent's turn, and counts it open and closed once", async () => {
  const { cluster, kas, options, counted } = await node();
  await using _all = cluster;
  await kas.agent(agent, answers("done"));
  const asking = new Asking();
  const handler = serveInbound(options, openOf({}), asking);
  handler.end();
  await cluster.until(() => asking.told.includes("end"));
  expect(asking.told).toEqual(["group 7", "accept", "head", "data done", "trailer", "end"]);
  expect(counted).toEqual(["opened http"]);
  handler.closed();
  await turns();
  expect(counted).toEqual(["opened http", "closed http done"]);
});

it("refuses what it does not hold and does not know, and counts only what an agent was asked for", async () => {
  const { cluster, options, counted } = await node();
  await using _all = cluster;
  expect(codeOf(() => serveInbound(options, openOf({}), new Asking()))).toBe("not-owner");
  expect(codeOf(() => serveInbound(options, new Uint8Array([1]), new Asking()))).toBe("protocol");
  const asks = (method: string) => openOf({ agentId: NODE_ITSELF, kind: "grpc", target: { type: "grpc" }, method });
  expect(codeOf(() => serveInbound(options, asks("not asked"), new Asking()))).toBe("invalid");
  expect(codeOf(() => serveInbound(options, asks("asked"), new Asking()))).toBe("none");
  expect(counted).toEqual(["refused not-owner"]);
});

const gone = { failure: { code: "cancelled", reason: "the caller left" }, unprocessed: false } as const;

it.each([
  { ended: "upstream-unreachable", by: "the agent's word", behaviour: resets("upstream-unreachable") },
  { ended: "busy", by: "the agent's refusal", behaviour: refuses("busy") },
  { ended: "node-gone", by: "the loss of its link", behaviour: dies },
  { ended: "cancelled", by: "its caller", behaviour: stalls, cancels: true },
] as const)("counts a stream that was ended by $by as $ended", async ({ ended, behaviour, ...how }) => {
  const { cluster, kas, options, counted } = await node();
  await using _all = cluster;
  await kas.agent(agent, behaviour);
  const asking = new Asking();
  const handler = serveInbound(options, openOf({}), asking);
  if ("cancels" in how) handler.reset(gone);
  else await cluster.until(() => asking.told.includes("reset"));
  handler.closed();
  await cluster.until(() => counted.length > 1);
  expect(counted).toEqual(["opened http", `closed http ${ended}`]);
});

it("refuses with `busy` what is above the streams of this node, and gives each place back once", async () => {
  const { cluster, kas, options, counted } = await node();
  await using _all = cluster;
  await kas.agent(agent, stalls);
  const streams = new StreamLimit(1, 1);
  const limited = { ...options, streams };
  expect(codeOf(() => serveInbound(limited, openOf({ agentId: 8 as AgentId }), new Asking()))).toBe("not-owner");
  expect(streams.count).toBe(0);
  const handler = serveInbound(limited, openOf({}), new Asking());
  expect(codeOf(() => serveInbound(limited, openOf({}), new Asking()))).toBe("busy");
  expect(streams.count).toBe(1);
  handler.reset(gone);
  handler.closed();
  await cluster.until(() => counted.some((line) => line.startsWith("closed")));
  expect(streams.count).toBe(0);
});
