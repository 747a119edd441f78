import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

const read = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), "utf8");

describe("README", () => {
  it("names the line that the tests are run with unattended", () => {
    const line = read(".ci/run").trim().split("\n").at(-1)!;
    expect(read("README.md")).toContain(`\n${line}\n`);
  });

  it("gives a reason for every dependency", () => {
    const { dependencies } = JSON.parse(read("package.json"));
    const named = [...read("README.md").matchAll(/^\| `([^`]+)` +\|/gm)].map((match) => match[1]);
    expect(named).toEqual(expect.arrayContaining(Object.keys(dependencies)));
  });
});
