/**
 * HELLO on the wire, and the proof that two peers share a secret. A positional msgpack array: fields are only appended,
 * what an older sender did not send takes its neutral value.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { Packr } from "msgpackr";
import { failed } from "../failed.ts";
import type { Hello } from "./link.ts";

const packr = new Packr({ useRecords: false });

export const encodeHello = (h: Hello): Uint8Array =>
  packr.pack([
    h.cluster,
    h.name,
    h.role,
    h.expects,
    h.versions,
    h.capabilities,
    h.streamWindow,
    h.instance,
    h.process,
    h.link,
    h.lost,
    h.version,
    h.node,
    h.nonce,
  ]);

const MAX_WINDOW = 2 ** 30;
const str = (value: unknown): string => (typeof value === "string" ? value : "");
const num = (value: unknown): number => (typeof value === "number" && value >= 0 ? value : 0);
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

/** Throws `protocol` when the payload is not a HELLO. */
export function decodeHello(payload: Uint8Array): Hello {
  let value: unknown;
  try {
    value = packr.unpack(payload);
  } catch (cause) {
    throw failed("protocol", "HELLO is not msgpack", cause);
  }
  if (!Array.isArray(value)) throw failed("protocol", "HELLO is not an array");
  const versions = list(value[4]);
  return {
    cluster: str(value[0]),
    name: str(value[1]),
    role: value[2] === "kas" ? "kas" : "agent",
    expects: str(value[3]),
    versions: [num(versions[0]), num(versions[1])],
    capabilities: list(value[5]).map(str),
    streamWindow: Math.min(num(value[6]), MAX_WINDOW),
    instance: str(value[7]),
    process: str(value[8]),
    link: num(value[9]),
    lost: list(value[10]).map(num),
    version: str(value[11]),
    node: str(value[12]),
    nonce: str(value[13]),
  };
}

const PROOF_BYTES = 32;
const MAX_PROOFS = 4;

export type Side = "dialler" | "acceptor";
export type Greeters = { readonly dialler: Hello; readonly acceptor: Hello };

/** What `prover` must be able to compute: bound to its side, both names and both nonces, so that it cannot be sent back. */
function proof(secret: Uint8Array, prover: Side, { dialler, acceptor }: Greeters): Buffer {
  const said = [dialler, acceptor].map((h) => [h.cluster, h.name, h.node, h.nonce]);
  return createHmac("sha256", secret)
    .update(JSON.stringify(["kas link 1", prover, said]))
    .digest();
}

/** One proof per secret, in a row. */
export const proofs = (secrets: readonly Uint8Array[], prover: Side, greeters: Greeters): Uint8Array =>
  Buffer.concat(secrets.slice(0, MAX_PROOFS).map((secret) => proof(secret, prover, greeters)));

/** Does any of the proofs given fit any of our secrets? */
export function proves(given: Uint8Array, secrets: readonly Uint8Array[], prover: Side, greeters: Greeters): boolean {
  if (given.length % PROOF_BYTES !== 0 || given.length > MAX_PROOFS * PROOF_BYTES) return false;
  const expected = secrets.map((secret) => proof(secret, prover, greeters));
  let fits = false;
  for (let at = 0; at < given.length; at += PROOF_BYTES) {
    const one = given.subarray(at, at + PROOF_BYTES);
    for (const other of expected) fits = timingSafeEqual(one, other) || fits;
  }
  return fits;
}
