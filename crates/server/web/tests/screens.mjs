// Saves a picture of every state of the page, in both themes and at the width of a phone: node screens.mjs DIR

import { mkdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { PHONE, fixture, importText, launch, openPage, say, settled, startServer, still } from "./harness.mjs";

const [, , out] = process.argv;
mkdirSync(out, { recursive: true });

/** States in the order in which one leads to the next. */
async function* states(page, phone) {
  const side = async (run) => {
    if (phone) await page.tap("#open-sidebar");
    await run();
  };
  yield "welcome";
  await say(page, "Once upon a time");
  yield "answer";
  await page.click("#tokens-toggle");
  await page.click("[aria-label='Generate another answer']");
  await settled(page);
  await page.hover(".token-summary");
  if (phone) await page.tap(".token >> nth=9");
  else await page.hover(".token >> nth=9");
  await page.waitForSelector(".token-card");
  yield "tokens";
  await page.locator(".alternative:enabled").first().click();
  await settled(page);
  yield "branch";
  await page.hover(".message.user");
  await page.click("[aria-label='Edit and send again']");
  yield "edit";
  await page.keyboard.press("Escape");
  await page.click("#tokens-toggle");
  await importText(page, fixture);
  await page.waitForSelector(".thinking:not([hidden])");
  await page.click("[aria-label=Dismiss]");
  const scroll = (top) => page.evaluate((to) => document.querySelector("#scroller").scrollTo(0, to), top);
  await page.click("summary >> text=Thought for");
  await scroll(0);
  yield "markdown";
  await scroll(620);
  yield "code";
  await side(() => page.click(".row >> text=Tools"));
  await page.waitForSelector(".tool-call");
  await page.click(".tool-call summary >> nth=0");
  await scroll(99_999);
  yield "tools";
  if (phone) {
    await page.tap("#open-sidebar");
    yield "sidebar";
    await page.keyboard.press("Escape");
  } else {
    await page.click(".row.open .icon-button");
    yield "menu";
    await page.keyboard.press("Escape");
  }
  await side(() => page.click(".row >> text=Unsafe answers"));
  await page.waitForSelector("text=<script>");
  yield "unsafe";
  await page.click("#open-settings");
  await page.fill("#set-system", "Tell a story for children.");
  await page.fill("#set-temperature", "0.7");
  await page.fill("#set-top_p", "0.95");
  await page.evaluate(() => { document.activeElement.blur(); document.querySelector("#settings-form").scrollTo(0, 0); });
  yield "settings";
  await page.check("#set-format-schema", { force: true });
  await page.fill(".schema-row .name", "title");
  await page.click("text=Add a field");
  await page.fill(".schema-row >> nth=1 >> .name", "mood");
  await page.selectOption(".schema-row >> nth=1 >> select", "choice");
  await page.fill(".schema-row >> nth=1 >> .wide >> nth=0", "happy, sad");
  yield "schema";
  await page.click("text=Use schema");
  await page.locator("#edit-schema").scrollIntoViewIfNeeded();
  yield "settings-output";
  await page.click("#close-settings");
  await side(() => page.click(".row >> text=Once upon a time"));
  await page.click("#open-settings");
  await page.fill("#set-temperature", "-1");
  await page.click("#close-settings");
  await page.click("[aria-label='Generate another answer']");
  await settled(page);
  yield "error";
  if (!phone) {
    await page.click("#shortcuts");
    yield "keys";
    await page.keyboard.press("Escape");
  }
  await page.click("#open-settings");
  await page.click("text=Reset to defaults");
  await page.fill("#set-max_tokens", "300");
  await page.click("#close-settings");
  await side(() => page.click("#to-metrics"));
  for (let round = 0; round < 6; round++) {
    await page.evaluate(async (n) => {
      const body = JSON.stringify({ messages: [{ role: "user", content: "Once upon a time there was a dog" }], max_tokens: 60 + 60 * n });
      await Promise.all(Array.from({ length: 1 + n }, () => fetch("v1/chat/completions", { method: "POST", body })));
    }, round % 4);
    await sleep(1500);
  }
  yield "metrics";
}

const server = await startServer();
const browser = await launch();
try {
  for (const theme of ["light", "dark"]) {
    for (const phone of [false, true]) {
      const page = await openPage(browser, server.url, { colorScheme: theme, expectErrors: true, ...(phone ? PHONE : {}) });
      for await (const state of states(page, phone)) {
        await still(page);
        await page.screenshot({ path: `${out}/${state}-${theme}${phone ? "-phone" : ""}.png`, animations: "disabled" });
      }
      await page.close();
    }
  }
} finally {
  await browser.close();
  await server.stop();
}
