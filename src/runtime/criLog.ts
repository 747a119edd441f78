/**
 * Reads a container's log in the CRI format, one record a line: `TIME STREAM TAG CONTENT`, where TIME
 * is RFC 3339 with nanoseconds, STREAM stdout or stderr, and TAG P for a part of a line that goes on
 * in the next record, F for the (rest of a) full line. conmon writes it; see Kubernetes'
 * design-proposals "CRI: Log management". The file before the last rotation is read first.
 */
import { type FSWatcher, watch } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { LogOptions } from "./PodAccess.js";

const READ_BYTES = 65_536;
/** A follower looks at the file this often, should a notification be lost. */
const LOOK_MS = 500;
const LINE_END = 0x0a;
const SPACE = 0x20;

export interface CriRecord {
  /** As it stands in the file. */
  time: string;
  full: boolean;
  content: Buffer;
}

/** One record without its line end; null where it is damaged. */
export function parseRecord(line: Buffer): CriRecord | null {
  const first = line.indexOf(SPACE);
  const second = line.indexOf(SPACE, first + 1);
  if (first < 0 || second < 0) return null;
  const third = line.indexOf(SPACE, second + 1);
  const tagEnd = third < 0 ? line.length : third;
  const tag = line.toString("latin1", second + 1, tagEnd).split(":")[0];
  if (tag !== "F" && tag !== "P") return null;
  return {
    time: line.toString("latin1", 0, first),
    full: tag === "F",
    content: third < 0 ? Buffer.alloc(0) : line.subarray(third + 1),
  };
}

/**
 * The log of one instance.
 *
 * @param file the log; FILE.1 is what was rotated away
 * @param running whether its container still runs; a follower ends when it does not
 */
export async function* readLog(
  file: string,
  options: LogOptions,
  running: () => boolean,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const skip = options.tailLines === undefined ? 0 : await linesBeforeTail(file, options.tailLines);
  const emit = new Emitter(options, skip);
  for await (const line of lines(file, options.follow ? running : () => false, signal)) {
    const chunk = emit.take(line);
    if (chunk !== null) yield chunk;
    if (emit.exhausted) return;
  }
}

/** From records to what the client sees. */
class Emitter {
  private skipped = 0;
  private atLineStart = true;
  private left: number;

  constructor(
    private readonly options: LogOptions,
    private readonly skip: number,
  ) {
    this.left = options.limitBytes ?? Number.POSITIVE_INFINITY;
  }

  get exhausted(): boolean {
    return this.left <= 0;
  }

  take(line: Buffer): Buffer | null {
    const record = parseRecord(line);
    if (record === null) return null;
    if (this.skipped < this.skip) {
      if (record.full) this.skipped++;
      return null;
    }
    const { sinceMs, timestamps } = this.options;
    if (sinceMs !== undefined && Date.parse(record.time) < sinceMs) return null;
    const prefix = timestamps && this.atLineStart ? `${record.time} ` : "";
    this.atLineStart = record.full;
    const whole = Buffer.concat([Buffer.from(prefix), record.content, Buffer.from(record.full ? "\n" : "")]);
    const chunk = whole.length > this.left ? whole.subarray(0, this.left) : whole;
    this.left -= chunk.length;
    return chunk;
  }
}

/** Full lines that come before the last `tail` ones. */
async function linesBeforeTail(file: string, tail: number): Promise<number> {
  let total = 0;
  for await (const line of lines(file, () => false, new AbortController().signal))
    if (parseRecord(line)?.full) total++;
  return Math.max(0, total - tail);
}

/** Lines of both files, then for as long as `follow` says those that are added, over rotations. */
async function* lines(file: string, follow: () => boolean, signal: AbortSignal): AsyncGenerator<Buffer> {
  const rotated = await openIfThere(`${file}.1`);
  if (rotated !== null) {
    try {
      yield* new LineReader(rotated).rest();
    } finally {
      await rotated.close();
    }
  }
  let handle = await openIfThere(file);
  const waiter = new ChangeWaiter(file, signal);
  try {
    let reader = handle === null ? null : new LineReader(handle);
    while (!signal.aborted) {
      // Asked before reading: what is written before the end is then read.
      const more = follow();
      if (reader !== null) yield* reader.rest();
      if (await isReplaced(file, handle)) {
        await handle?.close();
        handle = await openIfThere(file);
        reader = handle === null ? null : new LineReader(handle);
        continue;
      }
      if (!more) return;
      await waiter.wait();
    }
  } finally {
    waiter.close();
    await handle?.close();
  }
}

async function openIfThere(file: string): Promise<FileHandle | null> {
  try {
    return await open(file, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** Whether another file than the open one lies at the path. */
async function isReplaced(file: string, handle: FileHandle | null): Promise<boolean> {
  try {
    const [now, opened] = [await stat(file), await handle?.stat()];
    return now.ino !== opened?.ino;
  } catch {
    return false;
  }
}

class LineReader {
  private pending = Buffer.alloc(0);

  constructor(private readonly handle: FileHandle) {}

  /** Complete lines up to the file's present end. */
  async *rest(): AsyncGenerator<Buffer> {
    for (;;) {
      const { bytesRead, buffer } = await this.handle.read(Buffer.alloc(READ_BYTES), 0, READ_BYTES, null);
      if (bytesRead === 0) return;
      let text = Buffer.concat([this.pending, buffer.subarray(0, bytesRead)]);
      for (let end = text.indexOf(LINE_END); end >= 0; end = text.indexOf(LINE_END)) {
        yield text.subarray(0, end);
        text = text.subarray(end + 1);
      }
      this.pending = text;
    }
  }
}

/** Waits for a change in a file's directory, an abort, or LOOK_MS. */
class ChangeWaiter {
  private watcher: FSWatcher | null = null;
  private wake: () => void = () => {};
  private changed = false;
  private readonly onAbort = () => this.wake();

  constructor(
    file: string,
    private readonly signal: AbortSignal,
  ) {
    signal.addEventListener("abort", this.onAbort);
    try {
      this.watcher = watch(dirname(file), () => {
        this.changed = true;
        this.wake();
      });
      this.watcher.on("error", () => {});
    } catch {
      // The directory is gone, or watches are used up: looking now and then is enough.
    }
  }

  wait(): Promise<void> {
    if (this.changed || this.signal.aborted) {
      this.changed = false;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.wake(), LOOK_MS);
      this.wake = () => {
        clearTimeout(timer);
        this.changed = false;
        this.wake = () => {};
        resolve();
      };
    });
  }

  close(): void {
    this.watcher?.close();
    this.signal.removeEventListener("abort", this.onAbort);
    this.wake();
  }
}
