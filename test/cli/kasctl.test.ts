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

let server: Server;
let url = "";
let folder = "";
let ready = 200;
let seen: string[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kasctl-"));
  writeFileSync(join(folder, "token"), "sre-token\n");
  server = createServer((request, response) => {
    seen.push(`${request.url} ${request.headers.authorization ?? ""}`.trim());
    const answer = (status: number, body: string) => response.writeHead(status).end(body);
    if (request.url === "/readiness") return answer(ready, ready === 200 ? "up" : "joining");
    if (request.url === "/api/v1/agents") return answer(200, JSON.stringify(AGENTS));
    if (request.url === "/api/v1/route/7")
      return answer(200, JSON.stringify({ agentId: 7, verdict: "waits for the agent" }));
    if (request.url === "/api/v1/route/8") return answer(401, "");
    if (request.url === "/api/v1/route/9") return answer(200, "<html>");
    return answer(404, "not found");
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

  it("explains a route", async () => {
    expect((await run("route", "7")).out).toBe("agentId  7\nverdict  waits for the agent\n");
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
