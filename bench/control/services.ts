/**
 * Services at scale: objects in, service table out, and in a reader, as the worker has it. A change
 * counts from the object that came to the reader that finds it.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { EndpointSliceObject, ServiceObject } from "../../src/desired/serviceObjects.js";
import { Services } from "../../src/desired/services.js";
import { formatIpv4, parseCidr, parseIpv4 } from "../../src/model/ipv4.js";
import { RING_REJECT, ServiceTable } from "../../src/tables/ServiceTable.js";
import { nodeName } from "./cluster.js";

/** So many endpoints in a slice (the EndpointSlice controller's default). */
const PER_SLICE = 100;
const POOL = 0x0a000000;
const SERVICE_RANGE = 0x64400000;
const TCP = 6;

export interface ServiceFigures {
  compile: number[];
  smallChange: number[];
  largeChange: number[];
  service: number[];
  /** Bytes: shared memory in use and reserved, and the heap of the control side for its objects. */
  memory: { used: number; reserved: number; heap: number };
}

/** `small` Services of 10 endpoints and `large` ones of 1,000 over `nodes` nodes, seen from node 0. */
export function measureServices(nodes: number, small: number, large: number, repeat: number): ServiceFigures {
  const objects = Array.from({ length: small + large }, (_, n) => {
    const endpoints = n < small ? 10 : 1000;
    return { service: service(n), slices: slicesOf(n, endpoints, nodes) };
  });
  const compile: number[] = [];
  const empty = usedHeap();
  let bench = new Bench();
  for (let i = 0; i < repeat; i++) {
    bench = new Bench();
    compile.push(
      timed(() => {
        for (const each of objects) {
          bench.services.setService(each.service);
          for (const slice of each.slices) bench.services.setSlice(slice);
        }
        bench.apply();
      }),
    );
  }
  const heap = usedHeap() - empty;
  const change = (n: number) => {
    const { slices } = objects[n]!;
    const less = { ...slices[0]!, endpoints: slices[0]!.endpoints!.slice(1) };
    const all = bench.countOf(n);
    return Array.from({ length: repeat * 10 }, (_, i) => {
      const gone = i % 2 === 0;
      const taken = timed(() => {
        bench.services.setSlice(gone ? less : slices[0]!);
        bench.apply();
      });
      if (bench.countOf(n) !== all - (gone ? 1 : 0)) throw new Error("a change did not reach the table");
      return taken;
    });
  };
  return {
    compile,
    smallChange: change(0),
    largeChange: change(small),
    service: Array.from({ length: repeat * 10 }, (_, i) =>
      timed(() => {
        if (i % 2 === 0) bench.services.removeService("default", "svc-1");
        else bench.services.setService(objects[1]!.service);
        bench.apply();
      }),
    ),
    memory: { ...bench.services.memory, heap },
  };
}

class Bench {
  readonly services = new Services({ node: nodeName(0), externalIpRanges: [] });
  readonly table = new ServiceTable();

  constructor() {
    this.services.setPools([parseCidr("10.0.0.0/8")!]);
  }

  /** What the control side and then the worker do. */
  apply(): void {
    const { image } = this.services.compile();
    this.table.adopt(image);
    this.services.acknowledge(image);
  }

  /** Endpoints that Service `n` has in the table. */
  countOf(n: number): number {
    const row = this.table.find(parseIpv4(clusterIp(n))!, TCP, 80);
    const ring = row < 0 ? RING_REJECT : this.table.insideRing(row);
    return ring === RING_REJECT ? 0 : this.table.count(ring);
  }
}

function clusterIp(n: number): string {
  return formatIpv4(SERVICE_RANGE + n + 1);
}

function service(n: number): ServiceObject {
  return {
    metadata: { name: `svc-${n}`, namespace: "default", creationTimestamp: "2024-01-01T00:00:00Z" },
    spec: {
      type: "ClusterIP",
      clusterIP: clusterIp(n),
      clusterIPs: [clusterIp(n)],
      ports: [{ name: "http", protocol: "TCP", port: 80 }],
      sessionAffinity: "None",
      internalTrafficPolicy: "Cluster",
    },
  };
}

/** Endpoint i of Service n is pod (1,000 n + i) of the cluster. */
function slicesOf(n: number, endpoints: number, nodes: number): EndpointSliceObject[] {
  return Array.from({ length: Math.ceil(endpoints / PER_SLICE) }, (_, s) => ({
    metadata: {
      name: `svc-${n}-${s}`,
      namespace: "default",
      labels: { "kubernetes.io/service-name": `svc-${n}` },
    },
    addressType: "IPv4",
    ports: [{ name: "http", protocol: "TCP", port: 8080 }],
    endpoints: Array.from({ length: Math.min(PER_SLICE, endpoints - s * PER_SLICE) }, (_, i) => {
      const pod = 1000 * n + s * PER_SLICE + i;
      return {
        addresses: [formatIpv4(POOL + (pod & 0xffffff))],
        nodeName: nodeName(pod % nodes),
        conditions: { ready: true, serving: true, terminating: false },
        targetRef: { kind: "Pod", namespace: "default", name: `pod-${pod}` },
      };
    }),
  }));
}

/** After a full collection. */
function usedHeap(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  return process.memoryUsage().heapUsed;
}

function timed(work: () => void): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}
