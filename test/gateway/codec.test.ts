import { create, equals, fromBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { encodeData, encodeReply } from "../../src/gateway/codec.ts";
import { HttpResponseSchema, StreamResponseSchema } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";

const text = fc.oneof(fc.string({ unit: "grapheme", maxLength: 200 }), fc.string({ minLength: 120, maxLength: 140 }));
const headers = fc.array(fc.tuple(text, text), { maxLength: 8 });
const body = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 4 });
const listed = (pairs: readonly (readonly [string, string])[]) => pairs.map(([name, value]) => ({ name, value }));

it("writes an answer that the generated code reads as the same message", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 599 }), headers, body, headers, (status, head, pieces, trailers) => {
      const whole = Buffer.concat(pieces);
      const encoded = encodeReply({
        status,
        headers: head.flat(),
        body: pieces,
        bodyBytes: whole.length,
        trailers: trailers.flat(),
      });

      const general = create(HttpResponseSchema, {
        status,
        headers: listed(head),
        body: whole,
        trailers: listed(trailers),
      });
      expect(equals(HttpResponseSchema, fromBinary(HttpResponseSchema, encoded), general)).toBe(true);
    }),
  );
});

it("writes data of any length so that the generated code reads it", () => {
  for (const length of [0, 1, 127, 128, 16_383, 16_384, 3_000_000]) {
    const { part } = fromBinary(StreamResponseSchema, encodeData(Buffer.alloc(length, "x")));
    expect(part).toMatchObject({ case: "data", value: { length } });
  }
});
