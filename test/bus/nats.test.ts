import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nkeys } from "@nats-io/transport-node";
import { generate } from "selfsigned";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { NodeName } from "../../actors/ids.ts";
import { connectNats, type NatsOptions } from "../../src/bus/nats.ts";
import { natsAvailable, startNatsCluster, startNatsServer } from "../support/nats-server.ts";

const name = "kas-0" as NodeName;
const bytes = (text: string) => new TextEncoder().encode(text);
const until = (condition: () => void) => vi.waitFor(condition, { timeout: 8_000, interval: 5 });

function start(server: string, options: Partial<NatsOptions> = {}) {
  const problems: string[] = [];
  const problem = (message: string, cause?: unknown) => problems.push(`${message}: ${cause}`);
  const bus = connectNats({ servers: [server], name, reconnectWait: 20, problem, ...options });
  return Object.assign(bus, { problems });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address ? address.port : 0;
}

describe.skipIf(!natsAvailable())("the bus over NATS", () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "kas-nats-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("is there before NATS is, and connects as soon as that starts", async () => {
    const port = await freePort();
    await using bus = start(`127.0.0.1:${port}`);
    expect(bus.connected).toBe(false);
    const heard: string[] = [];
    using _held = bus.subscribe("x", () => heard.push("x"));
    bus.publish("x", bytes("too early"));
    expect(bus.counts()).toMatchObject({ dropped: 1, reconnects: 0 });

    await using _server = await startNatsServer(["-p", String(port)]);
    await until(() => expect(bus.connected).toBe(true));
    expect(await bus.flush(1_000)).toBe(true);
    bus.publish("x", bytes("1"));

    await until(() => expect(heard).toEqual(["x"]));
    expect(bus.counts().reconnects).toBe(0);
  });

  it("can be disposed before it has ever connected, and leaves nothing behind", async () => {
    const sockets = () => process.getActiveResourcesInfo().filter((type) => type.startsWith("TCP")).length;
    const before = sockets();
    const bus = start(`127.0.0.1:${await freePort()}`);
    let settled = "";
    bus.request(
      "x",
      () => bytes("1"),
      60_000,
      ({ type }) => {
        settled = type;
      },
    );

    await bus[Symbol.asyncDispose]();

    expect(settled).toBe("timeout");
    await until(() => expect(sockets()).toBeLessThanOrEqual(before));
  });

  it("notices a server that hangs, and drops what it cannot send instead of keeping it", async () => {
    await using server = await startNatsServer();
    await using bus = start(server.url, { pingInterval: 400, dialTimeout: 200 });
    await until(() => expect(bus.connected).toBe(true));
    server.freeze();
    const payload = new Uint8Array(900_000);

    for (let i = 0; i < 20; i++) bus.publish("x", payload);

    expect(bus.counts().published).toBeLessThan(10);
    expect(bus.counts().dropped).toBe(20 - bus.counts().published);
    await until(() => expect(bus.connected).toBe(false));
    server.thaw();
    await until(() => expect(bus.connected).toBe(true));
    const dropped = bus.counts().dropped;
    bus.publish("x", payload);
    expect(bus.counts().dropped).toBe(dropped);
  });

  it("sends any amount to a server that reads", async () => {
    await using server = await startNatsServer();
    await using bus = start(server.url);
    let heard = 0;
    using _held = bus.subscribe("x", () => (heard += 1));
    await until(() => expect(bus.connected).toBe(true));
    const payload = new Uint8Array(500_000);

    for (let i = 1; i <= 40; i++) {
      bus.publish("x", payload);
      if (i % 10 === 0) await until(() => expect(heard).toBe(i));
    }

    expect(bus.counts()).toMatchObject({ published: 40, received: 40, dropped: 0 });
  });

  it("takes user and password from the address", async () => {
    await using server = await startNatsServer(["--user", "kas", "--pass", "s3cret/"]);
    await using bus = start(server.url.replace("nats://", "nats://kas:s3cret%2F@"));
    await until(() => expect(bus.connected).toBe(true));
    expect(bus.problems).toEqual([]);
  });

  it("keeps trying while it is refused, and reads the seed file anew", async () => {
    const wanted = nkeys.createUser();
    const config = join(folder, "nkey.conf");
    writeFileSync(config, `authorization { users: [ { nkey: ${wanted.getPublicKey()} } ] }`);
    const seed = join(folder, "seed.nk");
    await using server = await startNatsServer(["-c", config]);
    await using bus = start(server.url, { nkeySeedFile: seed });
    await until(() => expect(bus.problems.join()).toContain(`cannot use the NATS credentials in ${seed}`));
    writeFileSync(seed, nkeys.createUser().getSeed());
    bus.problems.length = 0;
    await until(() => expect(bus.problems.join()).toContain("Authorization"));
    expect(bus.connected).toBe(false);

    writeFileSync(seed, `${new TextDecoder().decode(wanted.getSeed())}\n`);

    await until(() => expect(bus.connected).toBe(true));
  });

  it("speaks TLS, and only with a server that its CA vouches for", async () => {
    const pem = await generate([{ name: "commonName", value: "localhost" }], {
      keySize: 2048,
      algorithm: "sha256",
      extensions: [{ name: "subjectAltName", altNames: [{ type: 7, ip: "127.0.0.1" }] }],
    });
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    writeFileSync(cert, pem.cert);
    writeFileSync(key, pem.private);
    await using server = await startNatsServer(["--tls", "--tlscert", cert, "--tlskey", key]);
    await using stranger = start(server.url, { tls: {} });
    await using bus = start(server.url, { tls: { caFile: cert } });

    await until(() => expect(bus.connected).toBe(true));
    await until(() => expect(stranger.problems.join()).toContain("certificate"));
    expect(stranger.connected).toBe(false);
  });

  it("sends nothing in the clear to a server that was to speak TLS", async () => {
    await using server = await startNatsServer();
    await using bus = start(server.url.replace("nats://", "tls://"));
    await until(() => expect(bus.problems.join()).toContain("tls"));
    expect(bus.connected).toBe(false);
  });

  it("goes on with another server of the cluster when its own dies", async () => {
    const servers = await startNatsCluster(3);
    await using stack = new AsyncDisposableStack();
    for (const server of servers) stack.use(server);
    const [first, , third] = servers.map((server) => server.url);
    const moving = stack.use(connectNats({ servers: [first ?? ""], name, reconnectWait: 20 }));
    const steady = stack.use(connectNats({ servers: [third ?? ""], name: "kas-2" as NodeName, reconnectWait: 20 }));
    const heard: string[] = [];
    using _held = steady.subscribe("x", (payload) => heard.push(new TextDecoder().decode(payload)));
    await until(() => expect([moving.connected, steady.connected]).toEqual([true, true]));
    await until(() => {
      moving.publish("x", bytes("before"));
      expect(heard).toContain("before");
    });

    await servers[0]?.kill();

    await until(() => expect(moving.counts().reconnects).toBe(1));
    await until(() => {
      moving.publish("x", bytes("after"));
      expect(heard).toContain("after");
    });
  });
});
