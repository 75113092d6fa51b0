/** One line of the result, and the table they make. */
export type Row = {
  readonly name: string;
  readonly target: string;
  readonly measured: string;
  /** Of the paired runs: ours to the baseline. */
  readonly ratio: string;
  /** CPU microseconds per request by process. */
  readonly cpu: string;
  readonly rss: string;
  /** null: nothing is promised of it. */
  readonly met: boolean | null;
};

/** What a benchmark is given. */
export type Bench = {
  readonly quick: boolean;
  /** Where profiles go; null: none are taken. */
  readonly profile: string | null;
  /** Only these numbers of callers; null: all. */
  readonly callers: readonly number[] | null;
  readonly say: (line: string) => void;
};

const HEAD = ["", "what", "target", "measured", "ratio", "CPU-µs per request", "RSS"];
const cells = ({ met, name, target, measured, ratio, cpu, rss }: Row): readonly string[] => [
  met === null ? "" : met ? "met" : "missed",
  name,
  target,
  measured,
  ratio,
  cpu,
  rss,
];

export function markdown(rows: readonly Row[]): string {
  const lines = [HEAD, HEAD.map(() => "---"), ...rows.map(cells)];
  return lines.map((line) => `| ${line.join(" | ")} |`).join("\n");
}

export const row = (given: Pick<Row, "name" | "measured"> & Partial<Row>): Row => ({
  target: "",
  ratio: "",
  cpu: "",
  rss: "",
  met: null,
  ...given,
});
