import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const PRIORITY = fileURLToPath(new URL("../../../dist/worker/priority.js", import.meta.url));
/** Prints the thread's nice value and its session's, after raising. */
const SHOW =
  `const { raisePriority } = await import(${JSON.stringify(PRIORITY)}); raisePriority();` +
  `const { getPriority } = await import("node:os"); const { readFileSync } = await import("node:fs");` +
  `console.log(getPriority(), readFileSync("/proc/self/autogroup", "utf8").trim());`;

/** This process's session, as the kernel shows it: `/autogroup-N nice M`. */
function session(): string {
  return readFileSync("/proc/self/autogroup", "utf8").trim();
}

function show(program: string, ...args: string[]): string {
  return execFileSync(program, [...args, "--input-type=module", "-e", SHOW], { encoding: "utf8" }).trim();
}

const allowed = existsSync("/proc/self/autogroup") && process.getuid?.() === 0;

describe.runIf(allowed)("raisePriority", () => {
  it("raises a session that is the agent's own", () => {
    expect(show("setsid", "--wait", process.execPath)).toMatch(/^-20 \/autogroup-\d+ nice -20$/);
  });

  it("leaves somebody else's session alone", () => {
    const before = session();
    expect(show(process.execPath)).toBe(`-20 ${before}`);
    expect(session()).toBe(before);
  });
});
