/**
 * An HTTPS server in front of `podwire apiserver` that knows ServiceAccounts' tokens and holds them to RBAC, as a
 * Kubernetes' own API server does: what an account may do is passed on with the administrator's certificate.
 */
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { request as ask, createServer, type Server } from "node:https";
import { ClusterCa } from "../../src/apiserver/pki/ClusterCa.js";
import { inlineCertificate } from "../../src/kube/kubeconfig.js";
import { type Grant, matchingGrants } from "./rbac.js";

/** Verbs of requests on one object or on many, by method; GET is get, list or watch. */
const VERBS: Record<string, string> = { POST: "create", PUT: "update", PATCH: "patch", DELETE: "delete" };
/** /api/v1 or /apis/GROUP/VERSION, a namespace (which may be the object itself), resource, name, subresource. */
const PATH =
  /^\/api(?:s\/(?<group>[^/]+))?\/[^/]+(?:\/namespaces\/(?<namespace>[^/]+)(?=\/))?\/(?<plural>[^/]+)(?:\/(?<name>[^/]+))?(?:\/(?<sub>[^/]+))?$/;

/** What RBAC decides by; null for what is about no resource. */
function attributes({ method = "", url = "" }: IncomingMessage) {
  const { pathname, searchParams } = new URL(url, "https://api");
  const found = PATH.exec(pathname)?.groups;
  if (found === undefined) return null;
  const { group = "", namespace, plural, name, sub } = found;
  const watch = ["1", "true"].includes(searchParams.get("watch") ?? "");
  const read = name === undefined ? (watch ? "watch" : "list") : "get";
  const resource = sub === undefined ? plural! : `${plural}/${sub}`;
  return { verb: VERBS[method] ?? read, group, resource, namespace, name };
}

export class RbacFront {
  /** What was refused, a line each. */
  readonly refused: string[] = [];

  private constructor(
    /** Its authority's, PEM. */
    readonly ca: string,
    private readonly server: Server,
  ) {}

  /**
   * Listens on a unix socket.
   *
   * @param directory for its keys
   * @param address that clients know it by
   * @param kubeconfig the administrator's, with its certificate in it
   * @param accounts what each may do, by its token
   */
  static async start(
    socket: string,
    {
      directory,
      address,
      kubeconfig,
      accounts,
    }: {
      directory: string;
      address: string;
      kubeconfig: string;
      accounts: Readonly<Record<string, readonly Grant[]>>;
    },
  ): Promise<RbacFront> {
    const authority = await ClusterCa.open(directory);
    const { certificate, key } = await authority.issue({ commonName: "front" }, [address]);
    const admin = inlineCertificate(kubeconfig)!;
    const server = createServer({ cert: certificate, key }, (request, response) => serve(request, response));
    const front = new RbacFront(authority.certificate, server);

    const serve = (request: IncomingMessage, response: ServerResponse) => {
      const grants = accounts[request.headers.authorization?.replace(/^Bearer /, "") ?? ""];
      if (grants === undefined) return refuse(response, 401, "who is that?");
      const wanted = attributes(request);
      if (wanted !== null && matchingGrants(grants, wanted).length === 0) {
        front.refused.push(`${wanted.verb} ${wanted.group}/${wanted.resource} in ${wanted.namespace ?? "*"}`);
        return refuse(response, 403, "forbidden");
      }
      const { authorization: _, host: __, ...headers } = request.headers;
      const { caCertificate: ca, certificate: cert, key } = admin;
      const inner = ask(`${admin.server}${request.url}`, { method: request.method, headers, ca, cert, key });
      inner.on("response", (answer) => {
        response.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(response);
        answer.on("error", () => response.destroy());
      });
      inner.on("error", () => response.destroy());
      response.on("close", () => inner.destroy());
      request.pipe(inner);
    };
    server.listen(socket);
    await once(server, "listening");
    return front;
  }

  close(): void {
    this.server.close();
    this.server.closeAllConnections();
  }
}

function refuse(response: ServerResponse, code: number, message: string): void {
  response.writeHead(code, { "content-type": "application/json" });
  response.end(
    JSON.stringify({
      kind: "Status",
      apiVersion: "v1",
      status: "Failure",
      reason: "Forbidden",
      code,
      message,
    }),
  );
}
