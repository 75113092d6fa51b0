/** The proxy behind the listener with TLS on, as operators run it. */
import { randomBytes } from "node:crypto";
import { request as httpsRequest } from "node:https";
import { buffer } from "node:stream/consumers";
import { connect as tlsConnect } from "node:tls";
import { beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../actors/failure.ts";
import { CertificateFiles, makePair, type Pair } from "../net/certificate-files.ts";
import { type Behaviour, echoing, head, request, serveTls, startProxy, until } from "./harness.ts";

let pair: Pair;
beforeAll(async () => {
  pair = await makePair("kas");
});

function dial(port: number) {
  const options = { port, host: "127.0.0.1", rejectUnauthorized: false, allowHalfOpen: true };
  const socket = tlsConnect(options);
  const seen = { text: "", closed: false };
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    seen.text += chunk.toString("latin1");
  });
  socket.on("close", () => {
    seen.closed = true;
  });
  return { socket, seen };
}

describe("over TLS", () => {
  it("an upload comes back unchanged", async () => {
    using files = new CertificateFiles();
    await using kas = await startProxy(echoing);
    await using listener = await serveTls(kas, files, pair);
    const body = randomBytes(3 * 1024 * 1024);
    const answer = await new Promise<Buffer>((resolve, reject) => {
      const options = {
        method: "PUT",
        agent: false,
        rejectUnauthorized: false,
        headers: { authorization: "Bearer pat:1:agent" },
      };
      const sending = httpsRequest(`https://127.0.0.1:${listener.port}/api`, options, (res) => resolve(buffer(res)));
      sending.on("error", reject).end(body);
    });
    expect(answer.equals(body)).toBe(true);
    await until(() => listener.connections === 0 || kas.proxy.activeRequests === 0, "it is over");
  });

  it("an upgraded connection carries bytes both ways and ends both ways", async () => {
    const echo: Behaviour = (_request, stream) => {
      stream.head(head(101, ["upgrade", "SPDY/3.1"]));
      return {
        data(bytes) {
          stream.data(bytes);
          stream.consumed(bytes.length);
        },
        end: () => stream.end(),
      };
    };
    using files = new CertificateFiles();
    await using kas = await startProxy(echo);
    await using listener = await serveTls(kas, files, pair);
    const { socket, seen } = dial(listener.port);
    const auth = "Authorization: Bearer pat:1:agent\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";
    socket.write(request("POST /api/v1/namespaces/a/pods/b/exec", auth));
    await until(() => seen.text.includes("101 Switching"), "it switches");
    socket.end("over and out");
    await until(() => seen.text.includes("over and out"), "it echoes after our end");
    await until(() => seen.closed && listener.connections === 0, "all is closed");
  });

  it("an answer that breaks off closes the connection", async () => {
    let cut = () => {};
    using files = new CertificateFiles();
    await using kas = await startProxy((_request, stream) => {
      stream.head(head(200));
      stream.data(Buffer.from("half"));
      cut = () => stream.reset({ failure: failure("outcome-unknown", "lost"), unprocessed: false });
      return {};
    });
    await using listener = await serveTls(kas, files, pair);
    const { socket, seen } = dial(listener.port);
    socket.write(request("GET /api"));
    await until(() => seen.text.includes("half"), "half of it");
    cut();
    socket.on("end", () => socket.end());
    await until(() => seen.closed, "it is closed");
    expect(seen.text).not.toContain("\r\n0\r\n");
  });
});
