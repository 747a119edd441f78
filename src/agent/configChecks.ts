/**
 * What a config's fields must be to each other: no overlaps, no duplicates, everything inside what
 * it belongs to. Works on the raw document, field by field, and skips what is no valid value (the
 * schema reports that), so that one run finds every problem. Pure.
 */
import { parseMac, vtepMac } from "../desired/mac.js";
import { containsAddress, containsPrefix, formatCidr, formatIpv4, overlaps } from "../model/ipv4.js";
import { type FieldPath, fieldName } from "./ConfigError.js";
import {
  address,
  at,
  duplicates,
  type Finding,
  isEmpty,
  list,
  prefixes,
  RESERVED,
  reservedUse,
  type Site,
  type Sites,
  text,
} from "./configDocument.js";
import { checkServices } from "./serviceChecks.js";

/** Checks a document whose shape is roughly an AgentConfig's. Returns what is wrong, in its order. */
export function checkConfig(raw: unknown): Finding[] {
  const sites = collect(raw);
  return [
    ...checkPools(sites),
    ...checkBlocks(sites),
    ...checkUnderlay(sites),
    ...checkTunnelAddresses(sites),
    ...checkPods(sites),
    ...checkServices(raw, sites),
    ...duplicates(sites.names, "node name", "Give each node a name of its own."),
    ...duplicates(sites.macs, "VTEP MAC", "Give each VTEP a MAC of its own."),
  ];
}

function collect(raw: unknown): Sites {
  const own = "this node";
  const sites: Sites = {
    pools: [],
    blocks: [],
    names: [],
    underlay: [],
    tunnel: [],
    macs: [],
    unreachable: [],
    pods: [],
    own,
  };
  const node = (entry: unknown, path: FieldPath, owner: string, underlayPath: FieldPath) => {
    const name = text(entry, "node");
    if (name !== undefined) {
      sites.names.push({ path: [...path, "node"], value: name, owner });
      const mac = path.length === 0 ? undefined : text(entry, "mac");
      const value = mac === undefined || parseMac(mac) === null ? vtepMac(name) : mac.toLowerCase();
      // Two nodes of one name have one MAC too; that is told once, of the name.
      if (mac !== undefined || !sites.names.slice(0, -1).some((other) => other.value === name))
        sites.macs.push({ path: [...path, mac === undefined ? "node" : "mac"], value, owner });
    }
    const underlay = address(at(raw, underlayPath));
    if (underlay !== undefined) sites.underlay.push({ path: underlayPath, value: underlay, owner });
    const blocks = prefixes(at(entry, ["blocks"]), [...path, "blocks"], owner);
    sites.blocks.push(...blocks);
    const tunnel = address(at(entry, ["tunnelAddress"]));
    if (tunnel !== undefined) sites.tunnel.push({ path: [...path, "tunnelAddress"], value: tunnel, owner });
    else if (blocks.length > 0)
      sites.tunnel.push({ path: blocks[0]!.path, value: blocks[0]!.value.address, owner });
    else if (path.length > 0 && at(entry, ["tunnelAddress"]) === undefined && isEmpty(at(entry, ["blocks"])))
      sites.unreachable.push({ path, value: null, owner });
  };
  node(raw, [], own, ["underlay", "address"]);
  list(raw, "vteps").forEach((entry, i) => {
    node(entry, ["vteps", i], text(entry, "node") ?? fieldName(["vteps", i]), ["vteps", i, "address"]);
  });
  sites.pools = prefixes(at(raw, ["podPool"]), ["podPool"], own);
  sites.pods = list(raw, "pods").map((entry, index) => {
    const [name, podAddress, netns] = [
      text(entry, "name"),
      address(at(entry, ["address"])),
      text(entry, "netns"),
    ];
    return {
      index,
      ...(name === undefined ? {} : { name }),
      ...(podAddress === undefined ? {} : { address: podAddress }),
      ...(netns === undefined ? {} : { place: `${text(entry, "interface") ?? "eth0"} in ${netns}` }),
    };
  });
  return sites;
}

function checkPools({ pools, underlay }: Sites): Finding[] {
  const findings: Finding[] = [];
  for (const [i, pool] of pools.entries()) {
    const other = pools.slice(0, i).find((each) => overlaps(each.value, pool.value));
    if (other !== undefined)
      findings.push({
        path: pool.path,
        message: `pool ${formatCidr(pool.value)} overlaps pool ${formatCidr(other.value)}`,
        remedy: "Remove one of them.",
      });
    const reserved = RESERVED.find(({ prefix }) => overlaps(prefix, pool.value));
    if (reserved !== undefined)
      findings.push({
        path: pool.path,
        message: `pool ${formatCidr(pool.value)} overlaps ${formatCidr(reserved.prefix)} (${reserved.use})`,
        remedy: "Choose a private range, e.g. 10.1.0.0/16.",
      });
    for (const node of underlay)
      if (containsAddress(pool.value, node.value))
        findings.push({
          path: pool.path,
          message: `pool ${formatCidr(pool.value)} contains the underlay address ${formatIpv4(node.value)} of ${node.owner}`,
          remedy: "Choose a pool that does not overlap the LAN: the tunnel would be routed into itself.",
        });
  }
  return findings;
}

function checkBlocks({ blocks, pools }: Sites): Finding[] {
  const findings: Finding[] = [];
  for (const block of blocks)
    if (pools.length > 0 && !pools.some((pool) => containsPrefix(pool.value, block.value)))
      findings.push({
        path: block.path,
        message: `block ${formatCidr(block.value)} is outside the pod pool (${pools.map((pool) => formatCidr(pool.value)).join(", ")})`,
        remedy: "Choose a block inside the pool, or add a pool that contains it.",
      });
  // By first address, the wider first: an overlapping block directly follows the widest so far.
  const sorted = blocks
    .map((block, order) => ({ block, order }))
    .sort(
      (a, b) =>
        (a.block.value.address >>> 0) - (b.block.value.address >>> 0) ||
        a.block.value.length - b.block.value.length,
    );
  let widest = sorted[0];
  for (const next of sorted.slice(1)) {
    if (!overlaps(widest!.block.value, next.block.value)) {
      widest = next;
      continue;
    }
    const [first, second] = widest!.order < next.order ? [widest!, next] : [next, widest!];
    findings.push({
      path: second.block.path,
      message: `block ${formatCidr(second.block.value)} of ${second.block.owner} overlaps block ${formatCidr(first.block.value)} of ${first.block.owner} (${fieldName(first.block.path)})`,
      remedy: "Give each node blocks of its own.",
    });
  }
  return findings;
}

function checkUnderlay({ underlay }: Sites): Finding[] {
  const findings: Finding[] = underlay.flatMap(({ path, value }) => {
    const use = reservedUse(value);
    return use === null
      ? []
      : [
          {
            path,
            message: `${formatIpv4(value)} is a ${use} address`,
            remedy: "Write the node's address on the LAN.",
          },
        ];
  });
  const texts = underlay.map((site) => ({ ...site, value: formatIpv4(site.value) }));
  return [
    ...findings,
    ...duplicates(texts, "underlay address", "Every node has its own address on the LAN."),
  ];
}

function checkTunnelAddresses({ tunnel, blocks, unreachable }: Sites): Finding[] {
  const findings: Finding[] = unreachable.map(({ path }) => ({
    path,
    message: "has neither blocks nor a tunnelAddress",
    remedy: "Name the node's block, e.g. blocks: [10.1.79.64/26].",
  }));
  for (const { path, value, owner } of tunnel) {
    const own = blocks.filter((block) => block.owner === owner);
    if (own.length > 0 && !own.some((block) => containsAddress(block.value, value)))
      findings.push({
        path,
        message: `tunnel address ${formatIpv4(value)} is outside the blocks of ${owner}`,
        remedy: `Leave it out (then it is ${formatIpv4(own[0]!.value.address)}), or take an address of ${formatCidr(own[0]!.value)}.`,
      });
  }
  // Derived ones differ unless the blocks overlap, and that is told already.
  const written = tunnel
    .filter((site) => site.path.at(-1) === "tunnelAddress")
    .map((site) => ({ ...site, value: formatIpv4(site.value) }));
  return [
    ...findings,
    ...duplicates(written, "tunnel address", "Every node has a tunnel address of its own."),
  ];
}

function checkPods({ pods, blocks, tunnel, own }: Sites): Finding[] {
  const findings: Finding[] = [];
  const ownBlocks = blocks.filter((block) => block.owner === own);
  const ownTunnel = tunnel.find((site) => site.owner === own)?.value;
  for (const { index, address: podAddress } of pods) {
    if (podAddress === undefined) continue;
    const path = ["pods", index, "address"];
    const ranges = ownBlocks.map((block) => formatCidr(block.value)).join(", ");
    if (ownBlocks.length > 0 && !ownBlocks.some((block) => containsAddress(block.value, podAddress)))
      findings.push({
        path,
        message: `${formatIpv4(podAddress)} is outside this node's blocks (${ranges})`,
        remedy: "Choose an address of these blocks, or add a block: other nodes route by block.",
      });
    if (podAddress === ownTunnel)
      findings.push({
        path,
        message: `${formatIpv4(podAddress)} is this node's tunnel address`,
        remedy: "Choose another address for the pod.",
      });
  }
  const sites = (pick: (pod: Sites["pods"][number]) => string | undefined, key: string): Site<string>[] =>
    pods.flatMap((pod) => {
      const value = pick(pod);
      return value === undefined ? [] : [{ path: ["pods", pod.index, key], value, owner: own }];
    });
  return [
    ...findings,
    ...duplicates(
      sites((pod) => pod.name, "name"),
      "pod name",
      "Give each pod a name of its own.",
    ),
    ...duplicates(
      sites((pod) => (pod.address === undefined ? undefined : formatIpv4(pod.address)), "address"),
      "pod address",
      "Give each pod an address of its own.",
    ),
    ...duplicates(
      sites((pod) => pod.place, "netns"),
      "pod interface",
      "One interface belongs to one pod.",
    ),
  ];
}
