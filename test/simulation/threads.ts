/** Many seeds on all cores: each thread takes the next seed when it has ended one. */
import { availableParallelism } from "node:os";
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { type Run, simulateSeed } from "./simulate.ts";

export type Seeds = { readonly first: number; readonly count: number };

/** Below this a thread takes longer to start than it saves. */
const WORTH_A_THREAD = 4;

/** Every run, in the order in which they end. A consumer that leaves ends the threads. */
export async function* simulateSeeds({ first, count }: Seeds): AsyncGenerator<Run> {
  const end = first + count;
  const threads = Math.min(availableParallelism(), Math.floor(count / WORTH_A_THREAD));
  if (threads < 2) {
    for (let seed = first; seed < end; seed++) yield await simulateSeed(seed);
    return;
  }
  const workers = Array.from({ length: threads }, () => new Worker(new URL(import.meta.url)));
  try {
    let next = first;
    const ended = new Map(workers.map((worker) => [worker, runOn(worker, next++)]));
    while (ended.size > 0) {
      const { worker, run } = await Promise.race(ended.values());
      if (next < end) ended.set(worker, runOn(worker, next++));
      else ended.delete(worker);
      yield run;
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

function runOn(worker: Worker, seed: number): Promise<{ readonly worker: Worker; readonly run: Run }> {
  return new Promise((resolve, reject) => {
    const settle = (then: () => void) => {
      worker.off("message", done);
      worker.off("error", broken);
      then();
    };
    const done = (run: Run) => settle(() => resolve({ worker, run }));
    const broken = (error: unknown) =>
      settle(() => reject(new Error(`seed ${seed} ended its thread`, { cause: error })));
    worker.on("message", done);
    worker.on("error", broken);
    worker.postMessage(seed);
  });
}

if (!isMainThread) parentPort?.on("message", async (seed: number) => parentPort?.postMessage(await simulateSeed(seed)));
