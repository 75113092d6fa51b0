/**
 * A message between nodes as bytes: a positional msgpack array and an HMAC-SHA256 over all of it. Nothing is decoded
 * before its signature was checked, and nothing is accepted twice. Knows no bus: whatever moves bytes can carry it.
 */
import { createHmac, createSecretKey, hkdfSync, type KeyObject, timingSafeEqual } from "node:crypto";
import { Packr } from "msgpackr";
import type { NodeId } from "../../actors/ids.ts";
import { failed } from "../failed.ts";
import { ReplayWindow } from "./replay.ts";

const VERSION = 1;
const MAC_BYTES = 32;
const NODE_ID = /^[a-z0-9-]{1,63}\.\d{1,16}$/;

export type Envelope = {
  readonly cluster: string;
  readonly sender: NodeId;
  /** Rises with every envelope of this sender; never used twice by one incarnation. */
  readonly count: number;
  readonly subject: string;
  /** Where the answer goes, "" when none is awaited. */
  readonly reply: string;
  readonly type: string;
  readonly body: unknown;
};

/** Why an envelope was dropped. `stale`: of an incarnation that was replaced. */
export const REFUSALS = ["signature", "malformed", "version", "cluster", "subject", "replay", "stale"] as const;
export type Refusal = (typeof REFUSALS)[number];

const packr = new Packr({ useRecords: false });

/** The key that signs envelopes, derived for this use alone. */
export const envelopeKey = (secret: Uint8Array): KeyObject =>
  createSecretKey(new Uint8Array(hkdfSync("sha256", secret, new Uint8Array(0), "bus", 32)));

const sign = (key: KeyObject, bytes: Uint8Array): Buffer => createHmac("sha256", key).update(bytes).digest();

export function encodeEnvelope(envelope: Envelope, key: KeyObject): Uint8Array {
  const { cluster, sender, count, subject, reply, type, body } = envelope;
  const fields = packr.pack([VERSION, cluster, sender, count, subject, reply, type, body]);
  return Buffer.concat([fields, sign(key, fields)]);
}

/** Checks the signature with each key in turn, then decodes. */
export function decodeEnvelope(bytes: Uint8Array, keys: readonly KeyObject[]): Envelope | Refusal {
  if (bytes.length <= MAC_BYTES) return "malformed";
  const fields = bytes.subarray(0, bytes.length - MAC_BYTES);
  const mac = bytes.subarray(bytes.length - MAC_BYTES);
  if (!keys.some((key) => timingSafeEqual(sign(key, fields), mac))) return "signature";
  let value: unknown;
  try {
    value = packr.unpack(fields);
  } catch {
    return "malformed";
  }
  return Array.isArray(value) ? envelopeOf(value) : "malformed";
}

function envelopeOf([version, cluster, sender, count, subject, reply, type, body]: readonly unknown[]):
  | Envelope
  | Refusal {
  if (version !== VERSION) return "version";
  if (typeof sender !== "string" || !NODE_ID.test(sender)) return "malformed";
  if (typeof count !== "number" || !Number.isSafeInteger(count) || count < 1) return "malformed";
  if (typeof cluster !== "string" || typeof subject !== "string") return "malformed";
  if (typeof reply !== "string" || typeof type !== "string") return "malformed";
  return { cluster, sender: sender as NodeId, count, subject, reply, type, body };
}

export type EnvelopesOptions = {
  readonly cluster: string;
  readonly self: NodeId;
  /** The first signs; every one is accepted. */
  readonly secrets: readonly Uint8Array[];
};

/** Where an envelope came out: what it says of itself must agree. */
export type Arrival = { readonly subject: string; readonly reply: string };

/**
 * Seals and opens the envelopes of one node. One per node, shared by everything that carries envelopes, so that counts
 * never repeat and what came over one way is not taken again from another.
 */
export class Envelopes {
  readonly #cluster: string;
  #self: NodeId;
  readonly #keys: readonly KeyObject[];
  readonly #signing: KeyObject;
  readonly #window = new ReplayWindow();
  readonly #refused: Record<Refusal, number> = {
    signature: 0,
    malformed: 0,
    version: 0,
    cluster: 0,
    subject: 0,
    replay: 0,
    stale: 0,
  };
  #count = 0;

  constructor({ cluster, self, secrets }: EnvelopesOptions) {
    this.#cluster = cluster;
    this.#self = self;
    this.#keys = secrets.map(envelopeKey);
    const [signing] = this.#keys;
    if (!signing) throw failed("invalid", "messages between nodes need a secret: set private_api's secret file");
    this.#signing = signing;
  }

  /** How many envelopes were dropped, and why; only grows. */
  get refused(): Readonly<Record<Refusal, number>> {
    return this.#refused;
  }

  /** We are this process of our name from now on; counts go on. */
  renamed(self: NodeId): void {
    this.#self = self;
  }

  seal(subject: string, reply: string, type: string, body: unknown): Uint8Array {
    this.#count += 1;
    const envelope = { cluster: this.#cluster, sender: this.#self, count: this.#count, subject, reply, type, body };
    return encodeEnvelope(envelope, this.#signing);
  }

  /** Null: drop it (our own, or refused and counted). */
  open(bytes: Uint8Array, arrival?: Arrival): Envelope | null {
    const envelope = decodeEnvelope(bytes, this.#keys);
    if (typeof envelope === "string") return this.#refuse(envelope);
    if (envelope.cluster !== this.#cluster) return this.#refuse("cluster");
    if (envelope.sender === this.#self) return null;
    if (arrival && (arrival.subject !== envelope.subject || arrival.reply !== envelope.reply)) {
      return this.#refuse("subject");
    }
    const admission = this.#window.admit(envelope.sender, envelope.count);
    return admission === "fresh" ? envelope : this.#refuse(admission);
  }

  #refuse(refusal: Refusal): null {
    this.#refused[refusal] += 1;
    return null;
  }
}
