/** The generated files of the folder openapi/ at the root of the package. */
import { existsSync, readFileSync } from "node:fs";

/** Seen from src/, dist/ and dist-bench/src/ alike. */
const PLACES = ["../../../openapi/", "../../../../openapi/"];

export function readData(name: string): unknown {
  const file = PLACES.map((place) => new URL(place + name, import.meta.url)).find((url) => existsSync(url));
  if (file === undefined) throw new Error(`openapi/${name} is missing from the installation`);
  return JSON.parse(readFileSync(file, "utf8"));
}
