/**
 * package-lock.json is whole: `npm ci` refuses one that lacks a package that some other platform would
 * install, and npm leaves those out when it writes the file where a registry does not have them.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

interface Locked {
  version?: string;
  resolved?: string;
  integrity?: string;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

const read = (file: string) =>
  JSON.parse(readFileSync(fileURLToPath(new URL(`../../${file}`, import.meta.url)), "utf8"));
const { packages } = read("package-lock.json") as { packages: Record<string, Locked> };

/** Whether a package that lies at `from` finds one of that name, in its own or a folder above. */
function finds(from: string, name: string): boolean {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
    if (packages[`${at === "" ? "" : `${at}/`}node_modules/${name}`] !== undefined) return true;
    if (at === "") return false;
  }
}

describe("package-lock.json", () => {
  it("has every package that a package needs, on whatever platform", () => {
    const needs = Object.entries(packages).flatMap(([from, each]) =>
      [each.dependencies, each.devDependencies, each.optionalDependencies].flatMap((list) =>
        Object.keys(list ?? {}).map((name) => ({ from, name })),
      ),
    );
    expect(needs.length).toBeGreaterThan(500);
    expect(needs.filter(({ from, name }) => !finds(from, name))).toEqual([]);
  });

  it("has a version and a checksum of each, and no address of anybody's mirror", () => {
    for (const [path, { version, integrity, resolved }] of Object.entries(packages)) {
      if (path === "") continue;
      expect(version, path).toMatch(/^\d/);
      expect(integrity, path).toMatch(/^sha512-/);
      if (resolved !== undefined) expect(resolved, path).toMatch(/^https:\/\/registry\.npmjs\.org\//);
    }
  });

  it("asks for what package.json asks for", () => {
    const { dependencies, devDependencies } = read("package.json") as Locked;
    expect(packages[""]).toMatchObject({ dependencies, devDependencies });
  });
});
