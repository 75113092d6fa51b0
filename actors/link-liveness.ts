/**
 * Time for a link: the HELLO's deadline, PINGs when it is silent, and its loss. Any byte that comes is life.
 * Being called late (this process was stopped or busy) is never held against the other side.
 */
import type { Millis } from "./actor.ts";
import { failure } from "./failure.ts";
import { end, type LinkState } from "./link.ts";

/** How late a tick may be before we suspect ourselves. */
const LATE: Millis = 1_000;
const COARSE: Millis = 250;

const patience = ({ rules, streams }: LinkState): Millis => (streams.size > 0 ? rules.pingAfter : rules.idlePingAfter);

/** When `tick` wants to be called next, unless more happens. */
export function nextTick(link: LinkState): Millis {
  if (link.phase === "greeting") return link.since + link.rules.helloWithin;
  const at = link.silentSince >= 0 ? link.silentSince + link.rules.pongWithin : link.heard + patience(link);
  return Math.max(at, link.now + COARSE);
}

export function tick(link: LinkState, now: Millis, due: Millis): void {
  link.now = now;
  if (link.phase === "closed") return;
  if (link.phase === "greeting") {
    if (now - link.since < link.rules.helloWithin) return;
    const why = failure("deadline", `the other side did not finish its HELLO within ${link.rules.helloWithin} ms`);
    end(link, { why, tell: true });
    return;
  }
  if (link.silentSince >= 0) {
    if (now - due > LATE) link.silentSince = now;
    else if (now - link.silentSince >= link.rules.pongWithin) {
      const silent = Math.round(now - link.heard);
      end(link, { why: failure("node-gone", `the other side of the link was silent for ${silent} ms`), tell: true });
    }
  } else if (now - link.heard >= patience(link)) {
    link.pingDue = true;
    link.silentSince = now;
  }
}
