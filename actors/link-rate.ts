/**
 * What the other side may make us do in a second. OPENs and RESETs have one budget; frames that no credit bounds (PING, STOP,
 * CREDIT, those of streams that are over …) another, to which every half KiB that we send adds one: credit answers data.
 * Counted in one place and compared with the clock only where a budget is used up, because most frames pass by here.
 */
import type { Millis } from "./actor.ts";
import { KIB, MIB } from "./credit.ts";
import type { LinkState } from "./link.ts";

const SECOND: Millis = 1_000;
const SENT_PER_CONTROL = KIB / 2;
const CTL_PER_SECOND = 32 * MIB;

function renew(link: LinkState): void {
  if (link.now - link.rateSince < SECOND) return;
  link.rateSince = link.now;
  link.rate = 0;
  link.controls = 0;
  link.ctlCame = 0;
  link.sentBefore = link.sent;
}

/** One more OPEN or RESET. Whoever floods us with them finds its OPENs refused. */
export function overRate(link: LinkState): boolean {
  renew(link);
  link.rate++;
  return link.rate > link.rules.opensPerSecond;
}

/** One more frame that costs the other side nothing. */
export function overControls(link: LinkState): boolean {
  link.controls++;
  const most = link.rules.controlsPerSecond;
  if (link.controls <= most) return false;
  renew(link);
  return link.controls > most + (link.sent - link.sentBefore) / SENT_PER_CONTROL;
}

/** So many bytes of CTL more: above the budget they are dropped, as CTL may be. */
export function overCtl(link: LinkState, bytes: number): boolean {
  renew(link);
  link.ctlCame += bytes;
  return link.ctlCame > CTL_PER_SECOND;
}
