/** What a benchmark finds: rows of the result, curves of its plot and lines of the sizing table. */
export type Row = {
  readonly name: string;
  readonly target: string;
  readonly measured: string;
  /** Of the paired runs: ours to the baseline. */
  readonly ratio: string;
  /** CPU microseconds per request by process. */
  readonly cpu: string;
  readonly rss: string;
  /** How far the target was reached: 1 and above is met. null: there is none, or it is no number. */
  readonly reached: number | null;
  /** null: nothing is promised of it. */
  readonly met: boolean | null;
};

/** Latency in milliseconds at each of SHARES. */
export type Curve = { readonly group: string; readonly name: string; readonly latency: readonly number[] };

/** What one node or one core carries. */
export type Size = { readonly what: string; readonly carries: string; readonly computed: string };

export type Finding =
  | { readonly type: "row"; readonly row: Row }
  | { readonly type: "curve"; readonly curve: Curve }
  | { readonly type: "size"; readonly size: Size };

export type Findings = AsyncGenerator<Finding, void, void>;

/** What a benchmark is given. */
export type Bench = {
  readonly quick: boolean;
  /** Where profiles go; null: none are taken. */
  readonly profile: string | null;
  /** Only these numbers of callers; null: all. */
  readonly callers: readonly number[] | null;
  readonly say: (line: string) => void;
};

const BEST = 100;
/** Shares of a target: of "at least so much", and of "at most so much". */
export const atLeast = (measured: number, promised: number): number => Math.min(BEST, measured / promised);
export const atMost = (measured: number, promised: number): number =>
  measured <= promised / BEST ? BEST : promised / measured;

export function row(given: Pick<Row, "name" | "measured"> & Partial<Row>): Finding {
  const { reached = null } = given;
  const met = reached === null ? null : reached >= 1;
  return { type: "row", row: { target: "", ratio: "", cpu: "", rss: "", reached, met, ...given } };
}

export const size = (what: string, carries: string, computed: string): Finding => ({
  type: "size",
  size: { what, carries, computed },
});

export const verdict = ({ met }: Row): string => (met === null ? "" : met ? "met" : "missed");

const HEAD = ["", "what", "target", "measured", "ratio", "CPU-µs per request", "RSS"];

export function markdown(rows: readonly Row[]): string {
  return table(
    HEAD,
    rows.map((row) => [verdict(row), row.name, row.target, row.measured, row.ratio, row.cpu, row.rss]),
  );
}

export function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...lines].map((line) => `| ${line.join(" | ")} |`).join("\n");
}
