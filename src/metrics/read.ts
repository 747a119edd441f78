/**
 * Metrics whose values lie elsewhere and are read when somebody asks: prom-client's own keep a copy
 * behind a hash of labels, which for 10,000 Services would be written at each scrape.
 */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";

/** One value, and its labels. */
export interface Sample {
  labels: Readonly<Record<string, string>>;
  value: number;
}

/** What a histogram is made of; `counts` has one more than `bounds`, for what is beyond. */
export interface Distribution {
  /** Upper bounds, inclusive, ascending. */
  bounds: readonly number[];
  /** Observations in each interval, not cumulative. */
  counts: readonly number[];
  sum: number;
}

interface Description {
  name: string;
  help: string;
}

type Values = number | Iterable<Sample>;
type Read = () => Values | Promise<Values>;

/** Only ever grows, but for the restart of what it is read from. */
export function readCounter(register: Registry, description: Description, read: Read): void {
  answerWith(new Counter({ ...description, registers: [register] }), read);
}

/** Goes up and down. */
export function readGauge(register: Registry, description: Description, read: Read): void {
  answerWith(new Gauge({ ...description, registers: [register] }), read);
}

/** Observations by interval; `read` gives those since the start of what it is read from. */
export function readHistogram(register: Registry, description: Description, read: () => Distribution): void {
  new ReadHistogram(register, description, read);
}

/** Lets a metric answer with what is read; it keeps no values itself. */
function answerWith(metric: Counter | Gauge, read: Read): void {
  const get = metric.get.bind(metric);
  metric.get = async () => ({ ...(await get()), values: await samples(read) });
}

async function samples(read: Read): Promise<Sample[]> {
  const values = await read();
  return typeof values === "number" ? [{ labels: {}, value: values }] : [...values];
}

class ReadHistogram extends Histogram {
  readonly #description: Description;
  readonly #read: () => Distribution;

  constructor(register: Registry, description: Description, read: () => Distribution) {
    super({ ...description, registers: [register] });
    this.#description = description;
    this.#read = read;
  }

  /** What the registry, and Histogram.get, ask for. */
  async getForPromString() {
    const { name, help } = this.#description;
    const { bounds, counts, sum } = this.#read();
    let total = 0;
    const value = (suffix: string, labels: Record<string, string | number>, value: number) => ({
      metricName: `${name}_${suffix}`,
      labels,
      sharedLabels: {},
      value,
    });
    const buckets = counts.map((count, i) => {
      total += count;
      return value("bucket", { le: i < bounds.length ? bounds[i]! : "+Inf" }, total);
    });
    const values = [...buckets, value("sum", {}, sum), value("count", {}, total)];
    return { name, help, type: "histogram", aggregator: "sum", values };
  }
}
