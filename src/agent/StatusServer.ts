/**
 * Answers questions about the running agent on a unix socket: one JSON request per line,
 * {"get": "status"}, "counters" or "tables", one JSON answer per line. Knows nothing of what it
 * hands out.
 */
import { chmodSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";

/** What can be asked for. */
export type Topic = "status" | "counters" | "tables";

const MAX_REQUEST = 4096;

export class StatusServer {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();

  constructor(private readonly answers: Record<Topic, () => unknown>) {
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
    this.sockets.add(socket);
    socket.setEncoding("utf8");
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.sockets.delete(socket));
    socket.on("end", () => socket.end());
    socket.on("data", (chunk: string) => {
      text += chunk;
      if (text.length > MAX_REQUEST) socket.destroy();
      for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
        socket.write(`${JSON.stringify(this.answer(text.slice(0, end)))}\n`);
        text = text.slice(end + 1);
      }
    });
  }

  private answer(line: string): unknown {
    try {
      const { get } = JSON.parse(line) as { get?: string };
      const answer = Object.hasOwn(this.answers, get ?? "") ? this.answers[get as Topic] : undefined;
      return answer?.() ?? { error: `unknown request: ${get}` };
    } catch (error) {
      return { error: (error as Error).message };
    }
  }
}

/** Asks an agent's status socket. Rejects with the system's error where none listens. */
export function ask<T>(path: string, topic: Topic): Promise<T> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let text = "";
    socket.setEncoding("utf8");
    socket.setTimeout(5000, () => socket.destroy(new Error("the agent does not answer")));
    socket.on("error", reject);
    socket.on("data", (chunk: string) => {
      text += chunk;
    });
    socket.on("end", () => {
      try {
        resolve(JSON.parse(text) as T);
      } catch (error) {
        reject(error as Error);
      }
    });
    socket.end(`${JSON.stringify({ get: topic })}\n`);
  });
}
