import { Packr } from "msgpackr";
import { expect, it } from "vitest";
import { decodeHello, encodeHello, type Greeters, proofs, proves } from "../../src/link/hello.ts";
import { bytes, helloOf } from "./support.ts";

const pack = (value: unknown) => new Packr({ useRecords: false }).pack(value);
const greeters: Greeters = { dialler: helloOf("kas-a"), acceptor: helloOf("kas-b") };
const [one, two, three] = ["1", "2", "3"].map((c) => bytes(c.repeat(32))) as [Uint8Array, Uint8Array, Uint8Array];

it("comes back as it was sent", () => {
  const hello = helloOf("agentk", "agent", {
    instance: "ns/pod",
    process: "p",
    link: 3,
    lost: [1, 2],
    capabilities: ["x"],
  });
  expect(decodeHello(encodeHello(hello))).toEqual(hello);
});

it("fills what an older sender left out and ignores what a newer one added", () => {
  expect(decodeHello(pack(["c", "n", "kas"]))).toMatchObject({
    cluster: "c",
    name: "n",
    role: "kas",
    lost: [],
    nonce: "",
  });
  const all: unknown[] = new Packr({ useRecords: false }).unpack(encodeHello(helloOf("n")));
  expect(decodeHello(pack([...all, "new field"]))).toEqual(helloOf("n"));
});

it("is refused as `protocol` when it is no array", () => {
  expect(() => decodeHello(pack({ name: "x" }))).toThrow("protocol");
  expect(() => decodeHello(bytes("\xc1\xff"))).toThrow("protocol");
});

it("proves a shared secret, of several in rotation any", () => {
  expect(proves(proofs([one], "dialler", greeters), [one], "dialler", greeters)).toBe(true);
  expect(proves(proofs([one, two], "dialler", greeters), [two, three], "dialler", greeters)).toBe(true);
  expect(proves(proofs([one], "dialler", greeters), [two], "dialler", greeters)).toBe(false);
});

it("cannot be sent back to its maker, nor used under other names or nonces", () => {
  const given = proofs([one], "dialler", greeters);
  expect(proves(given, [one], "acceptor", greeters)).toBe(false);
  for (const other of [helloOf("kas-c"), helloOf("kas-a", "kas", { nonce: "another" })]) {
    expect(proves(given, [one], "dialler", { ...greeters, dialler: other })).toBe(false);
  }
  expect(proves(new Uint8Array(0), [one], "dialler", greeters)).toBe(false);
  expect(proves(given.subarray(1), [one], "dialler", greeters)).toBe(false);
});
