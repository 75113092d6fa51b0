/**
 * kas.yaml and its environment, checked: `parseKasConfig` returns settings that need no further check, or throws one
 * `invalid` failure that names every fault with its line. Files and environment are arguments.
 */

import { isNodeName, type NodeName } from "../../actors/ids.ts";
import type { Failed } from "../failed.ts";
import { failed } from "../failed.ts";
import { at, check, cut, type PathFault } from "./check.ts";
import { overlay, variableOf } from "./environment.ts";
import { crossFaults } from "./kas-rules.ts";
import { type KasSettings, kasSchema, UNUSED } from "./kas-schema.ts";
import { type OwnAddress, ownAddress } from "./own-address.ts";
import { parseSecrets } from "./secret.ts";
import { settingsOf } from "./setting.ts";
import { type Fault, formatFaults, type Path, placeOf, readSource, type Source, type Tree } from "./source.ts";

type Frozen<Value> = Value extends readonly (infer Item)[]
  ? readonly Frozen<Item>[]
  : Value extends object
    ? { readonly [Key in keyof Value]: Frozen<Value[Key]> }
    : Value;

/** Names as in the file; durations in milliseconds, addresses taken apart. */
export type KasConfig = Frozen<Omit<KasSettings, "node">> & {
  readonly node: { readonly name: NodeName };
  /** Where the other nodes dial this one; null without `private_api`. */
  readonly own_private_api: OwnAddress | null;
};

export type KasConfigSources = {
  /** Name of the file, for messages. */
  readonly file: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly hostname: string;
  /** IP addresses of this host, for `OWN_PRIVATE_API_CIDR`. */
  readonly interfaces: readonly string[];
  /** Throws where the file cannot be read. */
  readonly readFile: (path: string) => string;
};

export type ParsedKasConfig = { readonly config: KasConfig; readonly warnings: readonly string[] };

export function parseKasConfig(text: string, sources: KasConfigSources): ParsedKasConfig {
  const source = readSource(text);
  const { tree, warnings } = withoutUnused(source, sources.file);
  const overlaid = overlay(kasSchema, tree, sources.env);
  const checked = check(kasSchema, overlaid.tree);
  const own = checked.value && ownAddressOf(checked.value, sources);
  const later = checked.value
    ? [...crossFaults(checked.value), ...unreadable(checked.value, sources), ...fault(own)]
    : [];
  const fresh = later.filter(({ path }) => !checked.faults.some((known) => related(known.path, path)));
  const faults: readonly Fault[] = [
    ...source.faults,
    ...overlaid.faults,
    ...[...checked.faults, ...fresh].map((each) => placed(each, source, overlaid.places)),
  ];
  if (faults.length > 0 || !checked.value) throw badConfig(sources.file, faults);
  const name = nodeName(checked.value.node.name, sources);
  const own_private_api = typeof own === "string" ? null : own;
  const config = { ...checked.value, node: { name }, own_private_api };
  return { config, warnings: [...warnings, ...advice(checked.value)] };
}

const advice = ({ gitlab, authentication }: KasSettings): readonly string[] =>
  gitlab || authentication.static_file !== undefined
    ? []
    : ["nobody can log in: set authentication.static_file, or gitlab.address and its secret"];

const badConfig = (file: string, faults: readonly Fault[]): Failed =>
  failed(
    "invalid",
    `the configuration has ${faults.length === 1 ? "a fault" : `${faults.length} faults`}:\n${formatFaults(file, faults)}`,
  );

/** A fault of a setting that came from the environment names its variable instead of a line. */
function placed({ path, text }: PathFault, source: Source, fromEnvironment: ReadonlySet<string>): Fault {
  const place = placeOf(path);
  if (!fromEnvironment.has(place)) return { line: source.lineOf(path), place, text };
  return { line: 0, place: `environment variable ${variableOf(path.map(String))}`, text };
}

function withoutUnused(source: Source, file: string): { readonly tree: Tree; readonly warnings: readonly string[] } {
  const warnings: string[] = [];
  let { tree }: { tree: Tree } = source;
  for (const [place, why] of Object.entries(UNUSED)) {
    const path = place.split(".");
    if (at(tree, path) === undefined) continue;
    warnings.push(`${file}:${source.lineOf(path)}: ${place} has no effect: ${why}`);
    tree = cut(tree, path);
  }
  return { tree, warnings };
}

function nodeName(written: string | undefined, { env, hostname }: KasConfigSources): NodeName {
  const name = (written ?? (env.POD_NAME || hostname))
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, "-")
    .slice(0, 63);
  return isNodeName(name) ? name : ("kas" as NodeName);
}

function ownAddressOf(settings: KasSettings, { env, interfaces }: KasConfigSources): OwnAddress | string | null {
  const listen = settings.private_api?.listen;
  if (!listen) return null;
  const own = ownAddress({ env, interfaces, listen: listen.address, tls: listen.certificate_file !== undefined });
  return typeof own === "string" && !settings.nats ? null : own;
}

const fault = (own: OwnAddress | string | null): readonly PathFault[] =>
  typeof own === "string" ? [{ path: ["private_api", "listen", "address"], text: own }] : [];

/** Every file that is named must be there, and every secret must be one. */
function* unreadable(settings: KasSettings, { readFile }: KasConfigSources): Generator<PathFault> {
  for (const { path, kind } of settingsOf(kasSchema)) {
    const name = kind === "file" || kind === "secret" ? at(settings, path) : undefined;
    const text = typeof name === "string" ? faultOfFile(name, kind === "secret", readFile) : null;
    if (text !== null) yield { path, text };
  }
}

function faultOfFile(name: string, secret: boolean, readFile: KasConfigSources["readFile"]): string | null {
  // Written in place of the file's name: it must not show up in the message of the file that is not there.
  if (typeof parseSecrets(name) !== "string") return "looks like a secret itself: write it to a file and name the file";
  try {
    const content = readFile(name);
    const secrets = secret ? parseSecrets(content) : [];
    return typeof secrets === "string" ? `${name}: ${secrets}` : null;
  } catch (error) {
    return `${name} cannot be read: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** One is the other, or lies below it: the later fault only follows from the first. */
const related = (one: Path, other: Path): boolean => {
  const shorter = Math.min(one.length, other.length);
  return one.slice(0, shorter).every((part, index) => part === other[index]);
};
