/** What an agent tells about its node, by way of the API server (right: get nodes/proxy). */
import type { KubeClient } from "./KubeClient.js";

/** Path of the API for a path below a node's own server, e.g. ("n1", "podwire/tables"). */
export function nodeProxyPath(node: string, path: string, query: URLSearchParams | null = null): string {
  const search = query === null || query.size === 0 ? "" : `?${query}`;
  return `/api/v1/nodes/${encodeURIComponent(node)}/proxy/${path}${search}`;
}

/** The JSON that a node answers. Rejects with a KubeError, also where the node refuses or does not answer. */
export function readNode<T>(
  api: Pick<KubeClient, "raw">,
  node: string,
  path: string,
  query: URLSearchParams | null = null,
): Promise<T> {
  return api.raw<T>("GET", nodeProxyPath(node, path, query));
}
