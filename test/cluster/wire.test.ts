/** The routing protocol on the wire: what was sent is what is read, and what is not ours is ignored. */
import fc from "fast-check";
import { Packr } from "msgpackr";
import { describe, expect, it } from "vitest";
import type { Entry } from "../../actors/channel.ts";
import type { AgentId, ConnectionId, NodeId } from "../../actors/ids.ts";
import { noSlots } from "../../actors/ring.ts";
import { decode, encode, type RoutingMessage } from "../../src/cluster/wire.ts";

const packr = new Packr({ useRecords: false });
const node = "kas-1.1700000000000" as NodeId;
const connection = 4 as ConnectionId;
const agent = (2 ** 40 + 1) as AgentId;
const entry: Entry = {
  connection,
  agent,
  instance: "gitlab/agentk-0",
  process: "p",
  link: 2,
  lost: [1],
  since: 1_700_000_000_000.5,
  draining: true,
};
const route = { node, connection, draining: false };

const MESSAGES: readonly RoutingMessage[] = [
  {
    type: "hb",
    heartbeat: { seq: 9, state: "up", hello: true, address: "h:1", connections: 3, view: 2 ** 32 - 1, nats: false },
  },
  { type: "outdated", incarnation: 1_700_000_000_000 },
  {
    type: "channel",
    message: { type: "snap", epoch: 1, seq: 2, part: 0, parts: 1, slots: noSlots().fill(7), entries: [entry] },
  },
  { type: "channel", message: { type: "delta", epoch: 1, seq: 3, put: [entry], removed: [connection] } },
  { type: "channel", message: { type: "digest", epoch: 1, seq: 3, count: 1, hash: 2 ** 31 } },
  { type: "regack", position: { epoch: 1, seq: 3 } },
  { type: "needsnap" },
  { type: "lookup", agent, watch: 20_000 },
  { type: "whohas", agent },
  { type: "routes", answer: { routes: [route], missing: [node], mature: true, seen: { ago: 5, wall: 6, node } } },
  { type: "routes", answer: { routes: [], missing: [], mature: false, seen: null } },
  { type: "found", agent, routes: [route] },
  { type: "superseded", connection },
  { type: "members", peers: [{ node: "kas-1.5" as NodeId, address: "10.0.0.1:8155" }] },
  { type: "ping" },
];

describe("the wire", () => {
  it.each(MESSAGES)("carries $type", (message) => {
    expect(decode(packr.unpack(packr.pack(encode(message))))).toEqual(message);
  });

  it("reads a message to which a newer version appended a field", () => {
    for (const message of MESSAGES) {
      const { type, body } = encode(message);
      expect(decode({ type, body: [...(body as unknown[]), "new"] })).toEqual(message);
    }
  });

  it("ignores unknown types and never throws on what is not ours", () => {
    expect(decode({ type: "gossip", body: [] })).toBeNull();
    const types = fc.constantFrom(
      "hb",
      "snap",
      "delta",
      "digest",
      "regack",
      "lookup",
      "routes",
      "found",
      "superseded",
      "members",
    );
    fc.assert(
      fc.property(types, fc.anything(), fc.array(fc.anything(), { maxLength: 8 }), (type, junk, body) => {
        decode({ type, body: junk });
        decode({ type, body });
      }),
    );
  });

  it("refuses a message with any one field of the wrong kind", () => {
    for (const message of MESSAGES) {
      const { type, body } = encode(message);
      for (let i = 0; i < (body as unknown[]).length; i++) {
        const wrong = (body as unknown[]).with(i, { not: "this" });
        expect(decode({ type, body: wrong }), `${type}[${i}]`).toBeNull();
      }
    }
  });
});
