/**
 * The routing protocol on the wire: a tag and positional values, fields only appended. What does not read as one of
 * these messages is null, and whoever got it ignores it.
 */
import type { ChannelMessage, Entry, Position } from "../../actors/channel.ts";
import type { HomeAnswer, HomeRoute } from "../../actors/home-index.ts";
import { type AgentId, type ConnectionId, isAgentId, isNodeName, type NodeId, nameOf } from "../../actors/ids.ts";
import { SLOTS } from "../../actors/ring.ts";
import type { Announced, Heartbeat, Introduced } from "../../actors/view.ts";
import type { WireMessage } from "./messenger.ts";

export type RoutingMessage =
  | { readonly type: "hb"; readonly heartbeat: Heartbeat }
  /** To a newcomer: this incarnation of its name is known and gone. */
  | { readonly type: "outdated"; readonly incarnation: number }
  | { readonly type: "channel"; readonly message: ChannelMessage }
  | { readonly type: "regack"; readonly position: Position }
  | { readonly type: "needsnap" }
  /** The answer is `routes`; an agent without one is watched for `watch` ms. */
  | { readonly type: "lookup"; readonly agent: AgentId; readonly watch: number }
  | { readonly type: "whohas"; readonly agent: AgentId }
  | { readonly type: "routes"; readonly answer: HomeAnswer }
  | { readonly type: "found"; readonly agent: AgentId; readonly routes: readonly HomeRoute[] }
  | { readonly type: "superseded"; readonly connection: ConnectionId }
  /** Whom the sender knows, to one that is off the bus. */
  | { readonly type: "members"; readonly peers: readonly Introduced[] }
  /** Answered with itself. */
  | { readonly type: "ping" };

const ANNOUNCED: readonly Announced[] = ["joining", "up", "draining", "left"];

export function encode(message: RoutingMessage): WireMessage {
  switch (message.type) {
    case "hb": {
      const { seq, state, hello, address, connections, view, nats } = message.heartbeat;
      return { type: "hb", body: [seq, ANNOUNCED.indexOf(state), hello, address, connections, view, nats] };
    }
    case "outdated":
      return { type: "outdated", body: [message.incarnation] };
    case "channel":
      return encodeChannel(message.message);
    case "regack":
      return { type: "regack", body: [message.position.epoch, message.position.seq] };
    case "needsnap":
    case "ping":
      return { type: message.type, body: [] };
    case "lookup":
      return { type: "lookup", body: [message.agent, Math.ceil(message.watch)] };
    case "whohas":
      return { type: "whohas", body: [message.agent] };
    case "routes": {
      const { routes, missing, mature, seen } = message.answer;
      const last = seen && [Math.ceil(seen.ago), seen.wall, seen.node];
      return { type: "routes", body: [routes.map(encodeRoute), missing, mature, last] };
    }
    case "found":
      return { type: "found", body: [message.agent, message.routes.map(encodeRoute)] };
    case "superseded":
      return { type: "superseded", body: [message.connection] };
    case "members":
      return { type: "members", body: [message.peers.map(({ node, address }) => [node, address])] };
  }
}

const encodeRoute = ({ node, connection, draining }: HomeRoute) => [node, connection, draining];

function encodeChannel(message: ChannelMessage): WireMessage {
  const { epoch, seq } = message;
  switch (message.type) {
    case "snap": {
      const { part, parts, slots, entries } = message;
      return { type: "snap", body: [epoch, seq, part, parts, slots, entries.map(encodeEntry)] };
    }
    case "delta":
      return { type: "delta", body: [epoch, seq, message.put.map(encodeEntry), message.removed] };
    case "digest":
      return { type: "digest", body: [epoch, seq, message.count, message.hash] };
  }
}

const encodeEntry = (e: Entry) => [e.connection, e.agent, e.instance, e.process, e.link, e.lost, e.since, e.draining];

export function decode({ type, body }: WireMessage): RoutingMessage | null {
  if (!Array.isArray(body)) return null;
  const read = DECODERS.get(type);
  return read ? read(body) : null;
}

type Body = readonly unknown[];

const DECODERS = new Map<string, (body: Body) => RoutingMessage | null>([
  ["hb", decodeHeartbeat],
  ["outdated", ([incarnation]) => (isCount(incarnation) ? { type: "outdated", incarnation } : null)],
  ["snap", decodeSnap],
  ["delta", decodeDelta],
  ["digest", decodeDigest],
  ["regack", ([epoch, seq]) => (isCount(epoch) && isCount(seq) ? { type: "regack", position: { epoch, seq } } : null)],
  ["needsnap", () => ({ type: "needsnap" })],
  ["ping", () => ({ type: "ping" })],
  ["lookup", ([agent, watch]) => (isAgent(agent) && isCount(watch) ? { type: "lookup", agent, watch } : null)],
  ["whohas", ([agent]) => (isAgent(agent) ? { type: "whohas", agent } : null)],
  ["routes", decodeAnswer],
  ["members", decodeMembers],
  ["found", decodeFound],
  ["superseded", ([connection]) => (isConnection(connection) ? { type: "superseded", connection } : null)],
]);

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;
const isTime = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);
const isAgent = (value: unknown): value is AgentId => typeof value === "number" && isAgentId(value);
const isConnection = (value: unknown): value is ConnectionId => isCount(value) && value > 0;
const isText = (value: unknown): value is string => typeof value === "string" && value.length <= 1_024;
const isNode = (value: unknown): value is NodeId =>
  typeof value === "string" && value.length <= 96 && isNodeName(nameOf(value as NodeId));

/** Every element read, or null when one cannot be. */
function listOf<Value>(value: unknown, read: (element: unknown) => Value | null): Value[] | null {
  if (!Array.isArray(value)) return null;
  const list: Value[] = [];
  for (const element of value) {
    const one = read(element);
    if (one === null) return null;
    list.push(one);
  }
  return list;
}

function decodeHeartbeat([seq, state, hello, address, connections, view, nats = true]: Body): RoutingMessage | null {
  const announced = isCount(state) ? ANNOUNCED[state] : undefined;
  if (!isCount(seq) || !announced || typeof hello !== "boolean") return null;
  if (!isText(address) || !isCount(connections) || !isCount(view) || typeof nats !== "boolean") return null;
  return { type: "hb", heartbeat: { seq, state: announced, hello, address, connections, view, nats } };
}

/** Shared: nearly every entry has none, and an index holds many entries. */
const NO_LINKS: readonly number[] = [];

/** Decoded text may be a slice that keeps all text of its message alive; what an index keeps for long is a copy. */
const own = (text: string): string => Buffer.from(text).toString();

function decodeEntry(value: unknown): Entry | null {
  if (!Array.isArray(value)) return null;
  const [connection, agent, instance, process, link, lost, since, draining]: Body = value;
  const links = listOf(lost, (element) => (isCount(element) ? element : null));
  if (!isConnection(connection) || !isAgent(agent) || !isText(instance) || !isText(process)) return null;
  if (!isCount(link) || !links || !isTime(since) || typeof draining !== "boolean") return null;
  const given = links.length > 0 ? links : NO_LINKS;
  return { connection, agent, instance: own(instance), process: own(process), link, lost: given, since, draining };
}

function decodeSnap([epoch, seq, part, parts, slots, list]: Body): RoutingMessage | null {
  const entries = listOf(list, decodeEntry);
  if (!isCount(epoch) || !isCount(seq) || !isCount(part) || !isCount(parts) || part >= parts) return null;
  if (!(slots instanceof Uint8Array) || slots.length !== SLOTS / 8 || !entries) return null;
  // A copy: the original keeps the whole message in memory.
  return {
    type: "channel",
    message: { type: "snap", epoch, seq, part, parts, slots: Uint8Array.from(slots), entries },
  };
}

function decodeDelta([epoch, seq, list, gone]: Body): RoutingMessage | null {
  const put = listOf(list, decodeEntry);
  const removed = listOf(gone, (element) => (isConnection(element) ? element : null));
  if (!isCount(epoch) || !isCount(seq) || !put || !removed) return null;
  return { type: "channel", message: { type: "delta", epoch, seq, put, removed } };
}

function decodeDigest([epoch, seq, count, hash]: Body): RoutingMessage | null {
  if (!isCount(epoch) || !isCount(seq) || !isCount(count) || !isCount(hash)) return null;
  return { type: "channel", message: { type: "digest", epoch, seq, count, hash } };
}

function decodeRoute(value: unknown): HomeRoute | null {
  if (!Array.isArray(value)) return null;
  const [node, connection, draining]: Body = value;
  if (!isNode(node) || !isConnection(connection) || typeof draining !== "boolean") return null;
  return { node, connection, draining };
}

function decodePeer(value: unknown): Introduced | null {
  if (!Array.isArray(value)) return null;
  const [node, address]: Body = value;
  return isNode(node) && isText(address) && address ? { node, address } : null;
}

function decodeMembers([list]: Body): RoutingMessage | null {
  const peers = listOf(list, decodePeer);
  return peers && { type: "members", peers };
}

function decodeFound([agent, list]: Body): RoutingMessage | null {
  const routes = listOf(list, decodeRoute);
  return isAgent(agent) && routes ? { type: "found", agent, routes } : null;
}

function decodeAnswer([list, absent, mature, last]: Body): RoutingMessage | null {
  const routes = listOf(list, decodeRoute);
  const missing = listOf(absent, (element) => (isNode(element) ? element : null));
  if (!routes || !missing || typeof mature !== "boolean") return null;
  const seen = decodeSeen(last);
  return seen === undefined ? null : { type: "routes", answer: { routes, missing, mature, seen } };
}

function decodeSeen(value: unknown): HomeAnswer["seen"] | undefined {
  if (value === null || !Array.isArray(value)) return value === null ? null : undefined;
  const [ago, wall, node]: Body = value;
  return isCount(ago) && isTime(wall) && isNode(node) ? { ago, wall, node } : undefined;
}
