/** Compiles native/ by itself, with flags of the test's choice, into a folder of the test's own. */

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const NATIVE = join(process.cwd(), "native");

/** The folder of node_api.h that belongs to the running Node, or undefined. */
export function nodeHeaders(): string | undefined {
  const beside = join(dirname(dirname(process.execPath)), "include", "node");
  return [beside, "/usr/include/node"].find((folder) => existsSync(join(folder, "node_api.h")));
}

/** Compiles every file of native/. Returns the compiler's messages; throws where it fails. */
export async function compile(compiler: string, output: string, flags: string[]): Promise<string> {
  const sources = (await readdir(NATIVE)).filter((file) => file.endsWith(".cc"));
  const common = ["-std=c++17", "-fPIC", "-DNAPI_VERSION=8", "-isystem", nodeHeaders()!];
  const objects: string[] = [];
  for (const source of sources) {
    objects.push(join(output, source.replace(/cc$/, "o")));
  }
  let messages = "";
  for (const [i, source] of sources.entries()) {
    const { stderr } = await run(compiler, [
      ...common,
      ...flags,
      "-c",
      join(NATIVE, source),
      "-o",
      objects[i]!,
    ]);
    messages += stderr;
  }
  const { stderr } = await run(compiler, [
    "-shared",
    ...flags,
    ...objects,
    "-o",
    join(output, "podwire.node"),
  ]);
  return messages + stderr;
}

export async function hasCompiler(compiler: string): Promise<boolean> {
  return run(compiler, ["--version"]).then(
    () => true,
    () => false,
  );
}
