/** What nodes ask each other over a link: questions, answers of any size, and callers that leave. */
import { afterEach, describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { askNode, type NodeCall, type NodeMethod, serveNodeCall } from "../../src/cluster/node-service.ts";
import { type MemoryOptions, memoryCarriers } from "../../src/link/carriers/memory.ts";
import type { Link } from "../../src/link/link.ts";
import { decodeOpen, encodeOpen } from "../../src/link/messages.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import { helloOf, LinkNotes } from "../link/support.ts";
import { Heard, request, turns } from "../support/streams.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const clock = new VirtualClock();
let links: Link[] = [];

afterEach(async () => {
  for (const link of links) link.destroy(failure("cancelled", "the test is over"));
  await turns();
  expect(clock.pending).toBe(0);
  links = [];
});

/** An asking link, whose other end serves these methods. */
async function asking(methods: Record<string, NodeMethod>, options?: MemoryOptions) {
  const [ours, theirs] = memoryCarriers(options);
  const served = new LinkNotes((payload, stream) =>
    serveNodeCall(new Map(Object.entries(methods)), decodeOpen(payload), stream),
  );
  const base = { clock, check: () => null };
  const asker = { ...base, role: "dialler", hello: helloOf("a"), carrier: ours, events: new LinkNotes() } as const;
  const server = { ...base, role: "acceptor", hello: helloOf("b"), carrier: theirs, events: served } as const;
  links.push(openLink(asker), openLink(server));
  const [link] = links.slice(-2);
  if (!link) throw new RangeError("no link");
  await turns();
  return { link, served, theirs };
}

function ask(link: Link, method: string, question: unknown) {
  const messages: unknown[] = [];
  const ends: (string | null)[] = [];
  const call = askNode(link, method, question, {
    message: (message) => messages.push(message),
    ended: (reset) => ends.push(reset?.failure.code ?? null),
  });
  return { messages, ends, call };
}

describe("a question to a node", () => {
  it("is answered whole, however the bytes are cut", async () => {
    const sizes = [1, 2, 3, 4, 5, 1_000];
    let turn = 0;
    const echo: NodeMethod = (question, call) => {
      call.answer(question);
      call.answer("");
      call.answer(["more", "x".repeat(100_000)]);
      call.end();
      return () => {};
    };
    const { link } = await asking({ echo }, { chunks: () => sizes[turn++ % sizes.length] ?? 1 });
    const question = { a: [1, 2], b: "é", c: null, long: "y".repeat(200_000) };
    const { messages, ends } = ask(link, "echo", question);
    await turns(1_500);
    expect(messages).toEqual([question, "", ["more", "x".repeat(100_000)]]);
    expect(ends).toEqual([null]);
    expect(link.streams).toBe(0);
  });

  it("is refused when this version does not know it", async () => {
    const { link } = await asking({});
    const { ends, messages } = ask(link, "later", 1);
    await turns();
    expect([ends, messages, link.streams]).toEqual([["invalid"], [], 0]);
  });

  it("ends with what the method says, or that it threw", async () => {
    const fails: NodeMethod = (_, call) => {
      call.fail({ failure: failure("busy", "later"), unprocessed: false });
      return () => {};
    };
    const throws: NodeMethod = () => {
      throw new Error("a bug");
    };
    const { link, served } = await asking({ fails, throws });
    const [one, two] = [ask(link, "fails", 1), ask(link, "throws", 1)];
    await turns();
    expect([one.ends, two.ends]).toEqual([["busy"], ["internal"]]);
    expect(served.faults).toHaveLength(1);
  });

  it("tells the method that its asker left, and the asker that the link was lost", async () => {
    let left = 0;
    const stays: NodeMethod = (_, call) => {
      call.answer("hello");
      return () => {
        left++;
      };
    };
    const { link, theirs } = await asking({ stays });
    const first = ask(link, "stays", 1);
    const second = ask(link, "stays", 1);
    await turns();
    first.call[Symbol.dispose]();
    await turns();
    expect([left, first.ends]).toEqual([1, [null]]);
    theirs.cutAfter(0);
    await turns();
    expect([left, second.ends, second.messages]).toEqual([2, ["node-gone"], ["hello"]]);
  });

  it("is asked once: a second question on the same call is a broken peer", async () => {
    let left = 0;
    const stays: NodeMethod = () => () => {
      left++;
    };
    const { link } = await asking({ stays });
    const { trace: _, ...rest } = request(0 as never);
    const own = { requestId: "" as never, prefer: 0 as const, exclude: [], traceparent: "", tracestate: "" };
    const heard = new Heard();
    const stream = link.open(encodeOpen({ ...rest, ...own, method: "stays" }), heard, 0);
    const question = Buffer.from([0, 0, 0, 1, 1]);
    stream.data(question);
    stream.data(question);
    await turns();
    expect(heard.told.at(-2)).toBe("reset protocol");
    expect(left).toBe(1);
  });

  it("is cut off at a message that is too large to be one", async () => {
    const { link } = await asking({ stays: () => () => {} });
    const { trace: _, ...rest } = request(0 as never);
    const own = { requestId: "" as never, prefer: 0 as const, exclude: [], traceparent: "", tracestate: "" };
    const heard = new Heard();
    link.open(encodeOpen({ ...rest, ...own, method: "stays" }), heard, 0).data(Buffer.from([255, 0, 0, 0]));
    await turns();
    expect(heard.told.at(-2)).toBe("reset protocol");
  });

  it("says when more than 4 MiB wait for a slow asker, not counting what was answered at once", async () => {
    const calls: NodeCall[] = [];
    const big: NodeMethod = (_, call) => {
      calls.push(call);
      expect(call.answer("x".repeat(6 * 1024 * 1024))).toBe(true);
      return () => {};
    };
    const { link, theirs } = await asking({ big });
    theirs.stall();
    const { messages } = ask(link, "big", 1);
    await turns();
    const [call] = calls;
    const fine = Array.from({ length: 4 }, () => call?.answer("x".repeat(1024 * 1024 - 100)));
    expect(fine).toEqual([true, true, true, true]);
    expect(call?.answer("x".repeat(1024 * 1024))).toBe(false);
    theirs.resume();
    await turns(600);
    expect(messages).toHaveLength(6);
  });
});
