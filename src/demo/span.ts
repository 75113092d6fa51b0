/** Spans as OTLP's JSON has them, and what they tell of one request: who had it for how long. Pure. */
export type Span = {
  readonly service: string;
  readonly instance: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string;
  readonly name: string;
  readonly kind: number;
  /** Milliseconds since 1970. */
  readonly began: number;
  readonly millis: number;
  readonly attributes: ReadonlyMap<string, string>;
};

/** What one party added to the whole time, the way to the next one included. */
export type Hop = { readonly who: string; readonly millis: number };

export type Account = { readonly hops: readonly Hop[]; readonly millis: number };

type Pair = { readonly key: string; readonly value: Readonly<Record<string, unknown>> };
type OtlpSpan = {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes?: readonly Pair[];
};
type Otlp = {
  readonly resourceSpans?: readonly {
    readonly resource?: { readonly attributes?: readonly Pair[] };
    readonly scopeSpans?: readonly { readonly spans?: readonly OtlpSpan[] }[];
  }[];
};

export const SERVER = 2;
export const CLIENT = 3;
const PEER = "kas.peer.open";

const attributesOf = (pairs: readonly Pair[] = []): ReadonlyMap<string, string> =>
  new Map(pairs.map(({ key, value }) => [key, String(Object.values(value)[0] ?? "")]));

export function readSpans({ resourceSpans = [] }: Otlp): readonly Span[] {
  return resourceSpans.flatMap(({ resource, scopeSpans = [] }) => {
    const about = attributesOf(resource?.attributes);
    const spans = scopeSpans.flatMap((scope) => scope.spans ?? []);
    return spans.map((span) => ({
      service: about.get("service.name") ?? "",
      instance: about.get("service.instance.id") ?? "",
      traceId: span.traceId,
      spanId: span.spanId,
      parentId: span.parentSpanId ?? "",
      name: span.name,
      kind: span.kind,
      began: Number(span.startTimeUnixNano) / 1e6,
      millis: Number(BigInt(span.endTimeUnixNano) - BigInt(span.startTimeUnixNano)) / 1e6,
      attributes: attributesOf(span.attributes),
    }));
  });
}

/** The span in which a request came in: kas's own, not the one of a node that another node asked. */
export const isEntry = ({ service, kind, name }: Span): boolean =>
  service === "kas" && kind === SERVER && name !== PEER;

/**
 * Who had the request, in order; null while spans of it are still missing. The times of the hops add up to the whole one,
 * and no clock is compared with another. `names`: what to call the node it came in at, the agent and what it reached.
 */
export function accountOf(
  spans: readonly Span[],
  names: { readonly ingress: string; readonly agent: string; readonly target: string },
): Account | null {
  const last = spans.find(({ service, kind }) => service === "agentk" && kind === CLIENT);
  if (!last) return null;
  const path = ancestry(spans, last);
  const entry = path.find(isEntry);
  if (!entry) return null;
  const peer = path.find(({ name, kind }) => name === PEER && kind === CLIENT);
  const asked = path.filter(({ service }) => service === "agentk").at(-1) ?? last;
  const parts: (readonly [who: string, span: Span])[] = [[names.ingress, entry]];
  if (peer) parts.push([peer.attributes.get("kas.node.id")?.split(".")[0] ?? "peer", peer]);
  parts.push([asked === last ? `${names.agent} and ${names.target}` : names.agent, asked]);
  if (asked !== last) parts.push([names.target, last]);
  const hops = parts.map(([who, { millis }], i) => ({
    who,
    millis: Math.max(0, millis - (parts[i + 1]?.[1].millis ?? 0)),
  }));
  return { hops, millis: entry.millis };
}

function ancestry(spans: readonly Span[], span: Span): readonly Span[] {
  const path = [span];
  for (let next: Span | undefined = span; next && path.length <= spans.length; ) {
    const { parentId }: Span = next;
    next = spans.find(({ spanId }) => spanId === parentId);
    if (next) path.push(next);
  }
  return path;
}
