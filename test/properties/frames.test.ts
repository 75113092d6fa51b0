/** The codec alone: whatever is written is read again, wherever the carrier cuts it. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { FrameReader, FrameWriter } from "../../src/link/frames.ts";

it("hands the same frames on, wherever their bytes are cut", () => {
  const one = fc.record({
    type: fc.constantFrom(2, 4, 5, 6, 15),
    id: fc.nat(100),
    payload: fc.uint8Array({ maxLength: 3_000 }),
  });
  fc.assert(
    fc.property(
      fc.array(one, { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1 }),
      (frames, cuts) => {
        const writer = new FrameWriter();
        for (const { type, id, payload } of frames) writer.frame(type, 0, id, payload);
        writer.number(10, 7, 2 ** 32 - 1);
        writer.reset(9, { failure: failure("busy", "ä".repeat(900)), unprocessed: true });
        const { parts, bytes: size } = writer.take();
        const wire = Buffer.concat(parts);
        expect(wire.length).toBe(size);

        const got: { type: number; id: number; payload: Buffer }[] = [];
        const others: unknown[] = [];
        let cutData = false;
        const reader = new FrameReader({
          fault: (type, _flags, _id, length) => {
            cutData = type === 5 && length > 0;
            return null;
          },
          frame: (type, _flags, id, payload) => {
            const last = got.at(-1);
            if (cutData && last && last.type === 5 && last.id === id)
              last.payload = Buffer.concat([last.payload, payload]);
            else got.push({ type, id, payload: Buffer.from(payload) });
          },
          number: (type, id, value) => others.push([type, id, value]),
          reset: (id, { failure: { code, reason }, unprocessed }) =>
            others.push([id, code, reason.length, unprocessed]),
          broken: (what) => expect.fail(what),
        });
        for (let at = 0, i = 0; at < wire.length; i++) {
          const next = at + (cuts[i % cuts.length] ?? 1);
          reader.feed(wire.subarray(at, next));
          at = next;
        }
        const joined: typeof got = [];
        for (const f of frames) {
          const last = joined.at(-1);
          if (f.type === 5 && f.payload.length > 0 && last?.type === 5 && last.id === f.id) {
            last.payload = Buffer.concat([last.payload, f.payload]);
          } else joined.push({ type: f.type, id: f.id, payload: Buffer.from(f.payload) });
        }
        expect(got).toEqual(joined);
        expect(others).toEqual([
          [10, 7, 2 ** 32 - 1],
          [9, "busy", 512, true],
        ]);
        expect(reader.partial).toBe(0);
      },
    ),
    { numRuns: 200 },
  );
});

it("keeps what several writers write apart, however they take turns, and long after it was taken", () => {
  const step = fc.record({
    who: fc.nat(2),
    payload: fc.uint8Array({ maxLength: 2_000 }),
    takes: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const writers = [0, 1, 2].map(() => ({
        writer: new FrameWriter(),
        wrote: [] as Buffer[],
        took: [] as Uint8Array[],
      }));
      for (const { who, payload, takes } of steps) {
        const one = writers[who];
        if (!one) continue;
        one.writer.frame(5, 0, who, payload);
        const header = Buffer.from([5, 0, 0, payload.length >>> 8, payload.length & 0xff, 0, 0, 0, who]);
        one.wrote.push(header, Buffer.from(payload));
        if (takes) one.took.push(...one.writer.take().parts);
      }
      for (const { writer, wrote, took } of writers) {
        took.push(...writer.take().parts);
        expect(Buffer.concat(took).equals(Buffer.concat(wrote))).toBe(true);
      }
    }),
    { numRuns: 200 },
  );
});
