/** kasctl against a listener that answers as a node would, or would not. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { main } from "../../src/cli/kasctl.ts";
import { fakeProcess } from "../support/command.ts";

const AGENTS = {
  agents: [
    { agentId: 1, node: "kas-0.1", name: "prod\u001b[2J", services: ["prometheus"] },
    { agentId: 22, node: "kas-1.1", name: "", services: [] },
  ],
  complete: false,
  missing: ["kas-2.7"],
};

const VIEWER = { code: "forbidden", reason: "operator x is a viewer: this needs the role admin" };
const ANSWERS: Readonly<Record<string, readonly [status: number, body: object | string]>> = {
  "/api/v1/agents": [200, AGENTS],
  "/api/v1/drain": [200, { node: "kas-0.1", phase: "draining" }],
  "/api/v1/undrain": [403, VIEWER],
  "/api/v1/disconnect/42": [200, { agentId: 42, disconnected: 1 }],
  "/api/v1/rebalance": [
    200,
    {
      nodes: [{ node: "kas-0.1", connections: 30, mean: 20, tooMany: 10 }],
      complete: false,
      missing: ["kas-1.1"],
    },
  ],
  "/api/v1/streams": [200, { node: "kas-0.1", agentLinks: [{ agentId: 7, streams: 3 }], peerLinks: [] }],
  "/api/v1/route/7": [200, { agentId: 7, verdict: "waits for the agent" }],
  "/api/v1/route/8": [401, ""],
  "/api/v1/route/9": [200, "<html>"],
};

let server: Server;
let url = "";
let folder = "";
let ready = 200;
let seen: string[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kasctl-"));
  writeFileSync(join(folder, "token"), "sre-token\n");
  server = createServer((request, response) => {
    const method = request.method === "GET" ? "" : `${request.method} `;
    seen.push(`${method}${request.url} ${request.headers.authorization ?? ""}`.trim());
    const answer = (status: number, body: string) => response.writeHead(status).end(body);
    if (request.url === "/readiness") return answer(ready, ready === 200 ? "up" : "joining");
    const [status, body] = ANSWERS[request.url ?? ""] ?? [404, "not found"];
    return answer(status, typeof body === "string" ? body : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.close();
  server.closeAllConnections();
  rmSync(folder, { recursive: true });
});

async function run(...argv: string[]) {
  seen = [];
  const process = fakeProcess([...argv, "--server", url]);
  const code = await main(process);
  return { code, out: process.out(), err: process.err() };
}

describe("kasctl", () => {
  it("prints agents as a table that says what is missing and moves no cursor", async () => {
    const { code, out } = await run("agents");
    expect(code).toBe(0);
    expect(out.split("\n")).toEqual([
      "AGENTID  NODE     NAME      SERVICES",
      "1        kas-0.1  prod?[2J  prometheus",
      "22       kas-1.1  -         -",
      "incomplete: no answer from kas-2.7",
      "",
    ]);
  });

  it("prints exactly the resource with -o json, and shows the operator's token", async () => {
    const { out } = await run("agents", "-o", "json", "--token-file", join(folder, "token"));
    expect(JSON.parse(out)).toEqual(AGENTS);
    expect(seen).toEqual(["/api/v1/agents Bearer sre-token"]);
  });

  it("shows the links of the node and their streams", async () => {
    expect((await run("streams")).out).toMatch(/AGENTID +STREAMS\n7 +3\n/);
  });

  it("explains a route", async () => {
    expect((await run("route", "7")).out).toBe("agentId  7\nverdict  waits for the agent\n");
  });

  it("changes the node by POST, and shows what came of it", async () => {
    const token = ["--token-file", join(folder, "token")];
    expect((await run("drain", ...token)).out).toMatch(/node +kas-0.1\nphase +draining\n/);
    expect(seen).toEqual(["POST /api/v1/drain Bearer sre-token"]);
    expect((await run("disconnect", "42")).out).toMatch(/disconnected +1/);
    const { code, out } = await run("rebalance");
    expect(code).toBe(0);
    expect(out).toMatch(/kas-0\.1 +30 +20 +10/);
    expect(out).toMatch(/kas-1\.1/);
  });

  it("tells with its exit code whether the node is ready", async () => {
    expect(await run("status")).toMatchObject({ code: 0, out: expect.stringContaining("up") });
    ready = 503;
    const { code, out } = await run("status", "-o", "json");
    ready = 200;
    expect([code, JSON.parse(out)]).toEqual([1, { server: url, ready: false, phase: "joining" }]);
  });

  it.each([
    [["nodes"], /has no \/api\/v1\/nodes: this kas is older/],
    [["route", "8"], /operator's token/],
    [["route", "9"], /did not answer with JSON/],
    [["route", "x"], /x is no agent id/],
    [["undrain"], /viewer: this needs the role admin/],
    [["disconnect", "prod"], /prod is no agent id/],
    [["agents", "-o", "xml"], /expected table or json/],
    [["agents", "--token-file", "/absent/token"], /--token-file .* cannot be read/],
  ])("says what is wrong with %j", async (argv, why) => {
    const { code, out, err } = await run(...argv);
    expect([code, out]).toEqual([1, ""]);
    expect(err).toMatch(why);
  });

  it("says what to look at when nobody answers", async () => {
    const free = createServer();
    await new Promise<void>((resolve) => free.listen(0, "127.0.0.1", resolve));
    const { port } = free.address() as AddressInfo;
    await new Promise((resolve) => free.close(resolve));
    const process = fakeProcess(["nodes", "--server", `http://127.0.0.1:${port}`]);
    expect(await main(process)).toBe(1);
    expect(process.err()).toMatch(/ECONNREFUSED.*is kas running/);
  });
});
