/**
 * The HTTP servers by which others learn how this node is: /healthz and /livez, and one port for each
 * Service that has a healthCheckNodePort. Owns the sockets: opens and closes them as what is wanted
 * changes, and tries again where a port is in use. Must not know what healthy is (ProxyHealth) or
 * how it is said (answers).
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Clock } from "../../kube/Clock.js";
import type { HealthCheckConfig } from "../../model/AgentConfig.js";
import type { Log } from "../../reconcile/Log.js";
import { type HealthAnswer, healthz, livez, NOT_FOUND, serviceHealth } from "./answers.js";
import type { ProxyHealth } from "./ProxyHealth.js";

/** Between two attempts to listen at an address that is in use. */
const RETRY_MS = 5_000;
/** A request is one line; who takes longer is no health check. */
const REQUEST_TIMEOUT_MS = 5_000;
/** Connections at a time for each server. */
const MOST_CONNECTIONS = 256;

/** What is to be served, and where. */
export interface HealthTargets {
  /** "0.0.0.0:10256", null for no /healthz. */
  healthz: string | null;
  /** Addresses at which NodePorts answer, dotted decimal. */
  addresses: string[];
  checks: HealthCheckConfig[];
}

export interface HealthServersOptions {
  health: ProxyHealth;
  clock: Clock;
  log: Log;
  /** A Service's port could not be opened; called at each attempt. */
  onFailed?: (check: HealthCheckConfig, message: string) => void;
}

interface Wanted {
  address: string;
  port: number;
  answer: (path: string) => HealthAnswer;
  /** The Service, null for /healthz. */
  check: HealthCheckConfig | null;
}

class Listener {
  private server: Server | null = null;
  private cancelRetry: (() => void) | null = null;
  private closed = false;

  constructor(
    public wanted: Wanted,
    private readonly options: HealthServersOptions,
  ) {
    this.listen();
  }

  /** Resolves when nobody holds the address any more. */
  close(): Promise<void> {
    this.closed = true;
    this.cancelRetry?.();
    const { server } = this;
    this.server = null;
    if (server === null) return Promise.resolve();
    return new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  }

  private listen(): void {
    this.cancelRetry = null;
    const { address, port } = this.wanted;
    const limits = { headersTimeout: REQUEST_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS };
    const server = createServer(limits, (request, response) => this.serve(request, response));
    server.maxConnections = MOST_CONNECTIONS;
    this.server = server;
    server.on("error", (error) => this.failed(error));
    server.listen(port, address);
  }

  private serve({ url = "/" }: IncomingMessage, response: ServerResponse): void {
    const { status, headers, body } = this.wanted.answer(url.split("?")[0]!);
    response.writeHead(status, { ...headers, "Content-Length": Buffer.byteLength(body) });
    response.end(body);
  }

  private failed(error: Error): void {
    if (this.closed) return;
    const { clock, log, onFailed } = this.options;
    const { address, port, check } = this.wanted;
    this.server?.close();
    this.server = null;
    log.error({ address, port, err: error }, "a health check cannot be served; will try again");
    if (check !== null) onFailed?.(check, error.message);
    this.cancelRetry = clock.after(RETRY_MS, () => this.listen());
  }
}

export class HealthServers {
  private readonly listeners = new Map<string, Listener>();
  private closing: Promise<unknown> = Promise.resolve();

  constructor(private readonly options: HealthServersOptions) {}

  /** Serves `targets` from now on, and nothing else. What stays is not interrupted. */
  sync(targets: HealthTargets): void {
    const wanted = new Map<string, Wanted>();
    for (const each of this.wantedOf(targets)) wanted.set(keyOf(each), each);
    const leaving = [...this.listeners].filter(([key]) => !wanted.has(key));
    for (const [key] of leaving) this.listeners.delete(key);
    const left = Promise.all(leaving.map(([, listener]) => listener.close()));
    this.closing = Promise.all([this.closing, left]);
    for (const [key, each] of wanted) {
      const present = this.listeners.get(key);
      if (present !== undefined) present.wanted = each;
      else this.listeners.set(key, new Listener(each, this.options));
    }
  }

  /** Resolves when every socket is closed. */
  async close(): Promise<void> {
    this.sync({ healthz: null, addresses: [], checks: [] });
    await this.closing;
  }

  private wantedOf({ healthz: at, addresses, checks }: HealthTargets): Wanted[] {
    const { health } = this.options;
    const services = checks.flatMap((check) =>
      addresses.map((address) => ({
        address,
        port: check.port,
        check,
        // Whatever the path: so does kube-proxy.
        answer: () => serviceHealth(check, health.healthy),
      })),
    );
    if (at === null) return services;
    const [, address = "", port = ""] = /^(.*):(\d+)$/.exec(at) ?? [];
    const answer = (path: string) =>
      path === "/healthz" ? healthz(health.state()) : path === "/livez" ? livez(health.state()) : NOT_FOUND;
    return [...services, { address, port: Number(port), check: null, answer }];
  }
}

/** A port that goes from one Service to another is closed and opened. */
function keyOf({ address, port, check }: Wanted): string {
  return `${address}:${port} ${check === null ? "" : `${check.namespace}/${check.name}`}`;
}
