/** Gateway.Request through two nodes, beside a bare grpc-js unary echo: 32 callers on 4 connections, as Rails' channels have it. */
import { mkdirSync, writeFileSync } from "node:fs";
import { create, toBinary } from "@bufbuild/protobuf";
import { Gateway, HttpRequestSchema } from "../../src/gen/kas/gateway/v1/gateway_pb.ts";
import { GatewayClient, jwt } from "../e2e/support/gateway-client.ts";
import { explain } from "./get.ts";
import { h2load } from "./support/load.ts";
import { instant } from "./support/profile.ts";
import { type Contestant, cpuText, inRounds, type Result, ratio, rssText } from "./support/rounds.ts";
import { type Bench, type Row, row } from "./support/row.ts";
import { Stage } from "./support/stage.ts";
import { median } from "./support/statistics.ts";

const ASKED = {
  agentId: 1n,
  target: { kind: { case: "service", value: "upstream" } },
  method: "GET",
  path: "/",
  actor: "user:root",
} as const;

export async function grpc({ quick, profile, say }: Bench): Promise<readonly Row[]> {
  if (profile) mkdirSync(profile, { recursive: true });
  await using stage = await Stage.start(profile);
  await stage.agent(1);
  await proveIt(stage);
  const from = instant();
  const results = await inRounds(await contestants(stage), quick || profile ? 2 : 7, quick || profile ? 2 : 4);
  const [echo, ours] = [results.get("echo"), results.get("routed")];
  if (!echo || !ours) return [];
  if (profile) await explain(stage, profile, from, say);
  const share = ratio(ours.rates, echo.rates);
  return [
    row({
      name: "Gateway.Request, 32 callers, routed",
      target: "≥ 0.5 × grpc-js echo",
      measured: text(ours),
      ratio: `${share.toFixed(2)} × grpc-js echo`,
      cpu: cpuText(ours),
      rss: profile ? "" : rssText(ours),
      met: share >= 0.5,
    }),
    row({ name: "bare grpc-js unary echo, 32 callers", measured: text(echo), cpu: cpuText(echo) }),
  ];
}

const text = ({ rates, p50, p99 }: Result): string =>
  `${median(rates).toFixed(0)}/s, p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`;

/** h2load sees HTTP statuses only, so one call shows first that the answer is what it should be. */
async function proveIt(stage: Stage): Promise<void> {
  const { cluster } = stage;
  using client = new GatewayClient({ address: cluster.node(0).address("api"), secret: cluster.secrets.api });
  const { status, body } = await client.unary(Gateway.method.request, ASKED);
  if (status !== 200 || body.length !== 1024)
    throw new Error(`Gateway.Request answered ${status}, ${body.length} bytes`);
}

async function contestants(stage: Stage): Promise<readonly Contestant[]> {
  const { dir, cluster } = stage;
  const echo = await stage.server("grpc-echo");
  const [asked, kib, log] = [dir.file("request.grpc"), dir.file("kib.grpc"), dir.file("h2load.log")];
  writeFileSync(asked, framed(toBinary(HttpRequestSchema, create(HttpRequestSchema, ASKED))));
  writeFileSync(kib, framed(Buffer.alloc(1024, "a")));
  const shape = { connections: 4, streams: 8, log };
  const headers = { "content-type": "application/grpc", te: "trailers" };
  const token = `bearer ${jwt(cluster.secrets.api, { exp: Math.floor(Date.now() / 1_000) + 3_600 })}`;
  const ours = `http://${cluster.node(0).address("api")}/kas.gateway.v1.Gateway/Request`;
  return [
    {
      name: "echo",
      watched: [{ name: "echo", pid: echo.child.pid }],
      run: (seconds) =>
        h2load({ ...shape, headers, seconds, body: kib, url: `http://${echo.address}/bench.Echo/Echo` }),
    },
    {
      name: "routed",
      watched: stage.watched(),
      run: (seconds) =>
        h2load({ ...shape, headers: { ...headers, authorization: token }, seconds, body: asked, url: ours }),
    },
  ];
}

function framed(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
