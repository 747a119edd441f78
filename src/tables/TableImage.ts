/**
 * The table image: everything that the dataplane decides by, in one flat buffer. The control side
 * builds one, hands it over and never writes it again; the worker reads it until the next.
 *
 *   words (int32, machine order)
 *   ┌────────────────────────────────────────────────────────────┐
 *   │ header: magic, version, length, start of each section      │
 *   │ node    this node's own addresses, MACs, numbers           │
 *   │ pools   count, then (address, mask) pairs                  │
 *   │ ranges  the same of the ranges of ClusterIPs               │
 *   │ nodeports  count, then addresses of the node               │
 *   │ ports   PortTable                                          │
 *   │ fdb     Fdb                                                │
 *   │ routes  RouteTable, IPv4 (IPv6 gets a section of its own)  │
 *   │ egress  count, then (mask, address, source), longest first │
 *   │ vips    VipTable                                           │
 *   │ bfd     BfdTable                                           │
 *   └────────────────────────────────────────────────────────────┘
 */
import { BfdTable, buildBfdTable } from "./BfdTable.js";
import { buildFdb, Fdb } from "./Fdb.js";
import { buildPortTable, PortTable } from "./PortTable.js";
import { buildRouteTable, mask, RouteTable } from "./RouteTable.js";
import type { TableInput } from "./TableInput.js";
import { buildVipTable, VipTable } from "./VipTable.js";

const MAGIC = 0x50775431; // "PwT1"
const VERSION = 6;
const HEADER_WORDS = 16;
const NODE_WORDS = 32;
/** What every IPv4 link must carry (RFC 791), and the longest packet. */
const MIN_MTU = 68;
const MAX_MTU = 65535;

/** Builds an image. Throws RangeError on input that the formats cannot hold. */
export function buildTableImage(input: TableInput): SharedArrayBuffer {
  const n = input.node;
  if (n.mtu < MIN_MTU || n.mtu > MAX_MTU) throw new RangeError(`an overlay MTU of ${n.mtu}`);
  const node = Int32Array.of(
    n.tunnelAddress,
    n.underlayAddress,
    n.mac.hi,
    n.mac.lo,
    n.vni,
    n.vxlanPort,
    n.mtu,
    n.nodePort,
    n.tunnelPort,
    n.gsoPort,
    n.gsoMac.hi,
    n.gsoMac.lo,
    input.egressPorts.first,
    input.egressPorts.last,
    n.icmpPort,
    n.reassemblyPort,
    input.announce.port,
    input.announce.mac.hi,
    input.announce.mac.lo,
  );
  const nodeSection = new Int32Array(NODE_WORDS);
  nodeSection.set(node);
  const sections = [
    nodeSection,
    buildPrefixes(input.pools),
    buildPrefixes(input.serviceRanges),
    Int32Array.of(input.nodePortAddresses.length, ...input.nodePortAddresses),
    buildPortTable(input.ports),
    buildFdb(input.vteps),
    buildRouteTable(input.routes),
    buildEgress(input.egress),
    buildVipTable(input.announce),
    buildBfdTable(input.bfd),
  ];
  const words = HEADER_WORDS + sections.reduce((sum, s) => sum + s.length, 0);
  const image = new Int32Array(new SharedArrayBuffer(words * 4));
  image[0] = MAGIC;
  image[1] = VERSION;
  image[2] = words;
  let at = HEADER_WORDS;
  sections.forEach((section, i) => {
    image[3 + i] = at;
    image.set(section, at);
    at += section.length;
  });
  return image.buffer as SharedArrayBuffer;
}

function buildPrefixes(prefixes: TableInput["pools"]): Int32Array {
  return Int32Array.from([prefixes.length, ...prefixes.flatMap((p) => [p.address, mask(p.length)])]);
}

function buildEgress(egress: TableInput["egress"]): Int32Array {
  const longest = [...egress].sort((a, b) => b.length - a.length);
  return Int32Array.from([
    longest.length,
    ...longest.flatMap(({ address, length, source }) => [mask(length), address, source]),
  ]);
}

/** Reader of an image. Made once per swap; its fields are plain numbers for the stages to hoist. */
export class Tables {
  readonly tunnelAddress: number;
  readonly underlayAddress: number;
  readonly macHi: number;
  readonly macLo: number;
  readonly vni: number;
  readonly vxlanPort: number;
  /** All VXLAN ports, this node's and other VTEPs', lie between these two. */
  readonly firstVxlanPort: number;
  readonly lastVxlanPort: number;
  readonly mtu: number;
  readonly nodePort: number;
  readonly tunnelPort: number;
  readonly gsoPort: number;
  readonly gsoMacHi: number;
  readonly gsoMacLo: number;
  readonly firstEgressPort: number;
  readonly lastEgressPort: number;
  readonly icmpPort: number;
  readonly reassemblyPort: number;
  /** Port number of the packet socket on the LAN, -1 without, and the MAC there. */
  readonly lanPort: number;
  readonly lanMacHi: number;
  readonly lanMacLo: number;
  readonly ports: PortTable;
  readonly fdb: Fdb;
  readonly routes: RouteTable;
  readonly vips: VipTable;
  readonly bfd: BfdTable;
  readonly #image: Int32Array;
  readonly #pools: number;
  readonly #serviceRanges: number;
  readonly #nodePortAddresses: number;
  readonly #egress: number;

  /** Throws RangeError where the buffer is no image of this version. */
  constructor(buffer: ArrayBufferLike) {
    const image = new Int32Array(buffer);
    if (image[0] !== MAGIC || image[1] !== VERSION || image[2] !== image.length) {
      throw new RangeError(`not a table image of version ${VERSION}`);
    }
    this.#image = image;
    const node = image[3];
    this.tunnelAddress = image[node];
    this.underlayAddress = image[node + 1];
    this.macHi = image[node + 2];
    this.macLo = image[node + 3];
    this.vni = image[node + 4];
    this.vxlanPort = image[node + 5];
    this.mtu = image[node + 6];
    this.nodePort = image[node + 7];
    this.tunnelPort = image[node + 8];
    this.gsoPort = image[node + 9];
    this.gsoMacHi = image[node + 10];
    this.gsoMacLo = image[node + 11];
    this.firstEgressPort = image[node + 12];
    this.lastEgressPort = image[node + 13];
    this.icmpPort = image[node + 14];
    this.reassemblyPort = image[node + 15];
    this.lanPort = image[node + 16];
    this.lanMacHi = image[node + 17];
    this.lanMacLo = image[node + 18];
    this.#pools = image[4];
    this.#serviceRanges = image[5];
    this.#nodePortAddresses = image[6];
    this.ports = new PortTable(image, image[7]);
    this.fdb = new Fdb(image, image[8]);
    const [lowest, highest] = this.fdb.udpPorts();
    this.firstVxlanPort = Math.min(lowest, this.vxlanPort);
    this.lastVxlanPort = Math.max(highest, this.vxlanPort);
    this.routes = new RouteTable(image, image[9]);
    this.#egress = image[10];
    this.vips = new VipTable(image, image[11]);
    this.bfd = new BfdTable(image, image[12]);
  }

  /** The node's address with which a packet leaves the cluster for this one; 0 where there is no way. */
  egressSource(address: number): number {
    const image = this.#image;
    const at = this.#egress;
    for (let i = at + 1, end = at + 1 + 3 * image[at]; i < end; i += 3) {
      if ((address & image[i]) === image[i + 1]) return image[i + 2];
    }
    return 0;
  }

  /** Whether an address lies in a pod pool. */
  inPool(address: number): boolean {
    return this.#inAny(this.#pools, address);
  }

  /** Whether an address lies in a range of ClusterIPs. */
  inServiceRange(address: number): boolean {
    return this.#inAny(this.#serviceRanges, address);
  }

  /** Whether NodePorts answer at an address, which is one of the node's then. */
  hasNodePorts(address: number): boolean {
    const image = this.#image;
    const at = this.#nodePortAddresses;
    for (let i = at + 1, end = at + 1 + image[at]; i < end; i++) if (image[i] === address) return true;
    return false;
  }

  #inAny(at: number, address: number): boolean {
    const image = this.#image;
    for (let i = at + 1, end = at + 1 + 2 * image[at]; i < end; i += 2) {
      if ((address & image[i + 1]) === image[i]) return true;
    }
    return false;
  }
}
