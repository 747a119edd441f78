/**
 * The API over HTTPS. Order of a request: who asks (client certificate, join token) → path about no
 * object: discovery, health, OpenAPI, joining → path about objects: may they (authorize) → verb → answer in
 * the form that was asked for. Every failure is a Status.
 */
import { createHash } from "node:crypto";
import { type IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { KubeError } from "../../kube/KubeError.js";
import type { Node } from "../../kube/types.js";
import {
  ANONYMOUS,
  AUTHENTICATED,
  authorize,
  authorizePath,
  BOOTSTRAPPERS,
  NODES,
  nodeNameOf,
} from "../auth/authorize.js";
import type { JoinTokens } from "../auth/JoinTokens.js";
import { servingNames } from "../auth/servingNames.js";
import {
  badRequest,
  methodNotAllowed,
  noSuchPath,
  statusOf,
  unauthorized,
  unsupportedMediaType,
} from "../errors.js";
import { decodeProtobuf, PROTOBUF_MEDIA_TYPE, ProtobufError } from "../openapi/protobuf.js";
import type { ClusterCa, Credential } from "../pki/ClusterCa.js";
import type { SchemaCatalog } from "../resource.js";
import type { User } from "../verbs/Hooks.js";
import { PATCH_TYPES } from "../verbs/patch.js";
import type { DeleteOptions, FieldValidation, Subresource, Verbs, WriteOptions } from "../verbs/Verbs.js";
import { aggregated, apiGroup, apiGroups, apiResources, apiVersions } from "./discovery.js";
import { duplicatesInJson, parseYamlBody } from "./duplicateFields.js";
import type { NodeClient } from "./NodeClient.js";
import { isNodeProxy, NODE_PROXY_RESOURCE, serveNodeProxy } from "./nodeProxy.js";
import { PodConnections, type Upgrade } from "./PodConnections.js";
import { formOf, parseAccept, represent, representList } from "./representation.js";
import { type Target, targetOf } from "./target.js";
import { serveWatch } from "./watchStream.js";

export interface HttpServerOptions {
  verbs: Verbs;
  schemas: SchemaCatalog;
  ca: ClusterCa;
  tokens: JoinTokens;
  credential: Credential;
  /** Names and addresses in the server's own certificate. */
  names: readonly string[];
  nodes: NodeClient;
  /** "192.168.2.30:6443", for discovery. */
  advertised: string;
  /** Seconds: a watch that says nothing itself ends after once to twice this. */
  minRequestTimeout: number;
}

const MAX_BODY = 3 * 1024 * 1024;
/** One request has no answer for this long only if it is a watch. */
const REQUEST_TIMEOUT = 60_000;
const DISCOVERY_AS = "APIGroupDiscoveryList";
const SUBRESOURCES = ["", "status", "scale", "finalize", "binding", "eviction"];

const VERSION = {
  major: "1",
  minor: "32",
  gitVersion: "v1.32.0+podwire",
  gitCommit: "",
  gitTreeState: "clean",
  buildDate: "1970-01-01T00:00:00Z",
  goVersion: "",
  compiler: "",
  platform: `linux/${process.arch === "x64" ? "amd64" : process.arch}`,
};

/**
 * OpenAPI v2 describes nothing here: the documents are those of v3. kubectl asks for it nevertheless where v3
 * does not know a kind, and must get a document to say "no matches for kind" instead of "failed to download".
 */
const OPENAPI_V2 = { swagger: "2.0", info: { title: "Kubernetes", version: VERSION.gitVersion }, paths: {} };
const OPENAPI_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const OPENAPI_V2_BYTES = Buffer.concat([
  lengthDelimited(1, Buffer.from(OPENAPI_V2.swagger)),
  lengthDelimited(
    2,
    Buffer.concat([
      lengthDelimited(1, Buffer.from(OPENAPI_V2.info.title)),
      lengthDelimited(2, Buffer.from(OPENAPI_V2.info.version)),
    ]),
  ),
]);

const SUCCESS = { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", code: 201 };

/** A request on its way through. */
interface Call {
  request: IncomingMessage;
  response: ServerResponse;
  path: string;
  query: URLSearchParams;
  user: User;
  warnings: string[];
  upgrade: Upgrade | undefined;
}

export class HttpServer {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private readonly pods: PodConnections;
  private readonly documents = new Map<string, { text: string; hash: string }>();

  constructor(private readonly options: HttpServerOptions) {
    const { credential, ca } = options;
    this.pods = new PodConnections(options.verbs, options.nodes);
    this.server = createServer(
      {
        key: credential.key,
        cert: credential.certificate + ca.certificate,
        ca: ca.certificate,
        // Without a certificate one is anonymous, with a bad one Unauthorized: both get an answer.
        requestCert: true,
        rejectUnauthorized: false,
        minVersion: "TLSv1.2",
        ALPNProtocols: ["http/1.1"],
        requestTimeout: REQUEST_TIMEOUT,
      },
      (request, response) => void this.serve(request, response),
    );
    this.server.on("upgrade", (request, socket, head) => {
      // The connection is nobody's now; until it is upgraded it gets an ordinary answer, its last.
      socket.on("error", () => socket.destroy());
      const response = new ServerResponse(request);
      response.shouldKeepAlive = false;
      response.assignSocket(socket as Socket);
      response.on("finish", () => socket.end());
      void this.serve(request, response, { socket: socket as Socket, head });
    });
    this.server.on("secureConnection", (socket: TLSSocket) => {
      this.sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("close", () => this.sockets.delete(socket));
    });
    this.server.on("tlsClientError", (_error, socket) => socket.destroy());
  }

  /** Listens; returns the port (0 takes a free one). */
  listen(address: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.server.once("error", reject);
      this.server.listen(port, address, () => {
        this.server.off("error", reject);
        resolve((this.server.address() as AddressInfo).port);
      });
    });
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.server.close(() => resolve());
      for (const socket of this.sockets) socket.destroy();
    });
  }

  private async serve(request: IncomingMessage, response: ServerResponse, upgrade?: Upgrade): Promise<void> {
    response.on("error", () => response.destroy());
    try {
      const url = new URL(request.url ?? "/", "https://server");
      const path = url.pathname.length > 1 ? url.pathname.replace(/\/+$/, "") : url.pathname;
      const user = impersonated(this.authenticate(request), request);
      await this.route({ request, response, path, query: url.searchParams, user, warnings: [], upgrade });
    } catch (error) {
      const status = statusOf(error);
      if (response.headersSent) return void response.destroy();
      if (status.code === 401) response.setHeader("WWW-Authenticate", 'Basic realm="kubernetes-master"');
      if (status.details?.retryAfterSeconds)
        response.setHeader("Retry-After", status.details.retryAfterSeconds);
      sendJson(response, status.code ?? 500, status);
    }
  }

  /** Client certificate, else bearer token, else anonymous. Throws Unauthorized for a bad one. */
  private authenticate(request: IncomingMessage): User {
    const socket = request.socket as TLSSocket;
    const certificate = socket.getPeerCertificate();
    if (certificate !== null && certificate.subject !== undefined && Object.keys(certificate).length > 0) {
      // A connection may outlive its certificate.
      if (!socket.authorized || Date.parse(certificate.valid_to) < Date.now()) throw unauthorized();
      const { CN, O } = certificate.subject as { CN?: string | string[]; O?: string | string[] };
      const name = Array.isArray(CN) ? CN.at(-1) : CN;
      if (!name) throw unauthorized();
      const groups = O === undefined ? [] : Array.isArray(O) ? O : [O];
      return { name, groups: [...groups, AUTHENTICATED] };
    }
    const header = request.headers.authorization;
    if (header === undefined) return ANONYMOUS;
    const id = this.options.tokens.verify(/^Bearer\s+(\S+)$/i.exec(header)?.[1] ?? "");
    if (id === undefined) throw unauthorized();
    return { name: `system:bootstrap:${id}`, groups: [BOOTSTRAPPERS, AUTHENTICATED] };
  }

  private async route(call: Call): Promise<void> {
    const { path, request, user, query } = call;
    if (path === "/join/v1/node") return this.join(call);
    if (path === "/join/v1/renew") return this.renew(call);
    if (path === "/join/v1/serving") return this.serving(call);
    const target = targetOf(path, this.options.verbs.definitions);
    if (target === undefined) {
      authorizePath(user, request.method!.toLowerCase(), path);
      return this.documentsAndHealth(call);
    }
    const watch = target.watch || ["1", "true"].includes(query.get("watch") ?? "");
    const verb = verbOf(request.method!, target, watch);
    const proxied = isNodeProxy(target);
    const attributes = {
      verb,
      group: target.definition.group,
      resource: proxied
        ? NODE_PROXY_RESOURCE
        : target.definition.plural + (target.subresource === "" ? "" : `/${target.subresource}`),
      namespace: target.namespace,
      name: target.name,
    };
    authorize(user, attributes, this.options.verbs.podsOn);
    if (proxied) return serveNodeProxy(this.options.verbs, this.options.nodes, target, call);
    if (PodConnections.serves(target)) return this.pods.serve(target, call);
    if (call.upgrade !== undefined) throw badRequest("this path takes no upgrade");
    if (!SUBRESOURCES.includes(target.subresource)) throw noSuchPath();
    await this.verb(call, target, verb);
  }

  private async verb(call: Call, target: Target, verb: string): Promise<void> {
    const { verbs } = this.options;
    const { request, query, user, response } = call;
    const { definition, namespace, name } = target;
    if (target.subresource === "eviction") return this.evict(call, target, verb);
    const subresource = target.subresource as Subresource;
    if (subresource === "status" && definition.subresources.status !== true) throw noSuchPath();
    if (subresource === "scale" && definition.subresources.scale === undefined) throw noSuchPath();
    if (definition.verbs !== undefined && !definition.verbs.includes(verb)) throw methodNotAllowed();
    if (subresource === "binding" && definition.plural !== "pods") throw noSuchPath();
    if (subresource === "finalize" && definition.plural !== "namespaces") throw noSuchPath();
    const form = formOf(request.headers.accept, query.get("includeObject"));
    const answer = (object: { metadata: object }, code = 200) => {
      for (const text of call.warnings) response.appendHeader("Warning", warning(text));
      const whole =
        subresource === "scale" ? object : represent(definition, object as never, form, new Date());
      sendJson(response, code, whole);
    };
    const selectors = {
      namespace,
      labelSelector: query.get("labelSelector") ?? undefined,
      // A watch or list of a single name, the old way: /watch/pods/NAME.
      fieldSelector: (name === undefined ? query.get("fieldSelector") : `metadata.name=${name}`) ?? undefined,
      resourceVersion: query.get("resourceVersion") ?? undefined,
    };
    switch (verb) {
      case "get":
        return answer(
          subresource === "scale"
            ? verbs.scale(definition, namespace, name!)
            : verbs.get(definition, namespace, name!),
        );
      case "list": {
        const list = verbs.list(definition, {
          ...selectors,
          limit: Number(query.get("limit") ?? 0),
          continue: query.get("continue") ?? undefined,
          resourceVersionMatch: query.get("resourceVersionMatch") ?? undefined,
        });
        return sendJson(response, 200, representList(definition, list, form, new Date()));
      }
      case "watch":
        if (query.get("sendInitialEvents") !== null)
          throw new KubeError(
            422,
            "Invalid",
            'ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled',
            {
              group: "meta.k8s.io",
              kind: "ListOptions",
              causes: [
                {
                  reason: "FieldValueForbidden",
                  field: "sendInitialEvents",
                  message:
                    "Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
                },
              ],
            },
          );
        return serveWatch(verbs, definition, selectors, form, response, {
          bookmarks: ["1", "true"].includes(query.get("allowWatchBookmarks") ?? ""),
          timeoutSeconds: Number(query.get("timeoutSeconds") ?? 0),
          minRequestTimeout: this.options.minRequestTimeout,
        });
      case "create": {
        const { body, duplicates } = await readObject(request);
        const options = { ...writeOptions(query, call), duplicates };
        if (subresource === "binding") {
          await verbs.bind(definition, namespace!, name!, body as object, user, options);
          return sendJson(response, 201, SUCCESS);
        }
        return answer(await verbs.create(definition, namespace, body, user, options), 201);
      }
      case "update": {
        const { body, duplicates } = await readObject(request);
        return answer(
          await verbs.update(definition, namespace, name!, body, user, {
            ...writeOptions(query, call),
            duplicates,
            subresource,
          }),
        );
      }
      case "patch": {
        const type = contentType(request);
        const kind = PATCH_TYPES[type];
        if (kind === undefined) throw unsupportedMediaType(Object.keys(PATCH_TYPES));
        const { body: patch, duplicates } = await readObject(request, type);
        return answer(
          await verbs.patch(definition, namespace, name!, kind, patch, user, {
            ...writeOptions(query, call),
            duplicates,
            subresource,
          }),
        );
      }
      case "delete": {
        const { gone, object } = await verbs.delete(
          definition,
          namespace,
          name!,
          user,
          await deleteOptions(call),
        );
        if (!gone || definition.plural === "pods") return answer(object);
        return sendJson(response, 200, {
          kind: "Status",
          apiVersion: "v1",
          metadata: {},
          status: "Success",
          details: {
            name,
            ...(definition.group === "" ? {} : { group: definition.group }),
            kind: definition.plural,
            uid: object.metadata.uid,
          },
        });
      }
      case "deletecollection": {
        const options = await deleteOptions(call);
        const list = await verbs.deleteCollection(definition, selectors, user, options);
        return sendJson(response, 200, representList(definition, list, form, new Date()));
      }
      default:
        throw methodNotAllowed();
    }
  }

  /** POST of a policy/v1 Eviction to a pod. */
  private async evict(call: Call, { definition, namespace, name }: Target, verb: string): Promise<void> {
    if (definition.plural !== "pods") throw noSuchPath();
    if (verb !== "create") throw methodNotAllowed();
    const eviction = evictionOf(await readBody(call.request));
    const { dryRun = [], ...deleteOptions } = eviction.deleteOptions ?? {};
    await this.options.verbs.evict(definition, namespace!, name!, { ...eviction, deleteOptions }, call.user, {
      dryRun: writeOptions(call.query, call).dryRun === true || isDryRun(dryRun),
    });
    sendJson(call.response, 201, SUCCESS);
  }

  private async documentsAndHealth({ request, response, path, query }: Call): Promise<void> {
    if (request.method !== "GET" && request.method !== "HEAD") throw noSuchPath();
    const { verbs, ca, schemas, advertised } = this.options;
    const { definitions } = verbs;
    if (["/healthz", "/livez", "/readyz"].some((each) => path === each || path.startsWith(`${each}/`))) {
      response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" });
      return void response.end(query.has("verbose") ? `[+]store ok\n${path.slice(1)} check passed\n` : "ok");
    }
    if (path === "/version") return sendJson(response, 200, VERSION);
    if (path === "/join/v1/ca") return sendJson(response, 200, { certificate: ca.certificate });
    if (path === "/api" || path === "/apis") {
      const wanted = parseAccept(request.headers.accept).find(
        ({ parameters: { as, g, v } }) =>
          as === DISCOVERY_AS && g === "apidiscovery.k8s.io" && (v === "v2" || v === "v2beta1"),
      );
      const core = path === "/api";
      if (wanted === undefined)
        return sendJson(response, 200, core ? apiVersions(advertised) : apiGroups(definitions));
      const v = wanted.parameters.v!;
      const text = JSON.stringify(aggregated(definitions, core, v));
      return sendCached(
        request,
        response,
        text,
        `application/json;g=apidiscovery.k8s.io;v=${v};as=${DISCOVERY_AS}`,
      );
    }
    const discovery = /^\/(?:api|apis\/([^/]+))(?:\/([^/]+))?$/.exec(path);
    if (discovery !== null) {
      const [, group = "", version] = discovery;
      const found =
        version === undefined ? apiGroup(definitions, group) : apiResources(definitions, group, version);
      if (found !== undefined) return sendJson(response, 200, found);
    }
    if (path === "/openapi/v2") {
      const binary = request.headers.accept?.includes(OPENAPI_V2_PROTOBUF);
      response.writeHead(200, {
        "Content-Type": binary ? OPENAPI_V2_PROTOBUF.replace("@", ".") : "application/json",
      });
      return void response.end(binary ? OPENAPI_V2_BYTES : JSON.stringify(OPENAPI_V2));
    }
    if (path === "/openapi/v3") {
      const paths = schemas
        .paths()
        .map((each) => [
          each,
          { serverRelativeURL: `/openapi/v3/${each}?hash=${this.document(each)!.hash}` },
        ]);
      return sendCached(
        request,
        response,
        JSON.stringify({ paths: Object.fromEntries(paths) }),
        "application/json",
      );
    }
    if (path.startsWith("/openapi/v3/")) {
      const document = this.document(path.slice("/openapi/v3/".length));
      if (document === undefined) throw noSuchPath();
      const hash = query.get("hash");
      if (hash !== null && hash !== document.hash) {
        response.writeHead(301, { Location: `${path}?hash=${document.hash}` });
        return void response.end();
      }
      if (hash !== null) response.setHeader("Cache-Control", "public, immutable");
      return sendCached(request, response, document.text, "application/json");
    }
    throw noSuchPath();
  }

  private document(path: string): { text: string; hash: string } | undefined {
    const known = this.documents.get(path);
    if (known !== undefined) return known;
    const document = this.options.schemas.document(path);
    if (document === undefined) return undefined;
    const text = JSON.stringify(document);
    const made = { text, hash: hashOf(text) };
    this.documents.set(path, made);
    return made;
  }

  /** POST {"node": NAME, "request": PEM} with a join token: the node's certificate. */
  private async join({ request, response, user }: Call): Promise<void> {
    if (!user.groups.includes(BOOTSTRAPPERS)) throw unauthorized();
    if (request.method !== "POST") throw methodNotAllowed();
    const body = (await readBody(request)) as { node?: unknown; request?: unknown };
    const { node, request: csr } = body ?? {};
    if (typeof node !== "string" || !/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(node))
      throw badRequest("node: must be the node's name, a lowercase RFC 1123 subdomain");
    await this.sign(response, node, csr);
  }

  /** POST {"request": PEM} with a node's certificate: another one for the same node. */
  private async renew({ request, response, user }: Call): Promise<void> {
    const node = nodeNameOf(user);
    if (node === undefined)
      throw new KubeError(
        403,
        "Forbidden",
        `forbidden: User "${user.name}" is no node: nothing to renew`,
        {},
      );
    if (request.method !== "POST") throw methodNotAllowed();
    const { request: csr } = ((await readBody(request)) ?? {}) as { request?: unknown };
    await this.sign(response, node, csr);
  }

  /** POST {"addresses": [IP, …], "request": PEM} by a node: the certificate of its pod port. */
  private async serving({ request, response, user }: Call): Promise<void> {
    const node = nodeNameOf(user);
    if (node === undefined)
      throw new KubeError(403, "Forbidden", `forbidden: User "${user.name}" is no node`, {});
    if (request.method !== "POST") throw methodNotAllowed();
    const body = (await readBody(request)) as { addresses?: unknown; request?: unknown } | null;
    const { verbs, names: reserved } = this.options;
    const { items } = verbs.list(verbs.definition("", "nodes")!, { namespace: undefined });
    const source = (request.socket.remoteAddress ?? "").replace(/^::ffff:/, "");
    const nodes = items as Node[];
    const names = servingNames({ node, addresses: body?.addresses, source, reserved, nodes });
    await this.sign(response, node, body?.request, names);
  }

  /** Answers with a node's certificate: for a client, or (with `names`) for a server. Throws BadRequest. */
  private async sign(response: ServerResponse, node: string, csr: unknown, names?: string[]): Promise<void> {
    if (typeof csr !== "string") throw badRequest("request: must be a certificate request (PKCS#10, PEM)");
    const { ca } = this.options;
    const subject = { commonName: `system:node:${node}`, organizations: [NODES] };
    const certificate = await ca.signRequest(csr, subject, names).catch((error: Error) => {
      throw badRequest(`request: ${error.message}`);
    });
    sendJson(response, 201, { certificate, caCertificate: ca.certificate });
  }
}

/**
 * The user whom the request is made for (`kubectl --as NAME --as-group GROUP`): an administrator may speak for
 * anybody. Throws Forbidden for others, BadRequest for a group without a user.
 */
function impersonated(user: User, { headersDistinct: headers }: IncomingMessage): User {
  const name = headers["impersonate-user"]?.[0];
  const groups = headers["impersonate-group"] ?? [];
  const odd = Object.keys(headers).some((each) => /^impersonate-(uid|extra-)/.test(each));
  if (name === undefined) {
    if (groups.length === 0 && !odd) return user;
    throw badRequest("requested impersonation without impersonating a user");
  }
  const asked = [["users", name], ...groups.map((group) => ["groups", group])] as [string, string][];
  for (const [resource, value] of asked) {
    const attributes = { verb: "impersonate", group: "", resource, namespace: undefined, name: value };
    authorize(user, attributes, () => []);
  }
  if (name === ANONYMOUS.name) return { ...ANONYMOUS, groups: [...groups, ...ANONYMOUS.groups] };
  return { name, groups: groups.includes(AUTHENTICATED) ? groups : [...groups, AUTHENTICATED] };
}

function verbOf(method: string, { name, subresource }: Target, watch: boolean): string {
  if (method === "GET" || method === "HEAD") return watch ? "watch" : name === undefined ? "list" : "get";
  if (method === "POST" && (name === undefined || subresource !== "")) return "create";
  if (method === "PUT" && name !== undefined) return "update";
  if (method === "PATCH" && name !== undefined) return "patch";
  if (method === "DELETE" && subresource === "") return name === undefined ? "deletecollection" : "delete";
  throw methodNotAllowed();
}

function writeOptions(query: URLSearchParams, call: Call): WriteOptions {
  const validation = query.get("fieldValidation");
  if (validation && !["Strict", "Warn", "Ignore"].includes(validation))
    throw new KubeError(
      422,
      "Invalid",
      `CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "${validation}": supported values: "Ignore", "Strict", "Warn"`,
    );
  return {
    dryRun: isDryRun(query.getAll("dryRun")),
    ...(validation ? { fieldValidation: validation as FieldValidation } : {}),
    warn: (text) => call.warnings.push(text),
  };
}

function isDryRun(values: string[]): boolean {
  const odd = values.find((each) => each !== "All" && each !== "");
  if (odd !== undefined)
    throw new KubeError(
      422,
      "Invalid",
      `CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: "${odd}": supported values: "All"`,
    );
  return values.includes("All");
}

/** From body and query; the body wins. */
async function deleteOptions({ request, query }: Call): Promise<DeleteOptions> {
  const body = ((await readBody(request, undefined, true)) ?? {}) as DeleteOptions & { dryRun?: string[] };
  const { dryRun = query.getAll("dryRun"), ...rest } = body;
  const grace = query.get("gracePeriodSeconds");
  const policy = query.get("propagationPolicy");
  const options: DeleteOptions = { ...rest, dryRun: isDryRun(dryRun) };
  if (options.gracePeriodSeconds === undefined && grace !== null) options.gracePeriodSeconds = Number(grace);
  if (options.propagationPolicy === undefined && policy !== null)
    options.propagationPolicy = policy as "Background";
  const known = ["Foreground", "Background", "Orphan"];
  if (options.propagationPolicy !== undefined && !known.includes(options.propagationPolicy))
    throw new KubeError(
      422,
      "Invalid",
      `DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "${options.propagationPolicy}": supported values: "Foreground", "Background", "Orphan", "nil"`,
    );
  return options;
}

/** Body of a create of pods/eviction. Throws BadRequest. */
function evictionOf(body: unknown): {
  metadata?: { name?: string };
  deleteOptions?: DeleteOptions & { dryRun?: string[] };
} {
  const { apiVersion, kind } = (body ?? {}) as { apiVersion?: unknown; kind?: unknown };
  const known = apiVersion === "policy/v1" || apiVersion === "policy/v1beta1";
  if (kind !== "Eviction" || !known)
    throw badRequest(
      `the object provided is unrecognized (must be of type Eviction): couldn't get version/kind; got ${apiVersion ?? ""}, Kind=${kind ?? ""}`,
    );
  return body as ReturnType<typeof evictionOf>;
}

function contentType(request: IncomingMessage): string {
  return (request.headers["content-type"] ?? "").split(";")[0]!.trim().toLowerCase();
}

/** What a protobuf body holds; a 400 where it cannot be read. */
function readProtobuf(bytes: Buffer): unknown {
  try {
    return decodeProtobuf(bytes);
  } catch (error) {
    if (error instanceof ProtobufError) throw badRequest(error.message);
    throw error;
  }
}

/** readObject, for bodies whose doubles nobody asks for. */
async function readBody(request: IncomingMessage, type?: string, optional = false): Promise<unknown> {
  return (await readObject(request, type, optional)).body;
}

/** JSON, YAML or protobuf body and its duplicate fields; `type` where the caller has looked at it already. */
async function readObject(
  request: IncomingMessage,
  type = contentType(request),
  optional = false,
): Promise<{ body: unknown; duplicates: string[] }> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY)
      throw new KubeError(413, "RequestEntityTooLarge", `Request entity too large: limit is ${MAX_BODY}`);
    chunks.push(chunk);
  }
  if (size === 0 && optional) return { body: undefined, duplicates: [] };
  const bytes = Buffer.concat(chunks);
  if (type === PROTOBUF_MEDIA_TYPE) return { body: readProtobuf(bytes), duplicates: [] };
  const text = bytes.toString();
  const json = type === "" || type === "application/json" || type.endsWith("+json");
  if (!json && type !== "application/yaml")
    throw unsupportedMediaType(["application/json", "application/yaml", PROTOBUF_MEDIA_TYPE]);
  try {
    if (!json) return parseYamlBody(text);
    return { body: JSON.parse(text) as unknown, duplicates: duplicatesInJson(text) };
  } catch (error) {
    throw badRequest(`couldn't get version/kind; json parse error: ${(error as Error).message}`);
  }
}

/** A length-delimited protobuf field of fewer than 128 bytes. */
function lengthDelimited(number: number, bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
}

function sendJson(response: ServerResponse, code: number, body: object): void {
  const text = JSON.stringify(body);
  response.writeHead(code, {
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(text),
    "Cache-Control": "no-cache, private",
  });
  response.end(text);
}

function sendCached(request: IncomingMessage, response: ServerResponse, text: string, type: string): void {
  const tag = `"${hashOf(text)}"`;
  response.setHeader("ETag", tag);
  response.setHeader("Vary", "Accept");
  if (request.headers["if-none-match"] === tag) {
    response.writeHead(304);
    return void response.end();
  }
  response.writeHead(200, { "Content-Type": type, "Content-Length": Buffer.byteLength(text) });
  response.end(text);
}

function hashOf(text: string): string {
  return createHash("sha512").update(text).digest("hex").toUpperCase();
}

/** RFC 7234 warn-value, as client-go prints it. */
function warning(text: string): string {
  return `299 - "${text.replace(/["\\]/g, "\\$&")}"`;
}
