/**
 * What a person asks about ("pc 192.168.2.36:8080", "pod/web svc/redis"), as a packet and who sends it.
 *
 *   FROM   pc · ADDRESS · node/NAME · pod/NAME · NAMESPACE/POD
 *   TO     ADDRESS[:PORT] · svc/[NAMESPACE/]NAME[:PORT] · pod/NAME[:PORT] · NAMESPACE/POD[:PORT]
 *          · node/NAME[:PORT] · nodeport/NODE:PORT
 *
 * Names of pods may be an unambiguous beginning. Without a port, and where it is no Service, it is a ping.
 */
import { formatIpv4, parseIpv4 } from "../../model/ipv4.js";
import {
  FRONTEND_CLUSTER_IP,
  FRONTEND_EXTERNAL_IP,
  FRONTEND_LOAD_BALANCER,
  FRONTEND_NODE_PORT,
} from "../../tables/ServiceTable.js";
import { type Frontend, frontendsOf } from "../../tables/serviceSnapshot.js";
import type { Place, Question } from "./journey.js";
import { sourceOfProgram } from "./kernel.js";
import { firstPacket, type TraceProtocol } from "./packets.js";
import type { KnownNode, PodPlace, TraceCluster } from "./TraceCluster.js";

/** A question that cannot be answered as it stands; the message says what would do. */
export class QuestionError extends Error {
  override readonly name = "QuestionError";
}

export interface Asked {
  from: string;
  to: string;
  /** Default: the Service's, icmp where there is no port, else tcp. */
  protocol?: TraceProtocol | undefined;
  /** Source port, of icmp the identifier. */
  sourcePort?: number | undefined;
  /** Address of "pc", where it is known. */
  pc?: string | undefined;
  /** For machines outside: the node that they have a route by. */
  via?: string | undefined;
}

/** A source port, and an identifier, where none was asked for. */
const SOURCE_PORT = 40_000;
const IDENTIFIER = 1;
/** The machine "pc" where nobody says which: this host of the nodes' /24, or the next that is free. */
const PC_HOST = 10;
const IANA: Readonly<Record<number, TraceProtocol>> = { 6: "tcp", 17: "udp" };

interface Sender {
  place: Place;
  /** Address that it sends from, as it depends on what it sends where. */
  source: (target: Target) => string;
  /** The node whose tables say what it may ask for; null for a machine outside. */
  node: KnownNode | null;
}

interface Target {
  address: string;
  /** 0 for a ping. */
  l4Port: number;
  protocol: TraceProtocol;
}

/** Who sends which packet. Throws a QuestionError. */
export function questionOf(cluster: TraceCluster, asked: Asked): Question {
  if (cluster.nodes.size === 0) throw new QuestionError("no agent tells of its tables");
  const sender = senderOf(cluster, asked);
  const target = targetOf(cluster, asked, sender);
  const { address, l4Port, protocol } = target;
  const source = sender.source(target);
  if (sender.place.kind === "pod" && source === address)
    throw new QuestionError(`${asked.from} reaches its own address within itself: no packet leaves it`);
  const sourcePort = asked.sourcePort ?? (protocol === "icmp" ? IDENTIFIER : SOURCE_PORT);
  const packet = firstPacket({
    protocol,
    source: parseIpv4(source)!,
    destination: parseIpv4(address)!,
    sourcePort,
    destinationPort: l4Port,
  });
  return { from: asked.from, to: asked.to, sender: sender.place, packet };
}

// ---- who sends --------------------------------------------------------------------------------

function senderOf(cluster: TraceCluster, { from, via, pc }: Asked): Sender {
  const [kind, name = ""] = splitOnce(from, "/");
  if (via !== undefined) nodeNamed(cluster, via);
  if (from === "pc") return outside(cluster, pc ?? pcAddress(cluster), "pc", via);
  if (kind === "node") return program(nodeNamed(cluster, name));
  if (kind === "pod") return pod(cluster, podNamed(cluster, name));
  if (name !== "") return pod(cluster, podNamed(cluster, from));
  if (parseIpv4(from) === null)
    throw new QuestionError(
      `"${from}" is nobody: write pc, an address, node/NAME, pod/NAME or NAMESPACE/POD`,
    );
  const place = cluster.podOf(from);
  if (place !== undefined) return pod(cluster, place);
  const node = cluster.nodes.get(cluster.nodeOf(from));
  if (node !== undefined) return { ...program(node), source: () => from };
  return outside(cluster, from, from, via);
}

function outside(cluster: TraceCluster, address: string, name: string, via: string | undefined): Sender {
  cluster.nameMachine(address, name);
  const place: Place = { kind: "lan", name, ...(via === undefined ? {} : { via }) };
  return { place, source: () => address, node: null };
}

function program(node: KnownNode): Sender {
  return {
    place: { kind: "program", node: node.name },
    source: ({ address, l4Port, protocol }) =>
      sourceOfProgram(node, { destination: address, destinationPort: l4Port, protocol }),
    node,
  };
}

function pod(cluster: TraceCluster, { node, port, address }: PodPlace): Sender {
  return { place: { kind: "pod", node, port }, source: () => address, node: cluster.nodes.get(node)! };
}

/** An address of the nodes' network that is nobody's of the cluster. */
function pcAddress(cluster: TraceCluster): string {
  const [first] = cluster.nodes.values();
  const network = first!.image.underlayAddress & ~0xff;
  for (let host = PC_HOST; host < 255; host++) {
    const address = formatIpv4(network | host);
    if (cluster.nodeOf(address) === "" && !cluster.isVirtual(address)) return address;
  }
  throw new QuestionError("no address is left for pc: write the client's own");
}

// ---- whom -------------------------------------------------------------------------------------

function targetOf(cluster: TraceCluster, { to, protocol }: Asked, sender: Sender): Target {
  const plain = (address: string, portText: string | undefined): Target => {
    const l4Port = portText === undefined ? 0 : portOf(portText);
    const chosen = protocol ?? (l4Port === 0 ? "icmp" : "tcp");
    if (l4Port === 0 && chosen !== "icmp") throw new QuestionError(`${to}: ${chosen} needs a port`);
    return { address, l4Port: chosen === "icmp" ? 0 : l4Port, protocol: chosen };
  };
  const [kind, rest] = splitOnce(to.replace(/^nodeport[ :]/, "nodeport/"), "/");
  if (rest === undefined) {
    const [address, port] = splitOnce(to, ":");
    if (parseIpv4(address) === null)
      throw new QuestionError(
        `"${to}" is no target: write ADDRESS:PORT, svc/NAME[:PORT], pod/NAME:PORT, node/NAME:PORT or nodeport NODE:PORT`,
      );
    return plain(address, port);
  }
  const [name, port] = splitOnce(rest, ":");
  if (kind === "svc" || kind === "service") return serviceTarget(cluster, name, port, protocol, sender);
  if (kind === "node" || kind === "nodeport")
    return plain(formatIpv4(nodeNamed(cluster, name).image.underlayAddress), port);
  return plain(podNamed(cluster, kind === "pod" ? name : `${kind}/${name}`).address, port);
}

/** The address of a Service that the sender can ask: the most outward one from outside, else the ClusterIP. */
function serviceTarget(
  cluster: TraceCluster,
  text: string,
  portText: string | undefined,
  protocol: TraceProtocol | undefined,
  sender: Sender,
): Target {
  const name = text.includes("/") ? text : `default/${text}`;
  const known = sender.node ?? [...cluster.nodes.values()].find(({ services }) => services !== null);
  if (known === undefined || known.services === null) throw new QuestionError("this cluster has no Services");
  const ports = known.tables.servicePorts.filter(({ service }) => service === name);
  if (ports.length === 0) throw new QuestionError(`there is no Service ${name} with an address`);
  const wanted = ports.filter(
    (each) =>
      (portText === undefined || each.port === portText || String(each.l4Port) === portText) &&
      (protocol === undefined || protocol === "icmp" || each.protocol.toLowerCase() === protocol),
  );
  const list = ports.map((each) => `${each.l4Port}/${each.protocol}`).join(", ");
  if (wanted.length === 0) throw new QuestionError(`${name} has no such port; it has ${list}`);
  if (wanted.length > 1)
    throw new QuestionError(`${name} has several ports: write svc/${text}:PORT, of ${list}`);
  const rows = frontendsOf(known.services).filter(({ service }) => service === wanted[0]!.id);
  const inward = [FRONTEND_CLUSTER_IP];
  const outward = [FRONTEND_LOAD_BALANCER, FRONTEND_EXTERNAL_IP, FRONTEND_NODE_PORT, FRONTEND_CLUSTER_IP];
  const order = sender.node === null ? outward : inward;
  const row = order
    .map((flag) => rows.find(({ flags }) => (flags & flag) !== 0))
    .find((each) => each !== undefined);
  if (row === undefined) throw new QuestionError(`${name} has no address that ${sender.place.kind} can ask`);
  const carried = protocol === "icmp" ? "icmp" : IANA[row.protocol];
  if (carried === undefined) throw new QuestionError(`${name} speaks SCTP, which is not traced`);
  return { address: addressOf(cluster, row), l4Port: carried === "icmp" ? 0 : row.l4Port, protocol: carried };
}

/** Of a NodePort, the first node's. */
function addressOf(cluster: TraceCluster, { address }: Frontend): string {
  if (address !== 0) return formatIpv4(address);
  const [first] = cluster.nodes.values();
  return first!.tables.host?.nodePortAddresses[0] ?? formatIpv4(first!.image.underlayAddress);
}

// ---- names ------------------------------------------------------------------------------------

function nodeNamed(cluster: TraceCluster, name: string): KnownNode {
  const node = cluster.nodes.get(name);
  if (node !== undefined) return node;
  throw new QuestionError(
    `no agent of a node "${name}" answers; there are ${[...cluster.nodes.keys()].join(", ")}`,
  );
}

/** By NAMESPACE/NAME or NAME of the namespace default; an unambiguous beginning is enough. */
function podNamed(cluster: TraceCluster, text: string): PodPlace {
  const full = text.includes("/") ? text : `default/${text}`;
  const exact = cluster.pods.find(({ name }) => name === full);
  if (exact !== undefined) return exact;
  const some = cluster.pods.filter(({ name }) => name.startsWith(full));
  if (some.length === 1) return some[0]!;
  const names = (some.length > 0 ? some : cluster.pods).map(({ name }) => name).sort();
  throw new QuestionError(
    some.length > 1
      ? `"${text}" could be ${names.join(", ")}`
      : `no pod "${text}"; there are ${names.join(", ")}`,
  );
}

function portOf(text: string): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port > 0 && port < 65_536) return port;
  throw new QuestionError(`"${text}" is no port`);
}

function splitOnce(text: string, mark: string): [string, string | undefined] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + mark.length)];
}
