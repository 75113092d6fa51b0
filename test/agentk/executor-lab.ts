/** An executor in front of an API server with behaviour, both closed with the stack of the test that opened them. */
import { apiServer, type TestApiServer } from "./api-server.ts";
import { executorTo, type TestExecutor } from "./caller.ts";

type Lab = { readonly server: TestApiServer; readonly executor: TestExecutor };

/** Opens labs on the stack there is at the time. */
export const labOn =
  (stack: () => AsyncDisposableStack) =>
  async (listener: Parameters<typeof apiServer>[0], options: Parameters<typeof executorTo>[1] = {}): Promise<Lab> => {
    const server = stack().use(await apiServer(listener));
    return { server, executor: stack().use(executorTo(server.url, options)) };
  };

/** Resolves once `value` has not changed for some turns of the event loop that also let sockets move. */
export async function settled(value: () => number): Promise<void> {
  for (let same = 0, last = value(); same < 200; same = value() === last ? same + 1 : 0) {
    last = value();
    await new Promise((resolve) => setImmediate(resolve));
  }
}
