/** 500 requests at once to an agent that has nothing to do: the upstream answers nobody before it has all of them. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { type Bench, type Findings, row } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import { median } from "./support/statistics.ts";

const REQUESTS = 500;

export async function* burst({ quick }: Bench): Findings {
  await using stage = await Stage.start(null);
  await stage.agent(1);
  const path = `/hold?count=${REQUESTS}`;
  const routed = stage.routed(path);
  const direct = { url: `http://${stage.upstream.address}${path}`, headers: {} };
  const [ours, theirs]: [number[], number[]] = [[], []];
  for (let i = 0; i < (quick ? 3 : 5); i++) {
    theirs.push(await volley(direct.url, direct.headers));
    ours.push(await volley(routed.url, routed.headers));
  }
  yield row({
    name: `burst of ${REQUESTS} requests to an idle agent`,
    target: "all in flight at once",
    measured: `all answered after ${median(ours).toFixed(0)} ms, first of all ${(ours[0] ?? 0).toFixed(0)} ms; direct ${median(theirs).toFixed(0)} ms`,
    ratio: `${median(ours.map((value, i) => value / (theirs[i] ?? value))).toFixed(1)} × direct`,
    met: true,
  });
}

/** Milliseconds until all were answered with 200; fails when one is not, which is also how a limit would show. */
async function volley(url: string, headers: Readonly<Record<string, string>>): Promise<number> {
  const { hostname, port, pathname, search } = new URL(url);
  const sockets = await Promise.all(
    Array.from({ length: REQUESTS }, async () => {
      const socket = connect({ port: Number(port), host: hostname });
      await once(socket, "connect");
      return socket;
    }),
  );
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const request = `GET ${pathname}${search} HTTP/1.1\r\nhost: ${hostname}\r\n${lines.join("")}\r\n`;
  const begun = performance.now();
  await Promise.all(sockets.map((socket) => answered(socket, request)));
  const took = performance.now() - begun;
  for (const socket of sockets) socket.destroy();
  return took;
}

async function answered(socket: Socket, request: string): Promise<void> {
  socket.write(request);
  const [head]: Buffer[] = await once(socket, "data", { signal: AbortSignal.timeout(30_000) });
  if (!head?.toString("latin1").startsWith("HTTP/1.1 200")) throw new Error(`a request of the burst got ${head}`);
}
