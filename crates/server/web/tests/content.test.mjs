// What a message may hold: Markdown, formulas, code, thinking, tool calls, JSON of a schema; and what it must not do.

import assert from "node:assert/strict";
import { test } from "node:test";
import { checkAccessible, fixture, importText, inBrowser, nextRequest, say, settled } from "./harness.mjs";

const shared = inBrowser();

test("Markdown, formulas, tables and code become elements", async () => {
  const page = await shared.page();
  await importText(page, fixture);
  const body = page.locator(".message.assistant .body").first();
  await body.locator("h3:text('Softmax')").waitFor();
  for (const [selector, count] of Object.entries({ math: 5, table: 1, tr: 4, "pre code": 1, ol: 1, "ul li": 2, blockquote: 1, strong: 1, em: 1, hr: 0, img: 0 })) {
    assert.equal(await body.locator(selector).count(), count, selector);
  }
  assert.equal(await body.locator("td.align-right").first().innerText(), "0.64");
  assert.match(await body.locator("p", { hasText: "price" }).innerText(), /\$5 or \$6 stays a price/);
  assert.ok((await body.locator(".code-keyword").count()) > 3);
  const link = body.locator("a").first();
  assert.equal(await link.getAttribute("rel"), "noopener noreferrer nofollow");
  assert.equal(await link.getAttribute("target"), "_blank");
  await checkAccessible(page);
  await page.close();
});

test("nothing of a message is executed or fetched", async () => {
  const page = await shared.page();
  await importText(page, fixture);
  await page.click("text=Unsafe answers");
  await page.locator(".message.assistant .body", { hasText: "<script>" }).waitFor();
  for (const selector of ["script", "img", "iframe", "svg:not(.icon)", "[style]", "[onerror]", "[href^='javascript' i]", "[href^=data]"]) {
    assert.equal(await page.locator(`#messages ${selector}`).count(), 0, selector);
  }
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  assert.match(await page.locator(".message.user .body").innerText(), /<b>Show<\/b>/);
  await page.close();
});

test("thinking and tool calls are folded, and a result goes on", async () => {
  const page = await shared.page();
  await importText(page, fixture);
  const thought = page.locator(".message.assistant .thought").first();
  assert.equal(await thought.isVisible(), false);
  await page.click("summary >> text=Thought for 3.2 s");
  assert.ok(await thought.isVisible());
  await page.click(".row >> text=Tools");
  const call = page.locator(".tool-call", { hasText: "Rome" });
  assert.equal(await call.locator("pre").isVisible(), false);
  await call.locator("summary").click();
  assert.ok(await call.locator("pre").isVisible());
  assert.equal(await page.locator(".tool-result").count(), 1);
  await page.fill(".tool-result textarea", '{"temperature": 18}');
  await page.click("#open-settings");
  await page.fill("#set-system", "Answer in one word.");
  assert.ok(await call.locator("pre").isVisible(), "the call is still unfolded");
  const body = await nextRequest(page, () => page.click("text=Give result"));
  assert.match(body.messages.at(-1).content, /18/);
  assert.deepEqual(body.messages.slice(-3).map(({ role, tool_call_id }) => [role, tool_call_id]), [["assistant", undefined], ["tool", "call_1"], ["tool", "call_2"]]);
  assert.equal(body.messages.at(-3).tool_calls[1].function.name, "get_weather");
  await settled(page);
  await page.close();
});

test("an answer follows the schema of the form", async () => {
  const page = await shared.page({ preferences: { settings: { max_tokens: 200, top_logprobs: 0, seed: 1 } } });
  await page.click("#open-settings");
  await page.check("#set-format-schema", { force: true });
  await page.fill(".schema-row .name", "happy");
  await page.selectOption(".schema-row select", "boolean");
  await page.click("text=Add a field");
  await page.fill(".schema-row >> nth=1 >> .name", "animal");
  await page.selectOption(".schema-row >> nth=1 >> select", "choice");
  await page.fill("[aria-label='Choices, separated by commas']:visible", "dog, cat");
  await checkAccessible(page);
  await page.click("text=Use schema");
  const body = await nextRequest(page, () => say(page, "Once upon a time"));
  assert.deepEqual(body.response_format.json_schema.schema, {
    type: "object", properties: { happy: { type: "boolean" }, animal: { type: "string", enum: ["dog", "cat"] } }, required: ["happy", "animal"], additionalProperties: false,
  });
  const answer = JSON.parse(await page.locator(".message.assistant pre code").innerText());
  assert.equal(typeof answer.happy, "boolean");
  assert.ok(["dog", "cat"].includes(answer.animal));
  await page.click("#edit-schema");
  await page.fill("[aria-label='JSON Schema']", '{"type": "object"');
  assert.ok(await page.locator("text=Use schema").isDisabled());
  await page.fill("[aria-label='JSON Schema']", '{"anyOf": [{"type": "null"}]}');
  await page.waitForSelector("text=This schema says more than rows can show.");
  await page.close();
});

test("tools of the settings reach the server", async () => {
  const page = await shared.page();
  await page.click("#open-settings");
  await page.fill("#set-tools", '[{"type": "function", "function": {"name": "now"');
  await page.waitForSelector(".field-error:not(:empty)");
  await page.fill("#set-tools", '[{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]');
  assert.ok(await page.locator("#tools-chip").isVisible());
  const body = await nextRequest(page, async () => { await page.fill("#prompt", "What time is it?"); await page.press("#prompt", "Enter"); });
  assert.equal(body.tools[0].function.name, "now");
  assert.equal(body.tool_choice, undefined);
  await settled(page);
  await page.close();
});

test("a call that the server makes is shown, and its result goes on", async (context) => {
  const page = await shared.page({ preferences: { settings: { max_tokens: 400, top_logprobs: 2, seed: 1 } } });
  const tools = [{ type: "function", function: { name: "feed", parameters: { type: "object", properties: { animal: { type: "string", enum: ["dog", "cat"] } }, required: ["animal"], additionalProperties: false } } }];
  await page.click("#open-settings");
  await page.fill("#set-tools", JSON.stringify(tools));
  await page.check("#set-tool_choice-required", { force: true });
  const refused = await page.evaluate(async (body) => {
    const response = await fetch("v1/models");
    body.model = (await response.json()).data[0].id;
    const answer = await fetch("v1/chat/completions", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    return answer.ok ? undefined : (await answer.json()).error.message;
  }, { messages: [{ role: "user", content: "Feed the dog." }], tools, tool_choice: "required", max_tokens: 1 });
  if (refused) return context.skip(`the server makes no calls with this model: ${refused}`);
  const body = await nextRequest(page, () => say(page, "Feed the dog."));
  assert.equal(body.tool_choice, "required");
  await page.click(".tool-call summary");
  assert.ok(["dog", "cat"].includes(JSON.parse(await page.locator(".tool-call pre").innerText()).animal));
  await page.check("#set-tool_choice-none", { force: true });
  await page.fill(".tool-result textarea", "It ate.");
  await page.click("text=Give result");
  await settled(page);
  assert.equal(await page.locator(".message.assistant").count(), 2);
  await page.close();
});
