/** Settings from the environment: `KAS_` and the path in capitals, `__` between levels. They beat the file. */
import { parse } from "yaml";
import type { z } from "zod";
import { nearest } from "./nearest.ts";
import { type Setting, settingsOf } from "./setting.ts";
import { type Fault, isTree, type Tree } from "./source.ts";

const PREFIX = "KAS_";

export const variableOf = (path: readonly string[]): string => `${PREFIX}${path.join("__").toUpperCase()}`;

export type Overlaid = {
  readonly tree: Tree;
  /** Place of each setting that came from the environment. */
  readonly places: ReadonlySet<string>;
  readonly faults: readonly Fault[];
};

/**
 * Variables that only start like ours are left alone: Kubernetes makes `KAS_SERVICE_HOST` and the like for a Service `kas`.
 * With `__` it can only be meant for us, so an unknown one is a fault.
 */
export function overlay(schema: z.ZodType, tree: Tree, env: Readonly<Record<string, string | undefined>>): Overlaid {
  const settings = new Map([...settingsOf(schema)].map((setting) => [variableOf(setting.path), setting]));
  const places = new Set<string>();
  const faults: Fault[] = [];
  let result = tree;
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || !name.startsWith(PREFIX)) continue;
    const setting = settings.get(name);
    if (setting) {
      result = put(result, setting.path, readValue(setting, value));
      places.add(setting.path.join("."));
    } else if (name.includes("__")) {
      const close = nearest(name, [...settings.keys()]);
      faults.push({
        line: 0,
        place: "",
        text: `environment variable ${name}: no such setting${close ? `; did you mean ${close}?` : ""}`,
      });
    }
  }
  return { tree: result, places, faults };
}

function readValue(setting: Setting, text: string): unknown {
  if (setting.kind !== "value") return text;
  try {
    return parse(text);
  } catch {
    return text;
  }
}

/** A section that the file got wrong stays as it is, so that its fault is still found. */
function put(tree: Tree, path: readonly string[], value: unknown): Tree {
  const [head, ...rest] = path;
  if (head === undefined) return tree;
  if (rest.length === 0) return { ...tree, [head]: value };
  const child = Object.hasOwn(tree, head) ? tree[head] : {};
  return isTree(child) ? { ...tree, [head]: put(child, rest, value) } : tree;
}
