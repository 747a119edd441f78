/**
 * One command over one WebSocket: messages to stdin and the window size, outputs to messages, and a
 * Status at the end. What one side does not take, the other is not given: an output is read on when its last
 * piece has been handed to the kernel, and the WebSocket when stdin has drained.
 *
 * A client that is gone ends the command. While stdin holds the WebSocket back its end cannot be read;
 * then the pings notice it. Their answers are not waited for: a client whose own output waits for a pager
 * does not answer.
 */
import type { Readable } from "node:stream";
import type { WebSocket } from "ws";
import type { ExecSession } from "../../runtime/PodAccess.js";
import { statusOfError } from "./refusals.js";
import {
  CHANNEL,
  CLOSE,
  encodeMessage,
  failure,
  MessageError,
  type Protocol,
  parseMessage,
  statusOfResult,
} from "./remoteCommand.js";

/** Bytes of output in one message. */
const PIECE = 64 * 1024;

export interface ExecTimes {
  /** Between two pings. */
  pingMs: number;
  /** A session in which nothing moves for this long ends (a kubelet's streamingConnectionIdleTimeout). */
  idleMs: number;
}

export class ExecConnection {
  private readonly gone = new AbortController();
  private session: ExecSession | null = null;
  private lastMove = performance.now();
  private over = false;

  constructor(
    private readonly socket: WebSocket,
    private readonly protocol: Protocol,
    private readonly times: ExecTimes,
  ) {}

  /** Starts the command and serves it to its end. Never rejects. */
  async serve(start: (signal: AbortSignal) => Promise<ExecSession>): Promise<void> {
    const { socket, gone } = this;
    // Until there is somebody to give it to.
    socket.pause();
    socket.on("error", () => socket.terminate());
    socket.on("close", () => this.end());
    socket.on("message", (data, isBinary) => this.receive(data as Buffer, isBinary));
    const timer = setInterval(() => this.tick(), this.times.pingMs);
    try {
      // Tells clients that wait for it that the command is on its way, as a kubelet does.
      await this.send(CHANNEL.stdout, "");
      const session = await start(gone.signal);
      this.session = session;
      session.stdin?.on("error", () => this.resume());
      session.stdin?.on("close", () => this.resume());
      session.stdin?.on("drain", () => this.resume());
      if (gone.signal.aborted) this.end();
      this.resume();
      await Promise.all([
        this.pump(CHANNEL.stdout, session.stdout),
        this.pump(CHANNEL.stderr, session.stderr),
      ]);
      await this.finish(statusOfResult(await session.ended));
    } catch (error) {
      await this.finish(statusOfError(error));
    } finally {
      clearInterval(timer);
    }
  }

  private receive(data: Buffer, isBinary: boolean): void {
    if (this.over) return;
    this.lastMove = performance.now();
    try {
      const message = parseMessage(this.protocol, data, isBinary);
      const stdin = this.session?.stdin ?? null;
      if (message.kind === "resize") this.session?.resize(message.columns, message.rows);
      if (stdin === null || stdin.destroyed || stdin.writableEnded) return;
      if (message.kind === "endOfStdin") stdin.end();
      // What a command does not read any more is taken and thrown away.
      if (message.kind === "stdin" && !stdin.write(message.data)) this.socket.pause();
    } catch (error) {
      if (!(error instanceof MessageError)) throw error;
      this.over = true;
      this.socket.close(error.code, error.message);
      this.end();
    }
  }

  private resume(): void {
    if (this.socket.isPaused) this.socket.resume();
  }

  private async pump(channel: number, output: Readable | null): Promise<void> {
    if (output === null) return;
    try {
      for await (const chunk of output as AsyncIterable<Buffer>)
        for (let at = 0; at < chunk.length; at += PIECE)
          await this.send(channel, chunk.subarray(at, at + PIECE));
    } catch {
      // Either end is gone. How the command ended says the rest.
    }
  }

  /** Resolves when the kernel has the message. Rejects where the connection is gone. */
  private send(channel: number, content: Uint8Array | string): Promise<void> {
    this.lastMove = performance.now();
    return new Promise((resolve, reject) => {
      this.socket.send(encodeMessage(channel, content), (error) => (error ? reject(error) : resolve()));
    });
  }

  /** The Status, then the end of the connection. */
  private async finish(status: object): Promise<void> {
    if (this.over) return;
    this.over = true;
    try {
      await this.send(CHANNEL.error, JSON.stringify(status));
    } catch {
      // Nobody is there to hear it.
    }
    this.socket.close(CLOSE.normal);
    this.resume();
  }

  /** The client is gone, or is to go. */
  private end(): void {
    this.over = true;
    this.gone.abort();
    this.session?.kill();
    this.session?.stdin?.destroy();
    // An output that nobody takes would keep `ended` from settling.
    this.session?.stdout?.destroy();
    this.session?.stderr?.destroy();
    this.resume();
  }

  private tick(): void {
    if (performance.now() - this.lastMove >= this.times.idleMs) {
      // For the second time: not even the reason is taken.
      if (this.over) this.socket.terminate();
      void this.finish(failure("Timeout", `nothing moved for ${this.times.idleMs / 1000} s`, 504));
      this.gone.abort();
      this.session?.kill();
    }
    if (this.socket.readyState === this.socket.OPEN) this.socket.ping();
  }
}
