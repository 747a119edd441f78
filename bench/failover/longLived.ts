/**
 * A program of its own: `node longLived.js ADDRESS STREAM-PORT COUNT REDIS-PORT` holds COUNT TCP streams
 * to echo servers and one redis client until SIGTERM, then lets them come to their end and prints what
 * became of them as one line of JSON (LongLived). Prints "ready" when all are connected.
 *
 * A stream sends BLOCK bytes of a random sequence of its own every STEP_MS and holds all that comes back
 * against the same sequence: a byte lost, doubled or changed in either direction shows. The redis client
 * counts one up (INCR) every STEP_MS, and what it is answered must be one more each time.
 */

import { connect, type Socket } from "node:net";
import { monotonicMs } from "./clock.js";

/** What became of a long-lived connection. */
export interface Connection {
  /** Name of the backend; "" where it was never connected. */
  backend: string;
  /** All that was sent came back unchanged, to the last byte. */
  intact: boolean;
  /** Why not, and when that was, by monotonicMs. */
  error: string;
  failedAt: number;
  /** Longest time without anything heard. */
  silenceMs: number;
  /** Bytes heard, or answers of redis. */
  heard: number;
}

/** What the program prints. */
export interface LongLived {
  streams: Connection[];
  redis: Connection;
}

const BLOCK = 2048;
const STEP_MS = 20;
/** Bytes that may be under way. */
const WINDOW = 1 << 18;
/** How long the last bytes may take. */
const LAST_MS = 8_000;

/** Bytes that look random, the same for the same seed (xorshift32). */
class Sequence {
  private word: number;

  constructor(seed: number) {
    this.word = Math.imul(seed + 1, 0x9e3779b1) | 1;
  }

  next(): number {
    let x = this.word;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.word = x;
    return x & 0xff;
  }
}

/** What streams and the redis client have in common. */
abstract class Client {
  readonly result: Connection = {
    backend: "",
    intact: false,
    error: "",
    failedAt: 0,
    silenceMs: 0,
    heard: 0,
  };
  protected readonly socket: Socket;
  protected ending = false;
  private heardMs = monotonicMs();
  private readonly timer: NodeJS.Timeout;
  readonly ended: Promise<void>;

  constructor(address: string, port: number) {
    this.socket = connect({ host: address, port, noDelay: true });
    this.socket.on("data", (data) => {
      this.noteSilence();
      this.hear(data);
    });
    this.socket.on("error", ({ message }) => this.fail(message));
    this.timer = setInterval(() => this.step(), STEP_MS);
    this.ended = new Promise((resolve) => {
      this.socket.on("close", () => {
        clearInterval(this.timer);
        this.noteSilence();
        if (!this.result.intact) this.fail("closed by the server");
        resolve();
      });
    });
  }

  /** Lets what is under way come, and closes. */
  end(): void {
    this.ending = true;
    const late = setTimeout(() => {
      this.fail("the last bytes did not come");
      this.socket.destroy();
    }, LAST_MS);
    void this.ended.then(() => clearTimeout(late));
    this.finishIfDone();
  }

  /** Closes if nothing is under way. */
  protected abstract finishIfDone(): void;
  protected abstract step(): void;
  protected abstract hear(data: Buffer): void;

  protected fail(error: string): void {
    this.result.intact = false;
    if (this.result.error === "") {
      this.result.error = error;
      this.result.failedAt = monotonicMs();
    }
    this.socket.destroy();
  }

  protected finish(): void {
    this.result.intact = this.result.error === "";
    this.socket.destroy();
  }

  private noteSilence(): void {
    const now = monotonicMs();
    this.result.silenceMs = Math.max(this.result.silenceMs, now - this.heardMs);
    this.heardMs = now;
  }
}

class Stream extends Client {
  private readonly out: Sequence;
  private readonly expected: Sequence;
  private sent = 0;
  private named = false;

  constructor(address: string, port: number, seed: number) {
    super(address, port);
    this.out = new Sequence(seed);
    this.expected = new Sequence(seed);
  }

  protected step(): void {
    if (!this.named || this.ending || this.sent - this.result.heard > WINDOW) return;
    const block = Buffer.alloc(BLOCK);
    for (let i = 0; i < BLOCK; i++) block[i] = this.out.next();
    this.sent += BLOCK;
    this.socket.write(block);
  }

  protected hear(data: Buffer): void {
    let from = 0;
    if (!this.named) {
      const end = data.indexOf("\n");
      this.result.backend += data.toString("latin1", 0, end < 0 ? data.length : end);
      if (end < 0) return;
      this.named = true;
      from = end + 1;
    }
    for (let i = from; i < data.length; i++) {
      if (data[i] !== this.expected.next()) {
        this.fail(`byte ${this.result.heard + i - from} is another one`);
        return;
      }
    }
    this.result.heard += data.length - from;
    this.finishIfDone();
  }

  protected finishIfDone(): void {
    if (this.ending && this.named && this.result.heard === this.sent) this.finish();
  }
}

class RedisClient extends Client {
  private readonly key = `bench-${process.pid}`;
  private waiting = false;
  private text = "";

  protected step(): void {
    if (this.waiting || this.ending) return;
    this.waiting = true;
    this.socket.write(`INCR ${this.key}\r\n`);
  }

  protected hear(data: Buffer): void {
    this.text += data.toString("latin1");
    if (!this.text.endsWith("\r\n")) return;
    const answer = this.text.trim();
    this.text = "";
    this.waiting = false;
    if (answer !== `:${this.result.heard + 1}`) {
      this.fail(`answered ${answer} after ${this.result.heard}`);
      return;
    }
    this.result.backend = "redis";
    this.result.heard++;
    this.finishIfDone();
  }

  protected finishIfDone(): void {
    if (this.ending && !this.waiting) this.finish();
  }
}

const [address, streamPort, count, redisPort] = process.argv.slice(2);
const streams = Array.from(
  { length: Number(count) },
  (_, seed) => new Stream(address!, Number(streamPort), seed),
);
const redis = new RedisClient(address!, Number(redisPort));
const all = [...streams, redis];

const waiting = setInterval(() => {
  if (all.some(({ result }) => result.heard === 0 && result.error === "")) return;
  clearInterval(waiting);
  process.stdout.write("ready\n");
}, STEP_MS);

process.on("SIGTERM", async () => {
  clearInterval(waiting);
  for (const client of all) client.end();
  await Promise.all(all.map(({ ended }) => ended));
  const result: LongLived = { streams: streams.map((each) => each.result), redis: redis.result };
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
});
