/** Sockets between nodes: dialling one with a deadline, over TLS where this node's own private API has a certificate. */
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { Millis } from "../../actors/actor.ts";
import { failure } from "../../actors/failure.ts";
import type { Dial } from "../cluster/peers.ts";
import { socketCarrier } from "../link/carriers/socket.ts";
import { parseAddress } from "../net/address.ts";
import type { Clock } from "../runtime/clock.ts";

/** Within a data centre a node that does not answer in this time is not going to. */
const DIAL_WITHIN: Millis = 2_000;

export type PeerTls = {
  /** PEM; absent: the system's authorities. */
  readonly ca?: Buffer;
  /** Name in the other nodes' certificates; absent: the host we dial. */
  readonly serverName?: string;
};

export const dialPeer =
  (clock: Clock, tls: PeerTls | null): Dial =>
  (address, done) => {
    const { host, port } = parseAddress(address);
    const socket: Socket = tls
      ? connectTls({ host, port, ...(tls.ca && { ca: tls.ca }), servername: tls.serverName ?? nameOrNothing(host) })
      : connect({ host, port });
    let settled = false;
    const settle = (reason: string | null) => {
      if (settled) return;
      settled = true;
      timer[Symbol.dispose]();
      if (reason === null) {
        done(socketCarrier(socket));
        return;
      }
      socket.destroy();
      done(failure("node-gone", reason));
    };
    const timer = clock.schedule(clock.now() + DIAL_WITHIN, () => settle(`no answer within ${DIAL_WITHIN} ms`));
    socket.once(tls ? "secureConnect" : "connect", () => settle(null));
    socket.on("error", (error) => settle(error.message));
    return {
      [Symbol.dispose]() {
        if (settled) return;
        settled = true;
        timer[Symbol.dispose]();
        socket.destroy();
      },
    };
  };

/** TLS has no names that are addresses. */
const nameOrNothing = (host: string): string => (/^[\d.]+$|:/.test(host) ? "" : host);
