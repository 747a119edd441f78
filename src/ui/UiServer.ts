/**
 * Serves the page and its data over HTTP, read-only, from loopback or a unix socket:
 *
 *   GET /                                      the page
 *   GET /ui/page/…, /explain/picture/…         its modules, as they were compiled
 *   GET /modules/…                             preact, out of node_modules
 *   GET /theme.css                             the pictures' colours
 *   GET /api/cluster?step&namespace&service    ClusterView
 *   GET /api/events                            server-sent events: "changed" (a version), "traffic" (Traffic)
 *   GET /api/flows                             FlowRow[]: some flows of every node
 *   GET /api/trace?from&to[&protocol]          TraceView; a protocol is tcp, udp or icmp
 *
 * Whoever reaches it may read; there is nothing to change. The browser loads nothing from elsewhere.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { drawTopology, servicePaints } from "../explain/picture/picture.js";
import { type SelectionOptions, STEPS, type Step, select } from "../explain/picture/selection.js";
import type { TraceProtocol } from "../explain/trace/packets.js";
import { isOwnHost } from "../metrics/hostHeader.js";
import type { ClusterFeed } from "./ClusterFeed.js";
import { type Traced, traceView } from "./pathView.js";
import type { ClusterView, FlowRow } from "./protocol.js";
import { themeCss } from "./themeCss.js";

/** Who can be asked for a packet's way; rejects with an Error that says what is wrong with the question. */
export type Tracer = (question: {
  from: string;
  to: string;
  protocol: TraceProtocol | undefined;
}) => Promise<Traced>;

export interface UiOptions {
  feed: ClusterFeed;
  /** Null where nobody traces. */
  trace: Tracer | null;
  /** Some flows of every node. */
  flows: () => Promise<FlowRow[]>;
  /** The folder of compiled modules, dist/ itself. */
  modules?: string;
}

/** Preact's modules by the name that the page imports them by. */
const PACKAGES: Readonly<Record<string, string>> = {
  preact: "preact.mjs",
  "preact/hooks": "hooks.mjs",
  "preact/jsx-runtime": "jsxRuntime.mjs",
};

const IMPORT_MAP = JSON.stringify({
  imports: Object.fromEntries(Object.entries(PACKAGES).map(([name, file]) => [name, `/modules/${file}`])),
});

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>podwire</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/theme.css">
<link rel="stylesheet" href="/ui/page/style.css">
<script type="importmap">${IMPORT_MAP}</script>
<script type="module" src="/ui/page/main.js"></script>
</head>
<body></body>
</html>
`;

const POLICY = [
  "default-src 'none'",
  `script-src 'self' 'sha256-${createHash("sha256").update(IMPORT_MAP).digest("base64")}'`,
  "style-src 'self'",
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const HEADERS = {
  "Content-Security-Policy": POLICY,
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Cache-Control": "no-store",
};

/** What may be read below the compiled modules. */
const MODULE = /^\/(ui\/page\/[A-Za-z]+\.(?:js|css)|explain\/picture\/(?:scene|svg)\.js)$/;
const PROTOCOLS: readonly TraceProtocol[] = ["tcp", "udp", "icmp"];
/** A connection that says nothing for long is taken for dead by some proxies. */
const KEEP_ALIVE_MS = 15_000;

class HttpError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export class UiServer {
  private readonly server: Server;
  private readonly modules: string;

  constructor(private readonly options: UiOptions) {
    this.modules = options.modules ?? fileURLToPath(new URL("..", import.meta.url));
    this.server = createServer((request, response) => void this.serve(request, response));
  }

  /** Listens; returns the address, "http://127.0.0.1:PORT" or the socket's path. */
  listen(at: { address: string; port: number } | { path: string }): Promise<string> {
    return new Promise((resolve, reject) => {
      this.server.once("error", reject);
      const listening = () => {
        this.server.off("error", reject);
        const bound = this.server.address() as AddressInfo | string;
        if (typeof bound === "string") resolve(bound);
        else
          resolve(`http://${bound.family === "IPv6" ? `[${bound.address}]` : bound.address}:${bound.port}`);
      };
      if ("path" in at) this.server.listen(at.path, listening);
      else this.server.listen(at.port, at.address, listening);
    });
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
  }

  /** Never rejects. */
  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      if (!isOwnHost(request.headers.host, [])) throw new HttpError(403, "this name is not ours");
      if (request.method !== "GET") throw new HttpError(405, "there is nothing to change here");
      const url = new URL(request.url ?? "/", "http://localhost");
      await this.answer(url, request, response);
    } catch (error) {
      const status = error instanceof HttpError ? error.status : 500;
      if (response.headersSent) response.destroy();
      else send(response, status, "application/json", JSON.stringify({ error: (error as Error).message }));
    }
  }

  private async answer(
    { pathname, searchParams }: URL,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const json = (value: unknown) => send(response, 200, "application/json", JSON.stringify(value));
    switch (pathname) {
      case "/":
        return send(response, 200, "text/html; charset=utf-8", PAGE);
      case "/theme.css":
        return send(response, 200, "text/css; charset=utf-8", themeCss());
      case "/api/cluster":
        return json(await this.cluster(searchParams));
      case "/api/events":
        return this.events(request, response);
      case "/api/flows":
        return json(await this.options.flows());
      case "/api/trace":
        return json(await this.trace(searchParams));
    }
    const file = this.fileOf(pathname);
    if (file === null) throw new HttpError(404, `nothing at ${pathname}`);
    const type = file.endsWith(".css") ? "text/css" : "text/javascript";
    send(response, 200, `${type}; charset=utf-8`, await readFile(file));
  }

  private fileOf(pathname: string): string | null {
    const found = Object.entries(PACKAGES).find(([, file]) => pathname === `/modules/${file}`);
    if (found !== undefined) return fileURLToPath(import.meta.resolve(found[0]));
    const own = MODULE.exec(pathname)?.[1];
    return own === undefined ? null : `${this.modules}/${own}`;
  }

  private async cluster(query: URLSearchParams): Promise<ClusterView> {
    const { feed } = this.options;
    const options = selectionOf(query);
    const { version, connected } = feed;
    const topology = feed.topology();
    const paints = servicePaints(select(topology, options));
    return {
      version,
      connected,
      picture: await drawTopology(topology, options),
      nodes: topology.nodes.map(({ name, address, ready, live }) => ({ name, address, ready, live })),
      blocks: topology.nodes.flatMap(({ name, blocks }) => blocks.map((block) => ({ ...block, node: name }))),
      pods: topology.nodes.flatMap(({ name, pods }) =>
        pods.map(({ key, address }) => ({ key, address, node: name })),
      ),
      services: topology.services.map(({ key }) => ({ key, paint: paints.get(key) ?? null })),
      faults: topology.faults,
    };
  }

  private async trace(query: URLSearchParams): Promise<unknown> {
    const { trace, feed } = this.options;
    if (trace === null) throw new HttpError(501, "nobody traces here");
    const from = query.get("from") ?? "";
    const to = query.get("to") ?? "";
    if (from === "" || to === "") throw new HttpError(400, "a trace needs from and to");
    const protocol = query.get("protocol") ?? "";
    const known = PROTOCOLS.find((each) => each === protocol);
    if (known === undefined && protocol !== "") throw new HttpError(400, `no protocol "${protocol}"`);
    const traced = await trace({ from, to, protocol: known }).catch((error: Error) => {
      throw new HttpError(400, error.message);
    });
    return traceView(feed.topology(), traced);
  }

  private events(request: IncomingMessage, response: ServerResponse): void {
    response.writeHead(200, { ...HEADERS, "Content-Type": "text/event-stream" });
    const say = (event: string, data: unknown) => {
      response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    };
    const alive = setInterval(() => say("alive", null), KEEP_ALIVE_MS);
    const unwatch = this.options.feed.watch({
      changed: (version) => say("changed", version),
      // A page that does not read is not written to without end.
      traffic: (traffic) => {
        if (!response.writableNeedDrain) say("traffic", traffic);
      },
    });
    request.on("close", () => {
      clearInterval(alive);
      unwatch();
    });
    say("changed", this.options.feed.version);
  }
}

function selectionOf(query: URLSearchParams): SelectionOptions {
  const step = query.get("step");
  const namespace = query.get("namespace");
  const services = query.getAll("service");
  if (step !== null && !(STEPS as readonly string[]).includes(step))
    throw new HttpError(400, `no step "${step}"; there are ${STEPS.join(", ")}`);
  return {
    ...(step === null ? {} : { step: step as Step }),
    ...(namespace === null ? {} : { namespace }),
    ...(services.length === 0 ? {} : { services }),
  };
}

function send(response: ServerResponse, status: number, type: string, body: string | Buffer): void {
  response.writeHead(status, { ...HEADERS, "Content-Type": type, "Content-Length": Buffer.byteLength(body) });
  response.end(body);
}
