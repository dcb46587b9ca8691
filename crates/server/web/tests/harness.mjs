// Starts `trine serve` and Chromium for the tests, and looks for what must never happen on the page.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { after, before } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium } from "playwright-core";

const { TRINE, CHROMIUM } = process.env;

export const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };

/** Whether the program knows an option of `serve`. */
export const hasOption = (name) => spawnSync(TRINE, ["serve", "--help"], { encoding: "utf8" }).stdout.includes(name);

async function freePort() {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  await once(listener, "close");
  return port;
}

const started = new Set();

/** Runs the program's server until `stop`. Without a model it serves the one that is part of it, and without options with a template that has calls. */
export async function startServer(...options) {
  if (!options.length) options = ["--template", "tools.jinja"];
  const port = await freePort();
  const child = spawn(TRINE, ["serve", "--port", String(port), ...options], { stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  child.stdout.on("data", (data) => { log += data; });
  child.stderr.on("data", (data) => { log += data; });
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; ; tries++) {
    if (child.exitCode !== null || tries > 200) throw new Error(`the server did not start:\n${log}`);
    const answer = await fetch(`${url}/health`).catch(() => undefined);
    if (answer && answer.status !== 503) break;
    await sleep(50);
  }
  const server = {
    url,
    async stop() {
      started.delete(server);
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), 5000);
      await ended;
      clearTimeout(timer);
    },
  };
  started.add(server);
  return server;
}

/** Chromium refuses its sandbox to root. */
export const launch = () => chromium.launch({ executablePath: CHROMIUM, args: process.getuid() === 0 ? ["--no-sandbox"] : [] });

/** Opens the page in a fresh profile. */
export async function openPage(browser, url, { preferences = {}, expectErrors = false, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 820 }, colorScheme: "light", ...options });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  page.faults = watch(page, url, expectErrors);
  page.close = async () => {
    assert.deepEqual(page.faults, [], "faults of the page");
    await context.close();
  };
  await page.addInitScript((kept) => localStorage.getItem("trine.preferences") ?? localStorage.setItem("trine.preferences", kept),
    JSON.stringify({ settings: { max_tokens: 24, top_logprobs: 5, seed: 1 }, ...preferences }));
  await page.goto(`${url}/`);
  await page.waitForSelector("#model[data-state=ready], #key-dialog[open]");
  return page;
}

/** A server and a browser for the tests of one file. `page(options)` opens the page. */
export function inBrowser() {
  const shared = { page: (options) => openPage(shared.browser, shared.server.url, options) };
  before(async () => {
    shared.server = await startServer();
    shared.browser = await launch();
  });
  after(async () => {
    await shared.browser?.close();
    for (const server of started) await server.stop();
  });
  return shared;
}

/** Collects errors, violations of the policy, and requests to anywhere but the server. */
function watch(page, url, expectErrors) {
  const faults = [];
  page.on("pageerror", (error) => faults.push(`exception: ${error.stack}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !(expectErrors && /Failed to load resource/.test(message.text()))) faults.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(`${url}/`) && !/^(data|blob):/.test(request.url())) faults.push(`request: ${request.url()}`);
  });
  page.on("dialog", (dialog) => { faults.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  return faults;
}

/** Sends a message and waits for the end of the answer. */
export async function say(page, text) {
  await page.fill("#prompt", text);
  await page.click("#send");
  await settled(page);
}

/** Waits until no answer is being generated. */
export async function settled(page) {
  await page.waitForSelector(".message.assistant:last-child .tools:not([hidden])");
  await page.waitForSelector("#send:not([hidden])");
}

/** The body of the next request for an answer. */
export async function nextRequest(page, act) {
  const [request] = await Promise.all([page.waitForRequest(/chat\/completions/), act()]);
  return request.postDataJSON();
}

export const fixture = readFileSync(new URL("./conversations.json", import.meta.url), "utf8");

export async function importText(page, text) {
  await page.setInputFiles("#import-file", { name: "conversations.json", mimeType: "application/json", buffer: Buffer.from(text) });
}

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Waits for the end of animations that end. */
export async function still(page) {
  await page.evaluate(() => Promise.all(document.getAnimations().filter((one) => one.effect.getTiming().iterations !== Infinity).map((one) => one.finished.catch(() => {}))));
}

/** Checks the page as it is now by axe-core. */
export async function checkAccessible(page) {
  await still(page);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`).join("; ")}`);
  assert.deepEqual(found, []);
}
