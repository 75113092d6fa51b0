/** What the benchmarks conclude from numbers: verdicts, the sizing table, the plot and the flame graph. */
import { describe, expect, it } from "vitest";
import { missedText, rowsOf, sizingTable } from "./support/document.ts";
import { flameGraph } from "./support/flame.ts";
import { plot } from "./support/plot.ts";
import { atLeast, atMost, row, size, verdict } from "./support/row.ts";
import { median, percentile } from "./support/statistics.ts";

const found = [
  row({ name: "fast & good", target: "≥ 10/s", measured: "20/s", reached: atLeast(20, 10) }),
  row({ name: "too large", target: "≤ 10 kB", measured: "40 kB", reached: atMost(40, 10) }),
  row({ name: "only told", measured: "7" }),
  size("one core", "5 requests/s", "1 s ÷ 200 ms"),
];

describe("a finding", () => {
  it("is met from its target on, is missed below it, and is neither where nothing is promised", () => {
    expect(rowsOf(found).map(verdict)).toEqual(["met", "missed", ""]);
    expect([atMost(-3, 10), atMost(0, 10), atMost(10, 10)]).toEqual([100, 100, 1]);
    expect(missedText(rowsOf(found))).toBe("1 of 2 targets were met.\nmissed: too large: ≤ 10 kB; it was 40 kB");
  });

  it("that sizes something says with which command to repeat it", () => {
    expect(
      sizingTable({ get: { quick: false, findings: found } })
        .split("\n")
        .at(-1),
    ).toBe("| one core | 5 requests/s | 1 s ÷ 200 ms | `npm run bench get` |");
    expect(sizingTable({ get: { quick: false, findings: [] } })).toBe("");
  });
});

describe("the plot", () => {
  const latency = [1, 2, 3, 4, 5, 6, 7];
  const curve = { type: "curve", curve: { group: "GET", name: "direct", latency } } as const;

  it("has a bar for each target, as far from 1 as it was reached, and a line for each curve", () => {
    const svg = plot([...found, curve]);

    expect(svg.match(/<title>/g), "one each, and the picture's own").toHaveLength(3);
    expect(svg).toContain("fast &amp; good");
    expect(svg).toContain("0.25 ×");
    expect(svg.match(/<polyline /g)).toHaveLength(1);
    expect(svg).not.toContain("NaN");
  });
});

describe("a flame graph", () => {
  const frame = (functionName: string, url = "") => ({ functionName, url, lineNumber: 4 });
  const profile = {
    nodes: [
      { id: 1, callFrame: frame("(root)"), children: [2, 3, 5] },
      { id: 2, callFrame: frame("(idle)") },
      { id: 3, callFrame: frame("serve", "file:///home/x/src/kas/start.ts"), children: [4] },
      { id: 4, callFrame: frame("parse<T>", "file:///home/x/node_modules/yaml/index.js") },
      { id: 5, callFrame: frame("serve", "file:///home/x/src/kas/start.ts") },
    ],
    startTime: 0,
    samples: [2, 3, 4, 5, 2],
    timeDeltas: [0, 100, 300, 500, 200],
  };

  it("gives each function the share of time it and its callees took between two instants, idle time left out", () => {
    const svg = flameGraph("kas", profile, { from: 0, to: 10_000 });

    expect(svg).toContain("serve src/kas/start.ts:5\n100.00 %, 1.0 ms");
    expect(svg).toContain("parse&lt;T&gt; yaml/index.js:5\n50.00 %, 0.5 ms");
    expect(svg).not.toContain("(idle)");
  });
});

describe("statistics", () => {
  it("take the middle of a few and the rank of many", () => {
    expect([median([3, 1, 2]), median([4, 1, 2, 3])]).toEqual([2, 2.5]);
    expect(percentile([5, 1, 4, 2, 3], 0.99)).toBe(5);
  });
});
