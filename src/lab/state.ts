/**
 * Owns the lab's record of itself (lab.json) and its lock. Must not know how a lab is made.
 *
 * The lock is held while the lab is put up or taken down. The record says in which phase it is and
 * which processes it started; a record whose owner has died is what a crashed run leaves behind.
 */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { LabError } from "./errors.js";
import { LAB_DIRECTORY } from "./plan.js";
import { isAlive, type ProcessId, self } from "./processes.js";

const processId = z.object({ pid: z.number().int().positive(), startTime: z.number() });

const labState = z.object({
  version: z.literal(2),
  phase: z.enum(["starting", "up", "stopping"]),
  /** The process that the lab lives with; null after `up`, which returns. */
  owner: processId.nullable(),
  startedAt: z.string(),
  agents: z.array(processId.extend({ node: z.string() })),
  /** The API server. */
  services: z.array(processId.extend({ name: z.string() })),
});

export type LabState = z.infer<typeof labState>;

const RECORD = `${LAB_DIRECTORY}/lab.json`;
const LOCK = `${LAB_DIRECTORY}.lock`;

/** The record, or null if there is none that can be read. */
export function readState(): LabState | null {
  let text: string;
  try {
    text = readFileSync(RECORD, "utf8");
  } catch {
    return null;
  }
  try {
    return labState.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** Writes the record in one piece. */
export function writeState(state: LabState): void {
  mkdirSync(LAB_DIRECTORY, { recursive: true, mode: 0o755 });
  const temporary = `${RECORD}.new`;
  writeFileSync(temporary, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o644 });
  renameSync(temporary, RECORD);
}

/** Removes the record and everything else the lab wrote. */
export function removeState(): void {
  rmSync(LAB_DIRECTORY, { recursive: true, force: true });
}

export type Verdict = "down" | "running" | "crashed";

/** What a record and the namespaces found say about the lab. Pure but for `alive`. */
export function judge(
  state: LabState | null,
  namespacesFound: number,
  alive: (id: ProcessId) => boolean,
): Verdict {
  if (state === null) return namespacesFound === 0 ? "down" : "crashed";
  if (state.owner !== null) return alive(state.owner) ? "running" : "crashed";
  if (state.phase !== "up" || namespacesFound === 0) return "crashed";
  return state.agents.some(alive) ? "running" : "crashed";
}

function readLock(path: string): ProcessId | null {
  try {
    return processId.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    return null;
  }
}

function tryLock(): boolean {
  // Linked into place with its content, so that nobody ever reads a half-written lock.
  const mine = `${LOCK}.${process.pid}`;
  writeFileSync(mine, JSON.stringify(self()), { mode: 0o644 });
  try {
    linkSync(mine, LOCK);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return false;
  } finally {
    unlinkSync(mine);
  }
}

function dropStaleLock(): void {
  const aside = `${LOCK}.stale.${process.pid}`;
  try {
    renameSync(LOCK, aside);
  } catch {
    return; // Somebody else was faster.
  }
  const holder = readLock(aside);
  if (holder !== null && isAlive(holder)) linkSync(aside, LOCK); // Taken anew since we looked.
  unlinkSync(aside);
}

/** Does `work` while holding the lock. The lock of a process that has died is taken over. */
export async function withLock<T>(work: () => Promise<T>): Promise<T> {
  if (!tryLock()) {
    const holder = readLock(LOCK);
    if (holder === null || !isAlive(holder)) dropStaleLock();
    if ((holder !== null && isAlive(holder)) || !tryLock()) {
      throw new LabError(
        `another podwire lab command is at work${holder ? ` (process ${holder.pid})` : ""}; try again when it is done`,
        "LAB_BUSY",
      );
    }
  }
  try {
    return await work();
  } finally {
    rmSync(LOCK, { force: true });
  }
}
