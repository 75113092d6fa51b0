/**
 * The JSON resources of the observability listener, which `kasctl` prints as they are: nodes, agents, streams and the
 * explanation of a route. Only operators read them; while none is configured, only callers on this very machine.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { type Failure, failure } from "../../actors/failure.ts";
import { isAgentId } from "../../actors/ids.ts";
import { type Auth, isRefusal } from "../auth/auth.ts";
import { failed } from "../failed.ts";
import { failureOf, httpStatus } from "../status.ts";
import type { ClusterNode } from "./cluster-node.ts";

const ROOT = "/api/v1/";
const LIST_WITHIN_MS = 2_000;
const MAX_PAGE = 1_000;

export type ResourcesOptions = { readonly auth: Auth; readonly node: ClusterNode };

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
  route: ({ directory }, rest) => {
    const agent = Number(rest);
    if (!isAgentId(agent)) throw failed("invalid", `${rest} is no agent id: expected a number such as 42`);
    return directory.explain(agent);
  },
};

type Load = { readonly streams: number; readonly bufferedBytes: number; readonly roundTrip: number };
const load = ({ streams, bufferedBytes, roundTrip }: Load) => ({ streams, bufferedBytes, roundTripMillis: roundTrip });

/** For the observability server: true when the path is ours. */
export function resources(options: ResourcesOptions) {
  return (req: IncomingMessage, res: ServerResponse): boolean => {
    const [path = "", query = ""] = (req.url ?? "").split("?", 2);
    if (!path.startsWith(ROOT)) return false;
    const [name = "", ...rest] = path.slice(ROOT.length).split("/");
    const resource = Object.hasOwn(RESOURCES, name) ? RESOURCES[name] : undefined;
    if (!resource) return false;
    void answer(options, req, res, () => resource(options.node, rest.join("/"), new URLSearchParams(query)));
    return true;
  };
}

async function answer(
  { auth }: ResourcesOptions,
  req: IncomingMessage,
  res: ServerResponse,
  read: () => object | Promise<object>,
) {
  try {
    const refusal = req.method === "GET" ? await refusalOf(auth, req) : failure("invalid", "this can only be read");
    if (refusal) send(res, httpStatus(refusal.code), refusal);
    else send(res, 200, await read());
  } catch (error) {
    const why = failureOf(error);
    send(res, httpStatus(why.code), why);
  }
}

const LOOPBACK = /^(?:127\.|::1$|::ffff:127\.)/;

async function refusalOf(auth: Auth, req: IncomingMessage): Promise<Failure | null> {
  if (!auth.hasOperators) {
    if (LOOPBACK.test(req.socket.remoteAddress ?? "")) return null;
    return failure("forbidden", "no operator is configured, so only this machine itself may look: see `operators`");
  }
  const token = /^bearer +(\S+)$/i.exec(req.headers.authorization ?? "")?.[1];
  if (!token) return failure("unauthenticated", "an operator's token is needed: Authorization: Bearer <token>");
  const operator = await auth.operatorOf(token);
  return isRefusal(operator) ? operator : null;
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
