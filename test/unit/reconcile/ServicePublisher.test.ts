import { beforeEach, describe, expect, test } from "vitest";
import type { EndpointSliceObject, ServiceObject } from "../../../src/desired/serviceObjects.js";
import { Services } from "../../../src/desired/services.js";
import { parseIpv4 } from "../../../src/model/ipv4.js";
import { ServicePublisher } from "../../../src/reconcile/ServicePublisher.js";
import { FlowTable, newFlowTable } from "../../../src/tables/FlowTable.js";
import {
  FLOW_BACKEND,
  FLOW_PROTOCOL,
  FLOW_SERVICE,
  TCP_ESTABLISHED,
  UDP_UNREPLIED,
} from "../../../src/tables/flowLayout.js";
import type { ServiceTable } from "../../../src/tables/ServiceTable.js";
import { FakeWorker } from "../../support/FakeWorker.js";
import { draft } from "../../support/flows.js";

const [TCP, UDP] = [6, 17];
const VIP = "10.152.183.10";

let services: Services;
let worker: FakeWorker;
let logged: string[];
let publisher: ServicePublisher;

beforeEach(() => {
  services = new Services({ node: "k8s-master", externalIpRanges: [] });
  worker = new FakeWorker();
  logged = [];
  const say = (_: object, message: string) => void logged.push(message);
  publisher = new ServicePublisher(services, worker, { debug: () => {}, info: say, warn: say, error: say });
});

function service(name: string, clusterIP: string): ServiceObject {
  return {
    metadata: { name, namespace: "default", creationTimestamp: "2026-01-01T00:00:00Z" },
    spec: {
      clusterIP,
      ports: [
        { name: "udp", protocol: "UDP", port: 53 },
        { name: "tcp", protocol: "TCP", port: 53 },
      ],
    },
  };
}

function slice(name: string, ...addresses: string[]): EndpointSliceObject {
  return {
    metadata: { name, namespace: "default", labels: { "kubernetes.io/service-name": name } },
    addressType: "IPv4",
    ports: [
      { name: "udp", protocol: "UDP", port: 53 },
      { name: "tcp", protocol: "TCP", port: 53 },
    ],
    endpoints: addresses.map((address) => ({ addresses: [address] })),
  };
}

/** Backends that a reader finds behind a Service, dotted. */
function backends(table: ServiceTable, address: string, protocol = UDP): string[] {
  const row = table.find(parseIpv4(address)!, protocol, 53);
  if (row < 0) return ["no such service"];
  const ring = table.insideRing(row);
  if (ring < 0) return [];
  return Array.from({ length: table.count(ring) }, (_, i) => {
    const word = table.address(table.member(ring, i)) >>> 0;
    return [24, 16, 8, 0].map((shift) => (word >>> shift) & 255).join(".");
  });
}

/** Inserts a flow from `port` to the backend with this address, as the stages do. */
function flow(protocol: number, port: number, address: string): number {
  const table = worker.services;
  const row = table.find(parseIpv4(VIP)!, protocol, 53);
  const ring = table.insideRing(row);
  const wanted = parseIpv4(address)!;
  const member = Array.from({ length: table.count(ring) }, (_, i) => table.member(ring, i)).find(
    (each) => table.address(each) === wanted,
  )!;
  const words = draft(
    protocol,
    { source: "10.1.235.193", destination: VIP, sourcePort: port, destinationPort: 53 },
    { source: address, destination: "10.1.235.193", sourcePort: 53, destinationPort: port },
    protocol === UDP ? UDP_UNREPLIED : TCP_ESTABLISHED,
  );
  words[FLOW_SERVICE] = table.service(row);
  words[FLOW_BACKEND] = table.backendId(member);
  const record = worker.flows.insert(words, 0);
  expect(record).toBeGreaterThanOrEqual(0);
  return record;
}

const lives = (record: number) =>
  worker.flows.words[worker.flows.base(record) + FLOW_PROTOCOL] !== 0 &&
  worker.flows.find(...keyOf(record)) === 2 * record;

function keyOf(record: number): [number, number, number, number, number] {
  const { words } = worker.flows;
  const base = worker.flows.base(record);
  return [
    words[base + 2]!,
    words[base + 3]!,
    words[base + 4]!,
    words[base + FLOW_PROTOCOL]!,
    words[base + 5]!,
  ];
}

describe("publishing", () => {
  test("what the objects say arrives, and nothing is sent where nothing has changed", async () => {
    services.setService(service("dns", VIP));
    services.setSlice(slice("dns", "10.1.79.65", "10.1.79.66"));
    await publisher.publish();
    expect(backends(worker.services, VIP)).toEqual(["10.1.79.65", "10.1.79.66"]);
    await publisher.publish();
    expect(worker.commands).toEqual(["publishServices"]);
  });

  test("calls while one is under way make one more", async () => {
    services.setService(service("dns", VIP));
    const all = [publisher.publish()];
    for (let i = 0; i < 50; i++) {
      services.setSlice(slice("dns", `10.1.79.${65 + i}`));
      all.push(publisher.publish());
    }
    await Promise.all(all);
    expect(worker.commands.filter((each) => each === "publishServices").length).toBeLessThanOrEqual(2);
    expect(backends(worker.services, VIP)).toEqual(["10.1.79.114"]);
  });

  test("memory of old images is used again once they are acknowledged", async () => {
    services.setService(service("dns", VIP));
    for (let i = 0; i < 2_000; i++) {
      services.setSlice(slice("dns", "10.1.79.65", `10.1.79.${66 + (i % 100)}`));
      await publisher.publish();
    }
    // A ring of 1,021 bytes and a page each time: 2,000 of them would not fit into two chunks.
    expect(services.memory.used).toBeLessThan(100_000);
    expect(services.memory.reserved).toBe(4 * 1024 * 1024);
  });

  test("a problem is told once, and again when it comes back", async () => {
    services.setService(service("a", VIP));
    services.setService(service("b", VIP));
    await publisher.publish();
    await publisher.publish();
    expect(logged.filter((line) => line.includes("is that of default/a"))).toHaveLength(2);
    services.removeService("default", "a");
    await publisher.publish();
    services.setService(service("a", VIP));
    await publisher.publish();
    expect(logged.filter((line) => line.includes("is that of default/a"))).toHaveLength(4);
  });
});

describe("a worker that ends", () => {
  test("its successor gets everything, and the flows of backends that went meanwhile go", async () => {
    services.setService(service("dns", VIP));
    services.setSlice(slice("dns", "10.1.79.65", "10.1.79.66"));
    await publisher.publish();
    const gone = flow(UDP, 1000, "10.1.79.65");
    const stays = flow(UDP, 1001, "10.1.79.66");
    const { flows } = worker;
    worker.failure = new Error("the dataplane thread has ended");
    services.setSlice(slice("dns", "10.1.79.66"));
    await publisher.publish();
    expect(logged).toEqual(["could not bring the Services to the dataplane; will try again"]);
    worker = new FakeWorker(worker, flows);
    await publisher.replaceWorker(worker);
    expect(backends(worker.services, VIP)).toEqual(["10.1.79.66"]);
    expect([lives(gone), lives(stays)]).toEqual([false, true]);
  });

  test("without any change in between", async () => {
    services.setService(service("dns", VIP));
    services.setSlice(slice("dns", "10.1.79.65"));
    await publisher.publish();
    worker = new FakeWorker(worker);
    await publisher.replaceWorker(worker);
    expect(backends(worker.services, VIP)).toEqual(["10.1.79.65"]);
  });
});

describe("flows of endpoints that go (kube-proxy's conntrack cleanup)", () => {
  let flows: { udpGone: number; udpStays: number; tcpGone: number };
  beforeEach(async () => {
    worker = new FakeWorker(undefined, new FlowTable(newFlowTable(64)));
    publisher = new ServicePublisher(services, worker);
    services.setService(service("dns", VIP));
    services.setService(service("other", "10.152.183.11"));
    for (const name of ["dns", "other"]) services.setSlice(slice(name, "10.1.79.65", "10.1.79.66"));
    await publisher.publish();
    flows = {
      udpGone: flow(UDP, 1000, "10.1.79.65"),
      udpStays: flow(UDP, 1001, "10.1.79.66"),
      tcpGone: flow(TCP, 1000, "10.1.79.65"),
    };
  });
  const living = () => Object.entries(flows).flatMap(([name, record]) => (lives(record) ? [name] : []));

  test("UDP: at once, after the image; TCP: left to end by themselves", async () => {
    services.setSlice(slice("dns", "10.1.79.66"));
    await publisher.publish();
    expect(living()).toEqual(["udpStays", "tcpGone"]);
    expect(worker.commands).toEqual(["publishServices", "publishServices", "flushFlows"]);
  });

  test("of another Service: none", async () => {
    services.setSlice(slice("other", "10.1.79.66"));
    await publisher.publish();
    expect(living()).toEqual(["udpGone", "udpStays", "tcpGone"]);
  });

  test("a Service that is deleted: its flows go on", async () => {
    services.removeService("default", "dns");
    services.removeSlice("default", "dns");
    await publisher.publish();
    expect(backends(worker.services, VIP)).toEqual(["no such service"]);
    expect(living()).toEqual(["udpGone", "udpStays", "tcpGone"]);
  });

  test("one that could not be removed is removed the next time", async () => {
    services.setSlice(slice("dns", "10.1.79.66"));
    worker.failure = new Error("no");
    await publisher.publish();
    expect(living()).toContain("udpGone");
    worker.failure = null;
    await publisher.publish();
    expect(living()).toEqual(["udpStays", "tcpGone"]);
  });
});

describe("counts of service ports that are gone", () => {
  test("are given up with the image that has them no more, and are not lost where that fails", async () => {
    services.setService(service("dns", VIP));
    services.setSlice(slice("dns", "10.1.0.1"));
    await publisher.publish();
    const counted = { packets: 1, bytes: 2 };
    const ids = services.idsOf("default", "dns");
    expect(ids).toHaveLength(2);
    for (const id of ids) worker.served.set(id, { requests: counted, replies: counted });
    services.setSlice(slice("dns", "10.1.0.1", "10.1.0.2"));
    await publisher.publish();
    expect(worker.served.size).toBe(2);
    services.removeService("default", "dns");
    worker.failure = new Error("no room");
    await publisher.publish();
    worker.failure = null;
    await publisher.publish();
    expect([...worker.served.keys()]).toEqual([]);
  });
});
