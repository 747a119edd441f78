/**
 * Answers questions about the running agent on a unix socket, and carries out the one thing that may
 * be asked of it there (removing flows): one JSON request per line, {"get": TOPIC} with whatever the
 * topic takes beside it, answered in their order by one JSON line each; by one line for each item
 * where the answer is a list that is made while it is sent. Knows nothing of what it hands out.
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
  | "flushFlows";

/** What stands beside "get" in a request. */
export type Arguments = Readonly<Record<string, unknown>>;

/** Gives an answer; an iterator of many lines. Throws where it is asked wrongly. */
export type Answerer = (request: Arguments) => unknown;

const MAX_REQUEST = 4096;
/** A list is sent in pieces of this length, and others have their turn in between. */
const PIECE = 65_536;

export class StatusServer {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();

  constructor(private readonly answers: Record<Topic, Answerer>) {
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
      if (text.length > MAX_REQUEST) socket.destroy();
    });
  }

  /** Never rejects. */
  private async answer(socket: Socket, line: string): Promise<void> {
    try {
      const { get, ...request } = JSON.parse(line) as { get?: string };
      const answerer = Object.hasOwn(this.answers, get ?? "") ? this.answers[get as Topic] : undefined;
      if (answerer === undefined) throw new Error(`unknown request: ${get}`);
      const answer: unknown = await answerer(request);
      if (isIterator(answer)) await sendAll(socket, answer);
      else socket.write(`${JSON.stringify(answer ?? null)}\n`);
    } catch (error) {
      socket.write(`${JSON.stringify({ error: (error as Error).message })}\n`);
    }
  }
}

function isIterator(value: unknown): value is IterableIterator<unknown> {
  return typeof value === "object" && value !== null && Symbol.iterator in value && "next" in value;
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
async function send(socket: Socket, text: string): Promise<boolean> {
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

/** Asks an agent's status socket. Rejects with the system's error where none listens. */
export async function ask<T>(path: string, topic: Topic, request: Arguments = {}): Promise<T> {
  for await (const answer of askAll<T>(path, topic, request)) return answer;
  throw new Error("the agent does not answer");
}

/** The items of an answer that is a list. Throws as `ask` does, and what the agent says is wrong. */
export async function* askAll<T>(path: string, topic: Topic, request: Arguments = {}): AsyncGenerator<T> {
  const socket = connect(path);
  socket.setEncoding("utf8");
  socket.setTimeout(5000, () => socket.destroy(new Error("the agent does not answer")));
  socket.end(`${JSON.stringify({ get: topic, ...request })}\n`);
  let text = "";
  for await (const chunk of socket) {
    const lines = (text + (chunk as string)).split("\n");
    text = lines.pop()!;
    for (const line of lines) {
      const answer: unknown = JSON.parse(line);
      const { error } = answer as { error?: unknown };
      if (typeof error === "string") throw new Error(error);
      yield answer as Awaited<T>;
    }
  }
}
