/**
 * The JSON resources of the observability listener, which `kasctl` prints as they are: nodes, agents, streams and the
 * explanation of a route, and by POST what an admin may change. Only operators come in; while none is configured, only
 * callers on this very machine. Pages in a browser never do.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { type AgentId, isAgentId } from "../../actors/ids.ts";
import { type Auth, isRefusal, type Operator } from "../auth/auth.ts";
import { Failed, failed } from "../failed.ts";
import { failureOf, httpStatus } from "../status.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { ClusterNode } from "./cluster-node.ts";
import type { Operations } from "./operations.ts";

const ROOT = "/api/v1/";
const LIST_WITHIN_MS = 2_000;
const MAX_PAGE = 1_000;

export type ResourcesOptions = {
  readonly auth: Pick<Auth, "hasOperators" | "operatorOf">;
  readonly node: ClusterNode;
  readonly operations: Operations;
  readonly log: Pick<Logger, "info">;
};

type Resource = (node: ClusterNode, rest: string, query: URLSearchParams) => object | Promise<object>;

const RESOURCES: Readonly<Record<string, Resource>> = {
  nodes: ({ routing }) => ({ self: routing.self, phase: routing.phase, view: routing.view, nodes: routing.members() }),
  agents: async ({ directory }, _rest, query) => {
    const filter = { agentIds: [], projectIds: [] };
    const size = Math.min(MAX_PAGE, Number(query.get("page_size")) || MAX_PAGE);
    const page = await directory.list(filter, size, query.get("page_token") ?? "", LIST_WITHIN_MS);
    const agents = page.agents.map((agent) => ({ ...agent, connectedAt: new Date(agent.connectedAt).toISOString() }));
    return { agents, nextPageToken: page.nextPageToken, complete: page.complete, missing: page.missing };
  },
  streams: (node) => ({
    node: node.routing.self,
    ...node.routing.counts(),
    agentLinks: [...node.holder.connections()].map(({ agentId, id, link }) => ({
      agentId,
      connection: id,
      ...load(link),
    })),
    peerLinks: [...node.peers.links()].map(([peer, link]) => ({ peer, ...load(link) })),
  }),
  route: ({ directory }, rest) => directory.explain(agentOf(rest)),
};

const CHANGES: Readonly<Record<string, (operations: Operations, rest: string) => object | Promise<object>>> = {
  drain: (operations) => operations.drain(),
  undrain: (operations) => operations.undrain(),
  rebalance: (operations) => operations.rebalance(),
  disconnect: (operations, rest) => operations.disconnect(agentOf(rest)),
};

function agentOf(text: string): AgentId {
  const agent = Number(text);
  if (!isAgentId(agent)) throw failed("invalid", `${text} is no agent id: expected a number such as 42`);
  return agent;
}

type Load = { readonly streams: number; readonly bufferedBytes: number; readonly roundTrip: number };
const load = ({ streams, bufferedBytes, roundTrip }: Load) => ({ streams, bufferedBytes, roundTripMillis: roundTrip });

/** For the observability server: true when the path is ours. */
export function resources(options: ResourcesOptions) {
  return (req: IncomingMessage, res: ServerResponse): boolean => {
    const [path = "", query = ""] = (req.url ?? "").split("?", 2);
    if (!path.startsWith(ROOT)) return false;
    const [name = "", ...rest] = path.slice(ROOT.length).split("/");
    const resource = Object.hasOwn(RESOURCES, name) ? RESOURCES[name] : undefined;
    const change = Object.hasOwn(CHANGES, name) ? CHANGES[name] : undefined;
    const below = rest.join("/");
    if (resource) {
      void answer(options, req, res, "GET", () => resource(options.node, below, new URLSearchParams(query)));
    } else if (change) {
      void answer(options, req, res, "POST", (operator) => {
        options.log.info("an operator changes this node", { operator: operator?.name ?? "this machine", path });
        return change(options.operations, below);
      });
    } else return false;
    return true;
  };
}

type Answer = (operator: Operator | null) => object | Promise<object>;

async function answer(
  { auth }: ResourcesOptions,
  req: IncomingMessage,
  res: ServerResponse,
  method: "GET" | "POST",
  make: Answer,
) {
  try {
    if (req.method !== method) {
      const reason = method === "GET" ? "this can only be read" : "this changes the node: it must be a POST";
      throw failed("invalid", reason);
    }
    const operator = await operatorOf(auth, req);
    if (method === "POST") checkAdmin(req, operator);
    send(res, 200, await make(operator));
  } catch (error) {
    const why = failureOf(error);
    send(res, httpStatus(why.code), why);
  }
}

const LOOPBACK = /^(?:127\.|::1$|::ffff:127\.)/;

/** Null: no operator is configured, and the caller is on this machine. */
async function operatorOf(auth: ResourcesOptions["auth"], req: IncomingMessage): Promise<Operator | null> {
  if (!auth.hasOperators) {
    if (LOOPBACK.test(req.socket.remoteAddress ?? "")) return null;
    throw failed("forbidden", "no operator is configured, so only this machine itself may look: see `operators`");
  }
  const token = /^bearer +(\S+)$/i.exec(req.headers.authorization ?? "")?.[1];
  if (!token) throw failed("unauthenticated", "an operator's token is needed: Authorization: Bearer <token>");
  const operator = await auth.operatorOf(token);
  if (isRefusal(operator)) throw new Failed(operator);
  return operator;
}

/** A page in a browser of this machine could send a POST, too. */
function checkAdmin({ headers }: IncomingMessage, operator: Operator | null): void {
  if (headers.origin !== undefined || headers["sec-fetch-site"] !== undefined) {
    throw failed("forbidden", "pages in a browser may not change a node: use kasctl");
  }
  if (operator !== null && operator.role !== "admin") {
    throw failed("forbidden", `operator ${operator.name} is a ${operator.role}: this needs the role admin`);
  }
}

function send(res: ServerResponse, status: number, body: object): void {
  const text = `${JSON.stringify(body, null, 2)}\n`;
  res.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    "cache-control": "no-store",
  });
  res.end(text);
}
