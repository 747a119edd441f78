/** What an agent hands out of its tables is what its dataplane has, under the names of the config. */
import { expect, test } from "vitest";
import { parseConfig } from "../../../src/agent/config.js";
import { nodeTables } from "../../../src/agent/nodeTables.js";
import { NO_LAN_PORTS } from "../../../src/desired/lan.js";
import { Services } from "../../../src/desired/services.js";
import { StaticServices } from "../../../src/desired/staticServices.js";
import { tableInput } from "../../../src/desired/tables.js";
import { parseIpv4 } from "../../../src/model/ipv4.js";
import { ROUTE_PORT, routeOf } from "../../../src/tables/RouteTable.js";
import { ServiceTable } from "../../../src/tables/ServiceTable.js";
import { restoreServices } from "../../../src/tables/serviceSnapshot.js";
import { buildTableImage, Tables } from "../../../src/tables/TableImage.js";

const CONFIG = `node: k8s-master
underlay: { address: 192.168.2.30 }
podPool: 10.1.0.0/16
blocks: [10.1.235.192/26]
vteps:
  - { node: k8s-worker01, address: 192.168.2.31, blocks: [10.1.79.64/26] }
  - { node: k8s-worker02, address: 192.168.2.32, blocks: [10.1.69.192/26] }
pods:
  - { name: default/nginx, netns: /run/netns/a, address: 10.1.235.193 }
  - { name: default/late, netns: /run/netns/b, address: 10.1.235.194 }
serviceRange: 10.152.183.0/24
services:
  - name: default/web
    clusterIP: 10.152.183.7
    ports: [{ port: 80, nodePort: 30080 }]
    backends: [{ address: 10.1.235.193 }, { address: 10.1.79.65 }]
`;

function neighbor(node: string, state: string, down: boolean) {
  return {
    node,
    address: "",
    state,
    remoteState: state,
    diagnostic: "",
    remoteDiagnostic: "",
    down,
    upSince: "",
    intervalMs: 100,
    detectionMs: 300,
  };
}

const announcement = {
  node: "k8s-master",
  interface: null,
  carrier: true,
  drained: false,
  settled: true,
  addresses: [
    {
      address: "192.168.2.36",
      owner: "k8s-worker01",
      since: "",
      answers: false,
      order: [{ node: "k8s-worker01", up: true }],
      pool: "",
      services: [],
      problem: null,
    },
  ],
  neighbors: [neighbor("k8s-worker01", "Up", false), neighbor("k8s-worker02", "Down", true)],
  conflicts: [],
};

const DEVICES = {
  underlayMtu: 1500,
  tunnelPort: 0,
  node: { port: 1, uso: false },
  icmpPort: -1,
  reassemblyPort: -1,
  gsoPort: -1,
  // The other one is not attached yet.
  pods: new Map([["default/nginx", { port: 5, uso: false }]]),
  vteps: new Map([
    ["k8s-worker01", 0],
    ["k8s-worker02", 1],
  ]),
  addresses: [],
  nodePortAddresses: [],
  egress: [],
  lan: null,
  lanPorts: NO_LAN_PORTS,
};

function bytesOf(base64: string): ArrayBuffer {
  return new Uint8Array(Buffer.from(base64, "base64")).buffer;
}

test("the tables in force, and the names to them", () => {
  const { config } = parseConfig("f", CONFIG);
  const services = new Services({ node: config.node, externalIpRanges: [] });
  new StaticServices(services).set(config);
  const { image } = services.compile();
  const input = tableInput(config, DEVICES);
  const reconciler = {
    tables: () => input,
    image: buildTableImage(input),
    nodePortAddresses: ["192.168.2.30"],
    ownAddresses: ["192.168.2.30", "10.0.2.15"],
  };
  const answer = nodeTables({ config, reconciler, publisher: { image }, services, announcement });
  const tables = new Tables(bytesOf(answer.image));
  expect(tables.routes.lookup(parseIpv4("10.1.235.193")!)).toBe(routeOf(ROUTE_PORT, 5));
  const table = new ServiceTable();
  table.adopt(restoreServices(new Int32Array(bytesOf(answer.services))));
  const row = table.find(parseIpv4("10.152.183.7")!, 6, 80);
  expect(table.service(row)).toBe(answer.servicePorts[0]!.id);
  expect(table.service(table.findNodePort(6, 30080))).toBe(table.service(row));
  expect(answer).toMatchObject({
    version: 2,
    node: "k8s-master",
    pods: [{ name: "default/nginx", address: "10.1.235.193", port: 5, interface: "eth0" }],
    vteps: [
      { node: "k8s-worker01", address: "192.168.2.31", tunnelAddress: "10.1.79.64" },
      { node: "k8s-worker02", address: "192.168.2.32", tunnelAddress: "10.1.69.192" },
    ],
    liveness: { up: ["k8s-master", "k8s-worker01"], down: ["k8s-worker02"] },
    servicePorts: [
      {
        service: "default/web",
        port: "",
        protocol: "TCP",
        l4Port: 80,
        endpoints: [
          { address: "10.1.79.65", l4Port: 80, node: "k8s-worker01" },
          { address: "10.1.235.193", l4Port: 80, node: "k8s-master" },
        ],
      },
    ],
    host: {
      nodePortAddresses: ["192.168.2.30"],
      localhostNodePorts: true,
      nodePorts: { first: 30000, last: 32767 },
      egressPorts: { first: 61000, last: 65534 },
      egress: true,
      ranges: ["10.152.183.0/24"],
      addresses: ["192.168.2.30", "10.0.2.15"],
    },
    announced: [
      {
        address: "192.168.2.36",
        owner: "k8s-worker01",
        answers: false,
        order: [{ node: "k8s-worker01", up: true }],
        problem: "",
      },
    ],
  });
});

test.each([{ carrier: false }, { drained: true }, { settled: false }])(
  "a node that may own nothing is not up: %j",
  (fields) => {
    const { config } = parseConfig("f", CONFIG);
    const services = new Services({ node: config.node, externalIpRanges: [] });
    const input = tableInput(config, DEVICES);
    const reconciler = {
      tables: () => input,
      image: buildTableImage(input),
      nodePortAddresses: [],
      ownAddresses: [],
    };
    const { liveness } = nodeTables({
      config,
      reconciler,
      publisher: { image: null },
      services,
      announcement: { ...announcement, ...fields },
    });
    expect(liveness.up).toEqual(["k8s-worker01"]);
  },
);

test("before there are any, it says so; without Services it has none", () => {
  const { config } = parseConfig("f", CONFIG);
  const services = new Services({ node: config.node, externalIpRanges: [] });
  const none = { tables: () => null, image: null, nodePortAddresses: [], ownAddresses: [] };
  expect(() =>
    nodeTables({ config, reconciler: none, publisher: { image: null }, services, announcement }),
  ).toThrow("no tables yet");
});
