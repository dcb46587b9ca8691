// The page around the conversation: metrics, panels, themes, keys, the width of a phone.

import assert from "node:assert/strict";
import { test } from "node:test";
import { PHONE, checkAccessible, hasOption, inBrowser, openPage, say, settled, startServer } from "./harness.mjs";

const shared = inBrowser();

test("the metrics are drawn", async () => {
  const page = await shared.page();
  await say(page, "Once upon a time");
  await page.click("#to-metrics");
  await page.waitForFunction(() => Number(document.querySelector(".figures dd").textContent.replaceAll(",", "")) >= 24);
  assert.equal(await page.locator(".plot").count(), 7);
  await page.waitForFunction(() => [...document.querySelectorAll(".plot")].every((plot) => plot.querySelector(".line")));
  await page.waitForFunction(() => /resident [\d.]+ MiB/.test(document.querySelectorAll(".plot")[6].getAttribute("aria-label")));
  await page.click("text=All values");
  await page.waitForSelector("code:text('trine_generation_tokens_total')");
  await checkAccessible(page);
  await page.close();
});

test("the state of the server is shown", async () => {
  const page = await shared.page();
  await page.waitForSelector("#status >> text=/\\d+ running, \\d+ waiting/");
  await say(page, "Once upon a time");
  await page.waitForSelector("#status >> text=/% cached/");
  await page.close();
});

test("questions are suggested to a model that chats, beginnings to one that goes on with texts", async () => {
  const server = await startServer("--alias", "stories");
  for (const [url, text, other] of [[shared.server.url, "Tell me a short story", "Once upon"], [server.url, "The dog was sad because", "Explain"]]) {
    const page = await openPage(shared.browser, url);
    await page.click(`.suggestion >> text=${text}`);
    assert.equal(await page.inputValue("#prompt"), text);
    assert.equal(await page.locator(`.suggestion >> text=${other}`).count(), 0);
    await page.close();
  }
  await server.stop();
});

test("both themes are kept and readable", async () => {
  const page = await shared.page();
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await paper();
  await checkAccessible(page);
  await page.click("#theme");
  await page.click("#theme");
  assert.notEqual(await paper(), light);
  await page.reload();
  assert.notEqual(await paper(), light);
  await say(page, "Once upon a time");
  await checkAccessible(page);
  await page.close();
});

test("the page is used by keyboard alone", async () => {
  const page = await shared.page();
  const focused = () => page.evaluate(() => document.activeElement.id);
  assert.equal(await focused(), "prompt");
  await page.keyboard.type("Once upon a time");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("there was");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".message.assistant .tools:not([hidden])");
  assert.equal(await page.locator(".message.user .body").innerText(), "Once upon a time\nthere was");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("r");
  await page.waitForSelector(".pager >> text=2 / 2");
  await page.keyboard.press("[");
  await page.waitForSelector(".pager >> text=1 / 2");
  await page.keyboard.press("]");
  await page.waitForSelector(".pager >> text=2 / 2");
  await page.keyboard.press("t");
  await page.waitForSelector(".token");
  await page.keyboard.press("?");
  await page.waitForSelector("#shortcuts-dialog[open]");
  await page.keyboard.press("Escape");
  await page.keyboard.press("s");
  await page.waitForSelector("#settings:not([hidden])");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("/");
  assert.equal(await focused(), "prompt");
  await page.focus(".pager button:enabled");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".pager >> text=1 / 2");
  assert.ok(await page.evaluate(() => document.activeElement.matches(".pager button")));
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("n");
  await page.waitForSelector("#welcome:not([hidden])");
  await page.close();
});

test("at the width of a phone panels are drawers", async () => {
  const page = await shared.page(PHONE);
  const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  await page.fill("#prompt", "Once upon a time");
  await page.tap("#send");
  await page.waitForSelector(".message.assistant .tools:not([hidden])");
  assert.ok(await fits());
  assert.equal(await page.locator("#sidebar").isVisible(), false);
  await page.tap("#open-sidebar");
  assert.ok(await page.evaluate(() => document.querySelector("#sidebar").contains(document.activeElement)));
  assert.ok(await page.evaluate(() => document.querySelector("#center").inert));
  await checkAccessible(page);
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.id), "open-sidebar");
  await page.tap("#open-settings");
  await page.waitForSelector("#settings.drawer");
  assert.ok(await fits());
  await page.tap("#close-settings");
  await page.tap("#tokens-toggle");
  await page.tap(".token >> nth=4");
  await page.waitForSelector(".token-card");
  assert.ok(await fits());
  await page.close();
});

test("a server with a key asks for it", { skip: !hasOption("--api-key") && "serve has no --api-key" }, async () => {
  const server = await startServer("--api-key", "secret");
  const page = await openPage(shared.browser, server.url, { expectErrors: true });
  await page.waitForSelector("#key-dialog[open]");
  await page.click("#key-dialog >> text=Cancel");
  await page.waitForSelector("#model[data-state=needs-a-key]");
  await page.fill("#prompt", "Once upon a time");
  await page.click("#send");
  await page.waitForSelector("#key-dialog[open]");
  await checkAccessible(page);
  await page.fill("#key", "wrong");
  await page.click("text=Use key");
  await page.waitForSelector("#key-dialog[open]");
  await page.fill("#key", "secret");
  await page.click("text=Use key");
  await settled(page);
  assert.equal(await page.locator(".message-error:visible").count(), 0);
  await page.waitForSelector("#model[data-state=ready]");
  assert.equal(await page.evaluate(() => localStorage.getItem("trine.key")), null);
  await page.close();
  await server.stop();
});
