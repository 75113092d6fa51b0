/** What the proxy refuses, and what it keeps to itself: credentials, forged identity, smuggled framing, other paths. */
import { describe, expect, it } from "vitest";
import { VirtualClock } from "../support/virtual-clock.ts";
import { AUTH, answering, headersOf, RawClient, request, startProxy, until } from "./harness.ts";

const line = (target: string) => request(`GET ${target}`);
const lines = (...headers: string[]) => request("GET /api", AUTH + headers.map((header) => `${header}\r\n`).join(""));
const ALICE = "Authorization: Bearer pat:1:alice\r\n";
const COOKIE = "Cookie: a=b; _gitlab_kas=agent\r\n";

async function answerTo(bytes: string, options: Parameters<typeof startProxy>[1] = {}) {
  await using kas = await startProxy(answering(200, "fine"), options);
  using client = new RawClient(kas.port).send(bytes);
  await until(() => /\r\n\r\n[\s\S]+\S$/.test(client.text) || client.closed || client.ended, "an answer");
  await until(() => kas.records.length > 0, "a record");
  return { text: client.text, requests: kas.router.requests, record: kas.records[0], bugs: kas.bugs };
}

describe("a malformed request", () => {
  it.each([
    ["absolute form", line("http://evil/api"), 400],
    ["authority form", request("GET evil:443"), 400],
    ["CONNECT", request("CONNECT evil:443"), 400],
    ["asterisk form", request("OPTIONS *"), 400],
    ["TRACE", request("TRACE /api"), 400],
    ["a dot-dot segment", line("/api/../secrets"), 400],
    ["an encoded dot-dot segment", line("/api/%2e%2E/secrets"), 400],
    ["a half encoded dot-dot segment", line("/api/.%2e"), 400],
    ["a dot-dot segment between encoded slashes", line("/api%2f..%2fx"), 400],
    ["a dot-dot segment with a parameter", line("/api/..;a/x"), 400],
    ["a backslash", line("/api\\x"), 400],
    ["an encoded backslash", line("/api%5cx"), 400],
    ["an encoded control character in the path", line("/api%0d%0ax"), 400],
    ["a double slash first", line("//evil/api"), 400],
    ["a fragment", line("/api#x"), 400],
    ["a byte above ASCII", line("/api/\xe4"), 400],
    ["two Host headers", lines("Host: other"), 400],
    ["two Authorization headers", lines("Authorization: Bearer pat:1:alice"), 400],
    ["two Content-Length headers", lines("Content-Length: 0", "Content-Length: 0"), 400],
    ["Content-Length and Transfer-Encoding", lines("Content-Length: 4", "Transfer-Encoding: chunked"), 400],
    ["two Transfer-Encoding headers", lines("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400],
    ["an unknown transfer coding", lines("Transfer-Encoding: xchunked"), 400],
    ["no Host", `GET /api HTTP/1.1\r\n${AUTH}\r\n`, 400],
    ["a space before the colon", lines("X-A : b"), 400],
    ["a folded header", lines("X-A: b\r\n c"), 400],
    ["two Impersonate-User headers", lines("Impersonate-User: a", "Impersonate-User: b"), 400],
    ["Impersonate_User", lines("Impersonate_User: root"), 400],
    ["Impersonate-Extra_x", lines("Impersonate-Extra_x: root"), 400],
    ["GET with a body", `${lines("Content-Length: 1")}x`, 400],
    ["an unknown expectation", lines("Expect: tea"), 400],
    ["no HTTP at all", "\x16\x03\x01\x02hello\r\n\r\n", 400],
    ["headers of 33 KiB", lines(`X-Big: ${"x".repeat(33 * 1024)}`), 431],
    ["300 headers", lines(...Array.from({ length: 300 }, (_, i) => `x-${i}: 1`)), 400],
  ])("is refused before anything else: %s", async (_name, bytes, status) => {
    const { text, requests, record } = await answerTo(bytes);
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(requests).toEqual([]);
    expect(text).toMatch(/x-kas-trace-id: [0-9a-f]{32}\r\n/);
    expect(record).toMatchObject({ status, outcome: "client_error", callerId: "" });
  });

  it("says what to do in a Kubernetes Status", async () => {
    const { text } = await answerTo(line("/api/../x"));
    expect(JSON.parse(text.slice(text.indexOf("\r\n\r\n") + 4))).toMatchObject({
      kind: "Status",
      code: 400,
      reason: "BadRequest",
      message: expect.stringContaining('"." or ".." segment'),
    });
  });

  it("leaves the connection good for the next one, and no timer behind", async () => {
    const clock = new VirtualClock();
    await using kas = await startProxy(answering(200, "fine"), { clock });
    using client = new RawClient(kas.port).send(line("/api/../x") + request("POST /api/../x", "Content-Length: 4\r\n"));
    client.send(`body${line("/api")}`);
    await client.has("fine");
    expect(client.text.match(/HTTP\/1.1 400/g)).toHaveLength(2);
    expect(clock.pending).toBe(0);
  });

  it("that never ends its head is answered 408 and closed", async () => {
    const { text } = await answerTo("GET /api HTTP/1.1\r\nHost: k", { limits: { headersTimeout: 150 } });
    expect(text).toMatch(/^HTTP\/1.1 408 /);
  });

  it.each(["/a/b..c/...", "/a?x=../..&y=%0a%5c", "/a/%41;b/%2f", "/a?", "/a?&&x"])("is not %s", async (path) => {
    const { text, requests } = await answerTo(line(path));
    expect(text).toContain("fine");
    expect(requests[0]?.path).toBe(path);
  });
});

describe("credentials", () => {
  it.each([
    ["none", ""],
    ["Basic", "Authorization: Basic YTpi\r\n"],
    ["an unknown kind", "Authorization: Bearer xyz:1:agent\r\n"],
    ["no number", "Authorization: Bearer pat:one:agent\r\n"],
    ["agent 0", "Authorization: Bearer pat:0:agent\r\n"],
    ["an agent id beyond all numbers", "Authorization: Bearer pat:9999999999999999:agent\r\n"],
    ["an empty token", "Authorization: Bearer pat:1:\r\n"],
    ["an empty header", "Authorization:\r\n"],
    ["a token nobody knows", "Authorization: Bearer ci:1:stranger\r\n"],
    ["a cookie without agent", `${COOKIE}X-Csrf-Token: c\r\n`],
    ["a cookie with an agent id that only looks like one", `${COOKIE}Gitlab_Agent_Id: 1\r\nX-Csrf-Token: c\r\n`],
    ["a cookie without CSRF token", `${COOKIE}Gitlab-Agent-Id: 1\r\n`],
    ["a cookie that cannot be decoded", "Cookie: _gitlab_kas=%zz\r\nGitlab-Agent-Id: 1\r\nX-Csrf-Token: c\r\n"],
  ])("of this kind are 401: %s", async (_name, headers) => {
    const { text, requests } = await answerTo(request("GET /api", headers));
    expect(text).toMatch(/^HTTP\/1.1 401 /);
    expect(text).toMatch(/gitlab-unauthorized: true/i);
    expect(text).not.toContain("stranger");
    expect(requests).toEqual([]);
  });

  it("for another agent are 403 whether it exists or not", async () => {
    const { text } = await answerTo(request("GET /api", "Authorization: Bearer pat:2:agent\r\n"));
    expect(text).toMatch(/^HTTP\/1.1 403 /);
  });

  it("may be a cookie with agent id and CSRF token in headers or in the query, which go no further", async () => {
    await using kas = await startProxy(answering(200, "fine"));
    kas.access.later = true;
    using client = new RawClient(kas.port);
    client.send(request("GET /api?b=%2B&a", `${COOKIE}Gitlab-Agent-Id: 1\r\nX-Csrf-Token: c1\r\n`));
    await client.has("fine");
    client.send(request("GET /api?b=%2B&gitlab-agent-id=1&a&gitlab%2dcsrf-token=c%2F2&a", COOKIE));
    await until(() => kas.records.length === 2, "both are answered");
    expect(kas.access.seen).toMatchObject([
      { kind: "cookie", agentId: 1, token: "agent", csrf: "c1" },
      { kind: "cookie", agentId: 1, token: "agent", csrf: "c/2" },
    ]);
    expect(kas.router.requests.map(({ path }) => path)).toEqual(["/api?b=%2B&a", "/api?b=%2B&a&a"]);
    expect(JSON.stringify(kas.router.requests.map(({ headers }) => headers))).not.toMatch(/kas=|c1|c\/2|cookie|csrf/);
  });

  it("that make authentication throw are a 500 which tells nothing, and a bug in the log", async () => {
    const { text, bugs } = await answerTo(request("GET /api", "Authorization: Bearer pat:1:broken\r\n"));
    expect(text).toMatch(/^HTTP\/1.1 500 /);
    expect(text).not.toContain("secret");
    expect(bugs).toHaveLength(1);
  });

  it("that are revoked end what runs on them, before and after the head", async () => {
    await using kas = await startProxy((route, stream) => {
      if (route.path === "/begun") stream.head(Buffer.from([0x92, 0xcc, 200, 0x90]));
      return {};
    });
    using waiting = new RawClient(kas.port).send(line("/waits"));
    using begun = new RawClient(kas.port).send(line("/begun"));
    using other = new RawClient(kas.port).send(request("GET /other", ALICE));
    await begun.has("200 OK");
    await until(() => kas.router.requests.length === 3, "all are routed");
    kas.access.revoke("agent");
    await waiting.has("HTTP/1.1 401");
    await begun.over();
    expect(other.text).toBe("");
    other.socket.destroy();
  });
});

describe("headers", () => {
  const forged = [
    ...[
      "Cookie: x=y",
      "Gitlab-Agent-Id: 1",
      "X-Csrf-Token: t",
      "X-Remote-User: root",
      "X_Remote_Group: g",
      "X-Forwarded-For: 1",
    ],
    ...["Forwarded: for=1", "X-Forwarded-Client-Cert: c", "X-SSL-Client-Cert: c", "Client-Cert: c", "X-Real-Ip: 1"],
    ...[
      "Keep-Alive: 1",
      "TE: trailers",
      "Proxy-Authorization: x",
      "Trailer: y",
      "Traceparent: z",
      "Baggage: b",
      "X-Kas-A: b",
    ],
    ...["Connection: keep-alive, X-Hop", "X-Hop: 1", "Upgrade: h2c", "HTTP2-Settings: x", "Referer: https://g/?t=1"],
    ...["Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.c2VjcmV0, v4.channel.k8s.io"],
  ];

  it("that are ours, hop-by-hop or forged go no further, the others do", async () => {
    const { requests } = await answerTo(lines(...forged, "Accept: a", "X-Good: 1", "X-Good: 2", "Via: 1.0 fred"));
    expect(requests[0]?.headers).toEqual([
      ...["sec-websocket-protocol", "v4.channel.k8s.io", "accept", "a", "x-good", "1", "x-good", "2"],
      ...["via", "1.0 fred, 1.1 kas"],
    ]);
  });

  it("Impersonate-* reach the agent when the caller acts as the agent", async () => {
    const { requests } = await answerTo(lines("Impersonate-User: bob", "Impersonate-Group: a", "Impersonate-Group: b"));
    expect(requests[0]?.headers.slice(0, 6)).toEqual([
      "impersonate-user",
      "bob",
      "impersonate-group",
      "a",
      "impersonate-group",
      "b",
    ]);
  });

  it("Impersonate-* are 403 when kas says whom the request impersonates, also when Connection hides them", async () => {
    for (const hidden of ["", "Connection: Impersonate-User\r\n"]) {
      const { text, requests } = await answerTo(request("GET /api", `${ALICE}${hidden}Impersonate-User: root\r\n`));
      expect(text).toMatch(/^HTTP\/1.1 403 /);
      expect(requests).toEqual([]);
    }
    const { requests } = await answerTo(request("GET /api", ALICE));
    expect(requests[0]?.caller.as).toMatchObject({ user: "alice", groups: ["devs"] });
  });

  it("of the answer that steer a browser, a front proxy or our clients stay here; redirects stay under the prefix", async () => {
    await using kas = await startProxy(
      answering(302, "", [
        ...[
          "Set-Cookie",
          "a=b",
          "X-Accel-Redirect",
          "/etc",
          "Access-Control-Allow-Origin",
          "*",
          "Failure-Code",
          "busy",
        ],
        ...[
          "Connection",
          "close, X-Hop",
          "X-Hop",
          "1",
          "Location",
          "/ui",
          "X-Kas-Trace-Id",
          "fake",
          "Gitlab-Unauthorized",
          "true",
        ],
        ...["Via", "1.1 agentk", "Transfer-Encoding", "chunked", "Content-Length", "0", "Etag", "e"],
      ]),
      { urlPathPrefix: "k8s-proxy", version: "9" },
    );
    using client = new RawClient(kas.port).send(line("/k8s-proxy/api"));
    const all = (await client.has("\r\n\r\n")).toLowerCase();
    expect(all).not.toMatch(/set-cookie|accel|allow-origin|failure-code|x-hop|fake|gitlab-unauth|transfer-encoding/);
    expect(all).toContain("location: /k8s-proxy/ui\r\n");
    expect(all).toContain("via: 1.1 agentk, 1.1 kas/9\r\n");
    expect(all).toContain("x-content-type-options: nosniff\r\n");
    expect(all).toContain("etag: e\r\n");
  });

  it.each(["http://evil/", "//evil/", "/\\evil/", "javascript:x"])(
    "of a redirect to %s are dropped",
    async (location) => {
      const { text } = await answerTo(line("/api"), {});
      expect(text).toContain("200 OK");
      await using kas = await startProxy(answering(302, "", ["location", location, "content-length", "0"]));
      using client = new RawClient(kas.port).send(line("/api"));
      expect(await client.has("\r\n\r\n")).not.toMatch(/location/i);
    },
  );
});

describe("the target", () => {
  it.each([
    ["/k8s-proxy/api/v1", "/api/v1"],
    ["/k8s-proxy/", "/"],
    ["/k8s-proxy/?x", "/?x"],
  ])("is what follows the prefix: %s", async (url, path) => {
    const { requests } = await answerTo(line(url), { urlPathPrefix: "/k8s-proxy" });
    expect(requests[0]).toMatchObject({ path, target: { type: "kubernetes" } });
  });

  it.each(["/api/v1", "/k8s-proxy", "/k8s-proxyx/"])("must start with the prefix: %s", async (url) => {
    const { text } = await answerTo(line(url), { urlPathPrefix: "/k8s-proxy/" });
    expect(text).toMatch(/^HTTP\/1.1 400 /);
    expect(text).toContain("expected prefix /k8s-proxy/");
  });

  it.each([
    ["/services/prometheus/api/v1/query?query=up%7B%7D", "/api/v1/query?query=up%7B%7D"],
    ["/services/prometheus/", "/"],
    ["/services/prometheus?x=1", "/?x=1"],
  ])("may be a service that the grant names: %s", async (url, path) => {
    const { requests, record } = await answerTo(line(url));
    expect(requests[0]).toMatchObject({ path, target: { type: "service", name: "prometheus" } });
    expect(record).toMatchObject({ target: "prometheus", resource: "" });
  });

  it("is 403 for a service that the grant does not name, and says what to add", async () => {
    const { text, requests } = await answerTo(line("/services/grafana/"));
    expect(text).toMatch(/^HTTP\/1.1 403 /);
    expect(text).toContain('add grafana to \\"services\\"');
    expect(requests).toEqual([]);
  });

  it("never takes Impersonate-* to a service", async () => {
    const { text } = await answerTo(request("GET /services/prometheus/", `${AUTH}Impersonate-User: a\r\n`));
    expect(text).toMatch(/^HTTP\/1.1 403 /);
  });
});

describe("a browser's page", () => {
  const options = { allowedOrigins: ["https://gitlab.example.com"] };
  const session = `${COOKIE}Gitlab-Agent-Id: 1\r\nX-Csrf-Token: c\r\n`;

  it("of a listed origin may call, and gets an answer that cannot act in it", async () => {
    const { text } = await answerTo(request("GET /api", `${session}Origin: https://gitlab.example.com\r\n`), options);
    expect(text).toMatch(/^HTTP\/1.1 200 /);
    expect(text).toContain("access-control-allow-origin: https://gitlab.example.com\r\n");
    expect(text).toContain("access-control-allow-credentials: true\r\n");
    expect(text).toContain("vary: Origin\r\n");
    expect(text).toContain("content-security-policy: sandbox; default-src 'none'\r\n");
  });

  it.each(["https://gitlab.example.com.evil.org", "null", "http://gitlab.example.com"])(
    "of origin %s may not use the session",
    async (origin) => {
      const { text, requests } = await answerTo(request("GET /api", `${session}Origin: ${origin}\r\n`), options);
      expect(text).toMatch(/^HTTP\/1.1 403 /);
      expect(text).not.toContain("access-control-allow-origin");
      expect(requests).toEqual([]);
    },
  );

  it("may ask first, without credentials, and is told a fixed list", async () => {
    const ask = (origin: string) =>
      request(
        "OPTIONS /api",
        `Origin: ${origin}\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-evil\r\n`,
      );
    await using kas = await startProxy(answering(200, "fine"), options);
    using client = new RawClient(kas.port).send(ask("https://gitlab.example.com"));
    const told = await client.has("\r\n\r\n");
    expect(told).toMatch(/^HTTP\/1.1 200 /);
    expect(told).toContain("access-control-allow-methods: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n");
    expect(told).not.toContain("x-evil");
    client.send(ask("https://evil.org"));
    await client.has("HTTP/1.1 403");
    expect(kas.router.requests).toEqual([]);
  });
});

describe("what the cluster sees of a request", () => {
  it("never contains the token", async () => {
    await using kas = await startProxy(answering(200, "fine"));
    using client = new RawClient(kas.port).send(request("GET /api?a=1"));
    await client.has("fine");
    const [route] = kas.router.requests;
    expect(route && [...headersOf(route).keys()]).toEqual(["via"]);
  });
});
