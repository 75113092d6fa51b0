/** How the connector dials kas and dials again: whom it says it is, how long it pauses, what it says of refusals. */
import { afterEach, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { turns } from "../support/streams.ts";
import { connector, kas, leaveNothing, pass, start } from "./connector-world.ts";
import { openEcho } from "./memory-kas.ts";

afterEach(leaveNothing);

it("says to which node, and as which agent, it is connected, and who it is", async () => {
  const agent = start();
  expect(agent.isConnected).toBe(false);
  await turns();
  expect(kas.said).toEqual(['{"agentId":7,"node":"kas-0"}']);
  expect(agent.isConnected).toBe(true);
  expect(kas.link(1).agent).toMatchObject({
    role: "agent",
    name: "agentk",
    instance: "ns/pod",
    process: "p1",
    link: 1,
    lost: [],
    version: "1.2.3",
  });
});

it("serves the streams that kas opens", async () => {
  start();
  await turns();
  const echo = openEcho(kas.link(1));
  echo.stream?.data(Buffer.from("hello"));
  echo.stream?.end();
  await turns();
  expect(echo).toMatchObject({ text: "hello", over: "ended" });
});

it("connects anew after a loss, waits twice as long each time up to the longest, and names the links it lost", async () => {
  start();
  await turns();
  kas.refuse = failure("node-gone", "connection refused");
  kas.link(1).carrier.destroy();
  await turns();
  const pauses: number[] = [];
  for (let at = kas.clock.now(); pauses.length < 7; ) {
    const { dials } = kas;
    while (kas.dials === dials) {
      kas.clock.advance(500);
      await turns(2);
    }
    pauses.push(kas.clock.now() - at);
    at = kas.clock.now();
  }
  expect(pauses).toEqual([500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
  kas.refuse = null;
  await pass(15_000);
  expect(kas.link(2).agent).toMatchObject({ link: 9, lost: [1, 2, 3, 4, 5, 6, 7, 8] });
});

it("starts with the shortest pause again once a link held", async () => {
  start();
  await turns();
  for (const [held, pause] of [
    [1_000, 500],
    [1_000, 1_000],
    [30_000, 500],
  ] as const) {
    await pass(held);
    const { dials } = kas;
    kas.accepted.at(-1)?.carrier.destroy();
    await turns();
    kas.clock.advance(pause - 1);
    expect(kas.dials).toBe(dials);
    kas.clock.advance(1);
    await turns();
    expect(kas.dials).toBe(dials + 1);
  }
});

it("spreads its pauses over the whole of their length", async () => {
  start({ random: () => 0.1 });
  await turns();
  kas.link(1).carrier.destroy();
  await turns();
  kas.clock.advance(49);
  expect(kas.dials).toBe(1);
  kas.clock.advance(1);
  expect(kas.dials).toBe(2);
});

it("says what to do when its token is refused, and tries again at the longest pause", async () => {
  kas.refuse = failure("unauthenticated", "kas does not accept this agent's token");
  start();
  await turns();
  expect(kas.said).toEqual([expect.stringContaining("does not accept this agent's token")]);
  await pass(14_500);
  expect(kas.dials).toBe(1);
  kas.refuse = null;
  await pass(500);
  await turns();
  expect(kas.said.at(-1)).toBe('{"agentId":7,"node":"kas-0"}');
});

it("keeps trying when it cannot even dial", async () => {
  kas.unreadableToken = true;
  start();
  expect(kas.said).toEqual([expect.stringContaining("cannot read the token file")]);
  kas.unreadableToken = false;
  await pass(500);
  expect(connector?.isConnected).toBe(true);
});

it("does not stay with a kas whose versions it does not speak", async () => {
  kas.versions = [2, 3];
  const agent = start();
  await turns();
  expect(agent.isConnected).toBe(false);
  expect(kas.said.join()).toContain("no link version in common");
});
