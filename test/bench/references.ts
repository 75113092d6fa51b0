/** What is known of other systems, and what is promised but shown elsewhere. Neither is measured by a run of the benchmarks. */
import { BENCHES, IN_QUICK } from "./benches.ts";
import { table } from "./support/row.ts";

/** Measured once on two cores of another machine, plaintext, Go: compare orders of magnitude, not digits. */
const OTHERS = [
  ["GET 1 KiB, 32 callers, one server", "frp 8.7 k/s, remotedialer 4.5 k/s, konnectivity 2.8 k/s"],
  ["GET 1 KiB, 32 callers, two servers", "remotedialer 3.0 k/s"],
  [
    "GET 1 KiB, 1 caller, p50 and p99",
    "frp 0.19 and 1.3 ms, remotedialer two servers 0.28 and 7.3 ms, konnectivity 0.46 and 5.2 ms",
  ],
  ["bulk down, 1 stream", "frp 352–459 MB/s, remotedialer 133–143 (two servers 66–77), konnectivity 90–108"],
  ["bulk up, 1 stream", "frp 259–368 MB/s, remotedialer 119–148 (two servers 75–84), konnectivity 112–147"],
  [
    "200 GETs beside 20 stalled readers",
    "remotedialer p99 3.4 ms, its server 135 MB larger; frp p99 5.1 ms; konnectivity 19 answered, 2 timed out",
  ],
  ["server RSS per idle agent", "remotedialer 20 kB, konnectivity 62–70 kB"],
  ["server killed, back after 1 s, until the next answer", "konnectivity 1.1–2.1 s, remotedialer 5.0 s"],
  ["frozen agent, until a new request fails", "konnectivity 30 s, remotedialer 59 s"],
  ["requests per CPU-second, target ≥ 3 × GitLab's kas", "GitLab's kas was not at hand"],
] as const;

const ELSEWHERE = [
  ["rolling restart of 3 nodes under load, 0 failed", "`npm run e2e test/e2e/faults-rolling.test.ts`"],
  [
    "simulation, ≥ 300 seeds in `npm test`, 10 k by `npm run sim`, 0 violations, mutants caught",
    "`npm run sim`, `npm run mutants`",
  ],
  [
    "idle exec, port-forward and watch through balancers that cut what is idle for 60 s",
    "`npm run soak`; a tenth in `npm test`",
  ],
] as const;

export const references = [
  "Other systems, for reference; not in this run:",
  "",
  table(["what", "not in this run"], OTHERS),
].join("\n");

export function elsewhere(quick: boolean): string {
  const left = Object.keys(BENCHES).filter((name) => !(IN_QUICK as readonly string[]).includes(name));
  return [
    "Promised, and shown elsewhere:",
    "",
    table(["what", "shown by"], ELSEWHERE),
    ...(quick
      ? [
          "",
          `Not in a quick run: ${left.join(", ")}; and of \`get\` one node and 256 callers, of \`grpc\` Stream, of \`idle\` 10 k agents.`,
        ]
      : []),
  ].join("\n");
}
