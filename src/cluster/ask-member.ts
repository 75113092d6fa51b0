/** One question to one member and its one answer. Settles in time, whatever the member does. */
import type { Millis } from "../../actors/actor.ts";
import type { NodeId } from "../../actors/ids.ts";
import type { Clock } from "../runtime/clock.ts";
import { askNode } from "./node-service.ts";
import type { Peers } from "./peers.ts";

export type AskOptions = { readonly clock: Clock; readonly peers: Peers };

/** Null: it did not answer within `within`, cannot be reached, or does not know the method. */
export function askMember(
  { clock, peers }: AskOptions,
  node: NodeId,
  method: string,
  question: unknown,
  within: Millis,
): Promise<unknown> {
  return new Promise((resolve) => {
    let answer: unknown = null;
    let call: Disposable | null = null;
    const settle = () => {
      timer[Symbol.dispose]();
      dialling[Symbol.dispose]();
      resolve(answer);
    };
    const timer = clock.schedule(clock.now() + within, () => (call ? call[Symbol.dispose]() : settle()));
    const dialling = peers.use(node, (link) => {
      if ("code" in link) return void queueMicrotask(settle);
      const message = (said: unknown) => {
        answer = said;
      };
      call = askNode(link, method, question, { message, ended: settle });
    });
  });
}
