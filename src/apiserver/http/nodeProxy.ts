/**
 * GET /api/v1/nodes/NAME/proxy/PATH: passes a read on to the node's pod port and its answer back, as
 * Kubernetes does to kubelets. Who may do so has the right nodes/proxy, which is looked at before.
 * Nothing of the request but method, path, query and what may be answered (Accept) goes on, so that no
 * credential of the client's gets to a node.
 */
import { pipeline } from "node:stream";
import type { Node } from "../../kube/types.js";
import { badRequest, methodNotAllowed } from "../errors.js";
import type { Verbs } from "../verbs/Verbs.js";
import type { NodeClient } from "./NodeClient.js";
import type { PodCall } from "./PodConnections.js";
import type { Target } from "./target.js";

const SUBRESOURCE = "proxy";
/** Of the node's answer, what belongs to its content. */
const CONTENT_HEADERS = ["content-type", "content-length", "content-encoding", "cache-control"] as const;

/** Whether a request is for a node's own server. */
export function isNodeProxy({ definition, subresource }: Target): boolean {
  if (definition.group !== "" || definition.plural !== "nodes") return false;
  return subresource === SUBRESOURCE || subresource.startsWith(`${SUBRESOURCE}/`);
}

/** What authorization calls it, whatever path follows. */
export const NODE_PROXY_RESOURCE = `nodes/${SUBRESOURCE}`;

/** Answers a request that is authorized. Rejects with a KubeError as long as nothing was answered. */
export async function serveNodeProxy(
  verbs: Verbs,
  nodes: NodeClient,
  { definition, name }: Target,
  { request, response, upgrade }: PodCall,
): Promise<void> {
  if (upgrade !== undefined) throw badRequest("the proxy to a node takes no upgrade");
  if (request.method !== "GET" && request.method !== "HEAD") throw methodNotAllowed();
  const node = verbs.get(definition, undefined, name!) as Node;
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const { accept } = request.headers;
  const { answer } = await nodes.open(
    node,
    {
      method: request.method,
      path: pathOf(request.url!),
      headers: accept === undefined ? {} : { accept },
    },
    gone.signal,
  );
  const headers = CONTENT_HEADERS.flatMap((each) => {
    const value = answer.headers[each];
    return value === undefined ? [] : [[each, value] as const];
  });
  response.writeHead(answer.statusCode!, Object.fromEntries(headers));
  pipeline(answer, response, (error) => {
    // Cut off, so that it does not pass for a whole one.
    if (error) response.destroy();
  });
}

/** Path and query behind /api/v1/nodes/NAME/proxy, still encoded. */
function pathOf(url: string): string {
  const { pathname, search } = new URL(url, "https://server");
  const match = /^\/api\/v1\/nodes\/[^/]+\/proxy(\/.*)?$/.exec(pathname);
  if (match === null) throw badRequest("no path of a node");
  return `${match[1] ?? "/"}${search}`;
}
