/**
 * The pods of this node as the API describes them: from Pods to what has to be attached. Pure.
 * A pod has an interface of ours from when it has an address until it has ended.
 */
import type { PodConfig } from "../model/AgentConfig.js";
import { containsAddress, type Ipv4Prefix, parseCidr, parseIpv4 } from "../model/ipv4.js";

/** What is read of a Pod. */
export interface PodObject {
  metadata: { name?: string; namespace?: string; uid?: string; creationTimestamp?: string };
  spec?: { nodeName?: string; hostNetwork?: boolean };
  status?: { phase?: string; podIP?: string };
}

export interface PodsState {
  pods: PodConfig[];
  /** What was left out, and why. */
  problems: string[];
}

/** Whether nothing of the pod runs any more, for good. */
export function hasEnded({ status }: PodObject): boolean {
  return status?.phase === "Succeeded" || status?.phase === "Failed";
}

/** Whether the pod is to have an interface and an address of its own. */
export function wantsAddress(pod: PodObject): boolean {
  return pod.spec?.hostNetwork !== true && !hasEnded(pod);
}

/** namespace/name. */
export function podName({ metadata }: PodObject): string {
  return `${metadata.namespace ?? "default"}/${metadata.name ?? ""}`;
}

/** Path of a pod's network namespace: {namespace}, {name} and {uid} stand for the pod's own. */
export function netnsPath(pattern: string, { metadata }: PodObject): string {
  const { namespace = "default", name = "", uid = "" } = metadata;
  return pattern.replace(/\{(namespace|name|uid)\}/g, (_, key: string) =>
    key === "namespace" ? namespace : key === "name" ? name : uid,
  );
}

export class LocalPods {
  private readonly pods = new Map<string, PodConfig & { created: string }>();

  /** @param netnsPattern see netnsPath */
  constructor(
    private readonly netnsPattern: string,
    private readonly limit: number,
  ) {}

  /** Takes over a Pod. Whether that changes anything. */
  set(object: PodObject): boolean {
    const name = podName(object);
    const address = object.status?.podIP ?? "";
    if (!wantsAddress(object) || parseIpv4(address) === null) return this.pods.delete(name);
    const netns = netnsPath(this.netnsPattern, object);
    const created = object.metadata.creationTimestamp ?? "";
    const old = this.pods.get(name);
    this.pods.set(name, { name, netns, address, interface: "eth0", created });
    return old === undefined || old.netns !== netns || old.address !== address;
  }

  remove(object: PodObject): boolean {
    return this.pods.delete(podName(object));
  }

  /** Those whose address lies in a pool; of two with one address the older. */
  compile(podPool: string[]): PodsState {
    const pools = podPool.map((pool): Ipv4Prefix => parseCidr(pool)!);
    const problems: string[] = [];
    const taken = new Map<string, string>();
    const pods: PodConfig[] = [];
    const sorted = [...this.pods.values()].sort((a, b) =>
      a.created !== b.created ? (a.created < b.created ? -1 : 1) : a.name < b.name ? -1 : 1,
    );
    for (const { created: _, ...pod } of sorted) {
      const owner = taken.get(pod.address);
      const problem =
        owner !== undefined
          ? `has the address ${pod.address} of ${owner}`
          : !pools.some((pool) => containsAddress(pool, parseIpv4(pod.address)!))
            ? `has the address ${pod.address}, which is in no pool`
            : pods.length >= this.limit
              ? `is one too many for this node (${this.limit})`
              : null;
      if (problem !== null) problems.push(`pod ${pod.name} ${problem}`);
      else {
        taken.set(pod.address, pod.name);
        pods.push(pod);
      }
    }
    return { pods, problems };
  }
}
