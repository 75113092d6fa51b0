/** How the connector moves its streams to another link when kas drains one, and how it drains itself. */
import { afterEach, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { turns } from "../support/streams.ts";
import { kas, leaveNothing, pass, start } from "./connector-world.ts";
import { type Echoed, openEcho } from "./memory-kas.ts";

afterEach(leaveNothing);

it("opens a second link when kas drains the first, and closes that only when the second is registered", async () => {
  const agent = start();
  await turns();
  const echo = openEcho(kas.link(1));
  echo.stream?.data(Buffer.from("before "));
  kas.node = "kas-1";
  kas.link(1).link.drain();
  await turns();
  expect(kas.said.at(-1)).toBe('{"agentId":7,"node":"kas-1"}');
  expect(kas.link(2).agent).toMatchObject({ link: 2, lost: [] });
  // Not registered yet: the first link still takes streams.
  const late = openEcho(kas.link(1));
  late.stream?.data(Buffer.from("late"));
  late.stream?.end();
  await turns();
  expect(late).toMatchObject({ text: "late", over: "ended" });
  expect(kas.link(1).link.state).toBe("up");

  kas.link(2).link.ready();
  await turns();
  expect(kas.link(1).link.state).toBe("closing");
  echo.stream?.data(Buffer.from("after"));
  echo.stream?.end();
  await turns();
  expect(echo).toMatchObject({ text: "before after", over: "ended" });
  expect(kas.link(1).closed?.code).toBe("draining");
  expect(agent.links).toBe(1);
  // A link that ended in order was not lost.
  kas.link(2).carrier.destroy();
  await pass(2_000);
  expect(kas.link(3).agent?.lost).toEqual([2]);
});

it("closes the drained link after five seconds when READY never comes", async () => {
  const agent = start();
  await turns();
  kas.link(1).link.drain();
  await turns();
  expect(agent.links).toBe(2);
  await pass(5_000);
  expect(agent.links).toBe(1);
});

it("is drained by one node after the other without a storm, and keeps at most two drained links", async () => {
  const agent = start();
  await turns();
  const echoes: Echoed[] = [];
  for (let number = 1; number <= 4; number++) {
    echoes.push(openEcho(kas.link(number)));
    kas.link(number).link.drain();
    await pass(8_000);
  }
  expect(kas.dials).toBe(5);
  expect(agent.links).toBe(3);
  expect(echoes.map(({ over }) => over)).toEqual(["node-gone", "node-gone", null, null]);
});

it("finishes what runs before it stops, and refuses what comes", async () => {
  const agent = start();
  await turns();
  const echo = openEcho(kas.link(1));
  echo.stream?.data(Buffer.from("x"));
  await turns();
  let drained = false;
  const done = agent.drain(60_000).then(() => {
    drained = true;
  });
  await turns();
  expect([drained, kas.link(1).link.state]).toEqual([false, "closing"]);
  echo.stream?.end();
  await done;
  expect(echo).toMatchObject({ text: "x", over: "ended" });
  expect(kas.dials).toBe(1);
});

it("stops at the deadline of a drain all the same", async () => {
  const agent = start();
  await turns();
  const echo = openEcho(kas.link(1));
  await turns();
  const done = agent.drain(2_000);
  await pass(2_000);
  await done;
  await turns();
  expect(echo.over).toBe("node-gone");
});

it("stops at once while it waits to dial again", async () => {
  kas.refuse = failure("node-gone", "connection refused");
  const agent = start();
  await turns();
  await agent.drain(1_000);
  await pass(20_000);
  expect(kas.dials).toBe(1);
});
