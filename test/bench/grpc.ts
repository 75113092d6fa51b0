/**
 * Gateway.Request and Gateway.Stream through two nodes, beside a bare grpc-js echo, unary and bidirectional: 32 callers on 4
 * connections, as Rails' channels have it.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { create, toBinary } from "@bufbuild/protobuf";
import { Gateway, HttpRequestSchema, StreamRequestSchema } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { GatewayClient, jwt } from "../e2e/support/gateway-client.ts";
import { explain } from "./support/explain.ts";
import { h2load } from "./support/load.ts";
import { instant } from "./support/profile.ts";
import { type Contestant, cpuText, inRounds, type Result, rateText, ratio, rssText, warmUp } from "./support/rounds.ts";
import { atLeast, type Bench, type Finding, type Findings, row, size } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import type { Watched } from "./support/usage.ts";

const ASKED = {
  agentId: 1n,
  target: { kind: { case: "service", value: "upstream" } },
  method: "GET",
  path: "/",
  actor: "user:root",
} as const;
const GROUP = "gRPC, 32 callers";

export async function* grpc({ quick, profile, say }: Bench): Findings {
  if (profile) mkdirSync(profile, { recursive: true });
  await using stage = await Stage.start(profile);
  await stage.agent(1);
  await proveIt(stage);
  const short = quick || profile !== null;
  const all = await contestants(stage);
  const chosen = short ? all.slice(0, 2) : all;
  await warmUp(chosen);
  const from = instant();
  const results = await inRounds(chosen, 3, short ? 1 : 3);
  yield* findings(results, "Request", "unary", 0.5);
  if (!short) yield* findings(results, "Stream", "bidirectional", null);
  if (profile) await explain(stage, profile, { from, to: instant() }, say);
}

function* findings(
  results: ReadonlyMap<string, Result>,
  ours: string,
  theirs: string,
  promised: number | null,
): Generator<Finding> {
  const [routed, echo] = [results.get(ours), results.get(theirs)];
  if (!routed || !echo) return;
  const share = ratio(routed.rates, echo.rates);
  yield row({
    name: `Gateway.${ours}, 32 callers, two nodes`,
    measured: rateText(routed),
    ratio: `${share.toFixed(2)} × grpc-js echo`,
    cpu: cpuText(routed),
    rss: rssText(routed),
    ...(promised && { target: `≥ ${promised} × grpc-js echo`, reached: atLeast(share, promised) }),
  });
  yield row({ name: `bare grpc-js ${theirs} echo, 32 callers`, measured: rateText(echo), cpu: cpuText(echo) });
  yield { type: "curve", curve: { group: GROUP, name: `Gateway.${ours}`, latency: routed.latency } };
  yield { type: "curve", curve: { group: GROUP, name: `${theirs} echo`, latency: echo.latency } };
  const [[name, micros] = ["", Number.NaN]] = routed.cpu;
  const carries = `${(1e6 / micros).toFixed(0)} requests/s`;
  yield size(`one core of the ${name}, Gateway.${ours}`, carries, `1 s ÷ ${micros.toFixed(0)} µs of CPU`);
}

/** h2load sees HTTP statuses only, so one call of each shows first that the answer is what it should be. */
async function proveIt(stage: Stage): Promise<void> {
  const { cluster } = stage;
  using client = new GatewayClient({ address: cluster.node(0).address("api"), secret: cluster.secrets.api });
  const { status, body } = await client.unary(Gateway.method.request, ASKED);
  if (status !== 200 || body.length !== 1024)
    throw new Error(`Gateway.Request answered ${status}, ${body.length} bytes`);
  const call = client.bidi(Gateway.method.stream);
  call.write(create(StreamRequestSchema, { part: { case: "head", value: ASKED } }));
  call.end();
  let bytes = 0;
  for await (const { part } of call) bytes += part.case === "data" ? part.value.length : 0;
  if (bytes !== 1024) throw new Error(`Gateway.Stream answered ${bytes} bytes`);
}

async function contestants(stage: Stage): Promise<readonly Contestant[]> {
  const { dir, cluster } = stage;
  const echo = await stage.server("grpc-echo");
  const log = dir.file("h2load.log");
  const file = (name: string, message: Uint8Array): string => {
    writeFileSync(dir.file(name), framed(message));
    return dir.file(name);
  };
  const asked = file("request.grpc", toBinary(HttpRequestSchema, create(HttpRequestSchema, ASKED)));
  const opened = create(StreamRequestSchema, { part: { case: "head", value: ASKED } });
  const stream = file("stream.grpc", toBinary(StreamRequestSchema, opened));
  const kib = file("kib.grpc", Buffer.alloc(1024, "a"));
  const token = `bearer ${jwt(cluster.secrets.api, { exp: Math.floor(Date.now() / 1_000) + 3_600 })}`;
  const base = { "content-type": "application/grpc", te: "trailers" };
  const to = (
    name: string,
    watched: readonly Watched[],
    url: string,
    body: string,
    authorization?: string,
  ): Contestant => ({
    name,
    watched,
    run: (seconds) =>
      h2load({
        connections: 4,
        streams: 8,
        log,
        seconds,
        body,
        url,
        headers: { ...base, ...(authorization && { authorization }) },
      }),
  });
  const gateway = `http://${cluster.node(0).address("api")}/kas.gateway.v1.Gateway`;
  const bare = [{ name: "echo", pid: echo.child.pid }];
  return [
    to("unary", bare, `http://${echo.address}/bench.Echo/Echo`, kib),
    to("Request", stage.watched(), `${gateway}/Request`, asked, token),
    to("bidirectional", bare, `http://${echo.address}/bench.Echo/EchoStream`, kib),
    to("Stream", stage.watched(), `${gateway}/Stream`, stream, token),
  ];
}

function framed(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
