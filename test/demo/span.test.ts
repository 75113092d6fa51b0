/** What the demo says of a request, from the spans of three processes. */
import { describe, expect, it } from "vitest";
import { accountOf, readSpans, type Span } from "../../src/demo/span.ts";

const NAMES = { ingress: "kas-3", agent: "agent-1", target: "API" };

type Seed = Pick<Span, "service" | "spanId" | "parentId" | "name" | "kind" | "millis"> & { readonly node?: string };

const span = ({ node, ...seed }: Seed): Span => ({
  ...seed,
  instance: "",
  traceId: "t",
  began: 0,
  attributes: new Map(node ? [["kas.node.id", node]] : []),
});

const ENTRY = span({ service: "kas", spanId: "a", parentId: "", name: "kas.proxy", kind: 2, millis: 10 });
const ROUTE = span({ service: "kas", spanId: "b", parentId: "a", name: "kas.route", kind: 1, millis: 5 });
const ASKS = {
  service: "kas",
  spanId: "c",
  parentId: "b",
  name: "kas.peer.open",
  kind: 3,
  millis: 9,
  node: "kas-1.17",
};
const ASKED = span({ service: "kas", spanId: "d", parentId: "c", name: "kas.peer.open", kind: 2, millis: 8 });
const AGENT = span({ service: "agentk", spanId: "e", parentId: "d", name: "agentk", kind: 2, millis: 6 });
const API = span({ service: "agentk", spanId: "f", parentId: "e", name: "GET", kind: 3, millis: 4 });
const REMOTE = [API, ENTRY, AGENT, span(ASKS), ROUTE, ASKED];

describe("the account of a request", () => {
  it("names who had it, in order, with times that add up to the whole", () => {
    const account = accountOf(REMOTE, NAMES);

    expect(account).toEqual({
      millis: 10,
      hops: [
        { who: "kas-3", millis: 1 },
        { who: "kas-1", millis: 3 },
        { who: "agent-1", millis: 2 },
        { who: "API", millis: 4 },
      ],
    });
  });

  it("has no hop between nodes where the agent is connected to the node it came in at", () => {
    const account = accountOf([ENTRY, { ...API, parentId: "a" }], NAMES);

    expect(account?.hops).toEqual([
      { who: "kas-3", millis: 6 },
      { who: "agent-1 and API", millis: 4 },
    ]);
  });

  it.each(REMOTE.map((missing) => [`${missing.service} ${missing.name} ${missing.kind}`, missing] as const))(
    "waits for the span %s",
    (_, missing) => {
      expect(
        accountOf(
          REMOTE.filter((each) => each !== missing),
          NAMES,
        ),
      ).toBeNull();
    },
  );

  it("ends with spans that are each other's parents", () => {
    const circle = [
      { ...API, parentId: "e" },
      { ...AGENT, parentId: "f" },
    ];

    expect(accountOf(circle, NAMES)).toBeNull();
  });

  it("reads spans as OTLP's JSON has them", () => {
    const spans = readSpans({
      resourceSpans: [
        {
          resource: { attributes: [{ key: "service.name", value: { stringValue: "kas" } }] },
          scopeSpans: [
            {
              spans: [
                {
                  traceId: "t",
                  spanId: "s",
                  name: "kas.proxy",
                  kind: 2,
                  startTimeUnixNano: "1700000000000000000",
                  endTimeUnixNano: "1700000000012500000",
                  attributes: [{ key: "kas.agent.id", value: { intValue: 1 } }],
                },
              ],
            },
          ],
        },
      ],
    });

    expect(spans).toMatchObject([{ service: "kas", parentId: "", millis: 12.5, began: 1_700_000_000_000 }]);
    expect(spans[0]?.attributes.get("kas.agent.id")).toBe("1");
  });
});
