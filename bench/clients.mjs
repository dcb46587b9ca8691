// OpenAI's client for Node against `trine serve`: see clients.sh.
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const ask = { model, messages: [{ role: "user", content: "Once upon a time" }], max_tokens: 12, temperature: 0 };
const text = (await client.chat.completions.create(ask)).choices[0].message.content;

let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
    streamed += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(streamed, text);

const runner = client.chat.completions.stream(ask);
assert.equal((await runner.finalMessage()).content, text);

const response = await client.responses.create({ model, input: "Once upon a time", max_output_tokens: 12, temperature: 0 });
assert.equal(response.output_text, text);

await assert.rejects(client.chat.completions.create({ ...ask, temperature: -1 }), (error) => error.status === 400 && error.param === "temperature");

// A stream that is broken off is cancelled.
const stream = await client.chat.completions.create({ ...ask, max_tokens: 400, stream: true });
for await (const chunk of stream) {
    if (chunk.choices[0]?.delta?.content) break;
}
console.log("ok      openai for Node");
