/**
 * Answers questions about the running agent on a unix socket, and carries out the one thing that may
 * be asked of it there (removing flows): one JSON request per line, {"get": TOPIC} with whatever the
 * topic takes beside it, answered in their order by one JSON line each; by one line for each item
 * where the answer is a list that is made while it is sent. A stream of bytes (a capture) is one line and
 * then the bytes, until whoever asked closes his side or it ends by itself; with it the connection ends.
 * Knows nothing of what it hands out.
 */
import { chmodSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { setImmediate as turn } from "node:timers/promises";

/** What can be asked for. */
export type Topic =
  | "status"
  | "counters"
  | "announcement"
  | "tables"
  | "nodeTables"
  | "services"
  | "vteps"
  | "flows"
  | "flowRecords"
  | "flowStats"
  | "flushFlows"
  | "capture";

/** What stands beside "get" in a request. */
export type Arguments = Readonly<Record<string, unknown>>;

/** An answer that goes on: a line of its own, then bytes. */
export interface ByteStream<T> {
  head: T;
  /** Is always begun, and returned where nobody is there any more. */
  bytes: AsyncGenerator<Uint8Array>;
  /** Nobody wants more: `bytes` comes to its end. */
  stop(): void;
}

/** Gives an answer; an iterator of many lines; a ByteStream. Throws where it is asked wrongly. */
export type Answerer = (request: Arguments) => unknown;

const MAX_REQUEST = 4096;
/** A list is sent in pieces of this length, and others have their turn in between. */
const PIECE = 65_536;

/** @typeParam Name what can be asked for on this socket */
export class StatusServer<Name extends string = Topic> {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();

  /** @param longest request that is read, in characters */
  constructor(
    private readonly answers: Record<Name, Answerer>,
    private readonly longest = MAX_REQUEST,
  ) {
    this.server = createServer({ allowHalfOpen: true }, (socket) => this.serve(socket));
  }

  /** Listens at `path`, for the owner only. */
  listen(path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.server.once("error", reject);
      this.server.listen(path, () => {
        this.server.off("error", reject);
        this.server.on("error", () => {});
        chmodSync(path, 0o600);
        resolve();
      });
    });
  }

  close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    return new Promise((resolve) => {
      this.server.close(() => resolve());
    });
  }

  private serve(socket: Socket): void {
    let text = "";
    let work = Promise.resolve();
    this.sockets.add(socket);
    socket.setEncoding("utf8");
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.sockets.delete(socket));
    socket.on("end", () => void work.then(() => socket.end()));
    socket.on("data", (chunk: string) => {
      text += chunk;
      for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        work = work.then(() => this.answer(socket, line));
      }
      if (text.length > this.longest) socket.destroy();
    });
  }

  /** Never rejects. */
  private async answer(socket: Socket, line: string): Promise<void> {
    try {
      const { get, ...request } = JSON.parse(line) as { get?: string };
      const answerer = Object.hasOwn(this.answers, get ?? "") ? this.answers[get as Name] : undefined;
      if (answerer === undefined) throw new Error(`unknown request: ${get}`);
      const answer: unknown = await answerer(request);
      if (isIterator(answer)) await sendAll(socket, answer);
      else if (isByteStream(answer)) await sendBytes(socket, answer);
      else socket.write(`${JSON.stringify(answer ?? null)}\n`);
    } catch (error) {
      socket.write(`${JSON.stringify({ error: (error as Error).message })}\n`);
    }
  }
}

function isIterator(value: unknown): value is IterableIterator<unknown> {
  return typeof value === "object" && value !== null && Symbol.iterator in value && "next" in value;
}

function isByteStream(value: unknown): value is ByteStream<unknown> {
  return typeof value === "object" && value !== null && "bytes" in value && "head" in value;
}

async function sendBytes(socket: Socket, { head, bytes, stop }: ByteStream<unknown>): Promise<void> {
  socket.on("end", stop).on("close", stop);
  // Asked and gone.
  if (socket.readableEnded || socket.destroyed) stop();
  let there = await send(socket, `${JSON.stringify(head)}\n`);
  try {
    for await (const piece of bytes) {
      if (there) there = await send(socket, piece);
      if (!there) break;
    }
  } catch {
    // Bytes have been sent: a line with an error would be taken for more. That its end is missing tells.
  }
  socket.end();
}

async function sendAll(socket: Socket, items: Iterable<unknown>): Promise<void> {
  let piece = "";
  for (const item of items) {
    piece += `${JSON.stringify(item)}\n`;
    if (piece.length < PIECE) continue;
    if (!(await send(socket, piece))) return;
    piece = "";
  }
  await send(socket, piece);
}

/** False where nobody is there any more. */
async function send(socket: Socket, text: string | Uint8Array): Promise<boolean> {
  const more = socket.write(text);
  await turn();
  if (!more && !socket.destroyed && socket.writableNeedDrain)
    await new Promise<void>((resolve) => {
      const go = () => {
        socket.off("drain", go).off("close", go);
        resolve();
      };
      socket.on("drain", go).on("close", go);
    });
  return !socket.destroyed;
}

/** What is waited for an answer that needs no more than the agent itself. */
const PATIENCE_MS = 5_000;

/** Asks an agent's socket. Rejects with the system's error where none listens. */
export async function ask<T, Name extends string = Topic>(
  path: string,
  topic: Name,
  request: Arguments = {},
  patienceMs = PATIENCE_MS,
): Promise<T> {
  for await (const answer of askAll<T, Name>(path, topic, request, patienceMs)) return answer;
  throw new Error("the agent does not answer");
}

/** The items of an answer that is a list. Throws as `ask` does, and what the agent says is wrong. */
export async function* askAll<T, Name extends string = Topic>(
  path: string,
  topic: Name,
  request: Arguments = {},
  patienceMs = PATIENCE_MS,
): AsyncGenerator<T> {
  const socket = connect(path);
  socket.setEncoding("utf8");
  socket.setTimeout(patienceMs, () => socket.destroy(new Error("the agent does not answer")));
  socket.end(`${JSON.stringify({ get: topic, ...request })}\n`);
  let text = "";
  for await (const chunk of socket) {
    const lines = (text + (chunk as string)).split("\n");
    text = lines.pop()!;
    for (const line of lines) {
      const answer: unknown = JSON.parse(line);
      const { error } = (answer ?? {}) as { error?: unknown };
      if (typeof error === "string") throw new Error(error);
      yield answer as Awaited<T>;
    }
  }
}

/** A stream that an agent sends. */
export interface OpenedStream<T> {
  head: T;
  bytes: AsyncIterable<Buffer>;
  /** Asks for its end; what is under way still comes. */
  stop(): void;
}

/** Asks for a stream of bytes. Rejects as `ask` does. */
export async function openStream<T>(
  path: string,
  topic: Topic,
  request: Arguments = {},
): Promise<OpenedStream<T>> {
  const socket = connect({ path, allowHalfOpen: true });
  socket.write(`${JSON.stringify({ get: topic, ...request })}\n`);
  const pieces: AsyncIterator<Buffer> = socket[Symbol.asyncIterator]();
  let first = Buffer.alloc(0);
  let end = -1;
  while (end < 0) {
    const { value, done } = await pieces.next();
    if (done === true) throw new Error("the agent does not answer");
    first = Buffer.concat([first, value]);
    end = first.indexOf("\n");
  }
  const head = JSON.parse(first.toString("utf8", 0, end)) as T & { error?: unknown };
  if (typeof head.error === "string") {
    socket.destroy();
    throw new Error(head.error);
  }
  return { head, bytes: rest(first.subarray(end + 1), pieces), stop: () => socket.end() };
}

async function* rest(first: Buffer, pieces: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  if (first.length > 0) yield first;
  for (;;) {
    const { value, done } = await pieces.next();
    if (done === true) return;
    yield value;
  }
}
