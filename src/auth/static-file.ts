/**
 * The static file of agents, users, jobs and operators: text in, lookup tables out. Every fault is found with its line;
 * no token is kept (only its SHA-256) and none is ever repeated in a message.
 */
import type { z } from "zod";
import { type AgentId, isAgentId } from "../../actors/ids.ts";
import { check, locate, type PathFault } from "../config/check.ts";
import { choice, count, items, list, pattern, section, token } from "../config/setting.ts";
import { formatFaults, readSource } from "../config/source.ts";
import { failed } from "../failed.ts";
import { type AgentIdentity, type Operator, type ProxyAccess, type TokenId, tokenIdOf } from "./auth.ts";

/** One user or job: what its token may do, by agent. */
export type Grant = {
  readonly id: string;
  readonly tokenId: TokenId;
  readonly access: ReadonlyMap<AgentId, ProxyAccess>;
};

export type StaticTables = {
  readonly agents: ReadonlyMap<TokenId, AgentIdentity>;
  /** All agents, those without a token too. */
  readonly agentIds: ReadonlySet<AgentId>;
  readonly users: ReadonlyMap<TokenId, Grant>;
  readonly jobs: ReadonlyMap<TokenId, Grant>;
  readonly operators: ReadonlyMap<TokenId, Operator>;
};

const TOKEN_EXPECTED = "sha256: and 64 hex digits, or a token without blanks, in quotes";
const HASHED = /^sha256:([0-9a-f]{64})$/i;

/** What is written, as a token id. */
function readToken(written: unknown): TokenId | null {
  if (typeof written !== "string" || !/^[\x21-\x7e]+$/.test(written)) return null;
  if (!written.startsWith("sha256:")) return tokenIdOf(written);
  return HASHED.exec(written)?.[1]?.toLowerCase() ?? null;
}

const HEADER_TEXT = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/;
const SERVICE_NAME = /^[a-z0-9-]{1,63}$/;
const name = () => pattern(HEADER_TEXT, "a name in printable ASCII");
const agentId = () => count(1, Number.MAX_SAFE_INTEGER);
const tokens = () => items(token(TOKEN_EXPECTED, readToken)).meta({ hidden: true });
const services = () => list("a list of service names of [a-z0-9-]", (item) => SERVICE_NAME.test(item)).prefault([]);
const groups = () => list("a list of group names in printable ASCII", (item) => HEADER_TEXT.test(item)).prefault([]);

const schema = section({
  agents: items(
    section({ id: agentId(), name: name(), project_id: count(0, Number.MAX_SAFE_INTEGER), tokens: tokens() }),
  ).prefault([]),
  users: items(
    section({
      username: name(),
      tokens: tokens(),
      access: items(
        section({ agent_id: agentId(), as: choice(["agent", "user"]), groups: groups(), services: services() }),
      ).prefault([]),
    }),
  ).prefault([]),
  jobs: items(
    section({
      token: token(TOKEN_EXPECTED, readToken),
      agent_ids: items(agentId()),
      as: choice(["agent"]).prefault("agent"),
      services: services(),
    }),
  ).prefault([]),
  operators: items(section({ name: name(), tokens: tokens(), role: choice(["viewer", "admin"]) })).prefault([]),
});

type Contents = z.output<typeof schema>;

/** Throws `invalid` with every fault and its line. */
export function parseStaticFile(text: string, file: string): StaticTables {
  const source = readSource(text);
  const checked = check(schema, source.tree);
  const faults = [...checked.faults, ...(checked.faults.length === 0 && checked.value ? doubles(checked.value) : [])];
  if (text.trim() === "") faults.push({ path: [], text: "the file is empty: write at least `agents: []`" });
  const all = [...source.faults, ...locate(faults, source.lineOf)];
  if (all.length > 0 || !checked.value) {
    throw failed("invalid", `the authentication file was refused:\n${formatFaults(file, all)}`);
  }
  return tablesOf(checked.value);
}

/** An agent id, or a token within its kind, that is written twice: it would mean two things. */
function* doubles({ agents, users, jobs, operators }: Contents): Generator<PathFault> {
  yield* twice(
    agents.map(({ id }, i) => [String(id), ["agents", i, "id"]]),
    "this agent id is written twice",
  );
  const text = "this token is written twice: a token belongs to one";
  const listed = (kind: string, items: readonly { readonly tokens: readonly string[] }[]) =>
    items.flatMap(({ tokens }, i) => tokens.map((token, j) => [token, [kind, i, "tokens", j]] as const));
  yield* twice(listed("agents", agents), text);
  yield* twice(listed("users", users), text);
  yield* twice(listed("operators", operators), text);
  yield* twice(
    jobs.map(({ token }, i) => [token, ["jobs", i, "token"]]),
    text,
  );
  for (const [i, { access }] of users.entries()) {
    yield* twice(
      access.map(({ agent_id }, j) => [String(agent_id), ["users", i, "access", j]]),
      "this agent is granted twice",
    );
    for (const [j, { as, groups }] of access.entries()) {
      if (as === "agent" && groups.length > 0) {
        yield {
          path: ["users", i, "access", j, "groups"],
          text: "have no effect with `as: agent`: write `as: user` or leave them out",
        };
      }
    }
  }
}

function* twice(entries: readonly (readonly [string, PathFault["path"]])[], text: string): Generator<PathFault> {
  const seen = new Set<string>();
  for (const [key, path] of entries) {
    if (seen.has(key)) yield { path, text };
    seen.add(key);
  }
}

const noExtra = { uid: "", extra: [] } as const;

function tablesOf({ agents, users, jobs, operators }: Contents): StaticTables {
  return {
    agentIds: new Set(agents.map(({ id }) => branded(id))),
    agents: new Map(
      agents.flatMap(({ id, name, project_id, tokens }) =>
        tokens.map((tokenId) => [tokenId, { agentId: branded(id), name, projectId: project_id, tokenId }]),
      ),
    ),
    users: new Map(
      users.flatMap(({ username, tokens, access }) =>
        tokens.map((tokenId) => {
          const entries = access.map(({ agent_id, as, groups, services }): [AgentId, ProxyAccess] => {
            const impersonation = as === "user" ? { user: username, groups, ...noExtra } : null;
            return [branded(agent_id), { caller: { kind: "pat", id: username, as: impersonation }, services, tokenId }];
          });
          return [tokenId, { id: username, tokenId, access: new Map(entries) }];
        }),
      ),
    ),
    jobs: new Map(jobs.map((job) => [job.token, grantOfJob(job)])),
    operators: new Map(
      operators.flatMap(({ name, role, tokens }) => tokens.map((tokenId) => [tokenId, { name, role, tokenId }])),
    ),
  };
}

/** A job has no name in the file: the start of its token's hash tells jobs apart in the audit record. */
function grantOfJob({ token, agent_ids, services }: Contents["jobs"][number]): Grant {
  const id = `job-${token.slice(0, 8)}`;
  const access: ProxyAccess = { caller: { kind: "ci", id, as: null }, services, tokenId: token };
  return { id, tokenId: token, access: new Map(agent_ids.map((agent) => [branded(agent), access])) };
}

/** The schema lets through positive safe integers only. */
const branded = (id: number): AgentId => {
  if (!isAgentId(id)) throw failed("invalid", `${id} is no agent id: expected a positive whole number`);
  return id;
};
