/**
 * The audit record as logged. `node` is this node in every line, so the one that held the agent is `holder`. Written out by
 * name, because there is one for every request.
 */
import type { AccessRecord } from "../proxy/request-record.ts";
import type { Fields } from "../telemetry/logger.ts";

export const accessFields = (record: AccessRecord): Fields => ({
  trace_id: record.traceId,
  request_id: record.requestId,
  agent_id: record.agentId,
  caller_kind: record.callerKind,
  caller_id: record.callerId,
  as: record.as,
  protocol: record.protocol,
  method: record.method,
  target: record.target,
  verb: record.verb,
  resource: record.resource,
  upgrade: record.upgrade,
  status: record.status,
  outcome: record.outcome,
  failure: record.failure,
  reason: record.reason,
  bytes_in: record.bytesIn,
  bytes_out: record.bytesOut,
  hop: record.hop,
  holder: record.node,
  duration_ms: Math.round(record.durationMillis * 1000) / 1000,
});
