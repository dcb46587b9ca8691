// The server's metrics: reads the Prometheus text now and then, and keeps ten minutes of it.

import { request } from "./api.js";

const KEPT = 10 * 60_000;

/** `name{labels} value`, as the text format of Prometheus has it. Label values may contain any character. */
const LINE = /^([a-zA-Z_:][\w:]*)(\{(?:[^"}]|"(?:\\.|[^"\\])*")*\})?\s+(\S+)/;

function number(text) {
  return text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text);
}

/** Values summed over all labels but `le`; buckets of histograms by their upper bound. */
export function parseMetrics(text) {
  const values = new Map();
  const buckets = new Map();
  for (const line of text.split("\n")) {
    const match = LINE.exec(line);
    if (!match) continue;
    const [, name, labels, value] = match;
    const bound = labels && /[{,]\s*le="([^"]*)"/.exec(labels);
    if (bound && name.endsWith("_bucket")) {
      const histogram = buckets.get(name.slice(0, -7)) ?? new Map();
      const le = number(bound[1]);
      histogram.set(le, (histogram.get(le) ?? 0) + number(value));
      buckets.set(name.slice(0, -7), histogram);
    } else values.set(name, (values.get(name) ?? 0) + number(value));
  }
  return { time: Date.now(), values, buckets };
}

/** The quantile of what a histogram counted between two samples; linear inside a bucket, as Prometheus has it. */
export function quantile(q, from, to) {
  const bounds = [...to.keys()].sort((a, b) => a - b);
  const counts = bounds.map((bound) => to.get(bound) - (from?.get(bound) ?? 0));
  const rank = q * counts.at(-1);
  if (!(counts.at(-1) > 0)) return undefined;
  const at = counts.findIndex((count) => count >= rank);
  if (bounds[at] === Infinity) return bounds[at - 1];
  const below = at ? counts[at - 1] : 0;
  const low = at ? bounds[at - 1] : 0;
  return low + (bounds[at] - low) * ((rank - below) / Math.max(counts[at] - below, 1e-9));
}

/** Polls the server and tells its listeners by the event `sample`. */
export class Metrics extends EventTarget {
  constructor() {
    super();
    this.samples = [];
    this.interval = 5000;
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.poll(); });
  }

  /** Polls every `milliseconds` from now on. */
  every(milliseconds) {
    if (this.interval === milliseconds && this.timer) return;
    this.interval = milliseconds;
    this.poll();
  }

  async poll() {
    clearTimeout(this.timer);
    if (document.hidden || this.polling) return;
    this.polling = true;
    try {
      const sample = parseMetrics(await (await request("metrics", { quiet: true })).text());
      // Counters that fell were those of a server that has ended.
      if ((sample.values.get("trine_generation_tokens_total") ?? 0) < (this.latest?.values.get("trine_generation_tokens_total") ?? 0)) this.samples = [];
      this.samples.push(sample);
      this.samples = this.samples.filter(({ time }) => time > sample.time - KEPT);
      this.error = undefined;
    } catch (error) {
      this.error = error;
    }
    this.polling = false;
    // While the server is at work, its state is asked for more often.
    this.timer = setTimeout(() => this.poll(), this.value("trine_num_requests_running") > 0 ? Math.min(this.interval, 2000) : this.interval);
    this.dispatchEvent(new Event("sample"));
  }

  get latest() {
    return this.samples.at(-1);
  }

  value(name) {
    return this.latest?.values.get(name);
  }

  /** `[time, value]` of a gauge. */
  gauge(name, scale = 1) {
    return this.samples.filter(({ values }) => values.has(name)).map(({ time, values }) => [time, values.get(name) * scale]);
  }

  /** `[time, growth per second]` of a counter, over the last `window` milliseconds. */
  rate(name, window = 3000) {
    return this.#windows(window, (before, after) => {
      if (!after.values.has(name)) return undefined;
      return (after.values.get(name) - (before.values.get(name) ?? 0)) / ((after.time - before.time) / 1000);
    });
  }

  /** `[time, growth of one counter over growth of another]`, over the last `window` milliseconds. */
  ratio(above, below, window) {
    return this.#windows(window, (before, after) => {
      const grown = after.values.get(below) - (before.values.get(below) ?? 0);
      return grown > 0 ? (after.values.get(above) - (before.values.get(above) ?? 0)) / grown : undefined;
    });
  }

  /** `[time, quantile]` of a histogram, over the last `window` milliseconds. */
  quantiles(name, q, window) {
    return this.#windows(window, (before, after) => after.buckets.has(name) ? quantile(q, before.buckets.get(name), after.buckets.get(name)) : undefined);
  }

  /** `[time, run(before, after)]` of each sample and the last one that is `window` milliseconds older. */
  #windows(window, run) {
    return this.samples.map((after, at) => {
      const before = this.samples.findLast(({ time }, i) => i < at && time <= after.time - window) ?? this.samples[0];
      return [after.time, after.time - before.time < 200 ? undefined : run(before, after)];
    });
  }
}
