/** What a run came to as text: the sizing table and the list of what was missed. */
import { type Finding, type Row, type Size, table, verdict } from "./row.ts";

/** By the name of the benchmark. */
export type Measured = Record<string, { readonly quick: boolean; readonly findings: readonly Finding[] }>;

export const rowsOf = (findings: readonly Finding[]): readonly Row[] =>
  findings.flatMap((finding) => (finding.type === "row" ? [finding.row] : []));

/** Empty when nothing of it was measured. */
export function sizingTable(measured: Measured): string {
  const lines = Object.entries(measured).flatMap(([name, { findings }]) =>
    findings.flatMap((finding) => (finding.type === "size" ? [lineOf(name, finding.size)] : [])),
  );
  return lines.length > 0 ? table(["what", "carries", "computed from", "again"], lines) : "";
}

const lineOf = (name: string, { what, carries, computed }: Size): readonly string[] => [
  what,
  carries,
  computed,
  `\`npm run bench ${name}\``,
];

export function missedText(rows: readonly Row[]): string {
  const promised = rows.filter(({ met }) => met !== null);
  const missed = promised.filter((row) => verdict(row) === "missed");
  const head = `${promised.length - missed.length} of ${promised.length} targets were met.`;
  return [head, ...missed.map(({ name, target, measured }) => `missed: ${name}: ${target}; it was ${measured}`)].join(
    "\n",
  );
}
