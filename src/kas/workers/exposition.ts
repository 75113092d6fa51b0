/**
 * Several pages of Prometheus' text format made one: each family once, with the samples of all, every sample of a worker
 * with the label `worker`.
 */

export type Exposition = {
  /** null: its samples say themselves whose they are. */
  readonly worker: number | null;
  readonly text: string;
};

type Family = {
  /** Its HELP and TYPE. */
  readonly head: Map<string, string>;
  readonly samples: string[];
};

const COMMENT = /^# (HELP|TYPE) (\S+)/;

export function mergeExpositions(pages: readonly Exposition[]): string {
  const families = new Map<string, Family>();
  for (const page of pages) add(families, page);
  const lines = [...families.values()].flatMap(({ head, samples }) => [...head.values(), ...samples]);
  return `${lines.join("\n")}\n`;
}

function add(families: Map<string, Family>, { worker, text }: Exposition): void {
  let family: Family | null = null;
  for (const line of text.split("\n")) {
    const [, kind, name] = COMMENT.exec(line) ?? [];
    if (kind !== undefined && name !== undefined) {
      family = familyOf(families, name);
      if (!family.head.has(kind)) family.head.set(kind, line);
    } else if (line !== "" && !line.startsWith("#")) {
      family ??= familyOf(families, line.slice(0, endOfName(line)));
      family.samples.push(worker === null ? line : labelled(line, worker));
    }
  }
}

function familyOf(families: Map<string, Family>, name: string): Family {
  const known = families.get(name) ?? { head: new Map(), samples: [] };
  families.set(name, known);
  return known;
}

const endOfName = (sample: string): number => sample.search(/[{ ]/);

function labelled(sample: string, worker: number): string {
  const end = endOfName(sample);
  const name = sample.slice(0, end);
  const label = `worker="${worker}"`;
  if (sample[end] !== "{") return `${name}{${label}}${sample.slice(end)}`;
  const rest = sample.slice(end + 1);
  return `${name}{${label}${rest.startsWith("}") ? "" : ","}${rest}`;
}
