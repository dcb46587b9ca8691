// The page of metrics: a row of figures, plots over the last minutes, and every value that the server reports.

import { plot } from "./plot.js";
import { count, duration, el, short } from "./ui.js";

const WINDOW = 30_000;
const share = (value) => `${short(value * 100)}%`;
const mebibytes = (value) => (value >= 1024 ? `${short(value / 1024)} GiB` : `${short(value)} MiB`);

/** Plots: a title, how values are written, the lines, and the least step of the scale. */
const PLOTS = [
  ["Tokens per second", short, (m) => [["generated", m.rate("trine_generation_tokens_total")], ["prompt", m.rate("trine_prompt_tokens_total")]]],
  ["Requests", short, (m) => [["running", m.gauge("trine_num_requests_running")], ["waiting", m.gauge("trine_num_requests_waiting")]], 1],
  ["Time to first token", duration, (m) => quantiles(m, "trine_time_to_first_token_seconds")],
  ["Time between tokens", duration, (m) => quantiles(m, "trine_inter_token_latency_seconds")],
  ["Cache", share, (m) => [["prompt tokens found", m.ratio("trine_prefix_cache_hits_total", "trine_prefix_cache_queries_total", WINDOW)], ["blocks in use", m.gauge("trine_kv_cache_usage_perc")]]],
  ["Requests for embeddings", short, (m) => [["running", m.gauge("trine_embedding_requests_running")], ["waiting", m.gauge("trine_embedding_requests_waiting")]], 1],
  ["Memory of the process", mebibytes, (m) => [["resident", m.gauge("process_resident_memory_bytes", 1 / 2 ** 20)]]],
];

const quantiles = (m, name) => [["median", m.quantiles(name, 0.5, WINDOW)], ["95th", m.quantiles(name, 0.95, WINDOW)]];

/** Figures: a label and the value now. */
const FIGURES = [
  ["Generated", (m) => [m.value("trine_generation_tokens_total"), count, "tokens"]],
  ["Prompts", (m) => [m.value("trine_prompt_tokens_total"), count, "tokens"]],
  ["Running", (m) => [m.value("trine_num_requests_running"), count, "requests"]],
  ["Waiting", (m) => [m.value("trine_num_requests_waiting"), count, "requests"]],
  ["Cached", (m) => [m.value("trine_prefix_cache_hits_total") / m.value("trine_prefix_cache_queries_total"), share, "of prompt tokens"]],
  ["Answers", (m) => [m.value("trine_e2e_request_latency_seconds_sum") / m.value("trine_e2e_request_latency_seconds_count"), duration, "on average"]],
];

export function metricsPage(root, metrics) {
  const problem = el("p", { class: "notice", role: "status", hidden: true });
  const figures = FIGURES.map(([label, read]) => {
    const value = el("dd");
    return { read, value, unit: el("dd", { class: "unit" }), label: el("dt", { text: label }) };
  });
  const plots = PLOTS.map(([title, format, read, least]) => ({ ...plot(title, format, least), read }));
  const table = el("tbody");
  const all = el("details", { class: "card all-values" }, el("summary", { text: "All values" }),
    el("div", { class: "table" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { text: "name" }), el("th", { class: "align-right", text: "value" }))), table)));
  root.append(problem,
    el("dl", { class: "figures" }, figures.map(({ label, value, unit }) => el("div", {}, label, value, unit))),
    el("div", { class: "plots" }, plots.map((one) => one.root)), all);

  function draw() {
    problem.hidden = !metrics.error;
    problem.textContent = metrics.error ? `The metrics cannot be read: ${metrics.error.message}.` : "";
    for (const { read, value, unit } of figures) {
      const [now, format, of] = read(metrics);
      const known = Number.isFinite(now);
      value.textContent = known ? format(now) : "–";
      unit.textContent = of;
    }
    const age = metrics.samples.length ? metrics.latest.time - metrics.samples[0].time : 0;
    const span = [60_000, 120_000, 300_000].find((length) => age <= length) ?? 600_000;
    for (const { update, read } of plots) update(read(metrics).map(([name, points]) => ({ name, points })), span);
    if (all.open && metrics.latest) {
      table.replaceChildren(...[...metrics.latest.values].sort(([a], [b]) => a.localeCompare(b)).map(([name, value]) =>
        el("tr", {}, el("td", {}, el("code", { text: name })), el("td", { class: "align-right", text: Number.isInteger(value) ? count(value) : String(value) }))));
    }
  }
  all.addEventListener("toggle", draw);
  return { draw };
}
