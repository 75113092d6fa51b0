/** What operators may read and change over HTTP, on a real server: roles, methods, and pages of browsers. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import type { Operator } from "../../src/auth/auth.ts";
import { failed } from "../../src/failed.ts";
import { resources } from "../../src/kas/resources.ts";

const OPERATORS: Readonly<Record<string, Operator>> = {
  "sre-token": { name: "sre", role: "admin", tokenId: "1" },
  "view-token": { name: "dashboard", role: "viewer", tokenId: "2" },
};

let server: Server;
let url = "";
let hasOperators = true;
let done: string[] = [];
let logged: unknown[] = [];

beforeEach(async () => {
  [done, logged, hasOperators] = [[], [], true];
  const act = (what: string) => {
    done.push(what);
    return { what };
  };
  const routing = { self: "a.1", phase: "up", view: 1, members: () => [] };
  const serve = resources({
    auth: {
      get hasOperators() {
        return hasOperators;
      },
      operatorOf: (token) => OPERATORS[token] ?? failure("unauthenticated", "no such operator"),
    },
    node: { routing } as never,
    operations: {
      drain: () => act("drain"),
      undrain: () => {
        throw failed("invalid", "this node was told to end");
      },
      rebalance: async () => act("rebalance"),
      disconnect: (agent) => act(`disconnect ${agent}`),
    },
    log: { info: (_text: string, fields: unknown) => logged.push(fields) } as never,
  });
  server = createServer((req, res) => {
    if (!serve(req, res)) res.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/v1/`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

async function send(method: string, path: string, token = "", headers: Readonly<Record<string, string>> = {}) {
  const authorization = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch(url + path, { method, headers: { ...authorization, ...headers } });
  return { status: answer.status, body: (await answer.json().catch(() => ({}))) as { readonly reason?: string } };
}

describe("the resources of the observability listener", () => {
  it("let an admin change the node, and write down who did", async () => {
    for (const path of ["drain", "rebalance", "disconnect/42"]) {
      expect(await send("POST", path, "sre-token"), path).toMatchObject({ status: 200 });
    }
    expect(done).toEqual(["drain", "rebalance", "disconnect 42"]);
    expect(logged).toContainEqual({ operator: "sre", path: "/api/v1/disconnect/42" });
  });

  it("let a viewer read and change nothing, and a stranger neither", async () => {
    expect((await send("GET", "nodes", "view-token")).status).toBe(200);
    for (const path of ["drain", "undrain", "rebalance", "disconnect/42"]) {
      const { status, body } = await send("POST", path, "view-token");
      expect([status, body.reason], path).toEqual([403, "operator dashboard is a viewer: this needs the role admin"]);
      expect((await send("POST", path)).status).toBe(401);
      expect((await send("POST", path, "other-token")).status).toBe(401);
    }
    expect(done).toEqual([]);
  });

  it("let this machine itself change the node while no operator is configured, but no page of its browser", async () => {
    hasOperators = false;
    expect((await send("POST", "drain")).status).toBe(200);
    expect((await send("POST", "drain", "", { origin: "http://evil.example" })).status).toBe(403);
    expect((await send("POST", "drain", "", { "sec-fetch-site": "cross-site" })).status).toBe(403);
    expect(done).toEqual(["drain"]);
  });

  it("change nothing by GET, read nothing by POST, and say why something cannot be", async () => {
    expect((await send("GET", "drain", "sre-token")).status).toBe(400);
    expect((await send("POST", "nodes", "sre-token")).status).toBe(400);
    expect(await send("POST", "disconnect/x", "sre-token")).toMatchObject({ status: 400 });
    expect(await send("POST", "undrain", "sre-token")).toMatchObject({
      status: 400,
      body: { reason: "this node was told to end" },
    });
    expect((await send("POST", "toString", "sre-token")).status).toBe(404);
    expect(done).toEqual([]);
  });
});
