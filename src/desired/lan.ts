/**
 * What announcement needs of the host, and what the worker's tables say of it. Pure. The LAN
 * interface is the one that has the underlay address, unless another is configured.
 */
import type { AgentConfig, AnnounceConfig } from "../model/AgentConfig.js";
import { parseIpv4 } from "../model/ipv4.js";
import {
  type AnnounceInput,
  type BfdInput,
  NO_ANNOUNCEMENT,
  NO_BFD,
  type TableInput,
} from "../tables/TableInput.js";
import { THIS_NODE } from "../tables/VipTable.js";
import { macOf, parseMac } from "./mac.js";

/** The LAN interface as the host has it. */
export interface LanInterface {
  name: string;
  index: number;
  mac: string;
}

/** Sockets for announcement on a LAN interface. */
export interface LanSpec {
  interface: LanInterface;
  /** Underlay address, dotted decimal: BFD speaks from there. */
  address: string;
  /** What the packet socket hears (arpFilter). */
  filter: number[];
}

/** Port numbers, in the worker, of those that it sends on; -1 where they are not open. */
export interface LanPorts {
  lan: number;
  bfd: number;
}

/** None is open. */
export const NO_LAN_PORTS: LanPorts = { lan: -1, bfd: -1 };

/** The sockets that `config` asks for; null for none. */
export function lanSpec({ announce, underlay }: AgentConfig, lan: LanInterface | null): LanSpec | null {
  if (announce === null || lan === null) return null;
  const addresses = announce.vips.map(({ address }) => parseIpv4(address)!);
  return { interface: lan, address: underlay.address, filter: arpFilter(addresses) };
}

// Instructions (linux/bpf_common.h).
const LD_WORD = 0x20;
const LD_HALF = 0x28;
const AND = 0x54;
const JEQ = 0x15;
const JGE = 0x35;
const JGT = 0x25;
const RET = 0x06;
const WHOLE = 0xffffffff;
const NOTHING = 0;
/** VLAN tag that the kernel took off the frame (SKF_AD_OFF + SKF_AD_VLAN_TAG), and its number's bits. */
const VLAN_TAG = 0xfffff02c;
const VLAN_ID = 0xfff;
// Offsets of an ARP packet behind its Ethernet header.
const HARDWARE = 14;
const PROTOCOL = 16;
const SENDER = 28;
const TARGET = 38;
const ETHERNET = 1;
const IPV4 = 0x0800;
/** Ranges that are tested one by one; of more, everything from the first to the last is heard. */
const MAX_RANGES = 64;

/**
 * ARP for IPv4 over Ethernet that asks for one of the addresses (int32), or comes from it, as classic
 * BPF over a frame; of other VLANs on the interface nothing.
 */
export function arpFilter(addresses: readonly number[]): number[] {
  const ranges = rangesOf(addresses);
  const within = ranges.flatMap(({ first, last }) => [
    [JGE, 0, 2, first],
    [JGT, 1, 0, last],
    [RET, 0, 0, WHOLE],
  ]);
  return [
    [LD_WORD, 0, 0, VLAN_TAG],
    [AND, 0, 0, VLAN_ID],
    [JEQ, 1, 0, 0],
    [RET, 0, 0, NOTHING],
    [LD_HALF, 0, 0, HARDWARE],
    [JEQ, 1, 0, ETHERNET],
    [RET, 0, 0, NOTHING],
    [LD_HALF, 0, 0, PROTOCOL],
    [JEQ, 1, 0, IPV4],
    [RET, 0, 0, NOTHING],
    [LD_WORD, 0, 0, TARGET],
    ...within,
    [LD_WORD, 0, 0, SENDER],
    ...within,
    [RET, 0, 0, NOTHING],
  ].flat();
}

/** Addresses as ranges of unsigned numbers, in ascending order. */
function rangesOf(addresses: readonly number[]): { first: number; last: number }[] {
  const sorted = [...new Set(addresses.map((address) => address >>> 0))].sort((a, b) => a - b);
  const ranges: { first: number; last: number }[] = [];
  for (const address of sorted) {
    const range = ranges.at(-1);
    if (range !== undefined && address === range.last + 1) range.last = address;
    else ranges.push({ first: address, last: address });
  }
  if (ranges.length <= MAX_RANGES) return ranges;
  return [{ first: ranges[0]!.first, last: ranges.at(-1)!.last }];
}

/**
 * What the tables say of announcement.
 *
 * @param vteps index of each VTEP by node name; nodes that are not in it are left out
 */
export function announceTables(
  config: AgentConfig,
  lan: LanInterface | null,
  ports: LanPorts,
  vteps: ReadonlyMap<string, number>,
): Pick<TableInput, "announce" | "bfd"> {
  const { announce } = config;
  if (announce === null || lan === null || ports.lan < 0) return { announce: NO_ANNOUNCEMENT, bfd: NO_BFD };
  const numberOf = (node: string) => (node === config.node ? THIS_NODE : vteps.get(node));
  return {
    announce: {
      port: ports.lan,
      mac: macOf(lan.mac),
      nodes: nodesOf(announce, vteps),
      vips: announce.vips.map(({ address, nodes }) => ({
        address: parseIpv4(address)!,
        order: nodes.map(numberOf).filter((number) => number !== undefined),
      })),
    },
    bfd: bfdOf(announce, ports, vteps),
  };
}

function nodesOf({ nodes }: AnnounceConfig, vteps: ReadonlyMap<string, number>): AnnounceInput["nodes"] {
  return nodes.flatMap(({ node, mac }) => {
    const index = vteps.get(node);
    return index === undefined || parseMac(mac) === null ? [] : [{ node: index, mac: macOf(mac) }];
  });
}

function bfdOf(
  { bfd: { intervalMs, multiplier }, nodes }: AnnounceConfig,
  ports: LanPorts,
  vteps: ReadonlyMap<string, number>,
): BfdInput {
  const interval = intervalMs * 1000;
  const watched = nodes.filter((node) => node.watched).map(({ node }) => vteps.get(node));
  return {
    sendPort: ports.bfd,
    desiredMinTxUs: interval,
    requiredMinRxUs: interval,
    detectMult: multiplier,
    peers: watched.filter((index) => index !== undefined),
  };
}
