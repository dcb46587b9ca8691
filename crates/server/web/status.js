// The line that says how the server is: its model, its queue, its speed and its cache.

import { getJson } from "./api.js";
import { $, count, el, short } from "./ui.js";

export class Status extends EventTarget {
  constructor(metrics, chat) {
    super();
    this.metrics = metrics;
    this.chat = chat;
    metrics.addEventListener("sample", () => this.#sampled());
    for (const event of ["running", "changed", "opened"]) chat.addEventListener(event, () => this.draw());
  }

  /** Asks which model is served. If `quiet`, a key is not asked for. */
  async load(quiet = false) {
    try {
      const { data } = await getJson("v1/models", { quiet });
      this.model = data?.[0];
      this.error = undefined;
    } catch (error) {
      this.error = error;
    }
    this.draw();
    this.dispatchEvent(new Event("loaded"));
  }

  /** Whether the model has no chat template, and goes on with a text. */
  get continues() {
    return this.model?.meta?.chat_template === "plain";
  }

  get name() {
    return this.model?.id ?? "";
  }

  get contextLength() {
    const meta = this.model?.meta ?? {};
    return meta.n_ctx ?? meta.context_length ?? meta.max_model_len ?? this.model?.max_model_len ?? meta.n_ctx_train;
  }

  async #sampled() {
    const unreachable = this.metrics.error?.status === 0;
    if (!unreachable && (this.error || !this.model) && !this.loading) {
      this.loading = true;
      await this.load(true);
      this.loading = false;
    }
    if (unreachable) this.error = this.metrics.error;
    this.draw();
  }

  draw() {
    const { metrics } = this;
    const running = metrics.value("trine_num_requests_running");
    const waiting = metrics.value("trine_num_requests_waiting");
    const rate = metrics.rate("trine_generation_tokens_total").at(-1)?.[1];
    const hits = metrics.value("trine_prefix_cache_hits_total") / metrics.value("trine_prefix_cache_queries_total");
    const state = this.error ? (this.error.status === 401 ? "needs a key" : "not reachable") : !this.model ? "connecting" : running > 0 ? "busy" : "ready";
    const { prompt = 0, tokens = 0 } = this.chat.lastView("assistant")?.node.stats ?? {};
    const used = prompt + tokens;
    const parts = [];
    if (!this.error) {
      if (running !== undefined) parts.push(["queue", `${count(running)} running, ${count(waiting ?? 0)} waiting`]);
      if (rate > 0) parts.push(["speed", `${short(rate)} tokens/s`]);
      if (Number.isFinite(hits)) parts.push(["cache", `${short(hits * 100)}% cached`]);
      if (this.contextLength) parts.push(["context", `context ${used ? `${count(used)} of ` : ""}${count(this.contextLength)}`]);
    }
    const badge = $("#model");
    badge.dataset.state = state.replaceAll(" ", "-");
    $("#model-name").textContent = this.name.split("/").at(-1) || "No model";
    $("#model-state").textContent = state;
    badge.title = this.error ? `The server is ${state}: ${this.error.message}.` : this.name;
    $("#status").replaceChildren(...parts.map(([name, text]) => el("span", { data: { name }, text })));
  }
}
