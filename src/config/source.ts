/**
 * A YAML file with the line of everything in it, and the faults found there. A fault always names its place, what was
 * expected and, where it is known, what to do; it never repeats a value that may be a secret.
 */
import { type Document, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument } from "yaml";

export type Path = readonly (string | number)[];

export type Fault = {
  /** 0: not from the file, and its text says where it is from. */
  readonly line: number;
  /** `agent.listen.address`, "" for the whole file. */
  readonly place: string;
  readonly text: string;
};

export type Source = {
  /** Plain values; sections without content are left out. */
  readonly tree: Readonly<Record<string, unknown>>;
  /** Syntax errors and doubled keys. */
  readonly faults: readonly Fault[];
  /** Line of the key at `path`, or of the deepest part of it that the file has. */
  lineOf(path: Path): number;
};

export type Tree = Record<string, unknown>;
export const isTree = (value: unknown): value is Tree =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export const placeOf = (path: Path): string =>
  path.reduce<string>(
    (place, part) => (typeof part === "number" ? `${place}[${part}]` : place ? `${place}.${part}` : part),
    "",
  );

export function readSource(text: string): Source {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const faults = [...document.errors, ...document.warnings].map(({ pos, message }) => ({
    line: lines.linePos(pos[0]).line,
    place: "",
    text: message,
  }));
  const lineOf = (path: Path): number => {
    const offset = offsetOf(document, path);
    return offset === null ? 1 : lines.linePos(offset).line;
  };
  const { value, fault } = faults.length === 0 ? plainValue(document) : { value: {}, fault: null };
  if (isTree(value)) return { tree: value, faults: fault ? [...faults, fault] : faults, lineOf };
  const shape = { line: lineOf([]), place: "", text: "expected settings as `name: value`, one a line" };
  return { tree: {}, faults: [...faults, shape], lineOf };
}

/** An alias that leads nowhere, or too many of them, shows only here. */
function plainValue(document: Document): { value: unknown; fault: Fault | null } {
  try {
    return { value: withoutNulls(document.toJS({ maxAliasCount: 100 }) ?? {}), fault: null };
  } catch (error) {
    return { value: {}, fault: { line: 1, place: "", text: error instanceof Error ? error.message : String(error) } };
  }
}

/** `section:` with nothing below it means the defaults of that section. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (!isTree(value)) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, child]) => (child === null ? [] : [[key, withoutNulls(child)]])),
  );
}

type Step = { readonly node: unknown; readonly offset: number | null };

function offsetOf(document: Document, path: Path): number | null {
  let step: Step | null = { node: document.contents, offset: startOf(document.contents) };
  let offset = step.offset;
  for (const part of path) {
    step = step && childOf(step.node, part);
    offset = step?.offset ?? offset;
  }
  return offset;
}

const startOf = (node: unknown): number | null => (isNode(node) ? (node.range?.[0] ?? null) : null);

function childOf(node: unknown, part: string | number): Step | null {
  if (isMap(node)) {
    const pair = node.items.find(({ key }) => (isScalar(key) ? String(key.value) : key) === String(part));
    return pair ? { node: pair.value, offset: startOf(pair.key) } : null;
  }
  if (!isSeq(node) || typeof part !== "number") return null;
  return { node: node.items[part], offset: startOf(node.items[part]) };
}

/** One fault a line: `kas.yaml:12: agent.listen.address: expected …`. In the order of the file. */
export function formatFaults(file: string, faults: readonly Fault[]): string {
  return faults
    .toSorted((a, b) => a.line - b.line)
    .map(({ line, place, text }) => `${line > 0 ? `${file}:${line}: ` : ""}${place ? `${place}: ` : ""}${text}`)
    .join("\n");
}
