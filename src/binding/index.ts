/**
 * The only loader of the native binding. Everything that crosses into native code is typed in
 * types.ts and laid out in packet/layout.ts; what native code does is described in native/DESIGN.md.
 * Every thread that imports this module gets an instance of its own.
 */

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { SysError } from "./SysError.js";
import type { Native } from "./types.js";

export { SysError } from "./SysError.js";
export type * from "./types.js";

const BUILT = join("build", "Release", "podwire.node");
/** In a package, for machines without a compiler. */
const PREBUILT = join("prebuilds", `${process.platform}-${process.arch}`, "podwire.node");

/** The nearest binding upwards of this file, wherever it was compiled to. */
function locate(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    for (const place of [BUILT, PREBUILT]) if (existsSync(join(folder, place))) return join(folder, place);
    if (folder === dirname(folder)) {
      throw new Error(`the native binding is not built (${BUILT} is missing): run npm run install`);
    }
  }
}

function load(): Native {
  const binding = createRequire(import.meta.url)(locate()) as Native & {
    setErrorClass(errorClass: typeof SysError): void;
  };
  binding.setErrorClass(SysError);
  return binding;
}

export const native: Native = load();
