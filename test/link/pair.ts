/** Two multiplexers over a pair of memory carriers, and the proof that a test left nothing behind. */
import { expect } from "vitest";
import { failure } from "../../actors/failure.ts";
import { type MemoryCarrier, type MemoryOptions, memoryCarriers } from "../../src/link/carriers/memory.ts";
import type { Link, LinkOptions } from "../../src/link/link.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import type { Stream, StreamHandler } from "../../src/link/stream.ts";
import { bytes, HandClock, helloOf, LinkNotes, Notes, until } from "./support.ts";

export type Serve = (payload: Uint8Array, stream: Stream) => StreamHandler;
export type Side = { readonly link: Link; readonly notes: LinkNotes; readonly carrier: MemoryCarrier };

export const clock = new HandClock();
const made: Side[] = [];

/** To be called after each test: nothing may be left. */
export async function leaveNothing(): Promise<void> {
  for (const { link } of made) link.destroy(failure("cancelled", "the test is over"));
  await until(() => made.every(({ carrier }) => carrier.closed));
  expect(clock.timers).toBe(0);
  expect(made.map(({ link }) => [link.bufferedBytes, link.streams])).toEqual(made.map(() => [0, 0]));
  made.length = 0;
}

type Setup = {
  readonly a?: Partial<LinkOptions>;
  readonly b?: Partial<LinkOptions>;
  readonly serve?: Serve;
  readonly carrier?: MemoryOptions;
};

export function pair({ a, b, serve, carrier }: Setup = {}): readonly [Side, Side] {
  const carriers = memoryCarriers(carrier);
  const side = (i: 0 | 1, name: string, more: Partial<LinkOptions> = {}): Side => {
    const notes = new LinkNotes(i === 1 ? serve : undefined);
    const role = i === 0 ? "dialler" : "acceptor";
    const base = { clock, carrier: carriers[i], role, hello: helloOf(name), check: () => null, events: notes } as const;
    const made1 = { link: openLink({ ...base, ...more }), notes, carrier: carriers[i] };
    made.push(made1);
    return made1;
  };
  return [side(0, "kas-a", a), side(1, "kas-b", b)];
}

/** Answers every request with its own body, once it has ended. */
export const echo: Serve = (_, stream) => {
  const notes = new Notes();
  notes.end = () => {
    stream.head(bytes("200"));
    stream.data(bytes(notes.text));
    stream.end();
  };
  notes.data = (chunk) => {
    notes.text += Buffer.from(chunk).toString("latin1");
    stream.consumed(chunk.length);
  };
  return notes;
};

export const up = (side: Side) => until(() => side.link.state === "up");
