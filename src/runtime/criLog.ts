/**
 * Reads a container's log in the CRI format, one record a line: `TIME STREAM TAG CONTENT`, where TIME
 * is RFC 3339 with nanoseconds, STREAM stdout or stderr, and TAG P for a part of a line that goes on
 * in the next record, F for the (rest of a) full line. conmon writes it; see Kubernetes'
 * design-proposals "CRI: Log management". The file before the last rotation is read first.
 */
import { type FSWatcher, watch } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import type { LogOptions } from "./PodAccess.js";

const READ_BYTES = 65_536;
/** A follower looks at the file this often, should a notification be lost. */
const LOOK_MS = 500;
const LINE_END = 0x0a;
const NEWLINE = Buffer.of(LINE_END);
const SPACE = 0x20;
const RECORD_TIME = /^\d{4}-\d\d-\d\dT/;

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

/** Records of a piece of a log; what is not whole in it is left out. */
export function logRecords(piece: Buffer): CriRecord[] {
  const found: CriRecord[] = [];
  for (let from = 0, end = piece.indexOf(LINE_END); end >= 0; end = piece.indexOf(LINE_END, from)) {
    const record = parseRecord(piece.subarray(from, end));
    if (record !== null && RECORD_TIME.test(record.time)) found.push(record);
    from = end + 1;
  }
  return found;
}

/**
 * The log of one instance. With `tailLines` the last lines of what is there are held in memory.
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
  const emit = new Emitter(options);
  let tail = options.tailLines === undefined ? null : new Tail(options.tailLines);
  for await (const piece of pieces(file, options.follow ? running : () => false, signal)) {
    if (piece !== CAUGHT_UP && tail !== null) {
      tail.add(piece);
      continue;
    }
    // What is there now has been read: the tail is known.
    const chunk = emit.take(piece === CAUGHT_UP ? (tail?.records() ?? []) : piece);
    tail = null;
    if (chunk.length > 0) yield chunk;
    if (emit.exhausted) return;
  }
}

/** The records of the last so many full lines, and of one that goes on. */
class Tail {
  private kept: Buffer[] = [];
  /** The first one that counts: what is before goes now and then. */
  private from = 0;
  private full = 0;

  constructor(private readonly most: number) {}

  add(lines: readonly Buffer[]): void {
    for (const line of lines) {
      this.kept.push(line);
      if (!isFull(line)) continue;
      this.full++;
      while (this.full > this.most) if (isFull(this.kept[this.from++]!)) this.full--;
    }
    if (this.from > 1024 && this.from > this.kept.length / 2) {
      this.kept = this.kept.slice(this.from);
      this.from = 0;
    }
  }

  records(): Buffer[] {
    return this.kept.slice(this.from);
  }
}

function isFull(line: Buffer): boolean {
  return parseRecord(line)?.full === true;
}

/** From records to what the client sees. */
class Emitter {
  private atLineStart = true;
  private left: number;

  constructor(private readonly options: LogOptions) {
    this.left = options.limitBytes ?? Number.POSITIVE_INFINITY;
  }

  get exhausted(): boolean {
    return this.left <= 0;
  }

  /** What is to be seen of these lines, joined; may be empty. */
  take(lines: readonly Buffer[]): Buffer {
    const seen: Buffer[] = [];
    for (const line of lines) {
      if (this.exhausted) break;
      const record = parseRecord(line);
      if (record !== null) this.takeRecord(record, seen);
    }
    return Buffer.concat(seen);
  }

  private takeRecord(record: CriRecord, seen: Buffer[]): void {
    const { sinceMs, timestamps } = this.options;
    if (sinceMs !== undefined && Date.parse(record.time) < sinceMs) return;
    // conmon writes an offset where a kubelet writes Z.
    if (timestamps && this.atLineStart)
      this.put(Buffer.from(`${record.time.replace(/\+00:00$/, "Z")} `), seen);
    this.atLineStart = record.full;
    this.put(record.content, seen);
    if (record.full) this.put(NEWLINE, seen);
  }

  private put(text: Buffer, seen: Buffer[]): void {
    const part = text.length > this.left ? text.subarray(0, this.left) : text;
    this.left -= part.length;
    seen.push(part);
  }
}

/** What was there has been read. Comes once. */
const CAUGHT_UP = Symbol("caught up");

/**
 * Lines of both files, many at a time, then for as long as `follow` says those that are added, over
 * rotations: a file is left only when its successor is there, because from then on nobody writes to it.
 */
async function* pieces(
  file: string,
  follow: () => boolean,
  signal: AbortSignal,
): AsyncGenerator<readonly Buffer[] | typeof CAUGHT_UP> {
  let handle = await openOldest(file);
  const waiter = new ChangeWaiter(file, signal);
  let caughtUp = false;
  try {
    let reader = handle === null ? null : new LineReader(handle);
    while (!signal.aborted) {
      // Asked before reading: what is written before the end, or before the rotation, is then read.
      const more = follow();
      const next = await openSuccessor(file, handle);
      if (reader !== null) yield* reader.rest();
      if (next !== null) {
        await handle?.close();
        handle = next;
        reader = new LineReader(handle);
        continue;
      }
      if (!caughtUp) yield CAUGHT_UP;
      caughtUp = true;
      if (!more) return;
      await waiter.wait();
    }
  } finally {
    waiter.close();
    await handle?.close();
  }
}

/** What was rotated away, or else the log itself; null where there is neither. */
async function openOldest(file: string): Promise<FileHandle | null> {
  const rotated = await openIfThere(`${file}.1`);
  if (rotated !== null) return rotated;
  const current = await openIfThere(file);
  // Rotated for the first time while we looked.
  const before = await openIfThere(`${file}.1`);
  if (before === null) return current;
  await current?.close();
  return before;
}

/**
 * The file that was begun when writing to the open one ended; null while that goes on. Where there were
 * two rotations since, that is FILE.1 and not FILE.
 */
async function openSuccessor(file: string, handle: FileHandle | null): Promise<FileHandle | null> {
  if (handle === null) return openOldest(file);
  const current = await openIfThere(file);
  // Between rename and reopening there is no log: it is still being written to where it is now.
  if (current === null) return null;
  const [{ ino }, own] = [await current.stat(), await handle.stat()];
  const rotated = ino === own.ino ? null : await openIfThere(`${file}.1`);
  const isBetween = rotated !== null && ![ino, own.ino].includes((await rotated.stat()).ino);
  if (isBetween) {
    await current.close();
    return rotated;
  }
  await rotated?.close();
  if (ino !== own.ino) return current;
  await current.close();
  return null;
}

async function openIfThere(file: string): Promise<FileHandle | null> {
  try {
    return await open(file, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

class LineReader {
  private pending = Buffer.alloc(0);

  constructor(private readonly handle: FileHandle) {}

  /** Complete lines up to the file's present end. */
  async *rest(): AsyncGenerator<Buffer[]> {
    for (;;) {
      const { bytesRead, buffer } = await this.handle.read(Buffer.alloc(READ_BYTES), 0, READ_BYTES, null);
      if (bytesRead === 0) return;
      const text = Buffer.concat([this.pending, buffer.subarray(0, bytesRead)]);
      const lines: Buffer[] = [];
      let from = 0;
      for (let end = text.indexOf(LINE_END); end >= 0; end = text.indexOf(LINE_END, from)) {
        lines.push(text.subarray(from, end));
        from = end + 1;
      }
      this.pending = text.subarray(from);
      if (lines.length > 0) yield lines;
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
