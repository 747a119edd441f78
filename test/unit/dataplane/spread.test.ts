/**
 * 100,000 connections through one ClusterIP, packet by packet through all stages and a flow table:
 * how they spread over the endpoints, and which of them move when an endpoint goes.
 */
import { beforeAll, describe, expect, it } from "vitest";
import { formatIpv4 } from "../../../src/model/ipv4.js";
import { ServiceTableBuilder } from "../../../src/tables/ServiceTable.js";
import {
  fromVtep,
  MASTER,
  OTHER_POD_PORT,
  POD_PORT,
  TestNode,
  TUNNEL_PORT,
  WORKER01,
  WORKER02,
} from "../../support/dataplane.js";
import { ACK, address, SYN, TCP, tcpPacket } from "../../support/frames.js";
import { serviceImage, type TestBackend } from "../../support/services.js";

const VIP = "10.152.183.7";
const CONNECTIONS = 100_000;
/** Half of them from each of two pods, whose source ports begin here. */
const FIRST_PORT = 10_000;
const CLIENTS = [
  { address: MASTER.pod, port: POD_PORT },
  { address: MASTER.otherPod, port: OTHER_POD_PORT },
] as const;
/** Frames between two breaths. */
const BURST = 500;
const NOTHING = new Uint8Array(0);
/** Offsets in a datagram of the tunnel, from the VXLAN header on: inner source, destination, ports. */
const INNER_SOURCE = 8 + 14 + 12;
const INNER_DESTINATION = INNER_SOURCE + 4;
const INNER_PORTS = INNER_DESTINATION + 4;

/** Endpoints of two other nodes, by turns. */
function endpoints(count: number): TestBackend[] {
  const blocks = [WORKER01.block, WORKER02.block].map(address);
  return Array.from({ length: count }, (_, n) => ({
    address: formatIpv4((blocks[n % 2]! + 1 + (n >>> 1)) | 0),
    l4Port: 8080,
  }));
}

class Cluster {
  readonly node = new TestNode({ maxFlows: 131_072 });
  readonly #builder = new ServiceTableBuilder();

  /** The Service has these endpoints from now on. */
  serve(backends: TestBackend[]): this {
    const frontend = {
      kind: "clusterIp",
      address: VIP,
      protocol: TCP,
      l4Port: 80,
      inside: backends,
    } as const;
    this.node.breather.dataplane.services.adopt(serviceImage([frontend], this.#builder));
    return this;
  }

  /**
   * A segment of every connection goes to the ClusterIP; where each of them left to, by number of the
   * connection. Throws where one did not leave, or twice.
   */
  send(flags: number, sequence: number): Int32Array {
    const to = new Int32Array(CONNECTIONS);
    for (let n = 0; n < CONNECTIONS; n++) {
      const client = CLIENTS[n % 2]!;
      const packet = tcpPacket(
        {
          source: client.address,
          destination: VIP,
          sourcePort: FIRST_PORT + (n >>> 1),
          destinationPort: 80,
          flags,
          sequence,
          acknowledgement: flags === SYN ? 0 : 5001,
        },
        NOTHING,
      );
      this.node.fromPod(packet, undefined, client.port);
      if ((n + 1) % BURST === 0) this.#collect(to);
    }
    return to;
  }

  /** The endpoints in `from` accept their connections. */
  accept(from: Int32Array): void {
    for (let n = 0; n < CONNECTIONS; n++) {
      const packet = tcpPacket(
        {
          source: formatIpv4(from[n]!),
          destination: CLIENTS[n % 2]!.address,
          sourcePort: 8080,
          destinationPort: FIRST_PORT + (n >>> 1),
          flags: SYN | ACK,
          sequence: 5000,
          acknowledgement: 1001,
        },
        NOTHING,
      );
      const vtep = owner(from[n]!);
      this.node.fromUnderlay(vtep.underlay, fromVtep(vtep, packet));
      if ((n + 1) % BURST === 0) {
        const { dropped, forwarded } = this.node.run();
        if (forwarded !== BURST) throw new Error(`answers: ${JSON.stringify(dropped)}`);
      }
    }
  }

  #collect(to: Int32Array): void {
    const { sent, dropped, forwarded } = this.node.run();
    if (forwarded !== BURST) throw new Error(JSON.stringify(dropped));
    for (const { port, bytes, gso } of sent) {
      if (port !== TUNNEL_PORT) throw new Error(`left by port ${port}`);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let at = 0; at < bytes.length; at += gso > 0 ? gso : bytes.length) {
        const client = CLIENTS.findIndex(
          (each) => address(each.address) === view.getInt32(at + INNER_SOURCE),
        );
        const n = 2 * (view.getUint16(at + INNER_PORTS) - FIRST_PORT) + client;
        if (to[n] !== 0) throw new Error(`connection ${n} left twice`);
        if (view.getUint16(at + INNER_PORTS + 2) !== 8080) throw new Error("not the endpoint's port");
        to[n] = view.getInt32(at + INNER_DESTINATION);
      }
    }
  }
}

function owner(endpoint: number): typeof WORKER01 {
  return (endpoint & -64) === address(WORKER01.block) ? WORKER01 : WORKER02;
}

function connectionsOf(to: Int32Array): Map<number, number> {
  const counts = new Map<number, number>();
  for (const endpoint of to) counts.set(endpoint, (counts.get(endpoint) ?? 0) + 1);
  return counts;
}

describe.each([4, 97])("%i endpoints", (count) => {
  const all = endpoints(count);
  const cluster = new Cluster().serve(all);
  const share = CONNECTIONS / count;
  let first: Int32Array;

  beforeAll(() => {
    first = cluster.send(SYN, 1000);
  }, 60_000);

  it("have their share of the connections", () => {
    const counts = connectionsOf(first);
    expect([...counts.keys()].sort()).toEqual(all.map((each) => address(each.address)).sort());
    // The ring's shares differ by 1 % at most (NSDI 2016, §5.3). Which slot a connection has is chance:
    // four and a half standard deviations of a binomial; one in 1,500 such tests would be beyond.
    const chance = 4.5 * Math.sqrt(share * (1 - 1 / count));
    for (const n of counts.values()) expect(Math.abs(n - share)).toBeLessThan(0.01 * share + chance);
    // And together: Pearson's statistic, mean count - 1, variance 2 (count - 1).
    const statistic = [...counts.values()].reduce((sum, n) => sum + (n - share) ** 2 / share, 0);
    expect(statistic).toBeLessThan(count - 1 + 5 * Math.sqrt(2 * (count - 1)));
    expect(cluster.node.flows.size).toBe(CONNECTIONS);
  });

  it("one of them goes: no established connection moves, and few of the others' new ones", () => {
    cluster.accept(first);
    expect(cluster.send(ACK, 1001)).toEqual(first);
    const gone = address(all[count >>> 1]!.address);
    const rest = all.filter((each) => address(each.address) !== gone);
    cluster.serve(rest);
    // Those of the one that is gone go on to it as well: it may be finishing what it began.
    expect(cluster.send(ACK, 1001)).toEqual(first);

    const again = new Cluster().serve(rest).send(SYN, 1000);
    const others = CONNECTIONS - connectionsOf(first).get(gone)!;
    expect(again).not.toContain(gone);
    const moved = first.filter((endpoint, n) => endpoint !== gone && again[n] !== endpoint).length;
    expect(moved / others).toBeLessThanOrEqual(count === 97 ? 0.02 : 0.05);
  }, 120_000);
});
