/** A kas in memory for the connector's tests: it accepts every dial, or refuses it as told, and opens streams that echo. */
import type { Failure, FailureCode } from "../../actors/failure.ts";
import type { Dial } from "../../src/agentk/dial.ts";
import { failed } from "../../src/failed.ts";
import { type MemoryCarrier, memoryCarriers } from "../../src/link/carriers/memory.ts";
import type { Carrier, Hello, Link } from "../../src/link/link.ts";
import { encodeOpen } from "../../src/link/messages.ts";
import { openLink } from "../../src/link/multiplexer.ts";
import type { Stream, StreamHandler } from "../../src/link/stream.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { anOpen } from "./caller.ts";

/** kas's end of one link that the agent dialled. */
type Accepted = { readonly link: Link; readonly carrier: MemoryCarrier; agent: Hello | null; closed: Failure | null };

export class MemoryKas {
  readonly clock = new VirtualClock();
  readonly accepted: Accepted[] = [];
  readonly said: string[] = [];
  refuse: Failure | null = null;
  unreadableToken = false;
  dials = 0;
  node = "kas-0";
  versions: readonly [number, number] = [1, 1];

  readonly dial: Dial = () => {
    this.dials++;
    if (this.unreadableToken) throw failed("invalid", "cannot read the token file");
    const [theirs, ours] = memoryCarriers();
    const { refuse } = this;
    if (refuse) setImmediate(() => theirs.destroy());
    else this.#accept(ours);
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const carrier: Carrier = {
      maxBatchBytes: theirs.maxBatchBytes,
      maxBatches: theirs.maxBatches,
      write: (...batch) => theirs.write(...batch),
      onData: () => {},
      onClosed: () => {},
      end: () => theirs.end(),
      destroy: () => theirs.destroy(),
    };
    theirs.onData = (chunk) => carrier.onData(chunk);
    theirs.onClosed = (reason) => {
      resolve();
      carrier.onClosed(reason);
    };
    return { carrier, refusal: () => refuse, ended };
  };

  #accept(carrier: MemoryCarrier): void {
    const accepted: { -readonly [Key in keyof Accepted]: Accepted[Key] | null } & { agent: Hello | null } = {
      link: null,
      carrier,
      agent: null,
      closed: null,
    };
    const hello: Hello = {
      cluster: "default",
      name: this.node,
      role: "kas",
      expects: "",
      versions: this.versions,
      capabilities: [],
      streamWindow: 64 * 1024,
      instance: "7",
      process: "",
      link: 0,
      lost: [],
      version: "0",
      node: `${this.node}.1`,
      nonce: "",
    };
    accepted.link = openLink({
      clock: this.clock,
      carrier,
      role: "acceptor",
      hello,
      check: () => null,
      events: {
        up: (agent) => {
          accepted.agent = agent;
        },
        open: () => {
          throw failed("protocol", "agents open no streams");
        },
        ready() {},
        drain() {},
        ctl() {},
        closed: (reason) => {
          accepted.closed = reason;
        },
      },
    });
    this.accepted.push(accepted as Accepted);
  }

  link(number: number): Accepted {
    const found = this.accepted[number - 1];
    if (!found) throw failed("internal", `no link ${number}`);
    return found;
  }
}

export class Echoed implements StreamHandler {
  text = "";
  over: "ended" | FailureCode | null = null;
  stream: Stream | null = null;
  accepted(): void {}
  head(): void {}
  data(bytes: Uint8Array): void {
    this.text += Buffer.from(bytes);
    this.stream?.consumed(bytes.length);
  }
  trailer(): void {}
  end(): void {
    this.over = "ended";
  }
  stopped(): void {}
  reset({ failure: { code } }: { readonly failure: Failure }): void {
    this.over = code;
  }
  sent(): void {}
  closed(): void {}
}

/** A stream of kas on one of its links that echoes what it is given, until its end. */
export function openEcho({ link }: Accepted): Echoed & { readonly stream: Stream | null } {
  const echoed = new Echoed();
  echoed.stream = link.open(encodeOpen(anOpen({ kind: "grpc", method: "/kas.agent.v1.Echo/Echo" })), echoed, 1);
  return echoed;
}
