/** vagrant/: what reaches the machines, and what is done there once only. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ROOT, read } from "../support/documents.js";

describe("what is kept from the machines", () => {
  const excluded = /rsync__exclude: %w\[([^\]]*)\]/
    .exec(read("vagrant/Vagrantfile"))?.[1]
    ?.trim()
    .split(/\s+/);

  it("is named from the working copy's top: rsync applies other names in each folder, vagrant/cache too", () => {
    expect(excluded).toContain("/*.tgz");
    expect(excluded?.filter((name) => !name.startsWith("/"))).toEqual([]);
  });
});

describe("provision/node.sh", () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "podwire-provision-"));
    writeFileSync(join(directory, "log"), "");
    writeFileSync(
      join(directory, "npm"),
      `#!/bin/sh
case $1 in
  root) echo ${directory} ;;
  install) rm -rf ${directory}/podwire && mkdir ${directory}/podwire && echo "$*" >> ${directory}/log ;;
esac
`,
      { mode: 0o755 },
    );
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  /** Installs a package with this content. Returns how often npm has installed one by then. */
  function install(content: string): number {
    const file = join(directory, "podwire.tgz");
    writeFileSync(file, content);
    const { status, stderr } = spawnSync("sh", ["vagrant/provision/node.sh", file, "package"], {
      cwd: ROOT,
      env: { ...process.env, PATH: `${directory}:${process.env.PATH}` },
      encoding: "utf8",
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    return readFileSync(join(directory, "log"), "utf8").split("\n").length - 1;
  }

  it("installs a package once, and another one in its place", () => {
    expect(install("one")).toBe(1);
    expect(install("one")).toBe(1);
    expect(install("two")).toBe(2);
    expect(install("one")).toBe(3);
  });
});
