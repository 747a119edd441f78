/**
 * The objects of the API against one another: pools, blocks and pods (ipam/check), and Nodes and pods
 * against blocks. Pure.
 */
import { vtepMac } from "../desired/mac.js";
import { hasEnded, podName } from "../desired/pods.js";
import { check, type IpamObjects } from "../ipam/check.js";
import { type IPAMBlock, tunnelHandle } from "../ipam/types.js";
import type { Node, Pod } from "../kube/types.js";
import { REGISTERED, TUNNEL_ADDRESS, UNDERLAY_ADDRESS, VTEP_MAC } from "../model/annotations.js";
import { containsAddress, formatIpv4, parseCidr, parseIpv4 } from "../model/ipv4.js";
import type { Disagreement } from "./disagreement.js";

/** What is wrong with IPAM, by ipam/check's kinds, and what helps. */
const IPAM_REMEDIES: Record<string, string> = {
  "pool-malformed": "Correct the IPPool, or delete it.",
  "pools-overlap": "Disable one of the two pools.",
  "block-malformed": "Correct the IPAMBlock; if no pod has an address of it, delete it.",
  "block-outside-pools": "Make a pool that holds it, or delete its pods; it then goes by itself.",
  "block-of-gone-node": "Nothing: it goes once it is empty.",
  "block-unconfirmed": "Nothing, while its node's agent runs: that confirms or removes it.",
  "block-label": "Restart that node's agent: it writes the label.",
  "blocks-overlap": "Delete the pods in the younger block, then that block.",
  "two-owners": "Delete one of the two pods.",
  "two-addresses": "Nothing: the older one is given back.",
  "borrowed-from-strict": "Delete the pod that borrowed it.",
  leaked: "Nothing: it is taken back within two minutes; at once by `podwire ipam release --ip`.",
  "no-tunnel-address": "Start an agent on that node.",
  "two-tunnel-addresses": "Release the one that the Node does not name: `podwire ipam release --ip`.",
  "two-pods": "Delete one of the two pods.",
  "not-allocated": "Delete the pod: its successor gets an address that is its own.",
  "wrong-owner": "Delete the pod: its successor gets an address that is its own.",
};
const SEE_IPAM = "See `podwire ipam show --show-blocks`.";

/** What the agent of a node does when it starts. */
const RESTART_AGENT = "Restart the agent of that node.";
const DELETE_POD = "Delete the pod: its successor gets an address that is its own.";

type Find = (kind: string, subject: string, message: string, remedy: string) => void;

/** Everything in which pools, blocks, nodes and pods disagree. Objects that are changing disagree for a moment. */
export function checkCluster(objects: IpamObjects): Disagreement[] {
  const found: Disagreement[] = check(objects).findings.map((finding) => ({
    ...finding,
    where: "cluster",
    remedy: IPAM_REMEDIES[finding.kind] ?? SEE_IPAM,
  }));
  const find: Find = (kind, subject, message, remedy) =>
    found.push({ severity: "error", kind, where: "cluster", subject, message, remedy });
  checkNodes(objects, find);
  checkPods(objects, find);
  return found;
}

/** A Node's annotations against its blocks, and against the other Nodes'. */
function checkNodes({ nodes, blocks, pools }: IpamObjects, find: Find): void {
  const tunnels = tunnelAddresses(blocks);
  const underlays = new Map<string, string>();
  const macs = new Map<string, string>();
  const ranges = pools.flatMap(({ spec }) => parseCidr(spec.cidr) ?? []);
  for (const { metadata } of nodes) {
    const name = metadata.name ?? "";
    const {
      [TUNNEL_ADDRESS]: tunnel,
      [UNDERLAY_ADDRESS]: underlay,
      [VTEP_MAC]: mac = vtepMac(name),
    } = metadata.annotations ?? {};
    // No agent of ours has registered it yet.
    if (underlay === undefined) continue;
    const given = tunnels.get(name) ?? [];
    if (tunnel === undefined)
      find("node-tunnel", `node ${name}`, "announces no tunnel address", "Look at the log of its agent.");
    else if (!given.includes(tunnel)) {
      const has = given.length === 0 ? "none" : given.join(", ");
      find(
        "node-tunnel",
        `node ${name}`,
        `announces the tunnel address ${tunnel}, and its blocks give it ${has}`,
        RESTART_AGENT,
      );
    }
    const address = parseIpv4(underlay);
    if (address === null)
      find("node-underlay", `node ${name}`, `announces the underlay address "${underlay}"`, RESTART_AGENT);
    else if (ranges.some((range) => containsAddress(range, address)))
      find(
        "node-underlay",
        `node ${name}`,
        `announces the underlay address ${underlay}, which is in a pod pool`,
        "Start its agent with its address on the LAN, or move the pool.",
      );
    unique(underlays, underlay, name, "node-underlay", "underlay address", find);
    unique(macs, mac.toLowerCase(), name, "node-mac", "VTEP MAC", find);
  }
}

function unique(
  seen: Map<string, string>,
  value: string,
  node: string,
  kind: string,
  what: string,
  find: Find,
): void {
  const other = seen.get(value);
  if (other !== undefined)
    find(
      kind,
      `node ${node}`,
      `has the ${what} ${value} of node ${other}`,
      "Correct the agent of one of them, or delete the Node that is gone.",
    );
  seen.set(value, node);
}

/** Pods against the Nodes that they are on. */
function checkPods({ nodes, pods }: IpamObjects, find: Find): void {
  const byName = new Map(nodes.map((node): [string, Node] => [node.metadata.name ?? "", node]));
  for (const pod of pods) {
    const { nodeName, hostNetwork } = pod.spec ?? {};
    if (!nodeName || hostNetwork || hasEnded(pod) || pod.metadata.deletionTimestamp !== undefined) continue;
    const subject = `pod ${podName(pod)}`;
    const node = byName.get(nodeName);
    if (node === undefined) {
      find("pod-node-gone", subject, `is on node ${nodeName}, which is gone`, "Delete the pod.");
      continue;
    }
    // Elsewhere a kubelet writes pods' status.
    if (node.metadata.annotations?.[REGISTERED] !== "true") continue;
    checkPodStatus(subject, pod, node, find);
  }
}

function checkPodStatus(subject: string, { status = {} }: Pod, { metadata }: Node, find: Find): void {
  const { podIP, hostIP } = status;
  const underlay = metadata.annotations?.[UNDERLAY_ADDRESS];
  if (!podIP) {
    const remedy = `Look at the log of the agent of ${metadata.name}.`;
    find("pod-no-address", subject, `is on node ${metadata.name} and has no address`, remedy);
    return;
  }
  if (parseIpv4(podIP) === null)
    find("pod-address", subject, `has the address "${podIP}", which is no IPv4 address`, DELETE_POD);
  if (underlay !== undefined && hostIP !== underlay)
    find(
      "pod-host-address",
      subject,
      `names ${hostIP ?? "nothing"} as its node's address, and node ${metadata.name} has ${underlay}`,
      RESTART_AGENT,
    );
}

/** Tunnel addresses that blocks give to their nodes, by node. */
function tunnelAddresses(blocks: readonly IPAMBlock[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { spec } of blocks) {
    const prefix = parseCidr(spec.cidr);
    for (const { handle, ordinal } of spec.allocations ?? []) {
      if (prefix === null || handle !== tunnelHandle(spec.node)) continue;
      const address = formatIpv4((prefix.address + ordinal) | 0);
      found.set(spec.node, [...(found.get(spec.node) ?? []), address]);
    }
  }
  return found;
}
