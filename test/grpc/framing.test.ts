import * as fc from "fast-check";
import { expect, it } from "vitest";
import { Failed } from "../../src/failed.ts";
import { frameMessage, MessageAssembler } from "../../src/grpc/framing.ts";

const message = fc.oneof(
  fc.uint8Array({ maxLength: 64 }),
  fc.integer({ min: 0, max: 40_000 }).map((n) => new Uint8Array(n)),
);

it("gives back every message, wherever the bytes are cut", () => {
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 9_000 }), { minLength: 1 }),
      (messages, cuts) => {
        const bytes = Buffer.concat(messages.flatMap(frameMessage));
        const assembler = new MessageAssembler(40_000);
        const whole: Buffer[] = [];
        for (let at = 0, i = 0; at < bytes.length; i += 1) {
          const cut = cuts[i % cuts.length] ?? 1;
          assembler.push(bytes.subarray(at, at + cut), (message) => whole.push(message));
          at += cut;
        }

        expect(whole.map((message) => message.toString("hex"))).toEqual(
          messages.map((message) => Buffer.from(message).toString("hex")),
        );
        expect(assembler.partial).toBe(false);
      },
    ),
  );
});

it("refuses a message by its prefix, before a byte of it", () => {
  const assembler = new MessageAssembler(10);
  const never = () => expect.unreachable();
  expect(() => assembler.push(Buffer.from([0, 0, 0, 0, 11]), never)).toThrow(Failed);
  expect(() => new MessageAssembler(10).push(Buffer.from([1, 0, 0, 0, 1]), never)).toThrow("compressed");
});
