/** Our C++ compiles without a single warning, and binding.gyp names every file of it. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { compile, hasCompiler, nodeHeaders } from "./compile.js";

const folder = mkdtempSync(join(tmpdir(), "podwire-warnings-"));
afterAll(() => rmSync(folder, { recursive: true }));

const STRICT = ["-O3", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wpedantic", "-Werror"];

for (const compiler of ["g++", "clang++"]) {
  test.skipIf(!nodeHeaders() || !(await hasCompiler(compiler)))(
    `${compiler} ${STRICT.join(" ")}`,
    async () => {
      expect(await compile(compiler, folder, STRICT)).toBe("");
    },
  );
}

test("binding.gyp lists the files of native/", () => {
  const gyp = JSON.parse(readFileSync("binding.gyp", "utf8")) as { targets: { sources: string[] }[] };
  const files = readdirSync("native").filter((file) => file.endsWith(".cc"));
  expect(gyp.targets[0]!.sources.toSorted()).toEqual(files.map((file) => `native/${file}`).toSorted());
});
