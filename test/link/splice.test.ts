import { afterEach, describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { creditPool } from "../../actors/pool.ts";
import { memoryCarriers } from "../../src/link/carriers/memory.ts";
import type { Link } from "../../src/link/link.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import { splice } from "../../src/link/splice.ts";
import type { Stream } from "../../src/link/stream.ts";
import { bytes, HandClock, helloOf, LinkNotes, Notes, until } from "./support.ts";

const clock = new HandClock();
let links: Link[] = [];

afterEach(async () => {
  expect(links.map((link) => link.bufferedBytes)).toEqual(links.map(() => 0));
  for (const link of links) link.destroy(failure("cancelled", "the test is over"));
  await until(() => clock.timers === 0);
  links = [];
});

/** ingress ── holder ── agent, with what the agent was asked. */
function chain() {
  const served: { stream: Stream; notes: Notes }[] = [];
  const ended: string[] = [];
  const base = { clock, check: () => null, pool: creditPool({ growth: 0 }) }; // windows stay at their floor
  const agentEvents = new LinkNotes((_, stream) => {
    const notes = new Notes();
    served.push({ stream, notes });
    return notes;
  });
  const [toAgent, atAgent] = memoryCarriers();
  const agentSide = { ...base, role: "acceptor" as const, hello: helloOf("kas-b") };
  const agentLink = openLink({ ...agentSide, carrier: toAgent, events: new LinkNotes() });
  const agent = openLink({
    ...base,
    role: "dialler",
    hello: helloOf("agentk", "agent"),
    carrier: atAgent,
    events: agentEvents,
  });
  const holderEvents = new LinkNotes((payload, inward) => {
    const joint = splice(inward, () => ended.push("over"));
    joint.join(agentLink.open(payload, joint.outbound, 0));
    return joint.inbound;
  });
  const [toHolder, atHolder] = memoryCarriers();
  const holder = openLink({
    ...base,
    role: "acceptor",
    hello: helloOf("kas-b"),
    carrier: atHolder,
    events: holderEvents,
  });
  const ingress = openLink({
    ...base,
    role: "dialler",
    hello: helloOf("kas-a"),
    carrier: toHolder,
    events: new LinkNotes(),
  });
  links.push(agentLink, agent, holder, ingress);
  const notes = new Notes();
  const stream = ingress.open(bytes("open"), notes, 0);
  return { stream, notes, served, ended, holder, agentLink, toAgent, ingress };
}

describe("a splice", () => {
  it("carries a request and its answer through, in order, and is over once", async () => {
    const { stream, notes, served, ended } = chain();
    stream.data(bytes("question"));
    stream.end();
    await until(() => served[0]?.notes.told.at(-1) === "end");
    expect(served[0]?.notes.text).toBe("question");
    served[0]?.stream.head(bytes("200"));
    served[0]?.stream.data(bytes("answer"));
    served[0]?.stream.trailer(bytes("fine"));
    served[0]?.stream.end();
    await until(() => notes.told.at(-1) === "closed");
    expect(notes.told).toEqual(["accepted", "head 200", "data", "trailer fine", "end", "closed"]);
    await until(() => ended.length > 0);
    expect(ended).toEqual(["over"]);
  });

  it("grants the opener nothing before the executing end took the stream", async () => {
    const { stream, notes, served, ingress } = chain();
    stream.data(new Uint8Array(200_000));
    await until(() => served[0]?.notes.bytes === 65_536);
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect([notes.sentBytes, notes.told]).toEqual([65_536, []]);
    served[0]?.stream.accept();
    await until(() => notes.sentBytes === 131_072);
    expect(notes.told).toEqual(["accepted"]);
    served[0]?.stream.consumed(65_536);
    await until(() => served[0]?.notes.bytes === 131_072);
    ingress.destroy(failure("cancelled", ""));
    await until(() => served[0]?.notes.told.at(-1) === "closed");
  });

  it("holds no more than a window of an answer that nobody reads", async () => {
    const { notes, served, holder, agentLink, stream } = chain();
    await until(() => served.length > 0);
    served[0]?.stream.head(bytes("200"));
    for (let i = 0; i < 20; i++) served[0]?.stream.data(new Uint8Array(100_000));
    await until(() => notes.bytes === 65_536);
    await until(() => holder.bufferedBytes === 65_536);
    expect(agentLink.bufferedBytes).toBe(0);
    for (let taken = 0; taken < 2_000_000; ) {
      await until(() => notes.bytes > taken);
      stream.consumed(notes.bytes - taken);
      taken = notes.bytes;
    }
    stream.reset({ failure: failure("cancelled", "seen enough"), unprocessed: false });
    await until(() => served[0]?.notes.told.at(-1) === "closed");
    expect(served[0]?.notes.told).toEqual(["reset cancelled", "closed"]);
  });

  it("hands proof of non-execution on, and takes none from the opener", async () => {
    const { notes, served } = chain();
    await until(() => served.length > 0);
    served[0]?.stream.reset({ failure: failure("busy", "full"), unprocessed: true });
    await until(() => notes.told.length > 0);
    expect(notes.told).toEqual(["reset busy unprocessed", "closed"]);

    const other = chain();
    await until(() => other.served.length > 0);
    other.stream.reset({ failure: failure("cancelled", ""), unprocessed: true });
    await until(() => other.served[0]?.notes.told.at(-1) === "closed");
    expect(other.served[0]?.notes.ending).toMatchObject({ unprocessed: false });
  });

  it("ends the stream without proof when the agent's link is lost", async () => {
    const { notes, served, toAgent } = chain();
    await until(() => served.length > 0);
    toAgent.cutAfter(0);
    await until(() => notes.told.length > 0);
    expect(notes.told).toEqual(["reset node-gone", "closed"]);
  });

  it("stops the body all the way back when the answer ended early", async () => {
    const { stream, notes, served, ended } = chain();
    stream.data(new Uint8Array(300_000));
    await until(() => served.length > 0);
    served[0]?.stream.head(bytes("413"));
    served[0]?.stream.end();
    served[0]?.stream.stop();
    await until(() => notes.told.at(-1) === "closed" && ended.length > 0);
    expect(notes.told).toContain("stopped");
    expect(notes.told).toContain("end");
    expect(stream.queued).toBe(0);
  });
});
