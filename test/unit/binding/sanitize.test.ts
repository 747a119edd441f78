/** The binding under AddressSanitizer and UndefinedBehaviorSanitizer, with good plans and bad ones. */

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { compile, hasCompiler, nodeHeaders } from "./compile.js";

const folder = mkdtempSync(join(tmpdir(), "podwire-sanitize-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** The sanitizer's runtime, which must be loaded before everything else; "" where there is none. */
function runtime(): string {
  const path = execFileSync("g++", ["-print-file-name=libasan.so"], { encoding: "utf8" }).trim();
  return existsSync(path) ? path : "";
}

const usable = nodeHeaders() !== undefined && (await hasCompiler("g++")) && runtime() !== "";

test.skipIf(!usable)("nothing to report", { timeout: 180_000 }, async () => {
  const sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
  await compile("g++", folder, ["-O1", "-g", "-fno-omit-frame-pointer", ...sanitize]);
  const driver = join(import.meta.dirname, "sanitizeDriver.mjs");
  const result = spawnSync(process.execPath, [driver, join(folder, "podwire.node")], {
    encoding: "utf8",
    env: {
      PATH: process.env.PATH,
      LD_PRELOAD: runtime(),
      ASAN_OPTIONS: "detect_leaks=0",
      UBSAN_OPTIONS: "print_stacktrace=1",
    },
  });
  expect(result.stderr).toBe("");
  expect(result.stdout).toBe("sanitize: done\n");
  expect(result.status).toBe(0);
});
