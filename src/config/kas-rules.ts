/** What must hold between settings of kas.yaml; the schema checks each alone. */
import type { PathFault } from "./check.ts";
import { formatDuration } from "./duration.ts";
import type { KasSettings } from "./kas-schema.ts";
import type { Path } from "./source.ts";

export function crossFaults(settings: KasSettings): readonly PathFault[] {
  return [...pairs(settings), ...secrets(settings), ...order(settings)];
}

type Pair = { readonly certificate_file?: string | undefined; readonly key_file?: string | undefined };

function* pairs(settings: KasSettings): Generator<PathFault> {
  const places: readonly (readonly [Path, Pair | undefined])[] = [
    [["agent", "listen"], settings.agent.listen],
    [["agent", "kubernetes_api", "listen"], settings.agent.kubernetes_api.listen],
    [["api", "listen"], settings.api?.listen],
    [["private_api", "listen"], settings.private_api?.listen],
    [["observability", "listen"], settings.observability.listen],
    [["nats", "tls"], settings.nats?.tls],
  ];
  for (const [path, pair] of places) {
    if (pair?.certificate_file && !pair.key_file) {
      yield { path: [...path, "certificate_file"], text: "needs its key: set key_file beside it" };
    }
    if (pair?.key_file && !pair.certificate_file) {
      yield { path: [...path, "key_file"], text: "needs its certificate: set certificate_file beside it" };
    }
  }
}

const HOW = "write one with `openssl rand -base64 32 > FILE` and name FILE here";

function* secrets({ api, private_api, nats }: KasSettings): Generator<PathFault> {
  if (api && !api.listen.authentication_secret_file) {
    const text = `is missing: it checks the tokens of Rails; ${HOW}, or remove the section api when no Rails calls`;
    yield { path: ["api", "listen", "authentication_secret_file"], text };
  }
  if (nats && !private_api?.listen.authentication_secret_file) {
    const text = `is missing: with nats, nodes prove to each other that they belong together; ${HOW}, the same on every node`;
    yield { path: ["private_api", "listen", "authentication_secret_file"], text };
  }
  if (nats?.credentials_file && nats.nkey_seed_file) {
    yield { path: ["nats", "nkey_seed_file"], text: "is one of two ways to log in; keep this or credentials_file" };
  }
}

function* order({ timings, nats }: KasSettings): Generator<PathFault> {
  const { heartbeat_interval, suspect_after, dead_after, join_window } = timings;
  const follows = (name: string, value: number, than: string, least: number): PathFault[] =>
    value > least ? [] : [{ path: ["timings", name], text: `must be longer than ${than}, ${formatDuration(least)}` }];
  yield* follows("suspect_after", suspect_after, "heartbeat_interval", heartbeat_interval);
  yield* follows("dead_after", dead_after, "suspect_after", suspect_after);
  if (nats) yield* follows("join_window", join_window, "heartbeat_interval", heartbeat_interval);
}
