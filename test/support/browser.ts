/** Debian's chromium, and pages in it whose faults are told. */
import { existsSync } from "node:fs";
import { type Browser, chromium, type Page } from "playwright-core";
import { onTestFinished } from "vitest";

/** The browser's program; undefined where there is none (`sh scripts/setup.sh test` brings it). */
export const BROWSER = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
  existsSync,
);

export function launchBrowser(): Promise<Browser> {
  // Its own sandbox needs rights that root in a container does not have.
  return chromium.launch({ executablePath: BROWSER!, args: ["--no-sandbox"] });
}

export interface OpenPage {
  page: Page;
  /** What goes wrong in it: messages of its console, errors, requests that fail or go elsewhere. */
  problems: string[];
}

/** Opens the page that is served at `address` ("http://127.0.0.1:PORT") until the test is over. */
export async function openPage(
  browser: Browser,
  address: string,
  options: { hash?: string; colorScheme?: "light" | "dark"; width?: number } = {},
): Promise<OpenPage> {
  const { hash = "", colorScheme = "light", width = 1600 } = options;
  const context = await browser.newContext({ colorScheme, viewport: { width, height: 1000 } });
  onTestFinished(() => context.close());
  const problems: string[] = [];
  const page = await context.newPage();
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("request", (request) => {
    if (!request.url().startsWith(`${address}/`) && !request.url().startsWith("data:"))
      problems.push(`asks ${request.url()}`);
  });
  page.on("requestfailed", (request) => {
    // The page gives up a question when it asks another, and the stream with itself.
    const why = request.failure()?.errorText ?? "";
    if (why !== "net::ERR_ABORTED") problems.push(`failed: ${request.url()} ${why}`);
  });
  await page.goto(`${address}/#${hash}`);
  await page.locator("svg.picture").waitFor();
  return { page, problems };
}
