/**
 * Names on the bus. NATS permissions match whole tokens, so every part that differs between clusters or nodes is a token:
 * `<prefix>.<cluster>.v1.…`.
 */
import type { NodeId, NodeName } from "../../actors/ids.ts";
import { failed } from "../failed.ts";

export type Subjects = {
  /** Heartbeats: every node subscribes. */
  readonly heartbeat: string;
  /** Everything else that is for every node. */
  readonly all: string;
  /** What is for one process of one node. */
  node(id: NodeId): string;
};

const TOKEN = /^[A-Za-z0-9_-]+$/;

function token(what: string, value: string): string {
  if (!TOKEN.test(value)) {
    throw failed("invalid", `${what} is ${JSON.stringify(value)}: it must be of letters, digits, "_" and "-" only`);
  }
  return value;
}

export function createSubjects(prefix: string, cluster: string): Subjects {
  const root = `${token("nats.subject_prefix", prefix)}.${token("cluster.name", cluster)}.v1`;
  return { heartbeat: `${root}.hb`, all: `${root}.all`, node: (id) => `${root}.n.${id}.ctl` };
}

/** Where answers to a node's requests arrive; a NATS user of that node needs to subscribe to `<this>.>`. */
export const inboxPrefix = (name: NodeName): string => `_INBOX_${name}`;
