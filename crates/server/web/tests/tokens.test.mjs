// Probabilities of tokens, and other continuations.

import assert from "node:assert/strict";
import { test } from "node:test";
import { checkAccessible, importText, inBrowser, nextRequest, say, settled } from "./harness.mjs";

const shared = inBrowser();
const WITH_TOKENS = { preferences: { tokens: true, settings: { max_tokens: 24, top_logprobs: 5, seed: 3 } } };

/** Moves the pointer over a token, as a hand does: in more than one step. */
async function point(page, index) {
  await page.hover(".token-summary");
  await page.hover(`.token >> nth=${index}`);
  await page.waitForSelector(".token-card");
}

test("a token shows its probability and its alternatives", async () => {
  const page = await shared.page(WITH_TOKENS);
  await say(page, "Once upon a time");
  assert.equal(await page.locator(".token").count(), 24);
  await point(page, 5);
  const rows = await page.locator(".alternative").count();
  assert.ok(rows === 5 || rows === 6, `${rows} alternatives`);
  assert.equal(await page.locator(".alternative.chosen").count(), 1);
  const percents = (await page.locator(".alternative-percent").allInnerTexts()).map((text) => Number.parseFloat(text.replace("<", "")));
  assert.ok(percents.reduce((sum, value) => sum + value, 0) <= 100.5, String(percents));
  assert.deepEqual(percents.slice(0, 5), percents.slice(0, 5).toSorted((a, b) => b - a));
  await checkAccessible(page);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".token-card").count(), 0);
  await page.close();
});

test("another token continues the answer as a branch", async () => {
  const page = await shared.page(WITH_TOKENS);
  await say(page, "Once upon a time");
  const before = await page.locator(".token").allTextContents();
  await point(page, 6);
  const choice = page.locator(".alternative:enabled").first();
  const word = (await choice.locator(".alternative-text").innerText()).replaceAll("␣", " ").replaceAll("↵", "\n");
  const body = await nextRequest(page, () => choice.click());
  assert.deepEqual(body.messages.at(-1), { role: "assistant", content: before.slice(0, 6).join("") + word });
  await settled(page);
  const after = await page.locator(".token").allTextContents();
  assert.deepEqual(after.slice(0, 6), before.slice(0, 6));
  assert.equal(after[6], word);
  assert.equal(after.length, 7 + 24);
  assert.equal(await page.locator(".message.assistant .pager span").innerText(), "2 / 2");
  await page.click("[aria-label='Previous branch']");
  assert.deepEqual(await page.locator(".token").allTextContents(), before);
  await page.close();
});

test("tokens are reached by keyboard", async () => {
  const page = await shared.page(WITH_TOKENS);
  await say(page, "Once upon a time");
  await page.focus(".token >> nth=0");
  for (let step = 0; step < 3; step++) await page.keyboard.press("ArrowRight");
  assert.equal(await page.evaluate(() => document.activeElement.dataset.index), "3");
  await page.keyboard.press("Enter");
  assert.ok(await page.evaluate(() => document.activeElement.matches(".alternative")));
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.dataset.index), "3");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Enter");
  await settled(page);
  assert.equal(await page.locator(".message.assistant .pager span").innerText(), "2 / 2");
  await page.close();
});

test("tokens can be turned on and off, and are kept", async () => {
  const page = await shared.page();
  await say(page, "Once upon a time");
  assert.equal(await page.locator(".token").count(), 0);
  const text = await page.locator(".message.assistant .body").innerText();
  await page.click("#tokens-toggle");
  assert.equal((await page.locator(".token").allTextContents()).join("").trim(), text.trim());
  await page.reload();
  await page.waitForSelector(".token");
  await page.click("[aria-label='Show tokens and their probabilities']");
  assert.equal(await page.locator(".token").count(), 0);
  assert.equal(await page.locator(".message.assistant .body").innerText(), text);
  for (let round = 0; round < 3; round++) await page.click("#tokens-toggle");
  assert.equal(await page.locator(".message.assistant .body").innerText(), text);
  await page.close();
});

test("parts of a character are joined as bytes, and nothing continues from half of one", async () => {
  const page = await shared.page({ preferences: { tokens: true, settings: { max_tokens: 4, top_logprobs: 2 } } });
  const half = (bytes, p, a = []) => ({ t: "\ufffd", b: bytes, p, a });
  const tokens = [{ t: "It costs 5 ", p: -0.1, a: [] }, half([0xe2, 0x82], -0.5, [half([0xe2, 0x82], -0.5), half([0xc2], -1.5), { t: "euros", p: -2 }]), half([0xac], -0.1)];
  await importText(page, JSON.stringify({ nodes: { q: { parent: "root", role: "user", content: "?" }, a: { parent: "q", role: "assistant", content: "It costs 5 €", tokens, finish: "length" } } }));
  await page.waitForSelector(".token");
  assert.deepEqual(await page.locator(".token").allTextContents(), ["It costs 5 ", "‹E2›‹82›", "‹AC›"]);
  await point(page, 1);
  assert.deepEqual(await page.locator(".alternative:enabled .alternative-text").allInnerTexts(), ["euros"]);
  const body = await nextRequest(page, () => page.click(".alternative:enabled"));
  assert.equal(body.messages.at(-1).content, "It costs 5 euros");
  await settled(page);
  await page.click("[aria-label='Previous branch']");
  const resumed = await nextRequest(page, () => page.click("[aria-label='Continue this answer']"));
  assert.equal(resumed.messages.at(-1).content, "It costs 5 €");
  await settled(page);
  assert.deepEqual((await page.locator(".token").allTextContents()).slice(0, 3), ["It costs 5 ", "‹E2›‹82›", "‹AC›"]);
  await page.close();
});

test("the end of an answer is a token, too", async () => {
  const page = await shared.page({ preferences: { tokens: true, settings: { max_tokens: 4, top_logprobs: 2 } } });
  const end = { t: "<|endoftext|>", p: -0.9 };
  const tokens = [{ t: "The end", p: -0.1, a: [] }, { t: ".", p: -0.2, a: [{ t: ".", p: -0.2 }, end] }, { ...end, a: [end, { t: " Or", p: -1 }] }];
  await importText(page, JSON.stringify({ nodes: { q: { parent: "root", role: "user", content: "?" }, a: { parent: "q", role: "assistant", content: "The end.", tokens, finish: "stop" } } }));
  await page.waitForSelector(".token.special");
  await point(page, 1);
  await page.click(".alternative:enabled");
  assert.deepEqual(await page.locator(".token").allTextContents(), ["The end", "<|endoftext|>"]);
  await page.click("[aria-label='Previous branch']");
  await point(page, 2);
  const body = await nextRequest(page, () => page.click(".alternative:enabled"));
  assert.equal(body.messages.at(-1).content, "The end. Or");
  await settled(page);
  assert.equal(await page.locator(".message.assistant .pager span").innerText(), "3 / 3");
  await page.close();
});
