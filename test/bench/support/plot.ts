/** The plot of a run, one SVG: each measured target as a bar, and below it latency by percentile, a panel for each group. */
import { SHARES } from "./load.ts";
import type { Curve, Finding, Row } from "./row.ts";

const WIDTH = 1080;
const LABELS = 430;
const LINE = 22;
const [MET, MISSED, TEXT, FAINT] = ["#2b6cb0", "#dd7a1c", "#222", "#888"];
const COLOURS = ["#2b6cb0", "#dd7a1c", "#3a9d5d", "#8a5fb5", "#777", "#b5485d", "#2aa5a0", "#a08a2a", "#222"];
/** Shares of a target at the two ends of the bars' axis. */
const [LEAST, MOST] = [1 / 32, 32];
const PANEL = { width: 510, height: 300, left: 66, right: 130, top: 34, bottom: 34 } as const;

export function plot(findings: readonly Finding[]): string {
  const rows = findings.flatMap((f) => (f.type === "row" && f.row.reached !== null ? [f.row] : []));
  const groups = Map.groupBy(
    findings.flatMap((f) => (f.type === "curve" ? [f.curve] : [])),
    ({ group }) => group,
  );
  const names = [...new Set([...groups.values()].flat().map(({ name }) => name))];
  const colourOf: ColourOf = (name) => COLOURS[names.indexOf(name) % COLOURS.length] ?? TEXT;
  const barsEnd = 74 + rows.length * LINE + 30;
  const panels = [...groups].map(([group, curves], i) => {
    const at = `translate(${(i % 2) * (PANEL.width + 40)} ${barsEnd + 30 + Math.floor(i / 2) * PANEL.height})`;
    return `<g transform="${at}">${panel(group, curves, colourOf)}</g>`;
  });
  const height = barsEnd + 40 + Math.ceil(groups.size / 2) * PANEL.height;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="${TEXT}">
<title>Measured beside promised, and latency by percentile</title>
<rect width="100%" height="100%" fill="#fff"/>
<text x="20" y="28" font-size="16" font-weight="bold">Measured beside promised</text>
<text x="20" y="48" fill="${FAINT}">1 × is the target, to the right is better; blue met, orange missed</text>
${bars(rows)}
${panels.join("\n")}
</svg>
`;
}

const across = (share: number): number => {
  const kept = Math.min(MOST, Math.max(LEAST, share));
  return LABELS + ((Math.log(kept) - Math.log(LEAST)) / (Math.log(MOST) - Math.log(LEAST))) * (WIDTH - LABELS - 90);
};

function bars(rows: readonly Row[]): string {
  const bottom = 66 + rows.length * LINE;
  const grid = [1 / 32, 1 / 8, 1 / 2, 1, 2, 8, 32].map((share) => {
    const x = across(share).toFixed(1);
    const name = share < 1 ? `1/${1 / share}` : `${share}`;
    const line = `<line x1="${x}" x2="${x}" y1="62" y2="${bottom}" stroke="${share === 1 ? TEXT : "#ddd"}"/>`;
    return `${line}<text x="${x}" y="${bottom + 16}" text-anchor="middle" fill="${FAINT}">${name} ×</text>`;
  });
  const lines = rows.map((row, i) => bar(row, 66 + i * LINE));
  return [...grid, ...lines].join("\n");
}

/** From the target's line to what was reached. */
function bar({ name, target, measured, reached, met }: Row, y: number): string {
  const [from, to] = [across(1), across(reached ?? 1)];
  const [x, width] = [Math.min(from, to), Math.max(1.5, Math.abs(to - from))];
  const share = reached ?? 0;
  const said = share > MOST ? `> ${MOST} ×` : `${share.toFixed(share < 10 ? 2 : 0)} ×`;
  const label = Math.max(from, to) + 6;
  return `<g><title>${escaped(`${name}\n${target}\n${measured}`)}</title><text x="${LABELS - 14}" y="${y + 13}" text-anchor="end">${escaped(shortened(name))}</text><rect x="${x.toFixed(1)}" y="${y + 2}" width="${width.toFixed(1)}" height="${LINE - 8}" fill="${met ? MET : MISSED}"/><text x="${label.toFixed(1)}" y="${y + 13}" fill="${FAINT}">${said}</text></g>`;
}

const shortened = (name: string): string => (name.length > 60 ? `${name.slice(0, 59)}…` : name);

/** One colour for a name in all panels. */
type ColourOf = (name: string) => string;

function panel(group: string, curves: readonly Curve[], colourOf: ColourOf): string {
  const all = curves.flatMap(({ latency }) => latency);
  const [low, high] = [10 ** Math.floor(Math.log10(Math.min(...all))), 10 ** Math.ceil(Math.log10(Math.max(...all)))];
  const x = (i: number) => PANEL.left + (i * (PANEL.width - PANEL.left - PANEL.right)) / (SHARES.length - 1);
  const inner = PANEL.height - PANEL.top - PANEL.bottom;
  const y = (ms: number) =>
    PANEL.top + inner * (1 - (Math.log10(ms) - Math.log10(low)) / (Math.log10(high) - Math.log10(low)));
  const grid: string[] = [];
  for (let ms = low; ms <= high * 1.001; ms *= 10) {
    grid.push(`<line x1="${x(0)}" x2="${x(SHARES.length - 1)}" y1="${y(ms)}" y2="${y(ms)}" stroke="#ddd"/>`);
    grid.push(
      `<text x="${x(0) - 6}" y="${y(ms) + 4}" text-anchor="end" fill="${FAINT}">${Number(ms.toPrecision(1))} ms</text>`,
    );
  }
  for (const [i, share] of SHARES.entries()) {
    const name = share === 1 ? "most" : `${Number((share * 100).toFixed(2))}`;
    grid.push(`<text x="${x(i)}" y="${PANEL.height - 14}" text-anchor="middle" fill="${FAINT}">${name}</text>`);
  }
  return [
    `<text x="20" y="16" font-weight="bold">Latency by percentile: ${escaped(group)}</text>`,
    ...grid,
    ...curves.map(({ name, latency }, i) => {
      const points = latency.map((ms, j) => [x(j), y(ms)] as const);
      return curve(name, colourOf(name), points, i);
    }),
  ].join("\n");
}

function curve(name: string, colour: string, points: readonly (readonly [number, number])[], nth: number): string {
  const line = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  const legend = PANEL.top + 12 + nth * 18;
  const key = PANEL.width - PANEL.right + 14;
  return `<polyline points="${line}" fill="none" stroke="${colour}" stroke-width="2"/><line x1="${key}" x2="${key + 16}" y1="${legend}" y2="${legend}" stroke="${colour}" stroke-width="3"/><text x="${key + 22}" y="${legend + 4}">${escaped(name)}</text>`;
}

const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
