import { afterEach, expect, it } from "vitest";
import { type Failure, type FailureCode, failure } from "../../actors/failure.ts";
import { Connector, type ConnectorOptions } from "../../src/agentk/connector.ts";
import type { Dial } from "../../src/agentk/dial.ts";
import { builtInMethods, createGrpcMethods } from "../../src/agentk/grpc-methods.ts";
import { failed } from "../../src/failed.ts";
import { type MemoryCarrier, memoryCarriers } from "../../src/link/carriers/memory.ts";
import type { Carrier, Hello, Link } from "../../src/link/link.ts";
import { encodeOpen } from "../../src/link/messages.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import type { Stream, StreamHandler } from "../../src/link/stream.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { anOpen } from "./caller.ts";

/** kas's end of one link that the agent dialled. */
type Accepted = { readonly link: Link; readonly carrier: MemoryCarrier; agent: Hello | null; closed: Failure | null };

/** A kas in memory: it accepts every dial, or refuses it as told. */
class TestKas {
  readonly clock = new VirtualClock();
  readonly accepted: Accepted[] = [];
  readonly said: string[] = [];
  refuse: Failure | null = null;
  unreadableToken = false;
  dials = 0;
  node = "kas-0";
  versions: readonly [number, number] = [1, 1];

  readonly dial: Dial = () => {
    this.dials++;
    if (this.unreadableToken) throw failed("invalid", "cannot read the token file");
    const [theirs, ours] = memoryCarriers();
    const { refuse } = this;
    if (refuse) setImmediate(() => theirs.destroy());
    else this.#accept(ours);
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const carrier: Carrier = {
      maxBatchBytes: theirs.maxBatchBytes,
      maxBatches: theirs.maxBatches,
      write: (...batch) => theirs.write(...batch),
      onData: () => {},
      onClosed: () => {},
      end: () => theirs.end(),
      destroy: () => theirs.destroy(),
    };
    theirs.onData = (chunk) => carrier.onData(chunk);
    theirs.onClosed = (reason) => {
      resolve();
      carrier.onClosed(reason);
    };
    return { carrier, refusal: () => refuse, ended };
  };

  #accept(carrier: MemoryCarrier): void {
    const accepted: { -readonly [Key in keyof Accepted]: Accepted[Key] | null } & { agent: Hello | null } = {
      link: null,
      carrier,
      agent: null,
      closed: null,
    };
    const hello: Hello = {
      cluster: "default",
      name: this.node,
      role: "kas",
      expects: "",
      versions: this.versions,
      capabilities: [],
      streamWindow: 64 * 1024,
      instance: "7",
      process: "",
      link: 0,
      lost: [],
      version: "0",
      node: `${this.node}.1`,
      nonce: "",
    };
    accepted.link = openLink({
      clock: this.clock,
      carrier,
      role: "acceptor",
      hello,
      check: () => null,
      events: {
        up: (agent) => {
          accepted.agent = agent;
        },
        open: () => {
          throw failed("protocol", "agents open no streams");
        },
        ready() {},
        drain() {},
        ctl() {},
        closed: (reason) => {
          accepted.closed = reason;
        },
      },
    });
    this.accepted.push(accepted as Accepted);
  }

  link(number: number): Accepted {
    const found = this.accepted[number - 1];
    if (!found) throw failed("internal", `no link ${number}`);
    return found;
  }
}

/** Some turns of the event loop: enough for everything in memory to arrive. */
async function turns(count = 12): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

let kas = new TestKas();
let connector: Connector | null = null;
afterEach(async () => {
  const stopped = connector?.stop();
  await turns();
  kas.clock.advance(5_000);
  await turns();
  await stopped;
  expect(connector?.links).toBe(0);
  expect(kas.clock.pending).toBe(0);
  kas = new TestKas();
  connector = null;
});

function start(options: Partial<ConnectorOptions> = {}): Connector {
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
async function pass(millis: number): Promise<void> {
  for (let left = millis; left > 0; left -= 500) {
    kas.clock.advance(Math.min(500, left));
    await turns(4);
  }
}

class Echoed implements StreamHandler {
  text = "";
  over: "ended" | FailureCode | null = null;
  stream: Stream | null = null;
  accepted(): void {}
  head(): void {}
  data(bytes: Uint8Array): void {
    this.text += Buffer.from(bytes);
    this.stream?.consumed(bytes.length);
  }
  trailer(): void {}
  end(): void {
    this.over = "ended";
  }
  stopped(): void {}
  reset({ failure: { code } }: { readonly failure: Failure }): void {
    this.over = code;
  }
  sent(): void {}
  closed(): void {}
}

/** A stream of kas on one of its links that echoes what it is given, until its end. */
function openEcho({ link }: Accepted): Echoed & { readonly stream: Stream | null } {
  const echoed = new Echoed();
  echoed.stream = link.open(encodeOpen(anOpen({ kind: "grpc", method: "/kas.agent.v1.Echo/Echo" })), echoed, 1);
  return echoed;
}

it("says to which node, and as which agent, it is connected, and who it is", async () => {
  const agent = start();
  expect(agent.isConnected).toBe(false);
  await turns();
  expect(kas.said).toEqual(['{"agentId":7,"node":"kas-0"}']);
  expect(agent.isConnected).toBe(true);
  expect(kas.link(1).agent).toMatchObject({
    role: "agent",
    name: "agentk",
    instance: "ns/pod",
    process: "p1",
    link: 1,
    lost: [],
    version: "1.2.3",
  });
});

it("serves the streams that kas opens", async () => {
  start();
  await turns();
  const echo = openEcho(kas.link(1));
  echo.stream?.data(Buffer.from("hello"));
  echo.stream?.end();
  await turns();
  expect(echo).toMatchObject({ text: "hello", over: "ended" });
});

it("connects anew after a loss, waits twice as long each time up to the longest, and names the links it lost", async () => {
  start();
  await turns();
  kas.refuse = failure("node-gone", "connection refused");
  kas.link(1).carrier.destroy();
  await turns();
  const pauses: number[] = [];
  for (let at = kas.clock.now(); pauses.length < 7; ) {
    const { dials } = kas;
    while (kas.dials === dials) {
      kas.clock.advance(500);
      await turns(2);
    }
    pauses.push(kas.clock.now() - at);
    at = kas.clock.now();
  }
  expect(pauses).toEqual([500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
  kas.refuse = null;
  await pass(15_000);
  expect(kas.link(2).agent).toMatchObject({ link: 9, lost: [1, 2, 3, 4, 5, 6, 7, 8] });
});

it("starts with the shortest pause again once a link held", async () => {
  start();
  await turns();
  for (const [held, pause] of [
    [1_000, 500],
    [1_000, 1_000],
    [30_000, 500],
  ] as const) {
    await pass(held);
    const { dials } = kas;
    kas.accepted.at(-1)?.carrier.destroy();
    await turns();
    kas.clock.advance(pause - 1);
    expect(kas.dials).toBe(dials);
    kas.clock.advance(1);
    await turns();
    expect(kas.dials).toBe(dials + 1);
  }
});

it("spreads its pauses over the whole of their length", async () => {
  start({ random: () => 0.1 });
  await turns();
  kas.link(1).carrier.destroy();
  await turns();
  kas.clock.advance(49);
  expect(kas.dials).toBe(1);
  kas.clock.advance(1);
  expect(kas.dials).toBe(2);
});

it("says what to do when its token is refused, and tries again at the longest pause", async () => {
  kas.refuse = failure("unauthenticated", "kas does not accept this agent's token");
  start();
  await turns();
  expect(kas.said).toEqual([expect.stringContaining("does not accept this agent's token")]);
  await pass(14_500);
  expect(kas.dials).toBe(1);
  kas.refuse = null;
  await pass(500);
  await turns();
  expect(kas.said.at(-1)).toBe('{"agentId":7,"node":"kas-0"}');
});

it("keeps trying when it cannot even dial", async () => {
  kas.unreadableToken = true;
  start();
  expect(kas.said).toEqual([expect.stringContaining("cannot read the token file")]);
  kas.unreadableToken = false;
  await pass(500);
  expect(connector?.isConnected).toBe(true);
});

it("does not stay with a kas whose versions it does not speak", async () => {
  kas.versions = [2, 3];
  const agent = start();
  await turns();
  expect(agent.isConnected).toBe(false);
  expect(kas.said.join()).toContain("no link version in common");
});

it("opens a second link when kas drains the first, and closes that only when the second is registered", async () => {
  const agent = start();
  await turns();
  const echo = openEcho(kas.link(1));
  echo.stream?.data(Buffer.from("before "));
  kas.node = "kas-1";
  kas.link(1).link.drain();
  await turns();
  expect(kas.said.at(-1)).toBe('{"agentId":7,"node":"kas-1"}');
  expect(kas.link(2).agent).toMatchObject({ link: 2, lost: [] });
  // Not registered yet: the first link still takes streams.
  const late = openEcho(kas.link(1));
  late.stream?.data(Buffer.from("late"));
  late.stream?.end();
  await turns();
  expect(late).toMatchObject({ text: "late", over: "ended" });
  expect(kas.link(1).link.state).toBe("up");

  kas.link(2).link.ready();
  await turns();
  expect(kas.link(1).link.state).toBe("closing");
  echo.stream?.data(Buffer.from("after"));
  echo.stream?.end();
  await turns();
  expect(echo).toMatchObject({ text: "before after", over: "ended" });
  expect(kas.link(1).closed?.code).toBe("draining");
  expect(agent.links).toBe(1);
  // A link that ended in order was not lost.
  kas.link(2).carrier.destroy();
  await pass(2_000);
  expect(kas.link(3).agent?.lost).toEqual([2]);
});

it("closes the drained link after five seconds when READY never comes", async () => {
  const agent = start();
  await turns();
  kas.link(1).link.drain();
  await turns();
  expect(agent.links).toBe(2);
  await pass(5_000);
  expect(agent.links).toBe(1);
});

it("is drained by one node after the other without a storm, and keeps at most two drained links", async () => {
  const agent = start();
  await turns();
  const echoes: Echoed[] = [];
  for (let number = 1; number <= 4; number++) {
    echoes.push(openEcho(kas.link(number)));
    kas.link(number).link.drain();
    await pass(8_000);
  }
  expect(kas.dials).toBe(5);
  expect(agent.links).toBe(3);
  expect(echoes.map(({ over }) => over)).toEqual(["node-gone", "node-gone", null, null]);
});

it("finishes what runs before it stops, and refuses what comes", async () => {
  const agent = start();
  await turns();
  const echo = openEcho(kas.link(1));
  echo.stream?.data(Buffer.from("x"));
  await turns();
  let drained = false;
  const done = agent.drain(60_000).then(() => {
    drained = true;
  });
  await turns();
  expect([drained, kas.link(1).link.state]).toEqual([false, "closing"]);
  echo.stream?.end();
  await done;
  expect(echo).toMatchObject({ text: "x", over: "ended" });
  expect(kas.dials).toBe(1);
});

it("stops at the deadline of a drain all the same", async () => {
  const agent = start();
  await turns();
  const echo = openEcho(kas.link(1));
  await turns();
  const done = agent.drain(2_000);
  await pass(2_000);
  await done;
  await turns();
  expect(echo.over).toBe("node-gone");
});

it("stops at once while it waits to dial again", async () => {
  kas.refuse = failure("node-gone", "connection refused");
  const agent = start();
  await turns();
  await agent.drain(1_000);
  await pass(20_000);
  expect(kas.dials).toBe(1);
});
