/**
 * The few forms our metrics have. Every combination of known label values exists from the start, at zero, so that rates can
 * be taken of the first event; each is bound once, so that counting on a hot path looks nothing up.
 */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";

/** What users of a metric see of it. */
export type Count = { inc(by?: number): void };
export type Level = { inc(by?: number): void; dec(by?: number): void; set(to: number): void };
export type Spread = { observe(value: number): void };

export class Series {
  readonly #registers: Registry[];

  constructor(registry: Registry) {
    this.#registers = [registry];
  }

  count(name: string, help: string): Count {
    return new Counter({ name, help, registers: this.#registers });
  }

  level(name: string, help: string): Level {
    return new Gauge({ name, help, registers: this.#registers });
  }

  spread(name: string, help: string, buckets: number[]): Spread {
    return new Histogram({ name, help, buckets, registers: this.#registers });
  }

  counts<V extends string>(
    name: string,
    help: string,
    label: string,
    values: readonly V[],
  ): Readonly<Record<V, Count>> {
    const counter = new Counter({ name, help, labelNames: [label], registers: this.#registers });
    return each(values, (value) => zeroed(counter.labels({ [label]: value })));
  }

  counts2<A extends string, B extends string>(
    name: string,
    help: string,
    labels: readonly [string, string],
    [as, bs]: readonly [readonly A[], readonly B[]],
  ): Readonly<Record<A, Readonly<Record<B, Count>>>> {
    const counter = new Counter({ name, help, labelNames: [...labels], registers: this.#registers });
    return each(as, (a) => each(bs, (b) => zeroed(counter.labels({ [labels[0]]: a, [labels[1]]: b }))));
  }

  /** By two labels that are bound and a third that is bound too. */
  counts3<A extends string, B extends string, C extends string>(
    name: string,
    help: string,
    labels: readonly [string, string, string],
    [as, bs, cs]: readonly [readonly A[], readonly B[], readonly C[]],
  ): Readonly<Record<A, Readonly<Record<B, Readonly<Record<C, Count>>>>>> {
    const counter = new Counter({ name, help, labelNames: [...labels], registers: this.#registers });
    const bound = (a: A, b: B, c: C) => zeroed(counter.labels({ [labels[0]]: a, [labels[1]]: b, [labels[2]]: c }));
    return each(as, (a) => each(bs, (b) => each(cs, (c) => bound(a, b, c))));
  }

  levels<V extends string>(
    name: string,
    help: string,
    label: string,
    values: readonly V[],
  ): Readonly<Record<V, Level>> {
    const gauge = new Gauge({ name, help, labelNames: [label], registers: this.#registers });
    return each(values, (value) => cleared(gauge.labels({ [label]: value })));
  }

  levels2<A extends string, B extends string>(
    name: string,
    help: string,
    labels: readonly [string, string],
    [as, bs]: readonly [readonly A[], readonly B[]],
  ): Readonly<Record<A, Readonly<Record<B, Level>>>> {
    const gauge = new Gauge({ name, help, labelNames: [...labels], registers: this.#registers });
    return each(as, (a) => each(bs, (b) => cleared(gauge.labels({ [labels[0]]: a, [labels[1]]: b }))));
  }

  spreads<V extends string>(
    name: string,
    help: string,
    label: string,
    values: readonly V[],
    buckets: number[],
  ): Readonly<Record<V, Spread>> {
    const histogram = new Histogram({ name, help, buckets, labelNames: [label], registers: this.#registers });
    return each(values, (value) => {
      histogram.zero({ [label]: value });
      return histogram.labels({ [label]: value });
    });
  }

  spreads2<A extends string, B extends string>(
    name: string,
    help: string,
    labels: readonly [string, string],
    [as, bs]: readonly [readonly A[], readonly B[]],
    buckets: number[],
  ): Readonly<Record<A, Readonly<Record<B, Spread>>>> {
    const histogram = new Histogram({ name, help, buckets, labelNames: [...labels], registers: this.#registers });
    return each(as, (a) => each(bs, (b) => histogram.labels({ [labels[0]]: a, [labels[1]]: b })));
  }

  /** One metric whose series come and go: each call replaces them all. */
  table<L extends string>(name: string, help: string, labels: readonly L[]): Table<L> {
    const gauge = new Gauge<string>({ name, help, labelNames: [...labels], registers: this.#registers });
    return {
      replace(rows) {
        gauge.reset();
        for (const { value, ...at } of rows) gauge.inc(at, value);
      },
    };
  }
}

export type Table<L extends string> = { replace(rows: Iterable<Row<L>>): void };
export type Row<L extends string> = Readonly<Record<L, string>> & { readonly value: number };

/** Turns a total that somebody else counts into a counter's increments. */
export function following(counter: Count): (total: number) => void {
  let known = 0;
  return (total) => {
    if (total > known) counter.inc(total - known);
    known = Math.max(known, total);
  };
}

function zeroed(counter: Count): Count {
  counter.inc(0);
  return counter;
}

function cleared(gauge: Level): Level {
  gauge.set(0);
  return gauge;
}

function each<V extends string, R>(values: readonly V[], make: (value: V) => R): Readonly<Record<V, R>> {
  return Object.fromEntries(values.map((value) => [value, make(value)])) as Record<V, R>;
}
