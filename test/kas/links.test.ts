/** The links of a node: with its own intervals, and with every frame counted that came too late. */
import { expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { Links } from "../../src/kas/links.ts";
import { memoryCarriers } from "../../src/link/carriers/memory.ts";
import type { Link } from "../../src/link/link.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import type { Stream } from "../../src/link/stream.ts";
import { bytes, HandClock, helloOf, LinkNotes, Notes, until } from "../link/support.ts";

const timings = { hello_within: 500, ping_after: 100, idle_ping_after: 2_000, pong_within: 300 } as const;
const gone = { failure: failure("cancelled", "nobody reads on"), unprocessed: false };

function laid() {
  const clock = new HandClock();
  const links = new Links(timings);
  const [here, there] = memoryCarriers();
  const served: Stream[] = [];
  const serve = (_: Uint8Array, stream: Stream) => {
    served.push(stream);
    return new Notes();
  };
  const notes = [new LinkNotes(), new LinkNotes(serve)] as const;
  const base = { clock, check: () => null };
  const open = links.opener("peer");
  const near: Link = open({ ...base, carrier: here, role: "dialler", hello: helloOf("kas-a"), events: notes[0] });
  return { clock, links, near, notes, served, there, base };
}

it("gives a link the intervals of the configuration: one without an answer is lost after them", async () => {
  const { clock, near, notes, there } = laid();
  await until(() => there.carried > 0 || clock.timers > 0);
  clock.advance(499);
  expect(near.state).toBe("greeting");
  clock.advance(1);
  await until(() => notes[0].failure !== null);
  expect(notes[0].failure?.code).toBe("deadline");
  there.destroy();
});

it("counts the frames of streams that are over, on links that are open and on those that are gone", async () => {
  const { links, near, notes, served, there, base } = laid();
  const far = openLink({ ...base, carrier: there, role: "acceptor", hello: helloOf("kas-b"), events: notes[1] });
  await until(() => near.state === "up" && far.state === "up");
  const reader = new Notes();
  const asked = near.open(bytes("GET"), reader, 1);
  await until(() => served.length === 1);
  served[0]?.head(bytes("200"));
  served[0]?.data(bytes("too late"));
  asked.reset(gone);
  await until(() => links.dropped("peer") > 0);
  const dropped = near.dropped;
  expect({ peer: links.dropped("peer"), agent: links.dropped("agent") }).toEqual({ peer: dropped, agent: 0 });
  near.destroy(gone.failure);
  await until(() => far.state === "closed");
  expect(links.dropped("peer")).toBe(dropped);
});

it("gives all links the memory of one node to share, and lets nobody but nodes send CTL", async () => {
  const MIB = 1024 * 1024;
  const bounds = { streams_per_agent: 1, streams_per_node: 10, growth_mib: 8, growth_per_agent_mib: 2, held_mib: 32 };
  const links = new Links(timings, bounds);
  expect(links.pool.limits).toEqual({ growth: 8 * MIB, perAgent: 2 * MIB, hard: 32 * MIB });
  const clock = new HandClock();
  const base = { clock, check: () => null, role: "acceptor" } as const;
  const dialled = (place: "peer" | "agent") => {
    const [here, there] = memoryCarriers();
    const ends = [new LinkNotes(), new LinkNotes()] as const;
    const near = links.opener(place)({ ...base, carrier: here, hello: helloOf("kas-a"), events: ends[0] });
    const far = openLink({ ...base, carrier: there, role: "dialler", hello: helloOf("kas-b"), events: ends[1] });
    return { near, far, ends };
  };
  const [peer, agent] = [dialled("peer"), dialled("agent")];
  await until(() => [peer, agent].every(({ near, far }) => near.state === "up" && far.state === "up"));
  expect(links.pool.links.size).toBe(2);
  for (const { far } of [peer, agent]) far.ctl(bytes("an envelope"));
  await until(() => agent.ends[0].failure !== null && peer.ends[0].told.length > 1);
  expect(agent.ends[0].failure?.code).toBe("protocol");
  expect(peer.ends[0].told).toContain("ctl an envelope");
  peer.near.destroy(failure("cancelled", "the test is over"));
  expect(links.pool.links.size).toBe(0);
});
