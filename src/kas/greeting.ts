/** What this node says of itself on every link, and what it expects of others. */
import { randomBytes } from "node:crypto";
import { type Failure, failure } from "../../actors/failure.ts";
import { type NodeId, nameOf } from "../../actors/ids.ts";
import type { Hello } from "../link/link.ts";

/** Versions of the link protocol this build speaks. */
const VERSIONS = [1, 1] as const;
const STREAM_WINDOW_BYTES = 64 * 1024;

export type Identity = { readonly cluster: string; readonly self: NodeId; readonly version: string };

/** `expects`: the node's name we want to reach, "" for any. `agent`: which agent its token makes the other side. */
export const helloOf = ({ cluster, self, version }: Identity, expects = "", agent = ""): Hello => ({
  cluster,
  name: nameOf(self),
  role: "kas",
  expects,
  versions: VERSIONS,
  capabilities: [],
  streamWindow: STREAM_WINDOW_BYTES,
  instance: agent,
  process: "",
  link: 0,
  lost: [],
  version,
  node: self,
  nonce: randomBytes(16).toString("hex"),
});

/** A peer must be kas, of our cluster, and the very process we mean where we dialled one. */
export function checkPeer({ cluster, self }: Identity, theirs: Hello, expects: NodeId | null): Failure | null {
  if (theirs.role !== "kas") return failure("protocol", "only kas nodes talk to this listener; agents dial another");
  if (theirs.cluster !== cluster) {
    return failure(
      "protocol",
      `it belongs to the cluster ${theirs.cluster}, this node to ${cluster}: see cluster.name`,
    );
  }
  if (expects && theirs.node !== expects) {
    return failure("node-gone", `at that address answers ${theirs.node}, not ${expects}`);
  }
  if (theirs.expects && theirs.expects !== nameOf(self)) {
    return failure(
      "protocol",
      `it expects the node ${theirs.expects}, this one is ${nameOf(self)}: see OWN_PRIVATE_API_URL`,
    );
  }
  return null;
}
