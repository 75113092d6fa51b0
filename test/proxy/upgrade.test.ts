/** Upgraded connections through the proxy: SPDY-like raw bytes and a real WebSocket client. */
import { createHash, randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { failure } from "../../actors/failure.ts";
import { AUTH, answering, type Behaviour, head, headersOf, RawClient, request, startProxy, until } from "./harness.ts";

const EXEC = "/api/v1/namespaces/default/pods/web/exec?command=sh&stdin=true";
const SPDY = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
const exec = (lines = AUTH, line = `POST ${EXEC}`) => request(line, lines + SPDY);
const SWITCH = ["connection", "Upgrade", "upgrade", "SPDY/3.1", "x-stream-protocol-version", "v4.channel.k8s.io"];

/** Switches, then sends back what it gets; ends when the caller does. */
const echo: Behaviour = (_request, stream) => {
  stream.head(head(101, SWITCH));
  return {
    data(bytes) {
      stream.data(bytes);
      stream.consumed(bytes.length);
    },
    end: () => stream.end(),
  };
};

const websocketEcho: Behaviour = (route, stream) => {
  const key = headersOf(route).get("sec-websocket-key") ?? "";
  const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  stream.head(head(101, ["upgrade", "websocket", "sec-websocket-accept", accept]));
  let inbound = Buffer.alloc(0);
  return {
    data(bytes) {
      stream.consumed(bytes.length);
      inbound = Buffer.concat([inbound, bytes]);
      // One masked frame of less than 126 bytes.
      const length = (inbound[1] ?? 0) & 0x7f;
      if (inbound.length < 6 + length) return;
      const text = inbound.subarray(6, 6 + length).map((byte, i) => byte ^ (inbound[2 + (i % 4)] ?? 0));
      stream.data(Buffer.from([0x81, length, ...text]));
    },
    end: () => stream.end(),
  };
};

describe("an upgrade", () => {
  it("carries bytes both ways after 101, those sent with the head first, and lets each side end alone", async () => {
    await using kas = await startProxy(echo);
    using client = new RawClient(kas.port).send(`${exec()}early `);
    expect(await client.has("early ")).toMatch(/^HTTP\/1.1 101 Switching Protocols\r\n/);
    expect(client.text).toContain("upgrade: SPDY/3.1\r\n");
    expect(client.text).toContain("connection: Upgrade\r\n");
    expect(client.text).toMatch(/x-kas-trace-id: [0-9a-f]{32}\r\n/);
    client.send("then");
    await client.has("early then");
    client.socket.end("last");
    await client.has("early thenlast");
    await client.over();
    const [route] = kas.router.requests;
    expect(route).toMatchObject({ upgrade: true, idempotent: false, class: "interactive", path: EXEC, method: "POST" });
    expect(route && Object.fromEntries(headersOf(route))).toMatchObject({ connection: "Upgrade", upgrade: "SPDY/3.1" });
    await until(() => kas.records.length === 1, "it is recorded");
    expect(kas.records[0]).toMatchObject({
      status: 101,
      upgrade: true,
      outcome: "ok",
      bytesIn: 14,
      bytesOut: 14,
      resource: "pods/exec",
    });
    expect(kas.counted[0]).toMatchObject({ methodClass: "exec", outcome: "ok" });
  });

  it("lets the agent end its direction first and still hears the caller", async () => {
    let heard = "";
    await using kas = await startProxy((_request, stream) => {
      stream.head(head(101, SWITCH));
      stream.data(Buffer.from("bye"));
      stream.end();
      return {
        data(bytes) {
          heard += Buffer.from(bytes).toString();
        },
      };
    });
    using client = new RawClient(kas.port).send(exec());
    await client.has("bye");
    await until(() => client.ended, "the agent's end arrives");
    client.socket.end("still here");
    await until(() => heard === "still here", "the agent hears it");
  });

  it("closes the connection when the agent has ended and needs no more", async () => {
    await using kas = await startProxy((_request, stream) => {
      stream.head(head(101, SWITCH));
      stream.data(Buffer.from("exit 0"));
      stream.end();
      stream.stop();
      return {};
    });
    using client = new RawClient(kas.port).send(exec());
    await client.has("exit 0");
    await until(() => kas.proxy.openSockets === 0, "the socket is closed");
  });

  it("serves a real WebSocket client, which never shows the cluster a token", async () => {
    await using kas = await startProxy(websocketEcho);
    const protocols = ["base64url.bearer.authorization.k8s.io.dG9r", "v5.channel.k8s.io"];
    const socket = new WebSocket(`ws://127.0.0.1:${kas.port}${EXEC}`, protocols, {
      headers: { authorization: "Bearer ci:1:alice" },
    });
    const refused = new Promise<string>((resolve) => socket.on("error", (error) => resolve(error.message)));
    const said = new Promise<string>((resolve) => socket.on("message", (message) => resolve(String(message))));
    socket.on("open", () => socket.send("hello"));
    // This cluster picks no protocol; the client may be strict about it, having got its 101.
    expect(await Promise.race([said, refused])).toMatch(/hello|no subprotocol/);
    socket.terminate();
    const route = kas.router.requests[0];
    expect(route && headersOf(route).get("sec-websocket-protocol")).toBe("v5.channel.k8s.io");
    expect(route?.caller).toMatchObject({ kind: "ci", as: { user: "alice" } });
    expect(route).toMatchObject({ method: "GET", upgrade: true, idempotent: false });
  });

  it("moves megabytes under backpressure", async () => {
    await using kas = await startProxy(echo);
    using client = new RawClient(kas.port).send(exec());
    await client.has("\r\n\r\n");
    const before = client.bytes;
    const sent = randomBytes(5 * 1024 * 1024);
    const hash = createHash("sha256");
    client.socket.on("data", (chunk: Buffer) => hash.update(chunk));
    client.socket.end(sent);
    await until(() => client.bytes - before === sent.length, "all came back");
    expect(hash.digest("hex")).toBe(createHash("sha256").update(sent).digest("hex"));
    expect(kas.router.agent[0]?.mostOutstanding).toBeLessThanOrEqual(64 * 1024);
    expect(kas.router.ingress[0]?.mostOutstanding).toBeLessThanOrEqual(64 * 1024);
  });

  it("stops taking from the agent while the caller does not read", async () => {
    await using kas = await startProxy((_request, stream) => {
      stream.head(head(101, SWITCH));
      stream.data(Buffer.alloc(8 * 1024 * 1024));
      return {};
    });
    using client = new RawClient(kas.port);
    client.socket.pause();
    client.send(exec());
    const left = () => kas.router.agent[0]?.queued ?? 0;
    await until(() => left() > 0 && left() < 8 * 1024 * 1024, "it begins");
    let before = -1;
    for (let turns = 0; turns < 200; turns++) {
      before = left();
      await new Promise(setImmediate);
    }
    expect(left()).toBe(before);
    expect(left()).toBeGreaterThan(0);
    client.socket.destroy();
  });
});

describe("an upgrade that is not granted", () => {
  it.each([
    ["chunked", []],
    ["with a content-length", ["content-length", "7"]],
  ])("is an ordinary answer of the cluster, %s, and then the end", async (_name, headers) => {
    await using kas = await startProxy(answering(403, "no exec", headers));
    using client = new RawClient(kas.port).send(`${exec()}these bytes go nowhere`);
    const all = await client.over();
    expect(all).toMatch(/^HTTP\/1.1 403 Forbidden\r\n/);
    expect(all.toLowerCase()).toContain("connection: close\r\n");
    expect(all).toContain("no exec");
    expect(all.endsWith(headers.length > 0 ? "no exec" : "7\r\nno exec\r\n0\r\n\r\n")).toBe(true);
    await until(() => kas.records.length === 1, "it is recorded");
    expect(kas.records[0]).toMatchObject({ status: 403, outcome: "client_error", bytesIn: 0 });
  });

  it("never looks whole when that answer breaks off", async () => {
    await using kas = await startProxy((_request, stream) => {
      stream.head(head(500));
      stream.data(Buffer.from("half"));
      setImmediate(() => stream.reset({ failure: failure("outcome-unknown", "lost"), unprocessed: false }));
      return {};
    });
    using client = new RawClient(kas.port).send(exec());
    expect(await client.over()).not.toContain("\r\n0\r\n");
  });

  it.each([
    ["agent-offline", "503"],
    ["upstream-unreachable", "502"],
    ["forbidden", "403"],
  ] as const)("is a status where nothing ran: %s", async (code, status) => {
    await using kas = await startProxy((_request, stream) => {
      stream.reset({ failure: failure(code, "no"), unprocessed: true });
      return {};
    });
    using client = new RawClient(kas.port).send(exec());
    const all = await client.over();
    expect(all).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(all).toContain('"kind":"Status"');
  });

  it.each(["outcome-unknown", "protocol", "internal"] as const)(
    "gets no status where the command may have run: %s",
    async (code) => {
      await using kas = await startProxy((_request, stream) => {
        stream.accept();
        stream.reset({ failure: failure(code, "lost"), unprocessed: false });
        return {};
      });
      using client = new RawClient(kas.port).send(exec());
      expect(await client.over()).toBe("");
    },
  );

  it.each([
    ["another protocol", ["upgrade", "websocket"]],
    ["no protocol", []],
    ["a header that splits", [...SWITCH, "x", "a\r\nb: c"]],
  ])("gets no status when the agent switches with %s", async (_name, headers) => {
    await using kas = await startProxy((_request, stream) => {
      stream.head(head(101, headers));
      return {};
    });
    using client = new RawClient(kas.port).send(exec());
    expect(await client.over()).toBe("");
  });

  it.each([
    ["bad credentials", exec("Authorization: Bearer pat:1:no\r\n"), 401],
    ["another agent", exec("Authorization: Bearer pat:2:agent\r\n"), 403],
    ["a path with dots", exec(AUTH, "POST /api/../x"), 400],
    ["a body", exec(`${AUTH}Content-Length: 5\r\n`), 400],
    ["two Upgrade headers", exec(`${AUTH}Upgrade: websocket\r\n`), 400],
    ["Impersonate-User", exec("Authorization: Bearer pat:1:alice\r\nImpersonate-User: root\r\n"), 403],
    [
      "a session used from another origin",
      exec("Cookie: _gitlab_kas=agent\r\nGitlab-Agent-Id: 1\r\nX-Csrf-Token: c\r\nOrigin: https://evil.org\r\n"),
      403,
    ],
  ])("is refused like any request: %s", async (_name, bytes, status) => {
    await using kas = await startProxy(echo, { allowedOrigins: ["https://gitlab.example.com"] });
    using client = new RawClient(kas.port).send(bytes);
    expect(await client.over()).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(kas.router.requests).toEqual([]);
  });

  it("lets GitLab's own page open a WebSocket with its session", async () => {
    await using kas = await startProxy(echo, { allowedOrigins: ["https://gitlab.example.com"] });
    const session = "Cookie: _gitlab_kas=agent\r\nOrigin: https://gitlab.example.com\r\n";
    using client = new RawClient(kas.port);
    client.send(exec(session, `GET ${EXEC}&gitlab-agent-id=1&gitlab-csrf-token=c`));
    expect(await client.has("\r\n\r\n")).toMatch(/^HTTP\/1.1 101 /);
    expect(kas.router.requests[0]?.path).toBe(EXEC);
  });
});

describe("an upgraded connection that breaks", () => {
  it("on the agent's side resets the caller's socket, so that it does not look like an end", async () => {
    let cut = () => {};
    await using kas = await startProxy((_request, stream) => {
      stream.head(head(101, SWITCH));
      cut = () => stream.reset({ failure: failure("outcome-unknown", "lost"), unprocessed: false });
      return {};
    });
    using client = new RawClient(kas.port).send(exec());
    await client.has("\r\n\r\n");
    const seen = Promise.withResolvers<string | undefined>();
    client.socket.once("error", ({ code }: NodeJS.ErrnoException) => seen.resolve(code));
    client.socket.once("end", () => seen.resolve("an orderly end"));
    cut();
    expect(await seen.promise).toBe("ECONNRESET");
    await until(() => kas.records.length === 1, "it is recorded");
    expect(kas.records[0]).toMatchObject({ status: 101, failure: "outcome-unknown", outcome: "agent_error" });
  });

  it.each([
    ["before its answer", false],
    ["after it, as soon as something is written", true],
  ])("on the caller's side cancels the stream, %s", async (_name, switched) => {
    const resets: string[] = [];
    await using kas = await startProxy((_request, stream) => {
      if (switched) stream.head(head(101, SWITCH));
      return { reset: ({ failure: { code } }) => void resets.push(code) };
    });
    using client = new RawClient(kas.port).send(exec());
    await until(() => kas.router.requests.length === 1, "it is routed");
    if (switched) await client.has("\r\n\r\n");
    client.socket.destroy();
    await until(() => {
      if (switched) kas.router.agent[0]?.data(Buffer.from("output"));
      return resets.length > 0;
    }, "the agent hears of it");
    expect(resets).toEqual(["cancelled"]);
  });

  it("ends when its token is revoked", async () => {
    await using kas = await startProxy(echo);
    using client = new RawClient(kas.port).send(exec());
    await client.has("\r\n\r\n");
    kas.access.revoke("agent");
    await client.over();
    await until(() => kas.records.length === 1, "it is recorded");
    expect(kas.records[0]).toMatchObject({ failure: "unauthenticated" });
  });
});
