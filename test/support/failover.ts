/**
 * Services at two load-balancer addresses in a simulated cluster, connections of the pc to them, and
 * nodes that die: for tests of what becomes of connections.
 */
import { expect } from "vitest";
import { ACK, FIN, PSH, SYN, tcpPacket } from "./frames.js";
import { parsePacket } from "./model/packets.js";
import {
  type Arrival,
  type Journey,
  NODE_NAMES,
  type NodeName,
  PC,
  PODS,
  type PodName,
  SimulatedCluster,
} from "./model/SimulatedCluster.js";

export const VIP = "192.168.2.36";
export const VIP_PORT = 8080;
export const OTHER_VIP = "192.168.2.37";
export const CLIENT_PORT = 40_000;
export const NOTHING = new Uint8Array(0);
export const DATA = Uint8Array.from("hello", (c) => c.charCodeAt(0));

/** Three nodes that may own both addresses in this order. */
export function failoverCluster(order: readonly NodeName[] = NODE_NAMES): SimulatedCluster {
  return new SimulatedCluster([
    { address: VIP, order },
    { address: OTHER_VIP, order },
  ]);
}

/** A Service at each address, with these pods, as all nodes see it. */
export function serve(
  cluster: SimulatedCluster,
  pods: readonly PodName[],
  extra: Record<string, unknown> = {},
): void {
  const port = { name: "tcp", protocol: "TCP", port: VIP_PORT, nodePort: 30_800 };
  const udp = { name: "udp", protocol: "UDP", port: 53, nodePort: 30_053 };
  const names = { nginx: [VIP, 10, 0], other: [OTHER_VIP, 11, 1] } as const;
  for (const [name, [ip, last, shift]] of Object.entries(names))
    cluster.apply(
      [
        {
          metadata: { name, namespace: "default" },
          spec: {
            type: "LoadBalancer",
            clusterIP: `10.152.183.${last}`,
            ports: [port, udp].map((each) => ({ ...each, nodePort: each.nodePort + shift })),
            externalTrafficPolicy: "Cluster",
            ...extra,
          },
          status: { loadBalancer: { ingress: [{ ip }] } },
        },
      ],
      [
        {
          metadata: { name, namespace: "default", labels: { "kubernetes.io/service-name": name } },
          addressType: "IPv4",
          ports: [
            { name: "tcp", protocol: "TCP", port: 80 },
            { name: "udp", protocol: "UDP", port: 5353 },
          ],
          endpoints: pods.map((pod) => ({
            addresses: [PODS[pod]],
            nodeName: pod[0]!,
            conditions: { ready: true },
          })),
        },
      ],
    );
}

/** One TCP connection of the pc through an address, with numbers that go on. */
export class Stream {
  #client = 1000;
  #server = 5000;
  #podPort = CLIENT_PORT;
  at: PodName | undefined;

  constructor(
    readonly cluster: SimulatedCluster,
    readonly port = CLIENT_PORT,
    readonly vip = VIP,
  ) {}

  open(by: NodeName): this {
    const at = this.client(by, SYN);
    expect(at).toBeDefined();
    expect(this.server(SYN | ACK)).toBe("lan");
    expect(this.client(by, ACK)).toBe(at);
    return this;
  }

  /** The client sends by a node; returns the pod where it arrives. */
  client(by: NodeName, flags: number, data = NOTHING): PodName | undefined {
    const journey = this.cluster.fromLan(by, this.segment(flags, data));
    this.#client += data.length + ((flags & (SYN | FIN)) !== 0 ? 1 : 0);
    const [arrival] = journey.arrivals;
    if (arrival === undefined || !(arrival.at in PODS)) return undefined;
    const seen = parsePacket(arrival.packet.bytes);
    expect([seen.source, seen.destination]).toEqual([PC, PODS[arrival.at as PodName]]);
    if ((flags & SYN) === 0) expect(seen.sourcePort).toBe(this.#podPort);
    this.#podPort = seen.sourcePort;
    this.at = arrival.at as PodName;
    return this.at;
  }

  segment(flags: number, data = NOTHING): Uint8Array {
    const acknowledgement = (flags & ACK) !== 0 ? this.#server : 0;
    const ends = { source: PC, destination: this.vip, sourcePort: this.port, destinationPort: VIP_PORT };
    return tcpPacket({ ...ends, flags, sequence: this.#client, acknowledgement }, data);
  }

  /** The pod answers; returns where that arrives, with the address that the client knows. */
  server(flags: number, data = NOTHING): Arrival["at"] | undefined {
    const { arrivals } = this.reply(flags, data);
    this.#server += data.length + ((flags & (SYN | FIN)) !== 0 ? 1 : 0);
    const [arrival] = arrivals;
    if (arrival === undefined) return undefined;
    const seen = parsePacket(arrival.packet.bytes);
    expect([seen.source, seen.sourcePort, seen.destination, seen.destinationPort]).toEqual([
      this.vip,
      VIP_PORT,
      PC,
      this.port,
    ]);
    return arrival.at;
  }

  reply(flags: number, data = NOTHING): Journey {
    const ends = { source: PODS[this.at!], destination: PC, sourcePort: 80, destinationPort: this.#podPort };
    const packet = tcpPacket({ ...ends, flags, sequence: this.#server, acknowledgement: this.#client }, data);
    return this.cluster.fromPod(this.at!, packet);
  }

  /** Both sides speak, and both are heard; the reply leaves by a node. */
  talk(by: NodeName): void {
    const at = this.at;
    expect(this.client(by, ACK | PSH, DATA)).toBe(at);
    const { hops } = this.reply(ACK | PSH);
    expect(hops.at(-1)!.node).toBe(by);
    expect(this.server(ACK | PSH, DATA)).toBe("lan");
  }
}

/** A node is gone: all others know. */
export function kill(cluster: SimulatedCluster, name: NodeName): void {
  cluster.setAlive(name, false);
  cluster.setOwners(cluster.owners.filter((other) => other !== name));
}

/** A node is back, and owner of what it stands first for. */
export function revive(cluster: SimulatedCluster, name: NodeName): void {
  cluster.setAlive(name, true);
  cluster.setOwners(NODE_NAMES.filter((other) => other === name || cluster.owners.includes(other)));
}
