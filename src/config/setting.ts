/**
 * The kinds of settings, as zod schemas that say what they expect in one sentence, and the way to walk a schema: the
 * settings table, the environment and the search for the nearest name all read the schema and nothing else.
 */
import { z } from "zod";
import type { Millis } from "../../actors/actor.ts";
import { ADDRESS_EXPECTED, type Address, parseAddress } from "./address.ts";
import { DURATION_EXPECTED, parseDuration } from "./duration.ts";

/** `text` is taken from the environment as it is, everything else is read as YAML; `file` and `secret` must be readable. */
export type SettingKind = "text" | "value" | "file" | "secret";

/** A setting that turns what is written into `Value`, or says what it expects. */
function setting<Value>(kind: SettingKind, expected: string, read: (written: unknown) => Value | null) {
  return z
    .unknown()
    .transform((written, context): Value => {
      const value = read(written);
      if (value !== null) return value;
      context.addIssue({ code: "custom", message: `expected ${expected}` });
      return z.NEVER;
    })
    .meta({ kind, expected });
}

const nonEmpty = (written: unknown): string | null => (typeof written === "string" && written !== "" ? written : null);

export const text = (expected = "a text") => setting<string>("text", expected, nonEmpty);

export const pattern = (shape: RegExp, expected: string) =>
  setting<string>("text", expected, (written) => {
    const value = nonEmpty(written);
    return value !== null && shape.test(value) ? value : null;
  });

export const file = () => setting<string>("file", "the path of a file", nonEmpty);

/** A file of base64, see `secret.ts`. */
export const secretFile = () =>
  setting<string>("secret", "the path of a file with base64 of 32 bytes or more", nonEmpty);

export const flag = () =>
  setting<boolean>("value", "true or false", (written) => (typeof written === "boolean" ? written : null));

export const count = (least: number, most: number) =>
  setting<number>("value", `a whole number from ${least} to ${most}`, (written) =>
    typeof written === "number" && Number.isInteger(written) && written >= least && written <= most ? written : null,
  );

export const duration = (least: Millis = 0) =>
  setting<Millis>("text", least > 0 ? `${DURATION_EXPECTED}, more than zero` : DURATION_EXPECTED, (written) => {
    const millis = parseDuration(written);
    return millis !== null && millis >= least ? millis : null;
  });

export const address = () =>
  setting<Address>("text", ADDRESS_EXPECTED, (written) => (typeof written === "string" ? parseAddress(written) : null));

export const choice = <const Values extends readonly (string | number)[]>(values: Values) =>
  setting<Values[number]>(
    "value",
    `one of ${values.join(", ")}`,
    (written) => values.find((value) => value === written) ?? null,
  );

export const url = (schemes: readonly string[]) =>
  setting<string>(
    "text",
    `a URL that starts with ${schemes.map((scheme) => `${scheme}://`).join(" or ")}`,
    (written) => {
      if (typeof written !== "string" || !URL.canParse(written)) return null;
      const { protocol, hostname } = new URL(written);
      return hostname && schemes.includes(protocol.slice(0, -1)) ? written : null;
    },
  );

/** A list of texts; one text with commas means the same. */
export const list = (expected: string, accepts: (item: string) => boolean = () => true) =>
  setting<readonly string[]>("value", expected, (written) => {
    const items = typeof written === "string" ? written.split(",").map((item) => item.trim()) : written;
    if (!Array.isArray(items)) return null;
    return items.every((item): item is string => typeof item === "string" && item !== "" && accepts(item))
      ? items
      : null;
  });

/** A token as `read` knows it; it never shows up in a message. */
export const token = (expected: string, read: (written: unknown) => string | null) =>
  setting<string>("value", expected, read).meta({ kind: "value", expected, hidden: true });

export const items = <Item extends z.ZodType>(item: Item) => z.array(item, { error: "expected a list" });

export const section = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z.strictObject(shape, {
    error: (issue) => (issue.code === "invalid_type" ? "expected a section: settings below it, indented" : undefined),
  });

export type Setting = {
  readonly path: readonly string[];
  readonly kind: SettingKind;
  readonly expected: string;
  readonly meaning: string;
  /** As an operator would write it; undefined where there is none. */
  readonly preset: unknown;
};

type Unwrapped = {
  readonly schema: z.core.$ZodType;
  readonly preset: unknown;
  readonly meta: Readonly<Record<string, unknown>>;
};

/** Takes optional, default and prefault off; collects the description and the default on the way. */
function unwrap(schema: z.core.$ZodType, preset: unknown = undefined, meta: Record<string, unknown> = {}): Unwrapped {
  const merged = { ...z.globalRegistry.get(schema), ...meta };
  if (schema instanceof z.ZodOptional) return unwrap(schema.unwrap(), preset, merged);
  if (schema instanceof z.ZodPrefault) return unwrap(schema.unwrap(), preset ?? schema.def.defaultValue, merged);
  return { schema, preset, meta: merged };
}

/** The schema of each name of a section; null for a setting. */
export function shapeOf(schema: z.core.$ZodType): Readonly<Record<string, z.core.$ZodType>> | null {
  const inner = unwrap(schema).schema;
  return inner instanceof z.ZodObject ? inner.shape : null;
}

/** The schema one step below: of a name of a section, or of any item of a list. */
export function below(schema: z.core.$ZodType, part: string | number): z.core.$ZodType | null {
  const inner = unwrap(schema).schema;
  if (inner instanceof z.ZodArray) return inner.element;
  return shapeOf(schema)?.[part] ?? null;
}

/** Is what stands at `path` a secret, or could it be one? */
export function isHidden(schema: z.core.$ZodType, path: readonly (string | number)[]): boolean {
  let inner: z.core.$ZodType | null = schema;
  for (const part of path) {
    inner = inner && below(inner, part);
    if (inner && unwrap(inner).meta.hidden === true) return true;
  }
  return false;
}

/** Every setting of a schema, depth first, in the order it is written. */
export function* settingsOf(schema: z.core.$ZodType, path: readonly string[] = []): Generator<Setting> {
  const shape = shapeOf(schema);
  if (shape) {
    for (const [name, child] of Object.entries(shape)) yield* settingsOf(child, [...path, name]);
    return;
  }
  const { meta, preset } = unwrap(schema);
  const kind = KINDS.find((each) => each === meta.kind) ?? "value";
  yield { path, kind, expected: String(meta.expected ?? ""), meaning: String(meta.description ?? ""), preset };
}

const KINDS: readonly SettingKind[] = ["text", "value", "file", "secret"];
