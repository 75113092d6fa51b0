import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type NodeName, nodeId } from "../../actors/ids.ts";
import { decodeEnvelope, type Envelope, Envelopes, encodeEnvelope, envelopeKey } from "../../src/bus/envelopes.ts";
import { ReplayWindow } from "../../src/bus/replay.ts";
import { createSubjects } from "../../src/bus/subjects.ts";

const name = (text: string) => text as NodeName;
const a1 = nodeId(name("a"), 1);
const b1 = nodeId(name("b"), 1);
const secret = new Uint8Array(32).fill(1);
const newer = new Uint8Array(32).fill(2);
const of = (self = a1, secrets = [secret], cluster = "test") => new Envelopes({ cluster, self, secrets });

describe("an envelope", () => {
  it("comes out as it went in, whatever is in it", () => {
    const key = envelopeKey(secret);
    // msgpackr renames this one, see below
    const names = fc.string().filter((name) => name !== "__proto__");
    const body = fc.anything({ key: names, withNullPrototype: false, withBigInt: false, maxDepth: 2 }).map((value) => {
      try {
        return JSON.parse(JSON.stringify({ value }));
      } catch {
        return null;
      }
    });
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.string(), fc.nat(), body, (subject, reply, type, n, value) => {
        const envelope: Envelope = { cluster: "c", sender: a1, count: n + 1, subject, reply, type, body: value };
        expect(decodeEnvelope(encodeEnvelope(envelope, key), [key])).toEqual(envelope);
      }),
      { numRuns: 50 },
    );
  });

  it("sets nobody's prototype", () => {
    const key = envelopeKey(secret);
    const body = JSON.parse('{"__proto__": {"admin": true}}');
    const envelope: Envelope = { cluster: "c", sender: a1, count: 1, subject: "s", reply: "", type: "hb", body };
    const decoded = decodeEnvelope(encodeEnvelope(envelope, key), [key]) as Envelope;
    expect(Object.getPrototypeOf(decoded.body)).toBe(Object.prototype);
    expect(decoded.body).not.toHaveProperty("admin");
  });

  it("is refused when any of its bits was changed", () => {
    const sealed = of().seal("s", "r", "hb", [1, "two"]);
    for (let i = 0; i < sealed.length; i++) {
      const forged = sealed.slice();
      forged[i] = (forged[i] ?? 0) ^ 1;
      const receiver = of(b1);
      expect(receiver.open(forged)).toBeNull();
      expect(receiver.refused.signature).toBe(1);
    }
  });

  it("is refused when it is shorter than a signature, or signed but no envelope", () => {
    const key = envelopeKey(secret);
    expect(decodeEnvelope(new Uint8Array(0), [key])).toBe("malformed");
    expect(decodeEnvelope(new Uint8Array(32), [key])).toBe("malformed");
    const odd = {
      cluster: "c",
      sender: "no id" as Envelope["sender"],
      count: 1,
      subject: "",
      reply: "",
      type: "",
      body: 0,
    };
    expect(decodeEnvelope(encodeEnvelope(odd, key), [key])).toBe("malformed");
    expect(decodeEnvelope(encodeEnvelope({ ...odd, sender: a1, count: 0 }, key), [key])).toBe("malformed");
  });

  it("is accepted with either of two secrets and signed with the first", () => {
    expect(of(b1, [newer, secret]).open(of(a1, [secret]).seal("s", "", "t", 1))?.body).toBe(1);
    expect(of(b1, [newer, secret]).open(of(a1, [newer]).seal("s", "", "t", 1))?.body).toBe(1);
    expect(of(b1, [secret]).open(of(a1, [newer, secret]).seal("s", "", "t", 1))).toBeNull();
    expect(() => of(a1, [])).toThrow("secret");
  });

  it("is refused from another cluster, on another subject than it was sent to, and with another reply", () => {
    const receiver = of(b1);
    const sender = of();
    expect(receiver.open(of(a1, [secret], "other").seal("s", "", "t", 1))).toBeNull();
    expect(receiver.open(sender.seal("s", "", "t", 1), { subject: "elsewhere", reply: "" })).toBeNull();
    expect(receiver.open(sender.seal("s", "r", "t", 1), { subject: "s", reply: "mine" })).toBeNull();
    expect(receiver.open(sender.seal("s", "r", "t", 1), { subject: "s", reply: "r" })?.type).toBe("t");
    expect(receiver.refused).toMatchObject({ cluster: 1, subject: 2, signature: 0 });
  });

  it("is dropped silently when it is our own", () => {
    const both = of();
    expect(both.open(both.seal("s", "", "t", 1))).toBeNull();
    expect(Object.values(both.refused)).toEqual([0, 0, 0, 0, 0, 0, 0]);
  });

  it("is accepted once, whichever way it comes again", () => {
    const receiver = of(b1);
    const sealed = of().seal("s", "", "t", 1);
    expect(receiver.open(sealed, { subject: "s", reply: "" })).not.toBeNull();
    expect(receiver.open(sealed)).toBeNull();
    expect(receiver.refused.replay).toBe(1);
  });

  it("is refused from an incarnation that was replaced", () => {
    const receiver = of(b1);
    const old = of(a1);
    expect(receiver.open(old.seal("s", "", "t", 1))).not.toBeNull();
    expect(receiver.open(of(nodeId(name("a"), 2)).seal("s", "", "t", 1))).not.toBeNull();
    expect(receiver.open(old.seal("s", "", "t", 1))).toBeNull();
    expect(receiver.refused.stale).toBe(1);
  });
});

describe("the replay window", () => {
  it("admits each count at most once, and every count of the last 1,024 at least once", () => {
    const steps = fc.array(fc.oneof(fc.integer({ min: 1, max: 3_000 }), fc.integer({ min: 1, max: 40 })), {
      maxLength: 300,
    });
    fc.assert(
      fc.property(steps, (counts) => {
        const window = new ReplayWindow();
        const admitted = new Set<number>();
        let highest = 0;
        for (const count of counts) {
          const fresh = window.admit(a1, count) === "fresh";
          if (admitted.has(count)) expect(fresh).toBe(false);
          else if (count > highest - 1_024) expect(fresh).toBe(true);
          else expect(fresh).toBe(false);
          if (fresh) admitted.add(count);
          highest = Math.max(highest, count);
        }
      }),
    );
  });

  it("forgets the sender first heard when it knows more than a cluster can have", () => {
    const window = new ReplayWindow();
    expect(window.admit(a1, 1)).toBe("fresh");
    for (let i = 0; i < 4_096; i++) window.admit(nodeId(name(`n${i}`), 1), 1);
    expect(window.admit(nodeId(name("n4095"), 1), 1)).toBe("replay");
    expect(window.admit(a1, 1)).toBe("fresh");
  });
});

describe("subjects", () => {
  it("are those of the specification, and refuse what is no single token", () => {
    const subjects = createSubjects("kas", "eu-1");
    expect([subjects.heartbeat, subjects.all, subjects.node(a1)]).toEqual([
      "kas.eu-1.v1.hb",
      "kas.eu-1.v1.all",
      "kas.eu-1.v1.n.a.1.ctl",
    ]);
    expect(() => createSubjects("kas", "a.b")).toThrow("cluster.name");
    expect(() => createSubjects("*", "a")).toThrow("subject_prefix");
  });
});
