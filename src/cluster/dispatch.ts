/** Which part of the routing plane a message of another node is for. What does not read as one goes nowhere. */
import type { NodeId } from "../../actors/ids.ts";
import type { Holding } from "./holding.ts";
import type { HomeIndex } from "./home.ts";
import type { WireMessage } from "./messenger.ts";
import type { Presence } from "./presence.ts";
import type { Registration } from "./registration.ts";
import type { Requests } from "./requests.ts";
import { decode, encode, type RoutingMessage } from "./wire.ts";

export type Parts = {
  readonly presence: Presence;
  readonly home: HomeIndex;
  readonly holding: Holding;
  readonly registration: Registration;
  readonly requests: Requests;
};

type Reply = (message: WireMessage) => void;

export function dispatch(parts: Parts, from: NodeId, wire: WireMessage, reply?: Reply): void {
  const message = decode(wire);
  if (message) deliver(parts, from, message, reply);
}

function deliver(
  { presence, home, holding, registration, requests }: Parts,
  from: NodeId,
  message: RoutingMessage,
  reply?: Reply,
): void {
  switch (message.type) {
    case "hb":
      return presence.tell({ type: "heartbeat", from, heartbeat: message.heartbeat });
    case "outdated":
      return presence.tell({ type: "stale", incarnation: message.incarnation });
    case "channel":
      return home.receive(from, message.message);
    case "regack":
      return registration.acked(from, message.position);
    case "needsnap":
      return registration.wanted(from);
    case "lookup":
      return reply?.(encode({ type: "routes", answer: home.lookUp(from, message.agent, message.watch) }));
    case "whohas":
      return reply?.(encode({ type: "routes", answer: home.whoHas(message.agent) }));
    case "routes":
      return;
    case "found":
      return requests.found(message.agent, message.routes);
    case "members":
      return presence.tell({ type: "introduced", peers: message.peers });
    case "superseded":
      return holding.superseded(message.connection);
    case "ping":
      return reply?.(encode({ type: "ping" }));
  }
}
