/** Uploads that nobody takes: how long they may wait, what prolongs it, and that nothing is left of them. */
import { describe, expect, it } from "vitest";
import type { Stream } from "../../src/link/stream.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { AUTH, type Behaviour, head, RawClient, request, startProxy, until } from "./harness.ts";

const WITHIN = 1_000;
const limits = { uploadStalled: WITHIN, upgradeStalled: 4 * WITHIN };
const POST = request("POST /upload", `${AUTH}Content-Length: 10000000\r\n`);
const EXEC = request("GET /exec", `${AUTH}Connection: Upgrade\r\nUpgrade: websocket\r\n`);
const MUCH = "x".repeat(1_000_000);

/** An agent that takes only what it is told to. */
function slow(answers?: (stream: Stream) => void) {
  const agent = { stream: null as Stream | null, held: 0, resets: [] as string[] };
  const behaviour: Behaviour = (_request, stream) => {
    agent.stream = stream;
    stream.accept();
    answers?.(stream);
    return {
      data(bytes) {
        agent.held += bytes.length;
      },
      reset: ({ failure }) => void agent.resets.push(failure.code),
    };
  };
  const take = (bytes: number) => {
    agent.held -= bytes;
    agent.stream?.consumed(bytes);
  };
  return { agent, behaviour, take };
}

const turns = async () => {
  for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate);
};

describe("an upload of which nothing is taken", () => {
  it("ends with deadline, not to be repeated, after twice its time at most", async () => {
    const clock = new VirtualClock();
    const { agent, behaviour } = slow();
    await using kas = await startProxy(behaviour, { clock, limits });
    using client = new RawClient(kas.port).send(POST).send(MUCH);
    await until(() => agent.held >= 64 * 1024, "the agent has its window");
    await turns();
    clock.advance(WITHIN - 1);
    expect(agent.resets).toEqual([]);
    clock.advance(2 * WITHIN);
    const answer = await client.has("may have");
    expect(answer).toMatch(/^HTTP\/1.1 504[\s\S]*failure-code: deadline[\s\S]*took nothing of what was sent/i);
    expect(answer).not.toMatch(/retry-after/i);
    await until(() => agent.resets.length === 1, "the agent hears of it");
  });

  it("goes on as long as anything moves, either way", async () => {
    const clock = new VirtualClock();
    const { agent, behaviour, take } = slow((stream) => stream.head(head(200)));
    await using kas = await startProxy(behaviour, { clock, limits });
    using client = new RawClient(kas.port).send(POST).send(MUCH);
    await until(() => agent.held >= 64 * 1024, "the agent has its window");
    await turns();
    for (let round = 0; round < 5; round++) {
      clock.advance(WITHIN - 1);
      take(1_000);
      await turns();
      clock.advance(WITHIN - 1);
      agent.stream?.data(Buffer.from(`answer ${round}`));
      await client.has(`answer ${round}`);
    }
    expect(agent.resets).toEqual([]);
    client.socket.destroy();
    agent.stream?.reset({ failure: { code: "cancelled", reason: "over" }, unprocessed: false });
  });

  it("is watched only while it waits", async () => {
    const clock = new VirtualClock();
    const { agent, behaviour, take } = slow();
    await using kas = await startProxy(behaviour, { clock, limits });
    using client = new RawClient(kas.port).send(POST).send(MUCH);
    await until(() => agent.held >= 64 * 1024, "the agent has its window");
    let taken = 0;
    await until(() => {
      taken += agent.held;
      take(agent.held);
      return taken === MUCH.length;
    }, "all that was sent is taken");
    clock.advance(10 * WITHIN);
    await turns();
    expect(agent.resets).toEqual([]);
    expect(clock.pending).toBe(0);
    client.socket.destroy();
  });

  it("of an upgraded connection ends it without a word, after its own, longer time", async () => {
    const clock = new VirtualClock();
    const { agent, behaviour } = slow((stream) => stream.head(head(101, ["upgrade", "websocket"])));
    await using kas = await startProxy(behaviour, { clock, limits });
    using client = new RawClient(kas.port).send(EXEC);
    await client.has("101");
    client.send(MUCH);
    await until(() => agent.held >= 64 * 1024, "the agent has its window");
    await turns();
    clock.advance(4 * WITHIN - 1);
    expect(agent.resets).toEqual([]);
    clock.advance(8 * WITHIN);
    await client.over();
    expect(client.text).not.toContain("504");
    expect(agent.resets).toEqual(["deadline"]);
  });

  it("leaves no timer behind when its caller goes", async () => {
    const clock = new VirtualClock();
    const { agent, behaviour } = slow();
    await using kas = await startProxy(behaviour, { clock, limits });
    const client = new RawClient(kas.port).send(POST).send(MUCH);
    await until(() => agent.held >= 64 * 1024, "the agent has its window");
    await turns();
    expect(clock.pending).toBe(1);
    agent.stream?.reset({ failure: { code: "cancelled", reason: "over" }, unprocessed: false });
    client.socket.destroy();
    await until(() => kas.proxy.activeRequests === 0 && clock.pending === 0, "the request and its timers are over");
  });
});
