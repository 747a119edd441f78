/**
 * Where the flow table lives: in a file of the state directory that the next agent adopts, so that a
 * restart ends no connection. Times in it are those of this boot, hence a file for each boot. Where
 * there is no room for it, memory of this process does, and flows end with it.
 */
import { rmSync, statSync } from "node:fs";
import type { Log } from "../reconcile/Log.js";
import { FlowTable, forgetServices, formatFlowTable, newFlowTable } from "../tables/FlowTable.js";
import { flowTableBytes, HEADER_CAPACITY, HEADER_MAGIC } from "../tables/flowLayout.js";
import type { FlowMemory } from "../worker/control.js";

/** Maps a file, as native code does. */
export type MapFile = (path: string, bytes: number) => ArrayBuffer;

export interface OpenFlows {
  /** For the threads. */
  memory: FlowMemory;
  /** The same, as this thread sees it. */
  buffer: ArrayBufferLike;
}

/**
 * Opens the table for `capacity` flows in `file`, with the flows of the agent before if it had a
 * table of this size and version. Nobody else may use the file. Never throws.
 */
export function openFlows(file: string, capacity: number, mapFile: MapFile, log: Log): OpenFlows {
  const bytes = flowTableBytes(capacity);
  try {
    const buffer = adopted(file, bytes, capacity, mapFile, log) ?? made(file, bytes, capacity, mapFile);
    return { memory: { file, bytes }, buffer };
  } catch (error) {
    log.warn({ err: error, file }, "no file for the flow table: flows will end with this agent");
    rmSync(file, { force: true });
    const buffer = newFlowTable(capacity);
    return { memory: buffer, buffer };
  }
}

/** Null where there is no table, or one of another kind. */
function adopted(
  file: string,
  bytes: number,
  capacity: number,
  mapFile: MapFile,
  log: Log,
): ArrayBuffer | null {
  const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  if (size === 0) return null;
  try {
    if (size !== bytes) throw new RangeError(`the table has ${size} bytes, not ${bytes}`);
    const buffer = mapFile(file, bytes);
    const words = new Int32Array(buffer);
    if (words[HEADER_MAGIC] === 0) return null;
    if (words[HEADER_CAPACITY] !== capacity) throw new RangeError("the table has another capacity");
    const torn = FlowTable.adopt(buffer);
    forgetServices(buffer);
    log.info({ flows: new FlowTable(buffer).size, torn }, "took over the flows of the agent before");
    return buffer;
  } catch (error) {
    log.warn({ err: error }, "could not take over the flows of the agent before");
    return null;
  }
}

function made(file: string, bytes: number, capacity: number, mapFile: MapFile): ArrayBuffer {
  rmSync(file, { force: true });
  const buffer = mapFile(file, bytes);
  const [key0, key1] = crypto.getRandomValues(new Int32Array(2));
  formatFlowTable(buffer, capacity, [key0, key1]);
  return buffer;
}
