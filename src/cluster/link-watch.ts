/** Tells membership, twice a second, when each peer link was last heard: a frame proves that its node lives also while NATS is silent. */
import type { Millis } from "../../actors/actor.ts";
import type { NodeId } from "../../actors/ids.ts";
import type { Clock } from "../runtime/clock.ts";

export type LinkWatchOptions = {
  readonly clock: Clock;
  /** Links that are up. */
  readonly links: () => Iterable<readonly [NodeId, { readonly heard: Millis }]>;
  readonly heard: (node: NodeId, at: Millis) => void;
  /** Shorter than half the silence that counts. */
  readonly every?: Millis;
};

export function watchLinks({ clock, links, heard, every = 500 }: LinkWatchOptions): Disposable {
  let timer = clock.schedule(clock.now() + every, look);
  function look(): void {
    timer = clock.schedule(clock.now() + every, look);
    for (const [node, link] of [...links()]) heard(node, link.heard);
  }
  return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
}
