/**
 * The overlay as the API describes it: from Nodes, IPAMBlocks and IPPools to the other nodes' VTEPs,
 * this node's blocks and the pools. Objects come one by one and are boiled down at once; `compile`
 * puts together what is left of them, in a few milliseconds for a thousand nodes. Pure.
 *
 * Any node may write its own Node and blocks, so that these are checked against one another: a
 * tunnel address lies in a block of its node, a block in a pool, and of two that claim the same
 * address or range the older one has it. What is left out is named in `problems`.
 */

import type { VtepConfig } from "../model/AgentConfig.js";
import { TUNNEL_ADDRESS, UNDERLAY_ADDRESS, VTEP_MAC, VXLAN_PORT } from "../model/annotations.js";
import {
  containsAddress,
  containsPrefix,
  formatCidr,
  formatIpv4,
  hasHostBits,
  type Ipv4Prefix,
  overlaps,
  parseCidr,
  parseIpv4,
} from "../model/ipv4.js";
import { isUnicastMac, vtepMac } from "./mac.js";

/** What is read of a Node. */
export interface NodeObject {
  metadata: { name?: string; creationTimestamp?: string; annotations?: Record<string, string> };
  status?: { addresses?: { type: string; address: string }[] };
}

/** What is read of an IPAMBlock. */
export interface BlockObject {
  metadata: { name?: string; creationTimestamp?: string };
  spec: {
    cidr: string;
    node: string;
    affinityState?: string;
    allocations?: { ordinal: number; attributes?: { node?: string } }[];
  };
}

/** What is read of an IPPool. */
export interface PoolObject {
  metadata: { name?: string };
  spec: { cidr: string };
}

export interface OverlayState {
  podPool: string[];
  /** This node's blocks, and single addresses that it borrowed from others'. */
  blocks: string[];
  vteps: VtepConfig[];
  /** What was left out, and why. */
  problems: string[];
}

/** This node. */
export interface Self {
  node: string;
  underlayAddress: string;
  /** Port where a Node names none. */
  vxlanPort: number;
}

interface NodeFacts {
  name: string;
  created: string;
  underlay: number | null;
  tunnel: number | null;
  port: number;
  mac: string;
}

interface BlockFacts {
  cidr: string;
  created: string;
  prefix: Ipv4Prefix;
  node: string;
  /** Addresses of this block that pods of other nodes have. */
  borrowed: { node: string; address: number }[];
}

export class Overlay {
  private readonly nodes = new Map<string, NodeFacts>();
  private readonly blocks = new Map<string, BlockFacts>();
  private readonly pools = new Map<string, Ipv4Prefix>();
  /** What is wrong with objects that could not be read, by their name. */
  private readonly malformed = new Map<string, string>();

  constructor(private readonly self: Self) {}

  /** Takes over a Node. Whether that changes anything for the overlay. */
  setNode(object: NodeObject): boolean {
    const facts = nodeFacts(object, this.self.vxlanPort);
    return put(this.nodes, facts.name, facts);
  }

  removeNode(name: string): boolean {
    return this.nodes.delete(name);
  }

  /** Takes over an IPAMBlock. Whether that changes anything for the overlay. */
  setBlock(object: BlockObject): boolean {
    const name = object.metadata.name ?? "";
    const { cidr, node, affinityState } = object.spec;
    const prefix = usablePrefix(cidr);
    if (prefix === null) return this.refuse(this.blocks, name, `block ${name}: ${cidr} is no IPv4 prefix`);
    this.malformed.delete(name);
    // Its node does not use it before it is confirmed.
    if (affinityState === "pending" || node === "") return this.blocks.delete(name);
    const borrowed = (object.spec.allocations ?? [])
      .filter(({ attributes }) => attributes?.node !== undefined && attributes.node !== node)
      .map(({ ordinal, attributes }) => ({
        node: attributes!.node!,
        address: (prefix.address + ordinal) | 0,
      }));
    const created = object.metadata.creationTimestamp ?? "";
    return put(this.blocks, name, { cidr, created, prefix, node, borrowed });
  }

  removeBlock(name: string): boolean {
    this.malformed.delete(name);
    return this.blocks.delete(name);
  }

  /** Takes over an IPPool, disabled or not: its pods stay. */
  setPool(object: PoolObject): boolean {
    const name = object.metadata.name ?? "";
    const prefix = usablePrefix(object.spec.cidr);
    if (prefix === null)
      return this.refuse(this.pools, name, `pool ${name}: ${object.spec.cidr} is no IPv4 prefix`);
    this.malformed.delete(name);
    return put(this.pools, name, prefix);
  }

  removePool(name: string): boolean {
    this.malformed.delete(name);
    return this.pools.delete(name);
  }

  /** Everything together. */
  compile(): OverlayState {
    const problems = [...this.malformed.values()];
    const pools = distinct([...this.pools.values()]);
    const blocks = this.usableBlocks(pools, problems);
    const own = blocks.get(this.self.node) ?? [];
    return {
      podPool: pools.map(formatCidr),
      blocks: own.map(formatCidr),
      vteps: this.vteps(blocks, own, problems),
      problems,
    };
  }

  /** Blocks and borrowed addresses by node. */
  private usableBlocks(pools: Ipv4Prefix[], problems: string[]): Map<string, Ipv4Prefix[]> {
    const sorted = [...this.blocks.values()].sort(
      (a, b) => (a.prefix.address >>> 0) - (b.prefix.address >>> 0) || a.prefix.length - b.prefix.length,
    );
    const kept: BlockFacts[] = [];
    for (const block of sorted) {
      if (!pools.some((pool) => containsPrefix(pool, block.prefix))) {
        problems.push(`block ${block.cidr} of ${block.node} is in no pool`);
        continue;
      }
      const last = kept.at(-1);
      if (last !== undefined && overlaps(last.prefix, block.prefix)) {
        const younger = block.created > last.created ? block : last;
        if (younger === last) kept.pop();
        problems.push(`block ${younger.cidr} of ${younger.node} overlaps an older one`);
        if (younger === block) continue;
      }
      kept.push(block);
    }
    const byNode = new Map<string, Ipv4Prefix[]>();
    const add = (node: string, prefix: Ipv4Prefix) => {
      const list = byNode.get(node);
      if (list === undefined) byNode.set(node, [prefix]);
      else list.push(prefix);
    };
    for (const { node, prefix } of kept) add(node, prefix);
    for (const { borrowed } of kept)
      for (const { node, address } of borrowed) add(node, { address, length: 32 });
    return byNode;
  }

  private vteps(blocks: Map<string, Ipv4Prefix[]>, own: Ipv4Prefix[], problems: string[]): VtepConfig[] {
    const vteps: VtepConfig[] = [];
    const taken = new Map<number, string>([[parseIpv4(this.self.underlayAddress)!, this.self.node]]);
    const nodes = [...this.nodes.values()].sort(byAge);
    for (const { name, underlay, tunnel, port, mac } of nodes) {
      if (name === this.self.node) continue;
      const theirs = blocks.get(name);
      // It has registered, and not got so far yet.
      if (underlay === null || tunnel === null || theirs === undefined) continue;
      const owner = taken.get(underlay) ?? taken.get(tunnel);
      const problem =
        owner !== undefined
          ? `has an address of ${owner}`
          : !theirs.some((block) => containsAddress(block, tunnel))
            ? `has the tunnel address ${formatIpv4(tunnel)}, which is in no block of its own`
            : [...this.pools.values()].some((pool) => containsAddress(pool, underlay))
              ? `has the underlay address ${formatIpv4(underlay)}, which is in a pod pool`
              : own.some((block) => containsAddress(block, tunnel))
                ? `has the tunnel address ${formatIpv4(tunnel)}, which is in a block of this node`
                : null;
      if (problem !== null) {
        problems.push(`node ${name} ${problem}`);
        continue;
      }
      taken.set(underlay, name);
      taken.set(tunnel, name);
      vteps.push({
        node: name,
        address: formatIpv4(underlay),
        port,
        tunnelAddress: formatIpv4(tunnel),
        mac,
        peer: "podwire",
        blocks: theirs.map(formatCidr),
      });
    }
    return vteps;
  }

  private refuse(map: Map<string, unknown>, name: string, problem: string): boolean {
    const changed = this.malformed.get(name) !== problem;
    this.malformed.set(name, problem);
    return map.delete(name) || changed;
  }
}

function nodeFacts({ metadata, status }: NodeObject, defaultPort: number): NodeFacts {
  const name = metadata.name ?? "";
  const annotations = metadata.annotations ?? {};
  const internal = status?.addresses?.find(
    ({ type, address }) => type === "InternalIP" && parseIpv4(address) !== null,
  );
  const port = Number(annotations[VXLAN_PORT]);
  const mac = annotations[VTEP_MAC]?.toLowerCase() ?? "";
  return {
    name,
    created: metadata.creationTimestamp ?? "",
    underlay: parseIpv4(annotations[UNDERLAY_ADDRESS] ?? internal?.address ?? ""),
    tunnel: parseIpv4(annotations[TUNNEL_ADDRESS] ?? ""),
    port: Number.isInteger(port) && port > 0 && port < 65536 ? port : defaultPort,
    mac: isUnicastMac(mac) ? mac : vtepMac(name),
  };
}

/** Null where it is none, has host bits, or is the whole address space. */
function usablePrefix(cidr: string): Ipv4Prefix | null {
  const prefix = parseCidr(cidr);
  return prefix === null || prefix.length === 0 || hasHostBits(prefix) ? null : prefix;
}

/** Pools, without those that lie in another. */
function distinct(pools: Ipv4Prefix[]): Ipv4Prefix[] {
  const sorted = [...pools].sort((a, b) => (a.address >>> 0) - (b.address >>> 0) || a.length - b.length);
  return sorted.filter((pool, i) => !sorted.slice(0, i).some((other) => containsPrefix(other, pool)));
}

function byAge(a: NodeFacts, b: NodeFacts): number {
  if (a.created !== b.created) return a.created < b.created ? -1 : 1;
  return a.name < b.name ? -1 : 1;
}

/** Whether the value under `key` is another now. */
function put<T>(map: Map<string, T>, key: string, value: T): boolean {
  const old = map.get(key);
  map.set(key, value);
  return old === undefined || JSON.stringify(old) !== JSON.stringify(value);
}
