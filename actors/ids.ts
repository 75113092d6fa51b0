/** Names of things, branded so that one cannot be passed for another. */

declare const brand: unique symbol;
type Branded<Value, Name extends string> = Value & { readonly [brand]: Name };

/** The logical remote, as GitLab numbers it: a positive safe integer. */
export type AgentId = Branded<number, "AgentId">;

/** A node's place on the ring: `[a-z0-9-]+`, the same after every restart. */
export type NodeName = Branded<string, "NodeName">;

/** One process of a node: `<name>.<incarnation>`; a restart is another member. */
export type NodeId = Branded<string, "NodeId">;

/** Counter of the holder; (NodeId, ConnectionId) is never used twice. Starts at 1. */
export type ConnectionId = Branded<number, "ConnectionId">;

/** One request at its ingress; unique in the cluster. */
export type RequestId = Branded<string, "RequestId">;

export const isAgentId = (value: number): value is AgentId => Number.isSafeInteger(value) && value > 0;

const NODE_NAME = /^[a-z0-9-]{1,63}$/;
export const isNodeName = (value: string): value is NodeName => NODE_NAME.test(value);

export const nodeId = (name: NodeName, incarnation: number): NodeId => `${name}.${incarnation}` as NodeId;
export const nameOf = (node: NodeId): NodeName => node.slice(0, node.lastIndexOf(".")) as NodeName;
export const incarnationOf = (node: NodeId): number => Number(node.slice(node.lastIndexOf(".") + 1));
