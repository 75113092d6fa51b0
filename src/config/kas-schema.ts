/**
 * Every setting of kas.yaml: its name (GitLab's where GitLab has it), default and meaning. docs/operations.md is generated
 * from this, so a description is written for operators.
 */
import type { z } from "zod";
import { address, choice, count, duration, file, flag, list, pattern, secretFile, section, url } from "./setting.ts";

const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
const NAME = /^[a-z0-9-]{1,63}$/;
const NATS_SERVER = /^(?:(?:nats|tls):\/\/)?[^\s/]+$/;

const tls = {
  certificate_file: file().optional().describe("PEM certificate chain; with `key_file` it turns TLS on"),
  key_file: file().optional().describe("PEM private key of `certificate_file`"),
};

const listener = (at: string, what: string) => ({
  network: choice(["tcp", "tcp4", "tcp6"]).prefault("tcp").describe("`tcp4` and `tcp6` keep to one family"),
  address: address().prefault(at).describe(what),
  ...tls,
  listen_grace_period: duration()
    .prefault("5s")
    .describe("how long new connections are still accepted after readiness went off"),
});

const gitlab = section({
  address: url(["http", "https"]).describe("GitLab itself; with it GitLab decides who may do what"),
  external_url: url(["http", "https"]).optional().describe("how browsers see GitLab; the only origin CORS allows"),
  authentication_secret_file: secretFile().describe("secret shared with GitLab"),
  ca_certificate_file: file().optional().describe("PEM certificates to trust besides the system's"),
  api_rate_limit: section({
    refill_rate_per_second: count(1, 1_000_000).prefault(50).describe("calls to GitLab per second, in the long run"),
    bucket_size: count(1, 1_000_000).prefault(250).describe("calls to GitLab at once"),
  }).prefault({}),
});

const kubernetesApi = section({
  listen: section({
    ...listener("127.0.0.1:8154", "people and CI reach the Kubernetes API of an agent here"),
    shutdown_grace_period: duration()
      .prefault("3600s")
      .describe("how long requests may finish, within `drain_timeout`"),
  }).prefault({}),
  url_path_prefix: pattern(/^\/[^\s?#]*$/, "a path that starts with /")
    .prefault("/")
    .describe("what stands before the Kubernetes API path"),
  allowed_agent_cache_ttl: duration().prefault("60s").describe("how long GitLab's permission is remembered"),
  allowed_agent_cache_error_ttl: duration().prefault("10s").describe("how long GitLab's refusal is remembered"),
  extra_allowed_response_headers: list("a list of header names").prefault([]).describe("answer headers to let through"),
});

const agent = section({
  listen: section({
    ...listener("127.0.0.1:8150", "agents dial here"),
    websocket: flag().prefault(false).describe("also take gRPC over WebSocket on this port"),
    connections_per_token_per_minute: count(1, 100_000_000)
      .prefault(40_000)
      .describe("calls an agent may start a minute"),
    handshakes_per_second: count(0, 10_000)
      .prefault(100)
      .describe("new connections; those above it wait up to 2 s, then are refused; 0: no limit"),
    max_connection_age: duration()
      .prefault("7200s")
      .describe("age at which a connection is asked to move, a quarter more or less; 0: never"),
  }).prefault({}),
  kubernetes_api: kubernetesApi.prefault({}),
  configuration: section({
    poll_period: duration(1).prefault("300s").describe("how often the configuration of GitLab's agents is read"),
    max_configuration_file_size: count(1, 16_777_216).prefault(131_072).describe("largest agent configuration, bytes"),
  }).prefault({}),
  info_cache_ttl: duration().prefault("300s").describe("how long GitLab's answer about an agent token is remembered"),
  info_cache_error_ttl: duration()
    .prefault("60s")
    .describe("how long GitLab's refusal of an agent token is remembered"),
  offline_after: duration().prefault("150s").describe("absence after which requests fail at once instead of waiting"),
});

const api = section({
  listen: section({
    ...listener("127.0.0.1:8153", "Rails calls here; served only where the section `api` is present"),
    authentication_secret_file: secretFile()
      .optional()
      .describe("secret of Rails' tokens; required; two lines rotate it"),
  }).prefault({}),
});

const privateApi = section({
  listen: section({
    ...listener("127.0.0.1:8155", "other kas nodes dial here"),
    authentication_secret_file: secretFile().optional().describe("secret of all nodes; required; two lines rotate it"),
    ca_certificate_file: file().optional().describe("PEM certificates that sign the other nodes' certificates"),
  }).prefault({}),
});

const path = (preset: string, meaning: string) =>
  pattern(/^\/[^\s?#]*$/, "a path that starts with /")
    .prefault(preset)
    .describe(meaning);

const observability = section({
  listen: section(listener("127.0.0.1:8151", "metrics, probes, status page and `kasctl`")).prefault({}),
  prometheus: section({ url_path: path("/metrics", "metrics for Prometheus") }).prefault({}),
  liveness_probe: section({ url_path: path("/liveness", "fails when this process is stuck") }).prefault({}),
  readiness_probe: section({ url_path: path("/readiness", "fails while joining and draining") }).prefault({}),
  logging: section({
    level: choice(LOG_LEVELS).prefault("info").describe("least important log lines to write"),
    grpc_level: choice(LOG_LEVELS).prefault("error").describe("the same for the gRPC library"),
  }).prefault({}),
  tracing: section({
    otlp_endpoint: url(["http", "https"]).describe("where spans go, OTLP over HTTP"),
    otlp_token_secret_file: file().optional().describe("token for it"),
    otlp_ca_certificate_file: file().optional().describe("PEM certificates to trust for it"),
  }).optional(),
});

const nats = section({
  servers: list("a list of NATS servers such as nats://nats-0:4222", (server) => NATS_SERVER.test(server)).describe(
    "where the cluster meets; without the section `nats` this node is a cluster of one",
  ),
  credentials_file: file().optional().describe("NATS credentials (JWT and seed)"),
  nkey_seed_file: file().optional().describe("NATS nkey seed"),
  tls: section({
    ...tls,
    ca_certificate_file: file().optional().describe("PEM certificates to trust for NATS"),
  }).optional(),
  subject_prefix: pattern(/^[A-Za-z0-9_-]+$/, "one word of letters, digits, _ and -")
    .prefault("kas")
    .describe("first token of every subject"),
});

const timings = section({
  heartbeat_interval: duration(1).prefault("1s").describe("for tests: between two heartbeats"),
  suspect_after: duration(1).prefault("3s").describe("for tests: silence after which a node is suspect"),
  dead_after: duration(1).prefault("8s").describe("for tests: silence after which a node is gone"),
  join_window: duration().prefault("1500ms").describe("for tests: listening before a node joins"),
  complete_after: duration()
    .prefault("30s")
    .describe("for tests: age at which a home may say that an agent is offline"),
  nats_away_after: duration(1).prefault("10s").describe("for tests: without NATS, until readiness asks the peers"),
  accept_within: duration(1)
    .prefault("20s")
    .describe("for tests: wait for an agent where the caller named no deadline"),
  hello_within: duration(1).prefault("5s").describe("for tests: both HELLOs of a link"),
  ping_after: duration(1).prefault("1s").describe("for tests: PING after this silence while streams are open"),
  idle_ping_after: duration(1).prefault("20s").describe("for tests: the same while none is"),
  drain_spread: duration()
    .prefault("4s")
    .describe("agents of a draining node are told over at most this time, never longer than the listen grace"),
  drain_watches_within: duration()
    .prefault("30s")
    .describe("a draining node ends watches until then, never later than half of `drain_timeout`"),
  drain_requests_within: duration()
    .prefault("600s")
    .describe("and other requests but interactive ones then, never later than three quarters of it"),
  rebalance_after: duration()
    .prefault("10s")
    .describe("how long a node must have more than its share of the agents before some are asked to move"),
  pong_within: duration(1).prefault("3s").describe("for tests: a link silent for this long after a PING is lost"),
  keepalive_after: duration(1000)
    .prefault("25s")
    .describe("silence after which the kernel asks whether the other side is there; 10 s later it is lost"),
  caller_check_interval: duration(1)
    .prefault("5s")
    .describe("for tests: how often callers whose upload waits are looked after"),
  stalled_upload_after: duration(1)
    .prefault("5m")
    .describe("a request ends when nothing of its body was taken and nothing answered for so long"),
  stalled_upgrade_after: duration(1)
    .prefault("4h")
    .describe("the same for exec, attach and port-forward whose input waits"),
  link_quiet_after: duration(1)
    .prefault("2s")
    .describe("for tests: a node whose link is silent so long is chosen last"),
  link_dead_after: duration(1)
    .prefault("4s")
    .describe("for tests: a node whose link spoke more recently is alive, whatever else is silent"),
  proof_within: duration(1)
    .prefault("2s")
    .describe("for tests: a refused link and an unread inbox, both within this, are a node's death"),
  late_after: duration(1).prefault("500ms").describe("for tests: delay of this process that makes it doubt silence"),
  late_for: duration().prefault("10s").describe("for tests: for how long it then doubts"),
  stalled_after: duration(1).prefault("1s").describe("for tests: delay of this process that may have lost messages"),
  isolated_most: duration()
    .prefault("60s")
    .describe("for tests: until most nodes, silent at once, are believed to be gone"),
});

export const kasSchema = section({
  node: section({
    name: pattern(NAME, "1 to 63 of a-z, 0-9 and -")
      .optional()
      .describe("name on the ring; else `POD_NAME`, else host name"),
  }).prefault({}),
  cluster: section({
    name: pattern(NAME, "1 to 63 of a-z, 0-9 and -").prefault("default").describe("nodes of one name meet"),
    homes: choice([1, 2, 3, "all"]).prefault(2).describe("nodes that know where an agent is connected"),
  }).prefault({}),
  agent: agent.prefault({}),
  api: api.optional(),
  private_api: privateApi.optional(),
  observability: observability.prefault({}),
  nats: nats.optional(),
  authentication: section({
    static_file: file().optional().describe("agents, users, jobs and operators without GitLab; watched for changes"),
  }).prefault({}),
  gitlab: gitlab.optional(),
  drain_timeout: duration().prefault("3600s").describe("how long streams may finish after the first SIGTERM"),
  limits: section({
    streams_per_agent: count(1, 1_000_000).prefault(1000).describe("concurrent streams of one agent on one node"),
    streams_per_node: count(1, 1_000_000).prefault(10_000).describe("concurrent streams of one node"),
    growth_mib: count(0, 1_000_000)
      .prefault(64)
      .describe("MiB that fast streams of one node may borrow beyond the 64 KiB each has of its own"),
    growth_per_agent_mib: count(0, 1_000_000).prefault(8).describe("and of that those of one agent"),
    held_mib: count(1, 1_000_000)
      .prefault(256)
      .describe(
        "MiB held for readers that do not keep up; above it the stream that has held most for longest is reset",
      ),
    agent_moves_per_second: count(1, 10_000)
      .prefault(50)
      .describe("agents asked to move for balance, by all nodes together"),
  }).prefault({}),
  timings: timings.prefault({}),
});

export type KasSettings = z.output<typeof kasSchema>;

/** What GitLab's kas reads and this one has no use for: a warning, with why. A path covers all below it. */
export const UNUSED: Readonly<Record<string, string>> = {
  redis: "kas needs no Redis: nodes meet over NATS, see the section `nats`",
  gitaly: "kas does not call Gitaly",
  "agent.gitops": "GitOps was removed from GitLab's agent",
  "agent.starboard_vulnerability": "this module is not part of kas",
  "agent.remote_development": "this module is not part of kas",
  "agent.receptive_agent": "agents dial kas; kas does not dial agents",
  "agent.redis_conn_info_ttl": "connections are not kept in Redis",
  "agent.redis_conn_info_refresh": "connections are not kept in Redis",
  "agent.redis_conn_info_gc": "connections are not kept in Redis",
  "observability.sentry": "errors are logged and traced, not sent to Sentry",
  "observability.google_profiler": "profiles are taken with Node's own inspector",
  "observability.usage_reporting_period": "usage is not reported",
  "observability.event_reporting_period": "events are not reported",
  autoflow: "this module is not part of kas",
  workspaces: "this module is not part of kas",
  events_platform: "this module is not part of kas",
  runner_controller: "this module is not part of kas",
  job_router: "this module is not part of kas",
};
