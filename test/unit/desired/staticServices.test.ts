import { beforeEach, expect, test } from "vitest";
import { Services } from "../../../src/desired/services.js";
import { StaticServices, staticObjects } from "../../../src/desired/staticServices.js";
import type { AgentConfig, ServiceConfig } from "../../../src/model/AgentConfig.js";
import { formatIpv4, parseIpv4 } from "../../../src/model/ipv4.js";
import { BACKEND_LOCAL, BACKEND_OUTSIDE_POOL, ServiceTable } from "../../../src/tables/ServiceTable.js";

const [TCP, UDP] = [6, 17];
let services: Services;
let source: StaticServices;
let table: ServiceTable;

beforeEach(() => {
  services = new Services({ node: "k8s-master", externalIpRanges: [{ address: 0, length: 0 }] });
  source = new StaticServices(services);
  table = new ServiceTable();
});

function take(...list: ServiceConfig[]): string[] {
  source.set({
    node: "k8s-master",
    podPool: ["10.1.0.0/16"],
    blocks: ["10.1.235.192/26"],
    vteps: [{ node: "k8s-worker01", blocks: ["10.1.79.64/26"] }],
    services: list,
  } as unknown as AgentConfig);
  const { image, problems, services: changed } = services.compile();
  expect(problems).toEqual([]);
  table.adopt(image);
  services.acknowledge(image);
  return changed;
}

const WEB: ServiceConfig = {
  name: "default/web",
  clusterIP: "10.152.183.10",
  ports: [
    { name: "http", port: 80, targetPort: 8080, nodePort: 30080 },
    { name: "dns", protocol: "UDP", port: 53 },
  ],
  backends: [
    { address: "10.1.235.193" },
    { address: "10.1.79.65", port: 9000 },
    { address: "192.0.2.7" },
    { address: "10.1.79.66", ready: false },
  ],
};

/** "address:port flags" of the backends of an address, from inside or outside; "no service", "reject", "drop". */
function backends(address: string, protocol: number, port: number, outside = false): string | string[] {
  const value = address === "" ? 0 : parseIpv4(address)!;
  const row = value === 0 ? table.findNodePort(protocol, port) : table.find(value, protocol, port);
  if (row < 0) return "no service";
  const ring = outside ? table.outsideRing(row) : table.insideRing(row);
  if (ring < 0) return ring === -1 ? "reject" : "drop";
  return Array.from({ length: table.count(ring) }, (_, i) => {
    const member = table.member(ring, i);
    const flags = table.backendFlags(member);
    const where = flags & BACKEND_LOCAL ? " here" : flags & BACKEND_OUTSIDE_POOL ? " outside" : "";
    return `${formatIpv4(table.address(member))}:${table.l4Port(member)}${where}`;
  });
}

test("ports, target ports and backends' own ports; those that are not ready get nothing", () => {
  take(WEB);
  const http = ["10.1.79.65:9000", "10.1.235.193:8080 here", "192.0.2.7:8080 outside"];
  expect(backends("10.152.183.10", TCP, 80)).toEqual(http);
  expect(backends("10.152.183.10", TCP, 80, true)).toBe("drop");
  expect(backends("", TCP, 30080, true)).toEqual(http);
  expect(backends("10.152.183.10", UDP, 53)).toEqual([
    "10.1.79.65:9000",
    "10.1.235.193:53 here",
    "192.0.2.7:53 outside",
  ]);
});

test("policies, affinity and addresses from outside", () => {
  take({
    ...WEB,
    internalTrafficPolicy: "Local",
    externalTrafficPolicy: "Local",
    sessionAffinitySeconds: 600,
    externalIPs: ["192.0.2.80"],
    loadBalancerIPs: ["192.168.2.36"],
  });
  const here = ["10.1.235.193:8080 here"];
  expect(backends("10.152.183.10", TCP, 80)).toEqual(here);
  for (const address of ["192.0.2.80", "192.168.2.36", ""])
    expect(backends(address, TCP, address === "" ? 30080 : 80, true)).toEqual(here);
  expect(table.affinitySeconds(table.find(parseIpv4("10.152.183.10")!, TCP, 80))).toBe(600);
});

test("a backend without a node is on the one whose block it lies in, unless it names another", () => {
  take({
    ...WEB,
    internalTrafficPolicy: "Local",
    backends: [
      { address: "10.1.79.65", node: "k8s-master" },
      { address: "10.1.235.193", node: "k8s-worker01" },
    ],
  });
  expect(backends("10.152.183.10", TCP, 80)).toEqual(["10.1.79.65:8080 here"]);
});

test("what changes is compiled, what goes is gone, the rest is left alone", () => {
  const other: ServiceConfig = {
    ...WEB,
    name: "default/other",
    clusterIP: "10.152.183.11",
    ports: [{ port: 80 }],
  };
  expect(take(WEB, other)).toEqual(["default/web", "default/other"]);
  expect(take(WEB, other)).toEqual([]);
  // The slice of the backend with a port of its own goes.
  expect(take({ ...WEB, backends: [{ address: "10.1.235.193" }] }, other)).toEqual(["default/web"]);
  expect(backends("10.152.183.10", TCP, 80)).toEqual(["10.1.235.193:8080 here"]);
  expect(take(other)).toEqual(["default/web"]);
  expect(backends("10.152.183.10", TCP, 80)).toBe("no service");
  expect(backends("10.152.183.11", TCP, 80)).toHaveLength(3);
  expect(take({ ...other, backends: [] })).toEqual(["default/other"]);
  expect(backends("10.152.183.11", TCP, 80)).toBe("reject");
});

test("slices of Services with similar names are not confused", () => {
  const { slices } = staticObjects(WEB, () => "");
  const also = staticObjects({ ...WEB, name: "default/web-9000" }, () => "");
  const names = [...slices, ...also.slices].map(({ metadata }) => metadata.name);
  expect(new Set(names).size).toBe(4);
});
