/**
 * The few forms our metrics have. Every combination of known label values exists from the start, at zero, so that rates can
 * be taken of the first event; each is bound once, so that counting on a hot path looks nothing up.
 */
import { Gauge, type Registry } from "prom-client";
import { counter, gauge, histogram, type Metric } from "./tally.ts";

/** What users of a metric see of it. */
export type Count = { inc(by?: number): void };
export type Level = { inc(by?: number): void; dec(by?: number): void; set(to: number): void };
export type Spread = { observe(value: number): void };

export class Series {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  count(name: string, help: string): Count {
    return counter(this.#metric(name, help))({});
  }

  level(name: string, help: string): Level {
    return gauge(this.#metric(name, help))({});
  }

  spread(name: string, help: string, buckets: readonly number[]): Spread {
    return histogram(this.#metric(name, help), buckets)({}, true);
  }

  counts<V extends string>(
    name: string,
    help: string,
    label: string,
    values: readonly V[],
  ): Readonly<Record<V, Count>> {
    const series = counter(this.#metric(name, help, label));
    return each(values, (value) => series({ [label]: value }));
  }

  counts2<A extends string, B extends string>(
    name: string,
    help: string,
    labels: readonly [string, string],
    [as, bs]: readonly [readonly A[], readonly B[]],
  ): Readonly<Record<A, Readonly<Record<B, Count>>>> {
    const series = counter(this.#metric(name, help, ...labels));
    return each(as, (a) => each(bs, (b) => series({ [labels[0]]: a, [labels[1]]: b })));
  }

  counts3<A extends string, B extends string, C extends string>(
    name: string,
    help: string,
    labels: readonly [string, string, string],
    [as, bs, cs]: readonly [readonly A[], readonly B[], readonly C[]],
  ): Readonly<Record<A, Readonly<Record<B, Readonly<Record<C, Count>>>>>> {
    const series = counter(this.#metric(name, help, ...labels));
    const bound = (a: A, b: B, c: C) => series({ [labels[0]]: a, [labels[1]]: b, [labels[2]]: c });
    return each(as, (a) => each(bs, (b) => each(cs, (c) => bound(a, b, c))));
  }

  levels<V extends string>(
    name: string,
    help: string,
    label: string,
    values: readonly V[],
  ): Readonly<Record<V, Level>> {
    const series = gauge(this.#metric(name, help, label));
    return each(values, (value) => series({ [label]: value }));
  }

  levels2<A extends string, B extends string>(
    name: string,
    help: string,
    labels: readonly [string, string],
    [as, bs]: readonly [readonly A[], readonly B[]],
  ): Readonly<Record<A, Readonly<Record<B, Level>>>> {
    const series = gauge(this.#metric(name, help, ...labels));
    return each(as, (a) => each(bs, (b) => series({ [labels[0]]: a, [labels[1]]: b })));
  }

  spreads<V extends string>(
    name: string,
    help: string,
    label: string,
    values: readonly V[],
    buckets: readonly number[],
  ): Readonly<Record<V, Spread>> {
    const series = histogram(this.#metric(name, help, label), buckets);
    return each(values, (value) => series({ [label]: value }, true));
  }

  /** A series of these appears with its first observation: most of the combinations never happen. */
  spreads2<A extends string, B extends string>(
    name: string,
    help: string,
    labels: readonly [string, string],
    [as, bs]: readonly [readonly A[], readonly B[]],
    buckets: readonly number[],
  ): Readonly<Record<A, Readonly<Record<B, Spread>>>> {
    const series = histogram(this.#metric(name, help, ...labels), buckets);
    return each(as, (a) => each(bs, (b) => series({ [labels[0]]: a, [labels[1]]: b }, false)));
  }

  /** One metric whose series come and go: each call replaces them all. */
  table<L extends string>(name: string, help: string, labels: readonly L[]): Table<L> {
    const gauge = new Gauge<string>({ name, help, labelNames: [...labels], registers: [this.#registry] });
    return {
      replace(rows) {
        gauge.reset();
        for (const { value, ...at } of rows) gauge.inc(at, value);
      },
    };
  }

  #metric(name: string, help: string, ...labels: readonly string[]): Metric {
    return { registry: this.#registry, name, help, labels };
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

function each<V extends string, R>(values: readonly V[], make: (value: V) => R): Readonly<Record<V, R>> {
  return Object.fromEntries(values.map((value) => [value, make(value)])) as Record<V, R>;
}
