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

/** Compared as sums, as the timers are made: `(since + 5000) - since` may be less than 5000, and the timer would come for ever. */
const helloDue = ({ since, rules }: LinkState): Millis => since + rules.helloWithin;
const pongDue = ({ silentSince, rules }: LinkState): Millis => silentSince + rules.pongWithin;
const patience = ({ rules, streams }: LinkState): Millis => (streams.size > 0 ? rules.pingAfter : rules.idlePingAfter);

/** When `tick` wants to be called next, unless more happens. */
export function nextTick(link: LinkState): Millis {
  if (link.phase === "greeting") return helloDue(link);
  const at = link.silentSince >= 0 ? pongDue(link) : link.heard + patience(link);
  return Math.max(at, link.now + COARSE);
}

export function tick(link: LinkState, now: Millis, due: Millis): void {
  link.now = now;
  if (link.phase === "closed") return;
  if (link.phase === "greeting") {
    if (now < helloDue(link)) return;
    const why = failure("deadline", `the other side did not finish its HELLO within ${link.rules.helloWithin} ms`);
    end(link, { why, tell: true });
    return;
  }
  if (link.silentSince >= 0) {
    if (now - due > LATE) link.silentSince = now;
    else if (now >= pongDue(link)) {
      const silent = Math.round(now - link.heard);
      link.silent = true;
      end(link, { why: failure("node-gone", `the other side of the link was silent for ${silent} ms`), tell: true });
    }
  } else if (now >= link.heard + patience(link)) {
    link.pingDue = true;
    link.silentSince = now;
  }
}
