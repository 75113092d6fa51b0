/**
 * Checks a tree of settings against a schema and finds every fault at once: what the schema refuses, unknown names with the
 * nearest known one. Where there are faults, the rest is still returned (faulty settings at their defaults) for later checks.
 */
import type { z } from "zod";
import { nearest } from "./nearest.ts";
import { below, isHidden, settingsOf, shapeOf } from "./setting.ts";
import { type Fault, isTree, type Path, placeOf, type Tree } from "./source.ts";

export type Checked<Value> = {
  /** null only where nothing sensible is left. */
  readonly value: Value | null;
  readonly faults: readonly PathFault[];
};

export type PathFault = { readonly path: Path; readonly text: string };

/** How often faulty parts are cut out: each round removes at least one level. */
const MAX_ROUNDS = 8;

export function check<Schema extends z.ZodType>(schema: Schema, tree: Tree): Checked<z.output<Schema>> {
  const first = schema.safeParse(tree);
  if (first.success) return { value: first.data, faults: [] };
  const faults = first.error.issues.flatMap((issue) => explain(schema, tree, issue));
  let rest = tree;
  let issues = first.error.issues;
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    for (const issue of issues) for (const path of culprits(issue)) rest = cut(rest, path);
    const again = schema.safeParse(rest);
    if (again.success) return { value: again.data, faults };
    issues = again.error.issues;
  }
  return { value: null, faults };
}

export const locate = (faults: readonly PathFault[], lineOf: (path: Path) => number): readonly Fault[] =>
  faults.map(({ path, text }) => ({ line: lineOf(path), place: placeOf(path), text }));

const pathOf = (path: readonly PropertyKey[]): Path =>
  path.map((part) => (typeof part === "number" ? part : String(part)));

const culprits = (issue: z.core.$ZodIssue): readonly Path[] =>
  issue.code === "unrecognized_keys" ? issue.keys.map((key) => [...pathOf(issue.path), key]) : [pathOf(issue.path)];

function explain(schema: z.ZodType, tree: Tree, issue: z.core.$ZodIssue): readonly PathFault[] {
  const path = pathOf(issue.path);
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({ path: [...path, key], text: `no such setting${suggestion(schema, path, key)}` }));
  }
  const written = at(tree, path);
  if (written === undefined) return [{ path, text: `is missing: ${issue.message}` }];
  if (isHidden(schema, path)) return [{ path, text: issue.message }];
  return [{ path, text: `${issue.message}, found ${found(written)}` }];
}

/** Only what cannot be a secret is repeated: numbers, booleans and short words without `@` or `:` followed by more. */
function found(written: unknown): string {
  if (Array.isArray(written)) return "a list";
  if (isTree(written)) return "a section";
  const text = JSON.stringify(written) ?? "nothing";
  return /:[^@]*@/.test(text) || text.length > 80 ? "something else" : text;
}

function suggestion(schema: z.ZodType, path: Path, key: string): string {
  const here = namesAt(schema, path);
  const close = nearest(key, here);
  if (close) return `; did you mean ${placeOf([...path, close])}?`;
  const elsewhere = [...settingsOf(schema)].filter(
    (setting) => setting.path.at(-1) === key || setting.path.includes(key),
  );
  const match = elsewhere[0];
  if (match) return `; did you mean ${match.path.slice(0, match.path.indexOf(key) + 1).join(".")}?`;
  return here.length > 0 ? `; known here: ${here.join(", ")}` : "";
}

function namesAt(schema: z.core.$ZodType, path: Path): readonly string[] {
  let inner: z.core.$ZodType | null = schema;
  for (const part of path) inner = inner && below(inner, part);
  return Object.keys((inner && shapeOf(inner)) ?? {});
}

export function at(tree: unknown, path: Path): unknown {
  let value = tree;
  for (const part of path) {
    if (Array.isArray(value) && typeof part === "number") value = value[part];
    else if (isTree(value) && Object.hasOwn(value, part)) value = value[part];
    else return undefined;
  }
  return value;
}

/** The tree without what is at `path`; where nothing is there, without the deepest part of the path that is. */
export function cut(tree: Tree, path: Path): Tree {
  const [head, ...rest] = path;
  if (head === undefined || typeof head === "number" || !Object.hasOwn(tree, head)) return tree;
  const child = tree[head];
  const deeper = rest.length > 0 && isTree(child) && at(child, rest.slice(0, 1)) !== undefined;
  const { [head]: _, ...others } = tree;
  return deeper ? { ...tree, [head]: cut(child as Tree, rest) } : others;
}
