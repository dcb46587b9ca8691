// Sending, stopping, branches, and conversations that are kept.

import assert from "node:assert/strict";
import { test } from "node:test";
import { checkAccessible, fixture, importText, inBrowser, nextRequest, openPage, say, settled, startServer } from "./harness.mjs";

const shared = inBrowser();
const answers = (page) => page.locator(".message.assistant .body").allInnerTexts();
const pager = (page, of) => page.locator(`.message.${of} .pager span`).innerText();

test("an answer arrives in pieces, with its speed", async () => {
  const page = await shared.page({ preferences: { settings: { max_tokens: 120, top_logprobs: 2, seed: 1 } } });
  await page.evaluate(() => {
    globalThis.sizes = new Set();
    new MutationObserver(() => globalThis.sizes.add(document.querySelector(".message.assistant .body")?.innerText.length)).observe(document.querySelector("#messages"), { childList: true, subtree: true, characterData: true });
  });
  await say(page, "Once upon a time");
  assert.ok((await page.evaluate(() => globalThis.sizes.size)) >= 2, "the text grew");
  const [answer] = await answers(page);
  assert.ok(answer.length > 20, answer);
  assert.match(await page.locator(".message.assistant .stats").innerText(), /^120 tokens · [\d.,]+ tokens\/s · first after .* · prompt \d+.* · token limit$/);
  assert.match(await page.locator("#announcer").innerText(), /The answer is complete\./);
  assert.match(page.url(), /#\/c\//);
  await page.close();
});

test("an answer can be stopped and continued", async () => {
  const page = await shared.page({ preferences: { settings: { max_tokens: 400, top_logprobs: 0 } } });
  const stopAtText = () => page.evaluate(() => new MutationObserver((_, observer) => {
    if (!document.querySelector(".streaming .body")?.innerText) return;
    observer.disconnect();
    document.querySelector("#stop").click();
  }).observe(document.querySelector("#messages"), { childList: true, subtree: true, characterData: true }));
  await stopAtText();
  await say(page, "Once upon a time");
  const stats = page.locator(".message.assistant .stats");
  const isBegun = async () => (await stats.innerText()).includes("stopped") && (await answers(page))[0].length < 200;
  // A small model may be done, or almost, before the click.
  for (let tries = 0; tries < 20 && !(await isBegun()); tries++) {
    await stopAtText();
    await page.click("[aria-label='Generate another answer']");
    await settled(page);
  }
  assert.ok(await isBegun());
  const [begun] = await answers(page);
  const body = await nextRequest(page, () => page.click("[aria-label='Continue this answer']"));
  assert.equal(body.messages.at(-1).role, "assistant");
  assert.equal(body.continue_final_message, true);
  await settled(page);
  const [whole] = await answers(page);
  assert.ok(whole.startsWith(begun.trimEnd()) && whole.length > begun.length, JSON.stringify({ begun, whole }));
  await page.close();
});

test("another answer and a changed question are branches", async () => {
  const page = await shared.page({ preferences: { settings: { max_tokens: 24, temperature: 1.2, top_logprobs: 0 } } });
  await say(page, "Once upon a time");
  const [first] = await answers(page);
  await page.click("[aria-label='Generate another answer']");
  await settled(page);
  assert.equal(await pager(page, "assistant"), "2 / 2");
  await page.click(".message.assistant [aria-label='Previous branch']");
  assert.deepEqual(await answers(page), [first]);
  await page.hover(".message.user");
  await page.click("[aria-label='Edit and send again']");
  await page.fill(".edit textarea", "One day");
  await page.click(".edit >> text=Send");
  await settled(page);
  assert.equal(await pager(page, "user"), "2 / 2");
  await page.click(".message.user [aria-label='Previous branch']");
  assert.deepEqual(await answers(page), [first]);
  await page.close();
});

test("an answer that is edited can be continued", async () => {
  const page = await shared.page();
  await say(page, "Once upon a time");
  await page.click(".message.assistant [aria-label=More]");
  await page.click("[role=menuitem] >> text=Edit answer");
  await page.fill(".edit textarea", "There was a blue");
  await page.click("text=Save as a branch");
  assert.equal(await pager(page, "assistant"), "2 / 2");
  await page.click("[aria-label='Continue this answer']");
  await settled(page);
  assert.match((await answers(page))[0], /^There was a blue./);
  await page.close();
});

test("the same seed gives the same answer, and settings reach the server", async () => {
  const page = await shared.page();
  await page.click("#open-settings");
  await page.fill("#set-system", "Tell a story.");
  for (const [name, value] of Object.entries({ temperature: 0.9, top_p: 0.95, top_k: 40, min_p: 0.01, repetition_penalty: 1.1, max_tokens: 16, seed: 7 })) await page.fill(`#set-${name}`, String(value));
  await page.fill("#set-stop", "THE END\n###");
  const body = await nextRequest(page, () => say(page, "Once upon a time"));
  const { temperature, top_p, top_k, min_p, repetition_penalty, max_tokens, seed, stop, messages } = body;
  assert.deepEqual({ temperature, top_p, top_k, min_p, repetition_penalty, max_tokens, seed, stop }, { temperature: 0.9, top_p: 0.95, top_k: 40, min_p: 0.01, repetition_penalty: 1.1, max_tokens: 16, seed: 7, stop: ["THE END", "###"] });
  assert.deepEqual(messages, [{ role: "system", content: "Tell a story." }, { role: "user", content: "Once upon a time" }]);
  const [first] = await answers(page);
  await page.click("[aria-label='Generate another answer']");
  await settled(page);
  assert.deepEqual(await answers(page), [first]);
  await checkAccessible(page);
  await page.close();
});

test("conversations are kept, renamed, deleted and brought back", async () => {
  const page = await shared.page();
  await say(page, "First story");
  await page.click("#new");
  await page.waitForSelector("#welcome:not([hidden])");
  await say(page, "Second story");
  await page.reload();
  assert.deepEqual(await page.locator(".row a").allInnerTexts(), ["Second story", "First story"]);
  assert.equal(await page.locator(".message").count(), 2);
  await page.click("text=First story");
  await page.waitForSelector("h1:text('First story')");
  await page.click(".row.open .icon-button");
  await page.click("[role=menuitem] >> text=Rename");
  await page.keyboard.type("About a dog");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("h1").innerText(), "About a dog");
  await page.click(".row.open .icon-button");
  await page.click("[role=menuitem] >> text=Delete");
  await page.waitForSelector("#welcome:not([hidden])");
  await page.click(".toast >> text=Undo");
  await page.click("text=About a dog");
  await page.waitForSelector(".message");
  assert.equal(await page.locator(".message").count(), 2);
  await page.reload();
  // The conversations are read after the page is there.
  await page.waitForSelector("h1:text('About a dog')");
  await page.close();
});

test("an answer goes on while another conversation is shown", async () => {
  const page = await shared.page({ preferences: { settings: { max_tokens: 400, top_logprobs: 0 } } });
  await page.fill("#prompt", "Once upon a time");
  await page.click("#send");
  await page.click("#new");
  await page.waitForSelector("#welcome:not([hidden])");
  await page.waitForSelector(".row:not(.busy)");
  await page.click(".row a");
  await page.waitForSelector(".message.assistant");
  assert.match(await page.locator(".message.assistant .stats").innerText(), /tokens\/s/);
  assert.ok((await answers(page))[0].length > 200);
  await page.close();
});

test("another tab follows", async () => {
  const page = await shared.page();
  await say(page, "Once upon a time");
  const other = await page.context().newPage();
  await other.goto(page.url());
  await other.waitForSelector(".message.assistant");
  await page.bringToFront();
  await say(page, "And then?");
  await other.waitForFunction(() => document.querySelectorAll(".message").length === 4);
  await page.waitForTimeout(100);
  assert.equal(await other.locator("#messages").innerText(), await page.locator("#messages").innerText());
  await page.click(".row.open .icon-button");
  await page.click("[role=menuitem] >> text=Delete");
  await other.waitForSelector("#welcome:not([hidden])", { state: "attached" });
  await page.close();
});

test("what is exported can be imported", async () => {
  const page = await shared.page();
  await say(page, "Once upon a time");
  await page.click("[aria-label='Generate another answer']");
  await settled(page);
  const shown = await page.locator("#messages").innerText();
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#export-all")]);
  const file = await (await import("node:fs/promises")).readFile(await download.path(), "utf8");
  await page.close();
  const other = await shared.page();
  await importText(other, file);
  await other.waitForSelector(".message.assistant");
  assert.equal(await other.locator("#messages").innerText(), shown);
  await importText(other, "{}");
  await other.waitForSelector(".toast >> text=expected conversations or a list of messages");
  await importText(other, fixture.replace('"parent": "u1"', '"parent": "nobody"'));
  await other.waitForSelector(".toast >> text=has no parent");
  assert.equal(await other.locator(".row").count(), 1);
  await other.close();
});

test("a deleted message comes back by undo", async () => {
  const page = await shared.page();
  await say(page, "Once upon a time");
  const before = await page.locator("#messages").innerText();
  await page.click(".message.assistant [aria-label=More]");
  await page.click("[role=menuitem] >> text=Delete from here");
  assert.equal(await page.locator(".message").count(), 1);
  assert.ok(await page.evaluate(() => document.activeElement.matches(".message.user")));
  await page.click(".toast >> text=Undo");
  assert.equal(await page.locator("#messages").innerText(), before);
  await page.click(".message.assistant [aria-label=More]");
  await page.click("[role=menuitem] >> text=Delete from here");
  await page.hover(".message.user");
  await page.click("[aria-label='Generate an answer']");
  await settled(page);
  assert.equal(await page.locator(".message").count(), 2);
  await page.close();
});

test("an error of the server is shown, and the answer can be tried again", async () => {
  const server = await startServer();
  const page = await openPage(shared.browser, server.url, { expectErrors: true });
  await page.click("#open-settings");
  await page.fill("#set-temperature", "-1");
  await say(page, "Once upon a time");
  assert.match(await page.locator(".message-error:visible").innerText(), /temperature/);
  await page.fill("#set-temperature", "1");
  await page.click("[aria-label='Generate another answer']");
  await settled(page);
  assert.equal(await page.locator(".message-error:visible").count(), 0);
  await server.stop();
  await page.click("[aria-label='Generate another answer']");
  await settled(page);
  assert.match(await page.locator(".message-error:visible").innerText(), /cannot be reached/i);
  await page.waitForSelector("#model[data-state=not-reachable]");
  await page.close();
});
