// From a conversation to a request, and from a stream of chunks to the answer's message.

import { chatCompletion } from "./api.js";
import { compact, endsAnswer, joinTokens } from "./logprobs.js";
import { pathTo } from "./tree.js";

/** Sampler settings that are sent as they are; one that is empty is left to the server. */
export const SAMPLERS = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"];

export const DEFAULT_SETTINGS = { system: "", stop: "", top_logprobs: 5, format: "text", schema: "", tools: "", tool_choice: "auto" };

/** One message as the API has it. The thinking of earlier answers is not sent again. */
function toApi(node) {
  if (node.role === "tool") return { role: "tool", tool_call_id: node.toolCallId ?? "", content: node.content };
  const message = { role: node.role, content: node.content };
  if (node.toolCalls?.length) {
    message.tool_calls = node.toolCalls.map(({ id, name, arguments: args }) => ({ id, type: "function", function: { name, arguments: args } }));
  }
  return message;
}

/** The messages that lead to an answer; the answer itself comes last, to be continued, if it has begun. */
export function messagesFor(conversation, answer) {
  const { system } = conversation.settings;
  const messages = pathTo(conversation, answer).slice(0, -1).map(toApi);
  if (system.trim()) messages.unshift({ role: "system", content: system });
  if (answer.content) {
    messages.push({ role: "assistant", content: answer.content, ...(answer.reasoning ? { reasoning_content: answer.reasoning } : {}) });
  }
  return messages;
}

/** The body of the request for an answer. Throws if the schema or the tools are no JSON. */
export function requestBody(conversation, answer, model) {
  const { settings } = conversation;
  const body = { model, messages: messagesFor(conversation, answer) };
  for (const name of SAMPLERS) if (typeof settings[name] === "number") body[name] = settings[name];
  const stop = settings.stop.split("\n").filter(Boolean);
  if (stop.length) body.stop = stop;
  if (settings.top_logprobs > 0) Object.assign(body, { logprobs: true, top_logprobs: settings.top_logprobs });
  if (settings.format === "json") body.response_format = { type: "json_object" };
  if (settings.format === "schema" && settings.schema.trim()) {
    body.response_format = { type: "json_schema", json_schema: { name: "answer", schema: parse(settings.schema, "The schema"), strict: true } };
  }
  if (settings.tools.trim()) {
    body.tools = parse(settings.tools, "The list of tools");
    if (settings.tool_choice !== "auto") body.tool_choice = settings.tool_choice;
  }
  if (answer.content) Object.assign(body, { continue_final_message: true, add_generation_prompt: false });
  return body;
}

function parse(text, what) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${what} is not valid JSON: ${error.message}`);
  }
}

/** Adds a chunk's delta to the answer. */
function accept(answer, chunk) {
  if (chunk.model) answer.model = chunk.model;
  const choice = chunk.choices?.[0];
  const delta = choice?.delta ?? {};
  const reasoning = delta.reasoning_content ?? delta.reasoning;
  const tokens = compact(choice?.logprobs);
  if (reasoning) answer.reasoning = (answer.reasoning ?? "") + reasoning;
  if (delta.content) answer.content += delta.content;
  if (tokens.length && !reasoning && !delta.tool_calls) (answer.tokens ??= []).push(...tokens);
  for (const call of delta.tool_calls ?? []) {
    const calls = (answer.toolCalls ??= []);
    const at = call.index ?? calls.length;
    const known = (calls[at] ??= { id: call.id ?? `call_${at}`, name: "", arguments: "" });
    known.name += call.function?.name ?? "";
    known.arguments += call.function?.arguments ?? "";
  }
  if (choice?.finish_reason) answer.finish = choice.finish_reason;
  return tokens.length || (reasoning || delta.content || delta.tool_calls ? 1 : 0);
}

/** Makes the tokens of an answer that has begun those of its text: what was written by hand is one token without a probability. */
function matchTokens(answer) {
  while (answer.tokens?.length && endsAnswer(answer.tokens.at(-1))) answer.tokens.pop();
  if (answer.content && joinTokens(answer.tokens ?? []).text !== answer.content) answer.tokens = [{ t: answer.content, p: 0, a: [], given: true }];
  return answer.tokens?.length ?? 0;
}

/** Generates `answer`, a message of the conversation, in place. `changed` is called after each chunk. */
export async function generate(conversation, answer, { model, signal, changed }) {
  const begun = performance.now();
  const stats = { tokens: 0 };
  const known = matchTokens(answer);
  let first;
  Object.assign(answer, { finish: undefined, error: undefined, stats });
  try {
    for await (const chunk of chatCompletion(requestBody(conversation, answer, model), signal)) {
      const now = performance.now();
      const arrived = accept(answer, chunk);
      if (arrived && first === undefined) {
        first = now;
        stats.first = (now - begun) / 1000;
        if (answer.reasoning && !answer.content) answer.thoughtSince = now;
      }
      if (answer.thoughtSince !== undefined && answer.content) {
        answer.thought = (now - answer.thoughtSince) / 1000;
        delete answer.thoughtSince;
      }
      stats.tokens += arrived;
      const timings = chunk.timings?.predicted_n > 1 ? chunk.timings : undefined;
      const elapsed = timings ? timings.predicted_ms : now - first;
      // What arrives at once says nothing about speed.
      if (stats.tokens > 1 && elapsed >= 5) stats.rate = timings?.predicted_per_second ?? ((stats.tokens - 1) * 1000) / elapsed;
      if (chunk.usage) {
        stats.tokens = chunk.usage.completion_tokens;
        stats.prompt = chunk.usage.prompt_tokens;
        stats.cached = chunk.usage.prompt_tokens_details?.cached_tokens ?? 0;
      }
      changed();
    }
    answer.finish ??= "stop";
  } catch (error) {
    if (error.name === "AbortError") answer.finish = "stopped";
    else Object.assign(answer, { finish: "error", error: error.message });
  } finally {
    delete answer.thoughtSince;
    // Without probabilities, the tokens of an answer that was continued end too early.
    if (answer.tokens?.length === known) delete answer.tokens;
    stats.total = (performance.now() - begun) / 1000;
  }
}
