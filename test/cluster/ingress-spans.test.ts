/** Spans of a request: each is ended exactly once, whatever becomes of it, and each is a child of the one before. */
import {
  type Context,
  context as contexts,
  INVALID_SPAN_CONTEXT,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import type { AgentId } from "../../actors/ids.ts";
import { encodeOpen } from "../../src/link/messages.ts";
import { StreamCluster } from "../support/stream-cluster.ts";
import type { Kas } from "../support/stream-node.ts";
import {
  accepts,
  acceptsThenDies,
  answers,
  type Behaviour,
  call,
  dies,
  diesAnswering,
  Heard,
  refuses,
  request,
  resets,
  stalls,
} from "../support/streams.ts";

const agent = 7 as AgentId;

type Seen = { readonly name: string; readonly id: string; readonly parent: string; ends: number };

const seen: Seen[] = [];
let count = 0;

/** Records that a span began and how often it ended. */
class Recorder implements Tracer {
  startSpan(name: string, _options?: unknown, parent: Context = contexts.active()): Span {
    const id = (++count).toString(16).padStart(16, "0");
    const above = trace.getSpanContext(parent) ?? INVALID_SPAN_CONTEXT;
    const record: Seen = { name, id, parent: above.spanId, ends: 0 };
    seen.push(record);
    const own: SpanContext = { traceId: "1".repeat(32), spanId: id, traceFlags: 1 };
    const span: Span = {
      spanContext: () => own,
      setAttribute: () => span,
      setAttributes: () => span,
      addEvent: () => span,
      addLink: () => span,
      addLinks: () => span,
      setStatus: () => span,
      updateName: () => span,
      end: () => void record.ends++,
      isRecording: () => true,
      recordException() {},
    };
    return span;
  }
  startActiveSpan(): never {
    throw new RangeError("not used");
  }
}

beforeAll(() => {
  trace.setGlobalTracerProvider({ getTracer: () => new Recorder() });
});
afterAll(() => trace.disable());
beforeEach(() => {
  seen.length = 0;
});

const PATHS: readonly (readonly [string, Behaviour])[] = [
  ["is answered", answers()],
  ["is refused", refuses()],
  ["is refused for good", refuses("forbidden")],
  ["dies with the agent", dies],
  ["dies with the agent that accepted", acceptsThenDies],
  ["dies in the middle of its answer", diesAnswering],
  ["fails", resets("internal")],
  ["is stalled", stalls],
  ["is cancelled", accepts],
];

it.each(PATHS)("every span is ended once when a request %s", async (what, behaviour) => {
  for (const names of [["a"], ["a", "b"]]) {
    const [cluster, a, b] = await StreamCluster.of(...names);
    const holder: Kas | undefined = b ?? a;
    if (!a || !holder) throw new RangeError("no node");
    await using _all = cluster;
    for (let i = 0; i < 3; i++) await holder.agent(agent, behaviour);
    await cluster.pass(500);
    for (const idempotent of [true, false]) {
      const { heard, stream } = call(a.router, agent, { idempotent, acceptWithin: 3_000 });
      if (what === "is cancelled") {
        await cluster.until(() => heard.told.includes("accepted"));
        stream.reset({ failure: failure("cancelled", ""), unprocessed: false });
      }
      await cluster.until(() => heard.isOver);
    }
    await cluster.pass(300);
    expect(seen.filter(({ ends }) => ends !== 1)).toEqual([]);
    expect(seen.filter(({ name }) => name === "kas.route")).toHaveLength(2);
    seen.length = 0;
  }
});

it("spans of a hop are children of the route, the holder's of the ingress's, and the agent is told the last", async () => {
  const [cluster, a, b] = await StreamCluster.of("a", "b");
  if (!a || !b) throw new RangeError("no node");
  await using _all = cluster;
  await b.agent(agent, answers());
  await cluster.pass(500);
  const { heard } = call(a.router, agent, { trace: ROOT_CONTEXT });
  await cluster.until(() => heard.isOver);
  const [route, client, server] = seen;
  expect(seen.map(({ name }) => name)).toEqual(["kas.route", "kas.peer.open", "kas.peer.open"]);
  expect([client?.parent, server?.parent]).toEqual([route?.id, client?.id]);
  expect(cluster.served[0]?.open.traceparent).toContain(server?.id);
});

it("also where no stream ever was", async () => {
  const [cluster, a, b] = await StreamCluster.of("a", "b");
  if (!a || !b) throw new RangeError("no node");
  await using _all = cluster;
  await b.agent(agent, answers());
  await cluster.pass(500);
  const large = call(a.router, agent, { path: "x".repeat(70_000) });
  await cluster.until(() => large.heard.isOver);
  const unknown = call(a.router, 404 as AgentId, { caller: { kind: "rails", id: "", as: null } });
  await cluster.until(() => unknown.heard.isOver);
  const heard = new Heard();
  const { trace: _, ...rest } = request(8 as AgentId);
  const own = { requestId: "r" as never, prefer: 0 as const, exclude: [], traceparent: "", tracestate: "" };
  a.peers.link(b.id)?.open(encodeOpen({ ...rest, ...own }), heard, 0);
  await cluster.until(() => heard.isOver);
  expect(seen.at(-1)).toMatchObject({ name: "kas.peer.open", ends: 1 });
  b.sockets = "refused";
  a.wires.get(b.id)?.cutAfter(0);
  const gone = call(a.router, agent, { acceptWithin: 500 });
  await cluster.until(() => gone.heard.isOver);
  expect(seen.length).toBeGreaterThan(3);
  expect(seen.filter(({ ends }) => ends !== 1)).toEqual([]);
});
