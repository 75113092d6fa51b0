/** Resources as text for people. Nothing that came from elsewhere can move the cursor: control characters are shown as `?`. */

type Row = Readonly<Record<string, unknown>>;

const isRow = (value: unknown): value is Row => typeof value === "object" && value !== null && !Array.isArray(value);

/** `list` names the property that holds the rows; without it every property is a line. */
export function renderTable(resource: unknown, list: string | null): string {
  const rows = isRow(resource) && list !== null ? resource[list] : resource;
  if (Array.isArray(rows)) return rowsOf(rows.filter(isRow)) + incomplete(resource);
  if (!isRow(resource)) return `${printable(resource)}\n`;
  const entries = Object.entries(resource);
  const width = Math.max(0, ...entries.map(([name]) => name.length));
  return entries.map(([name, value]) => `${name.padEnd(width)}  ${printable(value)}\n`).join("");
}

function rowsOf(rows: readonly Row[]): string {
  const columns = Object.keys(rows[0] ?? {});
  if (columns.length === 0) return "none\n";
  const lines = [
    columns.map((name) => name.toUpperCase()),
    ...rows.map((row) => columns.map((name) => printable(row[name]))),
  ];
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => line[index]?.length ?? 0)));
  return lines
    .map(
      (line) =>
        `${line
          .map((text, index) => text.padEnd(widths[index] ?? 0))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

/** A list with holes must not look whole. */
function incomplete(resource: unknown): string {
  if (!isRow(resource) || resource.complete !== false) return "";
  return `incomplete: no answer from ${printable(resource.missing)}\n`;
}

function printable(value: unknown): string {
  if (value === undefined || value === null || value === "") return "-";
  const text =
    Array.isArray(value) && !value.some(isRow)
      ? value.join(",")
      : typeof value === "object"
        ? JSON.stringify(value)
        : String(value);
  return text === "" ? "-" : text.replace(/[\p{Cc}\p{Cf}]/gu, "?");
}
