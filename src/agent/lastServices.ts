/**
 * The last Services that came from an API: kept for a start while no server answers, so that an agent
 * that starts then forwards to them at once. A line of JSON for each, since there may be thousands:
 *
 *   {"version":1,"node":"k8s-worker01","zone":""}
 *   {"key":"default/web","facts":{…},"slices":{"web-abc":{…}}}
 *   …
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs";
import type { SavedService, SavedServices } from "../desired/services.js";
import { StateDir } from "./StateDir.js";

/** Goes up with every change of what SavedService says. */
const VERSION = 1;
/** The file is not longer than this: 10,000 Services with 10 endpoints each have 12 MB. */
const MAX_BYTES = 128 << 20;
/** Written at once. */
const PIECE_CHARACTERS = 1 << 18;

/**
 * Keeps Services of this node in its state directory, which exists; the file is there as a whole or as
 * it was before. Throws a RangeError, and keeps none, where they are more than `maxBytes`.
 */
export function saveServices(
  { node, stateDir }: { node: string; stateDir: string },
  { zone, services }: SavedServices,
  maxBytes = MAX_BYTES,
): void {
  const { servicesFile } = new StateDir(stateDir);
  const temporary = `${servicesFile}.new`;
  const fd = openSync(temporary, "w", 0o600);
  let bytes = 0;
  let piece = `${JSON.stringify({ version: VERSION, node, zone })}\n`;
  const write = () => {
    bytes += writeSync(fd, piece);
    piece = "";
    if (bytes > maxBytes) throw new RangeError(`the Services take more than ${maxBytes} bytes`);
  };
  try {
    for (const each of services) {
      piece += `${JSON.stringify(each)}\n`;
      if (piece.length > PIECE_CHARACTERS) write();
    }
    write();
    fsyncSync(fd);
  } catch (error) {
    // Old ones are worse than none: their endpoints may be somebody else's by then.
    rmSync(servicesFile, { force: true });
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, servicesFile);
}

/** The Services that were kept for this node; null where there is no file, or a damaged or foreign one. */
export function readLastServices({
  node,
  stateDir,
}: {
  node: string;
  stateDir: string;
}): SavedServices | null {
  try {
    const text = readFileSync(new StateDir(stateDir).servicesFile, "utf8");
    const [head = "", ...lines] = text.trimEnd().split("\n");
    const {
      version,
      node: owner,
      zone,
    } = JSON.parse(head) as { version: number; node: string; zone: string };
    if (version !== VERSION || owner !== node) return null;
    return { zone, services: lines.map((line) => JSON.parse(line) as SavedService) };
  } catch {
    // The API has it all.
    return null;
  }
}
