import { afterEach, describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { clock, leaveNothing, pair, type Serve, up } from "./pair.ts";
import { bytes, helloOf, Notes, until } from "./support.ts";

afterEach(leaveNothing);

describe("HELLO", () => {
  it("brings a link up at both ends and tells each whom it met", async () => {
    const [a, b] = pair();
    await up(a);
    await up(b);
    expect(a.notes.told).toEqual(["up kas-b"]);
    expect(b.link.peer).toEqual(helloOf("kas-a"));
  });

  it.each([
    ["another cluster", { cluster: "other" }, "invalid"],
    ["another node than the one dialled", { expects: "kas-c" }, "invalid"],
    ["no version in common", { versions: [2, 3] as const }, "invalid"],
  ])("fails at both ends with the reason for %s", async (_, hello, code) => {
    const [a, b] = pair({ a: { hello: helloOf("kas-a", "kas", hello) } });
    const notes = new Notes();
    a.link.open(bytes("open"), notes, 0);
    await until(() => a.notes.failure !== null && b.notes.failure !== null);
    expect([a.notes.failure?.code, b.notes.failure?.code]).toEqual([code, code]);
    expect(notes.told).toEqual(["reset node-gone unprocessed", "closed"]);
  });

  it("fails with what the user's check says, and what was opened meanwhile provably did not run", async () => {
    const served: string[] = [];
    const serve: Serve = (payload) => {
      served.push(String(payload));
      return new Notes();
    };
    const [a, b] = pair({ b: { check: () => failure("unauthenticated", "unknown token") }, serve });
    const notes = new Notes();
    a.link.open(bytes("open"), notes, 0);
    await until(() => a.notes.failure !== null);
    expect(a.notes.failure).toEqual(failure("unauthenticated", "unknown token"));
    expect(b.notes.told).toEqual(["closed unauthenticated"]);
    expect(notes.told).toEqual(["reset node-gone unprocessed", "closed"]);
    expect(served).toEqual([]);
  });

  it("is up between peers that prove the same secret, also while it is rotated", async () => {
    const [old, young] = [bytes("o".repeat(32)), bytes("n".repeat(32))];
    const [a, b] = pair({ a: { secret: [young, old] }, b: { secret: old } });
    await up(a);
    await up(b);
  });

  it("is forbidden to a peer with another secret", async () => {
    const [a, b] = pair({ a: { secret: bytes("x".repeat(32)) }, b: { secret: bytes("y".repeat(32)) } });
    await until(() => a.notes.failure !== null && b.notes.failure !== null);
    expect([a.notes.failure?.code, b.notes.failure?.code]).toEqual(["forbidden", "forbidden"]);
    expect([...a.notes.told, ...b.notes.told].some((what) => what.startsWith("up"))).toBe(false);
  });

  it("does not come up when only one side asks for the secret", async () => {
    const [a, b] = pair({ a: { secret: bytes("x".repeat(32)) } });
    await until(() => b.notes.failure !== null && a.notes.failure !== null);
    expect(a.notes.told.some((what) => what.startsWith("up"))).toBe(false);
  });

  it("must be finished within five seconds", async () => {
    const [a, b] = pair();
    b.carrier.stall();
    await until(() => b.link.state === "up");
    clock.advance(4_999);
    expect(a.link.state).toBe("greeting");
    clock.advance(1);
    expect(a.notes.failure?.code).toBe("deadline");
    clock.advance(1_000); // nobody takes the farewell
  });
});
