/**
 * The node's pod port: pods' logs and commands in them over HTTPS, under a kubelet's paths, for the API server
 * alone. Order of a request: who asks → which container, which options → the runtime → bytes.
 *
 *   GET /containerLogs/NAMESPACE/POD/CONTAINER?follow&previous&timestamps&tailLines&sinceSeconds&sinceTime&limitBytes
 *   GET /exec/NAMESPACE/POD/CONTAINER?command&input&output&error&tty     (WebSocket)
 *   GET /healthz
 *   GET /podwire/TOPIC                                          (nodeState.ts)
 *
 * Refusals are plain text, as a kubelet's.
 */
import { type IncomingMessage, ServerResponse, STATUS_CODES } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream";
import type { TLSSocket } from "node:tls";
import { type ServerOptions, WebSocketServer } from "ws";
import type { ServingTls } from "../../kube/servingCertificate.js";
import { APISERVER_CLIENT } from "../../model/podPort.js";
import type { Log } from "../../reconcile/Log.js";
import type { PodAccess } from "../../runtime/PodAccess.js";
import { ExecConnection, type ExecTimes } from "./ExecConnection.js";
import { answerOf, type NodeState } from "./nodeState.js";
import { type PodRequest, parseRequest } from "./query.js";
import { HttpRefusal, httpOfError } from "./refusals.js";
import { chooseProtocol, PROTOCOLS } from "./remoteCommand.js";

/** Largest message: kubectl's pieces of stdin are 32 KiB. */
const MAX_MESSAGE = 1024 * 1024;
/** What is on its way to a slow client is not cut off so soon. */
const CLOSE_TIMEOUT_MS = 300_000;
const KEEP_ALIVE_MS = 15_000;
const TIMES: ExecTimes = { pingMs: 5_000, idleMs: 4 * 3600_000 };

export interface PodServerOptions {
  access: PodAccess;
  state: NodeState;
  log: Log;
  tls: ServingTls;
  times?: ExecTimes;
}

export class PodServer {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private readonly webSockets: WebSocketServer;
  private readonly times: ExecTimes;

  constructor(private readonly options: PodServerOptions) {
    this.times = options.times ?? TIMES;
    this.server = createServer(
      {
        ...contextOf(options.tls),
        // Without a certificate, or with a bad one, one gets an answer.
        requestCert: true,
        rejectUnauthorized: false,
        minVersion: "TLSv1.2",
        ALPNProtocols: ["http/1.1"],
      },
      (request, response) => void this.serve(request, response),
    );
    this.server.on("upgrade", (request, socket, head) => this.upgrade(request, socket as Socket, head));
    this.server.on("secureConnection", (socket) => {
      this.sockets.add(socket);
      socket.setNoDelay(true);
      socket.setKeepAlive(true, KEEP_ALIVE_MS);
      socket.on("close", () => this.sockets.delete(socket));
    });
    this.server.on("tlsClientError", (_error, socket) => socket.destroy());
    const webSocket: ServerOptions & { closeTimeout: number } = {
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: MAX_MESSAGE,
      closeTimeout: CLOSE_TIMEOUT_MS,
      handleProtocols: (offered) => PROTOCOLS.find((each) => offered.has(each)) ?? false,
    };
    this.webSockets = new WebSocketServer(webSocket);
  }

  /** Listens; returns the port (0 takes a free one). Rejects with the system's error. */
  listen(address: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.server.once("error", reject);
      this.server.listen(port, address, () => {
        this.server.off("error", reject);
        this.server.on("error", (error) => this.options.log.warn({ error: error.message }, "pod port"));
        resolve((this.server.address() as AddressInfo).port);
      });
    });
  }

  /** From now on new connections see this certificate. */
  renew(tls: ServingTls): void {
    this.server.setSecureContext(contextOf(tls));
  }

  /** Ends every session. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.server.close(() => resolve());
      for (const socket of this.sockets) socket.destroy();
    });
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on("error", () => response.destroy());
    try {
      const wanted = read(request);
      if (wanted.kind === "exec") throw new HttpRefusal(400, "Upgrade request required");
      if (request.method !== "GET" && request.method !== "HEAD")
        throw new HttpRefusal(405, "Method Not Allowed");
      if (wanted.kind === "healthz") return void response.end("ok");
      if (wanted.kind === "state") return await this.state(wanted, response);
      await this.logs(wanted, response);
    } catch (error) {
      this.refuse(request, response, error);
    }
  }

  private async state(
    { topic, query }: PodRequest & { kind: "state" },
    response: ServerResponse,
  ): Promise<void> {
    const text = JSON.stringify(await answerOf(this.options.state, topic, query));
    response.writeHead(200, {
      "Content-Type": "application/json",
      "Content-Length": Buffer.byteLength(text),
      "Cache-Control": "no-store",
    });
    response.end(text);
  }

  private async logs(
    { container, options }: PodRequest & { kind: "logs" },
    response: ServerResponse,
  ): Promise<void> {
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    const log = await this.options.access.log(container, options, gone.signal);
    response.writeHead(200, { "Content-Type": "text/plain" });
    // A log that is followed may have nothing to say for long.
    response.flushHeaders();
    pipeline(log, response, (error) => {
      // Cut off, so that it does not pass for a whole one.
      if (error) response.destroy();
    });
  }

  private upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    socket.on("error", () => socket.destroy());
    try {
      const wanted = read(request);
      if (wanted.kind !== "exec") throw new HttpRefusal(400, "this path takes no upgrade");
      if (request.headers.upgrade?.toLowerCase() !== "websocket")
        throw new HttpRefusal(
          400,
          `unable to upgrade to ${request.headers.upgrade}: this node speaks the remote command protocol over WebSocket only (kubectl 1.31 or later)`,
        );
      const offered = request.headers["sec-websocket-protocol"];
      const protocol = chooseProtocol(offered);
      if (protocol === undefined)
        throw new HttpRefusal(
          400,
          `unable to upgrade: unable to negotiate protocol: client supports [${offered ?? ""}], server accepts [${PROTOCOLS.join(" ")}]`,
        );
      const { container, options } = wanted;
      this.webSockets.handleUpgrade(request, socket as Duplex, head, (webSocket) => {
        const connection = new ExecConnection(webSocket, protocol, this.times);
        void connection.serve((signal) => this.options.access.exec(container, options, signal));
      });
    } catch (error) {
      const response = new ServerResponse(request);
      response.shouldKeepAlive = false;
      response.assignSocket(socket);
      response.on("finish", () => socket.end());
      this.refuse(request, response, error);
    }
  }

  private refuse(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    const { code, text } = httpOfError(error);
    if (code >= 500)
      this.options.log.warn({ path: request.url?.split("?")[0], error: text }, "pod port: request failed");
    if (response.headersSent) return void response.destroy();
    response.writeHead(code, STATUS_CODES[code], { "Content-Type": "text/plain; charset=utf-8" });
    response.end(text);
  }
}

/** Who asks, and for what. Throws an HttpRefusal. */
function read(request: IncomingMessage): PodRequest {
  authenticate(request.socket as TLSSocket);
  return parseRequest(request.url ?? "/", Date.now());
}

/** Only the API server may ask: its certificate is the cluster CA's, for clients, with its own name and group. */
function authenticate(socket: TLSSocket): void {
  const certificate = socket.getPeerCertificate();
  if (certificate === null || certificate.subject === undefined) throw new HttpRefusal(401, "Unauthorized");
  // A connection may outlive its certificate.
  if (!socket.authorized || Date.parse(certificate.valid_to) < Date.now())
    throw new HttpRefusal(401, "Unauthorized");
  const { CN, O } = certificate.subject as { CN?: string | string[]; O?: string | string[] };
  const { commonName, organization } = APISERVER_CLIENT;
  if (CN === commonName && O === organization) return;
  throw new HttpRefusal(403, `Forbidden (user=${String(CN)}): only the API server may ask the pod port`);
}

function contextOf({ caCertificate, certificate, key }: ServingTls) {
  return { ca: caCertificate, cert: certificate, key };
}
