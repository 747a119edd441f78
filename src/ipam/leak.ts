/** Whether an allocation still has an owner. Pure; the collector and `check` ask the same. */
import type { Pod } from "../kube/types.js";
import { addressText, type Block } from "./block.js";
import { type Allocation, tunnelHandle } from "./types.js";

/** What the cluster has besides blocks. */
export interface Cluster {
  /** By "namespace/name". */
  pods: ReadonlyMap<string, Pod>;
  nodes: ReadonlySet<string>;
}

export function clusterOf(pods: readonly Pod[], nodes: readonly { metadata: { name?: string } }[]): Cluster {
  return {
    pods: new Map(pods.map((pod) => [`${pod.metadata.namespace}/${pod.metadata.name}`, pod])),
    nodes: new Set(nodes.map(({ metadata }) => metadata.name!)),
  };
}

/** IPv4 addresses that a pod's status says it has. */
export function podAddresses(pod: Pod): string[] {
  const { podIP, podIPs = [] } = pod.status ?? {};
  const addresses = new Set([...(podIP ? [podIP] : []), ...podIPs.flatMap(({ ip }) => (ip ? [ip] : []))]);
  return [...addresses].filter((address) => !address.includes(":"));
}

/** A pod that runs no more gives its address back, though its object stays. */
export function isFinished(pod: Pod): boolean {
  return pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
}

/**
 * Why an allocation has no owner any more; null where it has one, or where that cannot be told: an
 * allocation without a pod's name was made by hand.
 */
export function leakOf(block: Block, allocation: Allocation, cluster: Cluster): string | null {
  const { node = block.node, namespace, pod: name, uid } = allocation.attributes;
  if (allocation.handle === tunnelHandle(node))
    return cluster.nodes.has(node) || block.pinned ? null : `node ${node} is gone`;
  if (name === undefined) return null;
  const pod = cluster.pods.get(`${namespace}/${name}`);
  if (pod === undefined) return `pod ${namespace}/${name} is gone`;
  if (uid !== undefined && pod.metadata.uid !== uid) return `pod ${namespace}/${name} is another one now`;
  if (isFinished(pod)) return `pod ${namespace}/${name} has finished`;
  if (pod.spec?.nodeName && pod.spec.nodeName !== node)
    return `pod ${namespace}/${name} runs on ${pod.spec.nodeName}`;
  const addresses = podAddresses(pod);
  const address = addressText(block, allocation.ordinal);
  if (addresses.length > 0 && !addresses.includes(address))
    return `pod ${namespace}/${name} has the address ${addresses.join(", ")}`;
  return null;
}
