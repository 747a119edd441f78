/**
 * Serves a registry's metrics at /metrics, in Prometheus' text format. Owns the socket: opens and
 * closes it as what is wanted changes, and tries again where the port is in use. Knows no metric.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Registry } from "prom-client";
import { type Clock, SYSTEM_CLOCK } from "../kube/Clock.js";
import { isOwnHost } from "./hostHeader.js";

/** Between two attempts to listen at an address that is in use. */
const RETRY_MS = 5_000;
/** A request is a few lines. */
const REQUEST_TIMEOUT_MS = 5_000;
const MOST_CONNECTIONS = 16;

export interface MetricsServerOptions {
  /** Names under which this machine may be asked, beside its addresses and "localhost". */
  names: readonly string[];
  /** It cannot listen, and will try again; or an answer could not be made. */
  onError: (error: unknown) => void;
  clock?: Clock;
}

export class MetricsServer {
  #server: Server | null = null;
  #address: string | null = null;
  #cancelRetry: (() => void) | null = null;
  #closing: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly registry: Registry,
    private readonly options: MetricsServerOptions,
  ) {}

  /** Where it listens, null where it does not (yet). */
  get address(): string | null {
    const bound = this.#server?.listening ? this.#server.address() : null;
    return bound === null || typeof bound === "string" ? null : `${bound.address}:${bound.port}`;
  }

  /** Serves at ADDRESS:PORT from now on, and nowhere else; null for nowhere at all. */
  sync(address: string | null): void {
    if (address === this.#address) return;
    this.#address = address;
    const left = this.#leave();
    this.#closing = Promise.all([this.#closing, left]);
    if (address !== null) void left.then(() => this.#listen(address));
  }

  /** Resolves when the socket is closed. */
  async close(): Promise<void> {
    this.sync(null);
    await this.#closing;
  }

  #leave(): Promise<void> {
    this.#cancelRetry?.();
    this.#cancelRetry = null;
    const server = this.#server;
    this.#server = null;
    if (server === null) return Promise.resolve();
    return new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  }

  #listen(wanted: string): void {
    if (this.#address !== wanted) return;
    this.#cancelRetry = null;
    const limits = { headersTimeout: REQUEST_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS };
    const server = createServer(limits, (request, response) => void this.#serve(request, response));
    server.maxConnections = MOST_CONNECTIONS;
    this.#server = server;
    server.on("error", (error) => {
      if (this.#server !== server) return;
      server.close();
      this.#server = null;
      this.options.onError(error);
      const { clock = SYSTEM_CLOCK } = this.options;
      this.#cancelRetry = clock.after(RETRY_MS, () => this.#listen(wanted));
    });
    const [, host = "", port = ""] = /^(.*):(\d+)$/.exec(wanted) ?? [];
    server.listen(Number(port), host);
  }

  /** Never rejects. */
  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url = "/", headers } = request;
    const answer = (status: number, body: string, more: Record<string, string> = {}) => {
      response.writeHead(status, {
        "Content-Type": "text/plain; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        ...more,
        "Content-Length": Buffer.byteLength(body),
      });
      response.end(method === "HEAD" ? "" : body);
    };
    if (!isOwnHost(headers.host, this.options.names))
      return answer(403, "The Host header names neither an address nor this node.\n");
    if (method !== "GET" && method !== "HEAD")
      return answer(405, "Only GET and HEAD.\n", { Allow: "GET, HEAD" });
    if (url.split("?")[0] !== "/metrics") return answer(404, "Metrics are at /metrics.\n");
    try {
      answer(200, await this.registry.metrics(), { "Content-Type": this.registry.contentType });
    } catch (error) {
      this.options.onError(error);
      answer(500, "The metrics could not be read.\n");
    }
  }
}
