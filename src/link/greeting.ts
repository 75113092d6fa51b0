/**
 * The exchange of HELLOs at the start of a link. Each side says its own at once; with a secret each then proves it,
 * and only a proof makes the link up. Whatever does not fit ends the link with the failure that says why.
 */
import { type Failure, failure } from "../../actors/failure.ts";
import { FLAG_PROOF } from "../../actors/frame.ts";
import { failureOf } from "../status.ts";
import { decodeHello, encodeHello, type Greeters, proofs, proves, type Side } from "./hello.ts";
import type { Hello, LinkOptions } from "./link.ts";

export interface GreetingPort {
  say(flags: number, payload: Uint8Array): void;
  up(theirs: Hello): void;
  refuse(failure: Failure): void;
}

export class Greeting {
  readonly #options: LinkOptions;
  readonly #port: GreetingPort;
  readonly #secrets: readonly Uint8Array[];
  #theirs: Hello | null = null;

  constructor(options: LinkOptions, port: GreetingPort) {
    this.#options = options;
    this.#port = port;
    const { secret } = options;
    this.#secrets = secret === undefined ? [] : secret instanceof Uint8Array ? [secret] : secret;
  }

  start(): void {
    this.#port.say(0, encodeHello(this.#options.hello));
  }

  receive(flags: number, payload: Uint8Array): void {
    const refusal = flags & FLAG_PROOF ? this.#receiveProof(payload) : this.#receiveHello(payload);
    if (refusal) this.#port.refuse(refusal);
  }

  #receiveHello(payload: Uint8Array): Failure | null {
    if (this.#theirs) return failure("protocol", "the other side said HELLO twice");
    let theirs: Hello;
    try {
      theirs = decodeHello(payload);
    } catch (error) {
      return failureOf(error);
    }
    const refusal = mismatch(this.#options.hello, theirs) ?? this.#options.check(theirs);
    if (refusal) return refusal;
    this.#theirs = theirs;
    if (this.#secrets.length === 0) this.#port.up(theirs);
    else this.#port.say(FLAG_PROOF, proofs(this.#secrets, this.#options.role, this.#greeters(theirs)));
    return null;
  }

  #receiveProof(payload: Uint8Array): Failure | null {
    const theirs = this.#theirs;
    if (!theirs || this.#secrets.length === 0) return failure("protocol", "the other side proved what was not asked");
    const prover: Side = this.#options.role === "dialler" ? "acceptor" : "dialler";
    if (!proves(payload, this.#secrets, prover, this.#greeters(theirs))) {
      const secret = "the private API secret: both nodes must be configured with the same";
      return failure("forbidden", `${theirs.name} did not prove that it has ${secret}`);
    }
    this.#port.up(theirs);
    return null;
  }

  #greeters(theirs: Hello): Greeters {
    const { hello, role } = this.#options;
    return role === "dialler" ? { dialler: hello, acceptor: theirs } : { dialler: theirs, acceptor: hello };
  }
}

/** What every link asks of a HELLO, whoever its user is. */
function mismatch(ours: Hello, theirs: Hello): Failure | null {
  if (ours.cluster && theirs.cluster && ours.cluster !== theirs.cluster) {
    return failure(
      "invalid",
      `${theirs.name} is of cluster ${theirs.cluster}, this is ${ours.name} of ${ours.cluster}`,
    );
  }
  if (theirs.expects && theirs.expects !== ours.name) {
    return failure(
      "invalid",
      `${theirs.name} expected ${theirs.expects} here, this is ${ours.name}: check the address`,
    );
  }
  if (ours.expects && ours.expects !== theirs.name) {
    return failure("invalid", `${ours.name} expected ${ours.expects}, but ${theirs.name} answered: check the address`);
  }
  if (Math.max(ours.versions[0], theirs.versions[0]) > Math.min(ours.versions[1], theirs.versions[1])) {
    const speaks = ({ name, versions }: Hello) => `${name} speaks versions ${versions[0]} to ${versions[1]}`;
    return failure("invalid", `no link version in common: ${speaks(ours)}, ${speaks(theirs)}; upgrade the older`);
  }
  return null;
}
