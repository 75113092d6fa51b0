/** The nats.conf that we ship: real kas nodes meet and route with its permissions, and a node's user can do no more. */
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createUser } from "@nats-io/nkeys";
import { connect, nkeyAuthenticator } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { listen } from "../../src/net/listener.ts";
import { Agentk } from "./support/agentk.ts";
import { Child } from "./support/child.ts";
import { fetchText } from "./support/http.ts";
import { KasNode } from "./support/kas-node.ts";
import { fileIn } from "./support/manifests.ts";
import { findProgram, needNats } from "./support/need.ts";
import { freePort } from "./support/port.ts";
import { RunDir } from "./support/run-dir.ts";
import { PREFIX, staticFile, TOKENS, writeSecrets } from "./support/settings.ts";
import { until } from "./support/wait.ts";

const nats = await needNats();
const INDEXES = [0, 1, 2] as const;

describe.skipIf(!nats || findProgram("kubectl") === null)("nats.conf of the manifests", () => {
  const users = [createUser(), createUser(), createUser()] as const;
  const dir = new RunDir("nats-permissions");
  let server: Child;
  let address = "";

  beforeAll(async () => {
    const route = `127.0.0.1:${await freePort()}`;
    address = `127.0.0.1:${await freePort()}`;
    const file = dir.file("nats.conf");
    const shipped = fileIn("nats", "nats.conf");
    writeFileSync(file, shipped.replace("0.0.0.0:4222", address).replace("0.0.0.0:6222", route));
    const nkeys = users.map((user, index) => [`KAS_${index}_NKEY`, user.getPublicKey()]);
    const routes = INDEXES.map((index) => [`ROUTE_${index}`, `"nats-route://routes:0e1@${route}"`]);
    const env = { POD_NAME: "nats-0", ROUTE_PASSWORD: '"0e1"', ...Object.fromEntries([...nkeys, ...routes]) };
    server = new Child({ name: "nats", command: nats ?? "", args: ["--config", file], dir, env });
    await server.whileAlive("readiness", () => readFileSync(server.stderrFile, "utf8").includes("Server is ready"));
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    dir[Symbol.dispose]();
  });

  const startNode = async (index: (typeof INDEXES)[number]): Promise<KasNode> => {
    const [seed, users_file] = [dir.file(`seed-${index}`), dir.file("agents.yaml")];
    writeFileSync(seed, users[index].getSeed());
    writeFileSync(users_file, stringify(staticFile()));
    return await KasNode.start(dir, {
      name: `kas-${index}`,
      cluster: "default",
      natsUrl: `nats://${address}`,
      secrets,
      staticFile: users_file,
      tls: "none",
      certificates: null,
      more: { nats: { nkey_seed_file: seed } },
    });
  };
  const secrets = writeSecrets(dir);

  it("lets three kas nodes meet, find an agent and route to it from each of them", async () => {
    await using owned = new AsyncDisposableStack();
    const upstream = createServer((_, response) => response.end("here"));
    const listener = owned.use(
      await listen({ address: "127.0.0.1:0", onSocket: (socket) => void upstream.emit("connection", socket) }),
    );
    const nodes: KasNode[] = [];
    for (const index of INDEXES) nodes.push(owned.use(await startNode(index)));
    await Promise.all(nodes.map((node) => node.ready()));
    const services = { upstream: `http://${listener.address}` };
    const kas = `grpc://${nodes[1]?.address("agent")}`;
    owned.use(await Agentk.start(dir, { id: 1, kas, services }));

    for (const node of nodes) {
      const members = async () => (await node.metrics()).sum("kas_ring_members") === INDEXES.length;
      await until(`three members at ${node.name}`, members);
      const url = `http://${node.address("kubernetes_api")}${PREFIX}services/upstream/`;
      const { text } = await fetchText(url, { headers: { authorization: `Bearer pat:1:${TOKENS.admin}` } });
      expect(text).toBe("here");
      expect(node.child.stderr()).not.toMatch(/permission/i);
    }
  });

  const login = async (index: (typeof INDEXES)[number]) =>
    await connect({
      servers: address,
      authenticator: nkeyAuthenticator(users[index].getSeed()),
      inboxPrefix: `_INBOX_kas-${index}`,
      reconnect: false,
    });

  it("refuses anonymous clients", async () => {
    await expect(connect({ servers: address, reconnect: false })).rejects.toThrow(/authorization/i);
  });

  it.each(["kas.default.v1.n.kas-1.17.ctl", "kas.default.v1.n.>", "_INBOX_kas-1.>", ">"])(
    "does not let another node listen to %s",
    async (subject) => {
      await using closing = new AsyncDisposableStack();
      const one = await login(0);
      closing.defer(async () => await one.close());

      const refused = new Promise((resolve) => one.subscribe(subject, { callback: (error) => resolve(String(error)) }));

      expect(await refused).toMatch(/permissions violation/i);
    },
  );

  it("does not let a node publish outside the cluster's subjects", async () => {
    await using closing = new AsyncDisposableStack();
    const one = await login(0);
    closing.defer(async () => await one.close());
    const refused = (async () => {
      for await (const event of one.status()) if (event.type === "error") return String(event.error);
      return "";
    })();

    one.publish("kas.other.v1.hb", "");

    expect(await refused).toMatch(/permissions violation/i);
  });
});
