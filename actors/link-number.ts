/** Frames that carry one number: CREDIT of a stream or of the link, PING and PONG, CLOSE. */
import { IDLE_BYTES, measured } from "./credit.ts";
import { failure } from "./failure.ts";
import { FRAME } from "./frame.ts";
import { abort, type LinkState, seat } from "./link.ts";
import { accepted, affords, find, violate } from "./link-receive.ts";

export function receiveNumber(link: LinkState, type: number, id: number, value: number): void {
  if (link.phase === "closed" || !affords(link)) return;
  if (type === FRAME.credit && id > 0) {
    receiveCredit(link, id, value);
    return;
  }
  if (id !== 0) {
    violate(link, `a frame of type ${type} on stream ${id}`);
    return;
  }
  switch (type) {
    case FRAME.credit:
      link.window.unacknowledged -= value;
      if (link.window.unacknowledged < 0) violate(link, "it acknowledged more than we sent");
      return;
    case FRAME.ping:
      link.pongDue = value;
      return;
    case FRAME.pong:
      if (value !== link.pingToken || link.pingSent < 0) return;
      measured(link.window, link.now - link.pingSent, link.pingFull, quiet(link));
      link.pingSent = -1;
      return;
    case FRAME.close:
      receiveClose(link, value);
      return;
    default:
      violate(link, `a frame of type ${type} with a number`);
  }
}

/** Was little on its way, there and back, while the PING was? */
const quiet = (link: LinkState): boolean =>
  link.pingBefore < IDLE_BYTES && link.received - link.pingReceived < IDLE_BYTES;

const MAX_CREDIT = 2 ** 31;

function receiveCredit(link: LinkState, id: number, value: number): void {
  const s = find(link, id);
  if (!s) return;
  s.credit += value;
  if (s.credit > MAX_CREDIT) {
    violate(link, `credit above ${MAX_CREDIT} on stream ${id}`);
    return;
  }
  accepted(s);
  if (!s.over) seat(link, s);
}

/** The other side looked at none of our streams above `last`: proof for them. */
function receiveClose(link: LinkState, last: number): void {
  if (link.closeReceived) {
    violate(link, "CLOSE twice");
    return;
  }
  link.closeReceived = true;
  if (link.phase === "up") link.phase = "closing";
  const reset = { failure: failure("draining", "the other side closes this link; nothing ran"), unprocessed: true };
  for (const s of link.unopened) abort(link, s, reset);
  for (const s of [...link.streams.values()]) if (s.own && s.id > last) abort(link, s, reset);
  link.port.drain();
}
