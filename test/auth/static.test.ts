/** The static file: who is let in, what its faults are called, and what a new version does. */
import { createHash } from "node:crypto";
import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { AgentId } from "../../actors/ids.ts";
import { isRefusal, tokenIdOf } from "../../src/auth/auth.ts";
import { openStaticAuth, StaticAuth, type StaticEvent } from "../../src/auth/static.ts";
import { parseStaticFile } from "../../src/auth/static-file.ts";
import { Failed } from "../../src/failed.ts";
import { systemClock } from "../../src/runtime/clock.ts";

const HASHED = createHash("sha256").update("agent-secret").digest("hex");
const FILE = `
agents:
  - { id: 1, name: prod, project_id: 10, tokens: [ "sha256:${HASHED.toUpperCase()}", "plain-token" ] }
  - { id: 2, name: other, project_id: 11, tokens: [ "second" ] }
users:
  - username: alice
    tokens: [ "alice-token" ]
    access:
      - { agent_id: 1, as: user, groups: [ "devs" ], services: [ prometheus ] }
      - { agent_id: 2, as: agent }
jobs:
  - { token: "job-token", agent_ids: [ 1 ], as: agent, services: [] }
operators:
  - { name: sre, tokens: [ "sre-token" ], role: admin }
`;

const agent = (id: number) => id as AgentId;
const authOf = (text: string) => new StaticAuth(parseStaticFile(text, "static.yaml"));
const pat = (id: number, token = "alice-token") => ({ kind: "pat", agentId: agent(id), token, csrf: "" }) as const;
const ci = (id: number, token = "job-token") => ({ kind: "ci", agentId: agent(id), token, csrf: "" }) as const;

describe("who is let in", () => {
  const auth = authOf(FILE);

  it("knows agents by plain and by hashed tokens", () => {
    expect(auth.agentOf("agent-secret")).toMatchObject({ agentId: 1, name: "prod", projectId: 10 });
    expect(auth.agentOf("plain-token")).toMatchObject({ agentId: 1, tokenId: tokenIdOf("plain-token") });
    expect(auth.agentOf("second")).toMatchObject({ agentId: 2 });
  });

  it.each([HASHED, `sha256:${HASHED}`, "", "alice-token", "sre-token", "x".repeat(10_000)])(
    "does not take %.20s for an agent's token",
    (token) => expect(auth.agentOf(token)).toMatchObject({ code: "unauthenticated" }),
  );

  it("impersonates exactly the user name and groups as written, and only with `as: user`", () => {
    const as = { user: "alice", groups: ["devs"], uid: "", extra: [] };
    expect(auth.proxyAccess(pat(1))).toMatchObject({
      caller: { kind: "pat", id: "alice", as },
      services: ["prometheus"],
    });
    expect(auth.proxyAccess(pat(2))).toMatchObject({ caller: { kind: "pat", id: "alice", as: null }, services: [] });
  });

  it("lets a job act as the agent, and never names its token", () => {
    const access = auth.proxyAccess(ci(1));
    expect(access).toMatchObject({ caller: { kind: "ci", as: null }, services: [] });
    expect(JSON.stringify(access)).not.toContain("job-token");
  });

  it("forbids an agent in the same words whether it exists or not", () => {
    const existing = auth.proxyAccess(ci(2));
    const absent = auth.proxyAccess(ci(999));
    expect(existing).toMatchObject({ code: "forbidden" });
    expect(JSON.stringify(existing).replace("agent 2", "agent 999")).toBe(JSON.stringify(absent));
  });

  it("does not take one kind of token for another", () => {
    for (const credential of [
      pat(1, "job-token"),
      ci(1, "alice-token"),
      pat(1, "plain-token"),
      { ...pat(1), kind: "cookie" } as const,
    ]) {
      expect(auth.proxyAccess(credential)).toMatchObject({ code: "unauthenticated" });
    }
  });

  it("knows operators and whether there are any", () => {
    expect(auth.operatorOf("sre-token")).toMatchObject({ name: "sre", role: "admin" });
    expect(isRefusal(auth.operatorOf("plain-token"))).toBe(true);
    expect([auth.hasOperators, authOf("agents: []").hasOperators]).toEqual([true, false]);
  });
});

function reason(text: string): string {
  try {
    parseStaticFile(text, "static.yaml");
  } catch (error) {
    if (error instanceof Failed && error.failure.code === "invalid") return error.failure.reason;
    throw error;
  }
  throw new Error("expected a fault");
}

describe("faults of the file", () => {
  it.each([
    [
      "agents:\n  - { id: 0, name: a, project_id: 1, tokens: [ a ] }",
      /static\.yaml:2: agents\[0\]\.id: expected a whole number/,
    ],
    [
      "agents:\n  - id: 1\n    nam: a\n    project_id: 1\n    tokens: []",
      /:3: agents\[0\]\.nam: no such setting; did you mean agents\[0\]\.name\?/,
    ],
    [
      "users:\n  - username: a\n    tokens:\n      - ok\n      - 'sha256:zz'",
      /:5: users\[0\]\.tokens\[1\]: expected sha256/,
    ],
    [
      "users:\n  - { username: a, tokens: [ b ], access: [ { agent_id: 1, as: root } ] }",
      /:2: .*as: expected one of agent, user/,
    ],
    ["users:\n  - { username: a, tokens: [ b ], access: [ { agent_id: 1, as: agent, groups: [ g ] } ] }", /as: user/],
    ["jobs:\n  - { token: t, agent_ids: [ 1 ], as: user }", /:2: jobs\[0\]\.as/],
    ["operators:\n  - { name: a, tokens: [ t ] }", /:2: operators\[0\]\.role: is missing/],
    [
      "agents:\n  - { id: 1, name: a, project_id: 1, tokens: [ t ] }\n  - { id: 1, name: b, project_id: 1, tokens: [ t ] }",
      /:3: agents\[1\]\.id: this agent id is written twice\n.*:3: agents\[1\]\.tokens\[0\]: this token/,
    ],
    ['users:\n  - { username: "a\\r\\nImpersonate-Group: x", tokens: [ t ] }', /printable/],
    ["", /empty/],
    ["agents: [", /static\.yaml:1/],
  ])("are named with their line: %j", (text, why) => expect(reason(text)).toMatch(why));

  it("never repeat a token, wherever it stands", () => {
    const texts = [
      "agents: [ { id: 1, name: a, project_id: 1, tokens: 'hun ter2' } ]",
      "jobs: [ { token: [ hunter2 ], agent_ids: [] } ]",
      "users: [ { username: a, tokens: [ 'hun ter2' ] } ]",
      "operators: [ { name: a, tokens: { hunter2: x }, role: admin } ]",
    ];
    for (const text of texts) expect(reason(text)).not.toMatch(/hun ?ter2/);
  });
});

describe("a new version", () => {
  const revokedBy = (text: string): readonly string[] => {
    const auth = authOf(FILE);
    const revoked: string[] = [];
    using _ = auth.onRevoked((tokens) => revoked.push(...tokens));
    auth.replace(parseStaticFile(text, "static.yaml"));
    return revoked.toSorted();
  };

  it("revokes the tokens that are gone", () => {
    expect(revokedBy(FILE.replace(', "plain-token"', ""))).toEqual([tokenIdOf("plain-token")]);
    expect(revokedBy("agents: []")).toHaveLength(6);
  });

  it("revokes a token that may do less or is somebody else now", () => {
    expect(revokedBy(FILE.replace("services: [ prometheus ]", "services: []"))).toEqual([tokenIdOf("alice-token")]);
    expect(revokedBy(FILE.replace("devs", "admins"))).toEqual([tokenIdOf("alice-token")]);
    expect(revokedBy(FILE.replace("agent_ids: [ 1 ]", "agent_ids: [ 2 ]"))).toEqual([tokenIdOf("job-token")]);
    expect(revokedBy(FILE.replace("role: admin", "role: viewer"))).toEqual([tokenIdOf("sre-token")]);
    expect(revokedBy(FILE.replace("id: 2, name", "id: 3, name"))).toEqual([tokenIdOf("second")]);
  });

  it("revokes nothing when somebody may do more", () => {
    expect(
      revokedBy(FILE.replace("services: []", "services: [ a ]").replace("agent_ids: [ 1 ]", "agent_ids: [ 1, 2 ]")),
    ).toEqual([]);
  });

  it("is told to nobody who no longer listens", () => {
    const auth = authOf(FILE);
    let calls = 0;
    auth.onRevoked(() => (calls += 1))[Symbol.dispose]();
    auth.replace(parseStaticFile("agents: []", "x"));
    expect(calls).toBe(0);
  });
});

describe("the file on disk", () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "kas-static-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** A queue of what was reported, to wait on. */
  function recorder() {
    const events: StaticEvent[] = [];
    let wake = () => {};
    const report = (event: StaticEvent) => {
      events.push(event);
      wake();
    };
    const next = async (): Promise<StaticEvent | undefined> => {
      if (events.length === 0) await new Promise<void>((resolve) => (wake = resolve));
      return events.shift();
    };
    return { report, next };
  }

  it("is followed: a removed token is revoked, a faulty version is refused with its line and the old one stays", async () => {
    const file = join(folder, "static.yaml");
    writeFileSync(file, FILE);
    const { report, next } = recorder();
    await using auth = await openStaticAuth({ file, clock: systemClock, report });
    const revoked: string[] = [];
    auth.onRevoked((tokens) => revoked.push(...tokens));

    writeFileSync(file, `${FILE}bogus: 1\n`);
    expect(await next()).toMatchObject({
      type: "refused",
      reason: expect.stringMatching(/:15: bogus: no such setting.*\n.*stays in force/),
    });
    expect(auth.agentOf("plain-token")).toMatchObject({ agentId: 1 });

    writeFileSync(file, FILE.replace(', "plain-token"', ""));
    expect(await next()).toEqual({ type: "applied", agents: 2, revoked: 1 });
    expect(revoked).toEqual([tokenIdOf("plain-token")]);
    expect(auth.agentOf("plain-token")).toMatchObject({ code: "unauthenticated" });

    rmSync(file);
    expect(await next()).toMatchObject({ type: "refused", reason: expect.stringContaining("cannot be read") });
    expect(auth.agentOf("second")).toMatchObject({ agentId: 2 });
  });

  it("is followed through the symlinks that Kubernetes swaps", async () => {
    const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
    write("v1", FILE);
    write("v2", "agents: []");
    symlinkSync("v1", join(folder, "current"));
    symlinkSync("current", join(folder, "static.yaml"));
    const { report, next } = recorder();
    await using auth = await openStaticAuth({ file: join(folder, "static.yaml"), clock: systemClock, report });
    expect(auth.hasOperators).toBe(true);
    symlinkSync("v2", join(folder, "next"));
    renameSync(join(folder, "next"), join(folder, "current"));
    expect(await next()).toEqual({ type: "applied", agents: 0, revoked: 6 });
    expect(auth.hasOperators).toBe(false);
  });

  it("must be there and right at the start", async () => {
    const open = (name: string) => openStaticAuth({ file: join(folder, name), clock: systemClock, report: () => {} });
    await expect(open("absent")).rejects.toThrow(/cannot be read/);
    writeFileSync(join(folder, "bad"), "agents: 1");
    await expect(open("bad")).rejects.toThrow(/bad:1: agents: expected a list/);
  });
});
