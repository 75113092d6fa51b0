/**
 * Metrics as plain numbers. Counting looks nothing up, hashes nothing and allocates nothing; prom-client is told the numbers
 * when somebody collects.
 */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";

export type Labels = Readonly<Record<string, string>>;

export type Metric = {
  readonly registry: Registry;
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
};

class Tally {
  readonly at: Labels;
  value = 0;

  constructor(at: Labels) {
    this.at = at;
  }

  inc(by = 1): void {
    this.value += by;
  }

  dec(by = 1): void {
    this.value -= by;
  }

  set(to: number): void {
    this.value = to;
  }
}

const options = ({ registry, name, help, labels }: Metric) => ({
  name,
  help,
  labelNames: [...labels],
  registers: [registry],
});

/** Makes the series of a counter; each is there from then on, at zero. */
export function counter(metric: Metric): (at: Labels) => Tally {
  const all: Tally[] = [];
  new Counter<string>({
    ...options(metric),
    collect() {
      this.reset();
      for (const { at, value } of all) this.inc(at, value);
    },
  });
  return (at) => kept(all, new Tally(at));
}

/** The same of a gauge. */
export function gauge(metric: Metric): (at: Labels) => Tally {
  const all: Tally[] = [];
  new Gauge<string>({
    ...options(metric),
    collect() {
      for (const { at, value } of all) this.set(at, value);
    },
  });
  return (at) => kept(all, new Tally(at));
}

class Buckets {
  readonly at: Labels;
  readonly always: boolean;
  readonly bounds: readonly number[];
  /** One more than bounds: the last is for what is above all of them. */
  readonly counts: number[];
  sum = 0;

  constructor(at: Labels, bounds: readonly number[], always: boolean) {
    this.at = at;
    this.always = always;
    this.bounds = bounds;
    this.counts = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    let i = 0;
    while (i < this.bounds.length && value > (this.bounds[i] ?? 0)) i++;
    this.counts[i] = (this.counts[i] ?? 0) + 1;
    this.sum += value;
  }
}

/** The same of a histogram; unless `always`, a series appears with its first observation. */
export function histogram(metric: Metric, bounds: readonly number[]): (at: Labels, always: boolean) => Buckets {
  const all: Buckets[] = [];
  const { name } = metric;
  const told = new Histogram<string>({ ...options(metric), buckets: [...bounds] });
  const { help } = metric;
  const get = async () => ({
    name,
    help,
    type: "histogram",
    aggregator: "sum",
    values: all.flatMap((buckets) => valuesOf(name, buckets)),
  });
  Object.assign(told, { get, getForPromString: get });
  return (at, always) => kept(all, new Buckets(at, bounds, always));
}

function valuesOf(name: string, { at, always, bounds, counts, sum }: Buckets) {
  let total = 0;
  const values = counts.map((count, i) => {
    total += count;
    return { metricName: `${name}_bucket`, labels: { le: bounds[i] ?? "+Inf", ...at }, value: total };
  });
  if (total === 0 && !always) return [];
  return [
    ...values,
    { metricName: `${name}_sum`, labels: at, value: sum },
    { metricName: `${name}_count`, labels: at, value: total },
  ];
}

function kept<Series>(all: Series[], series: Series): Series {
  all.push(series);
  return series;
}
