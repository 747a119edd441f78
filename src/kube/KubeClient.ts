/**
 * KubeApi over HTTPS. Requests are plain node:https over one keep-alive agent: client-node's generated
 * API classes would turn each object into a class instance, and know no custom kinds. Kubeconfigs
 * that ask for more than certificates and tokens (exec plugins, proxies) are read by
 * @kubernetes/client-node, which is loaded only then.
 */
import { type ClientRequest, type IncomingMessage, request as plainRequest } from "node:http";
import { Agent, type RequestOptions, request as tlsRequest } from "node:https";
import { StringDecoder } from "node:string_decoder";
import type { KubeApi, KubeObject, ListOptions, PatchKind, ResourceRef, WatchEvent } from "./KubeApi.js";
import { isExpired, KubeError, type StatusBody } from "./KubeError.js";
import { plainCredentials } from "./kubeconfig.js";
import { apiPath, apiVersionOf } from "./resources.js";

/** An answer other than a watch must be complete by then. */
const REQUEST_TIMEOUT_MS = 30_000;
/** Certificates and tokens are looked at anew after this long: they are renewed in place. */
const CREDENTIALS_MS = 60_000;
/** Watches last between this and twice this, so that they do not all end together. */
const WATCH_SECONDS = 300;
/** Objects per page of a list. */
const PAGE = 2000;
/** A connection whose other end is gone is noticed after some 25 s (libuv: 10 probes, 1 s apart). */
const KEEP_ALIVE_MS = 15_000;

const CONTENT_TYPES: Record<PatchKind, string> = {
  json: "application/json-patch+json",
  merge: "application/merge-patch+json",
  strategic: "application/strategic-merge-patch+json",
};

/** What is needed of client-node's KubeConfig. */
export interface Credentials {
  getCurrentCluster(): { server: string } | null;
  applyToHTTPSOptions(options: RequestOptions): Promise<void>;
}

export interface KubeClientOptions {
  userAgent?: string;
  /** From 0 to 1; spreads the ends of watches. */
  random?: () => number;
}

interface Connection {
  tls: Pick<RequestOptions, "ca" | "cert" | "key" | "rejectUnauthorized" | "servername">;
  headers: Record<string, string>;
  agent: Agent;
  at: number;
}

interface Call {
  method: string;
  path: string;
  body?: unknown;
  contentType?: string;
}

export class KubeClient implements KubeApi {
  private connection: Connection | null = null;
  private connecting: Promise<Connection> | null = null;
  private readonly server: URL;

  constructor(
    private readonly credentials: Credentials,
    private readonly options: KubeClientOptions = {},
  ) {
    const cluster = credentials.getCurrentCluster();
    if (cluster === null) throw new Error("the kubeconfig names no current cluster");
    this.server = new URL(cluster.server);
  }

  /** From a kubeconfig file. Throws where it cannot be read, or is none. */
  static async fromFile(file: string, options?: KubeClientOptions): Promise<KubeClient> {
    const plain = plainCredentials(file);
    if (plain !== null) return new KubeClient(plain, options);
    const { KubeConfig } = await import("@kubernetes/client-node");
    const config = new KubeConfig();
    config.loadFromFile(file);
    return new KubeClient(config as Credentials, options);
  }

  /** As kubectl finds it: KUBECONFIG, ~/.kube/config, or the service account of a pod. */
  static async fromDefault(options?: KubeClientOptions): Promise<KubeClient> {
    const { KubeConfig } = await import("@kubernetes/client-node");
    const config = new KubeConfig();
    config.loadFromDefault();
    return new KubeClient(config as Credentials, options);
  }

  /** Address of the API server. */
  get address(): string {
    return this.server.origin;
  }

  /** Closes idle connections. */
  close(): void {
    this.connection?.agent.destroy();
    this.connection = null;
  }

  // ---- KubeApi ------------------------------------------------------------------------------

  get<T extends KubeObject>(resource: ResourceRef, name: string, namespace?: string): Promise<T> {
    return this.call<T>({ method: "GET", path: apiPath(resource, namespace, name) });
  }

  async list<T extends KubeObject>(
    resource: ResourceRef,
    options: ListOptions = {},
  ): Promise<{ items: T[]; resourceVersion: string }> {
    try {
      return await this.pages<T>(resource, options, PAGE);
    } catch (error) {
      // The rest of the pages has expired: all at once.
      if (isExpired(error)) return this.pages<T>(resource, options, 0);
      throw error;
    }
  }

  create<T extends KubeObject>(resource: ResourceRef, object: T): Promise<T> {
    const body = { ...object, apiVersion: apiVersionOf(resource), kind: resource.kind };
    return this.call<T>({ method: "POST", path: apiPath(resource, namespaceOf(resource, object)), body });
  }

  update<T extends KubeObject>(resource: ResourceRef, object: T, subresource?: string): Promise<T> {
    const path = apiPath(resource, namespaceOf(resource, object), object.metadata.name ?? "", subresource);
    const body = { ...object, apiVersion: apiVersionOf(resource), kind: resource.kind };
    return this.call<T>({ method: "PUT", path, body });
  }

  patch<T extends KubeObject>(
    resource: ResourceRef,
    name: string,
    namespace: string | undefined,
    kind: PatchKind,
    patch: unknown,
    subresource?: string,
  ): Promise<T> {
    const path = apiPath(resource, namespace, name, subresource);
    return this.call<T>({ method: "PATCH", path, body: patch, contentType: CONTENT_TYPES[kind] });
  }

  async delete(
    resource: ResourceRef,
    name: string,
    namespace?: string,
    options: { gracePeriodSeconds?: number; uid?: string; resourceVersion?: string } = {},
  ): Promise<void> {
    const { gracePeriodSeconds, ...preconditions } = options;
    const body = {
      apiVersion: "v1",
      kind: "DeleteOptions",
      ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
      ...(Object.keys(preconditions).length === 0 ? {} : { preconditions }),
    };
    await this.call({ method: "DELETE", path: apiPath(resource, namespace, name), body });
  }

  async watch<T extends KubeObject>(
    resource: ResourceRef,
    options: ListOptions & { resourceVersion: string },
    onEvent: (event: WatchEvent<T>) => void,
    signal: AbortSignal,
  ): Promise<void> {
    if (signal.aborted) return;
    const seconds = Math.round(WATCH_SECONDS * (1 + (this.options.random ?? Math.random)()));
    const query = selection(options);
    query.set("watch", "true");
    query.set("allowWatchBookmarks", "true");
    query.set("resourceVersion", options.resourceVersion);
    query.set("timeoutSeconds", String(seconds));
    const path = `${apiPath(resource, options.namespace)}?${query}`;
    let request: ClientRequest | null = null;
    const stop = () => void request?.destroy();
    signal.addEventListener("abort", stop);
    try {
      const answer = await this.send({ method: "GET", path }, (sent) => {
        request = sent;
        // The server ends it earlier; one that does not answer any more is given up.
        sent.setTimeout((seconds + 30) * 1000, () => sent.destroy(new Error("no answer in time")));
        if (signal.aborted) sent.destroy();
      });
      if (answer.statusCode !== 200) throw errorOf(answer, await textOf(answer));
      await readEvents(answer, onEvent);
    } catch (error) {
      if (!signal.aborted) throw this.asKubeError(error);
    } finally {
      signal.removeEventListener("abort", stop);
      stop();
    }
  }

  /** A request to any path of the server, for what KubeApi has no verb for. */
  raw<T>(method: string, path: string, body?: unknown): Promise<T> {
    return this.call<T>({ method, path, body });
  }

  // ---- requests -----------------------------------------------------------------------------

  private async pages<T extends KubeObject>(
    resource: ResourceRef,
    options: ListOptions,
    limit: number,
  ): Promise<{ items: T[]; resourceVersion: string }> {
    const apiVersion = apiVersionOf(resource);
    const items: T[] = [];
    let token: string | undefined;
    for (;;) {
      const query = selection(options);
      if (limit > 0) query.set("limit", String(limit));
      if (token) query.set("continue", token);
      const path = `${apiPath(resource, options.namespace)}?${query}`;
      const page = await this.call<{
        items: T[] | null;
        metadata: { resourceVersion: string; continue?: string };
      }>({ method: "GET", path });
      // Items of a list do not say what they are; those of a watch do.
      for (const item of page.items ?? [])
        items.push(Object.assign(item, { apiVersion, kind: resource.kind }));
      token = page.metadata.continue;
      if (!token) return { items, resourceVersion: page.metadata.resourceVersion };
    }
  }

  private async call<T>(call: Call): Promise<T> {
    let text: string;
    let answer: IncomingMessage;
    try {
      const onSent = (sent: ClientRequest) =>
        void sent.setTimeout(REQUEST_TIMEOUT_MS, () => sent.destroy(new Error("no answer in time")));
      answer = await this.send(call, onSent);
      text = await textOf(answer);
      if (answer.statusCode === 401) {
        // A token may have been renewed meanwhile.
        this.expire();
        answer = await this.send(call, onSent);
        text = await textOf(answer);
      }
    } catch (error) {
      throw this.asKubeError(error);
    }
    if ((answer.statusCode ?? 500) >= 300) throw errorOf(answer, text);
    return JSON.parse(text) as T;
  }

  private async send(call: Call, onSent: (request: ClientRequest) => void): Promise<IncomingMessage> {
    const { tls, headers, agent } = await this.connect();
    const { method, path, body, contentType = "application/json" } = call;
    const text = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const secure = this.server.protocol === "https:";
      const base = this.server.pathname.replace(/\/$/, "");
      const request = (secure ? tlsRequest : plainRequest)({
        ...tls,
        host: this.server.hostname.replace(/^\[|\]$/g, ""),
        port: this.server.port || (secure ? 443 : 80),
        method,
        path: base + path,
        headers: {
          accept: "application/json",
          "user-agent": this.options.userAgent ?? "podwire",
          ...headers,
          ...(text === undefined
            ? {}
            : { "content-type": contentType, "content-length": Buffer.byteLength(text) }),
        },
        ...(secure ? { agent } : {}),
      });
      request.once("response", resolve);
      request.on("error", (error: NodeJS.ErrnoException) => {
        // The server had closed the idle connection that we took: a read may be sent again.
        const stale = request.reusedSocket && error.code === "ECONNRESET" && method === "GET";
        if (stale) this.send(call, onSent).then(resolve, reject);
        else reject(error);
      });
      onSent(request);
      request.end(text);
    });
  }

  private async connect(): Promise<Connection> {
    const current = this.connection;
    if (current !== null && performance.now() - current.at < CREDENTIALS_MS) return current;
    this.connecting ??= this.readCredentials().finally(() => {
      this.connecting = null;
    });
    try {
      return await this.connecting;
    } catch (error) {
      // Files in the middle of a renewal: the old ones still do.
      if (current !== null) return current;
      throw error;
    }
  }

  private async readCredentials(): Promise<Connection> {
    const options: RequestOptions = {};
    await this.credentials.applyToHTTPSOptions(options);
    const { ca, cert, key, rejectUnauthorized, servername } = options;
    const tls: Connection["tls"] = Object.fromEntries(
      Object.entries({ ca, cert, key, rejectUnauthorized, servername }).filter(
        ([, value]) => value !== undefined,
      ),
    );
    const headers = { ...(options.headers as Record<string, string> | undefined) };
    if (options.auth) headers.authorization = `Basic ${Buffer.from(options.auth).toString("base64")}`;
    const old = this.connection;
    const same = old !== null && sameCredentials(old.tls, tls);
    // Watches go on with the certificate they began with.
    const agent = same ? old.agent : new Agent({ keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS, ...tls });
    this.connection = { tls, headers, agent, at: performance.now() };
    return this.connection;
  }

  private expire(): void {
    if (this.connection !== null) this.connection.at = Number.NEGATIVE_INFINITY;
  }

  private asKubeError(error: unknown): KubeError {
    if (error instanceof KubeError) return error;
    const { code, message } = error as NodeJS.ErrnoException;
    return KubeError.unreachable(`${this.server.origin}: ${message || code || String(error)}`, error);
  }
}

function namespaceOf(resource: ResourceRef, object: KubeObject): string | undefined {
  if (!resource.namespaced) return undefined;
  const { namespace } = object.metadata;
  if (namespace) return namespace;
  throw KubeError.of("BadRequest", `a ${resource.kind} needs a namespace`);
}

function selection({ labelSelector, fieldSelector }: ListOptions): URLSearchParams {
  const query = new URLSearchParams();
  if (labelSelector) query.set("labelSelector", labelSelector);
  if (fieldSelector) query.set("fieldSelector", fieldSelector);
  return query;
}

function sameCredentials(a: Connection["tls"], b: Connection["tls"]): boolean {
  const text = (tls: Connection["tls"]) =>
    JSON.stringify([tls.ca, tls.cert, tls.key, tls.servername, tls.rejectUnauthorized].map(String));
  return text(a) === text(b);
}

async function textOf(answer: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of answer) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString("utf8");
}

function errorOf(answer: IncomingMessage, text: string): KubeError {
  const code = answer.statusCode ?? 500;
  try {
    const status = JSON.parse(text) as Partial<StatusBody>;
    if (status.kind === "Status") return KubeError.ofStatus(status, code);
  } catch {
    // Not from an API server: a proxy, perhaps.
  }
  return KubeError.ofStatus({ message: text.slice(0, 200) || (answer.statusMessage ?? "") }, code);
}

/** Reads a watch: one JSON object a line. Throws a KubeError at an ERROR event. */
async function readEvents<T extends KubeObject>(
  answer: IncomingMessage,
  onEvent: (event: WatchEvent<T>) => void,
): Promise<void> {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  for await (const piece of answer) {
    const text = decoder.write(piece as Buffer);
    let start = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", start)) {
      const line = rest + text.slice(start, end);
      rest = "";
      start = end + 1;
      if (line.trim() !== "") takeLine(line, onEvent);
    }
    rest += text.slice(start);
  }
}

function takeLine<T extends KubeObject>(line: string, onEvent: (event: WatchEvent<T>) => void): void {
  const event = JSON.parse(line) as { type: string; object: T & Partial<StatusBody> };
  switch (event.type) {
    case "ADDED":
    case "MODIFIED":
    case "DELETED":
      onEvent({ type: event.type, object: event.object });
      return;
    case "BOOKMARK":
      onEvent({ type: "BOOKMARK", resourceVersion: event.object.metadata.resourceVersion ?? "" });
      return;
    case "ERROR":
      throw KubeError.ofStatus(event.object as Partial<StatusBody>);
  }
}
