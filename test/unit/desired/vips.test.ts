/** API objects to who may announce what: through the Services' reader and VipAnnouncements together. */
import { describe, expect, test } from "vitest";
import { FULL_MESH, REACH } from "../../../src/announce/neighbors.js";
import { vipOrders } from "../../../src/announce/owners.js";
import type { EndpointSliceObject, ServiceObject } from "../../../src/desired/serviceObjects.js";
import { Services } from "../../../src/desired/services.js";
import { type Announcements, VipAnnouncements } from "../../../src/desired/vips.js";
import type { IPAddressPool, L2Advertisement } from "../../../src/kube/types.js";
import { parseIpv4 } from "../../../src/model/ipv4.js";

const NODES = ["k8s-master", "k8s-worker01", "k8s-worker02", "k8s-worker03"];
const [MASTER, W1, W2, W3] = NODES as [string, string, string, string];
const POOL = "default-addresspool";
const macOf = (node: string) => `02:00:c0:a8:02:${(0x1e + NODES.indexOf(node)).toString(16)}`;

interface NodeFields {
  labels?: Record<string, string>;
  mac?: string;
  lan?: string;
  conditions?: { type: string; status: string }[];
}

const node = (
  name: string,
  { labels = {}, mac = macOf(name), lan = "eth0", conditions }: NodeFields = {},
) => ({
  metadata: {
    name,
    labels,
    annotations: { "podwire.dev/lan-mac": mac, "podwire.dev/lan-interface": lan },
  },
  ...(conditions && { status: { conditions } }),
});

const pool = (name: string, labels: Record<string, string> = {}): IPAddressPool => ({
  metadata: { name, namespace: "metallb-system", labels },
  spec: { addresses: ["192.168.2.36-192.168.2.40"] },
});

const advertisement = (name: string, spec?: L2Advertisement["spec"]): L2Advertisement => ({
  metadata: { name, namespace: "metallb-system" },
  ...(spec && { spec }),
});

interface ServiceFields {
  ips?: string[];
  local?: boolean;
  pool?: string;
  labels?: Record<string, string>;
  created?: string;
}

const service = (name: string, fields: ServiceFields = {}): ServiceObject => ({
  metadata: {
    name,
    namespace: "default",
    creationTimestamp: fields.created ?? "2026-11-23T10:00:00Z",
    labels: fields.labels ?? {},
    annotations: fields.pool === "" ? {} : { "metallb.io/ip-allocated-from-pool": fields.pool ?? POOL },
  },
  spec: {
    type: "LoadBalancer",
    clusterIP: "10.152.183.10",
    externalTrafficPolicy: fields.local ? "Local" : "Cluster",
    ports: [{ port: 80 }],
  },
  status: { loadBalancer: { ingress: (fields.ips ?? ["192.168.2.36"]).map((ip) => ({ ip })) } },
});

/** Endpoints of a Service: "NODE", "NODE unready" or "NODE leaving"; "" for one without a node. */
const slice = (serviceName: string, endpoints: string[], name = `${serviceName}-1`): EndpointSliceObject => ({
  metadata: { name, namespace: "default", labels: { "kubernetes.io/service-name": serviceName } },
  addressType: "IPv4",
  ports: [{ port: 80 }],
  endpoints: endpoints.map((text, i) => {
    const [nodeName = "", state] = text.split(" ");
    return {
      addresses: [`10.1.79.${65 + i}`],
      ...(nodeName && { nodeName }),
      conditions: state === undefined ? {} : { ready: false, serving: state === "leaving" },
    };
  }),
});

class World {
  readonly services = new Services({ node: MASTER, externalIpRanges: [] });
  readonly announcements: VipAnnouncements;

  constructor(self = MASTER) {
    this.announcements = new VipAnnouncements(self);
  }

  compile(): Announcements {
    return this.announcements.compile(this.services.loadBalancerVips());
  }

  /** Who may own an address, sorted; or why nobody may. */
  eligible(address = "192.168.2.36"): string[] | string {
    const vip = this.compile().vips.find((each) => each.address === address);
    return vip === undefined ? "unknown" : (vip.problem ?? [...vip.nodes].sort());
  }
}

/** The walkthrough's, with one Service. */
function walkthrough(fields: ServiceFields = {}, endpoints = NODES, self = MASTER): World {
  const world = new World(self);
  for (const name of NODES) world.announcements.setNode(node(name));
  world.announcements.setPool(pool(POOL));
  world.announcements.setAdvertisement(advertisement("default-advertise-all-pools"));
  world.services.setService(service("web", fields));
  world.services.setSlice(slice("web", endpoints));
  return world;
}

describe("VipAnnouncements", () => {
  test("the walkthrough's: every node in announce/'s order, and all watch each other", () => {
    const { nodes, vips } = walkthrough().compile();
    expect(nodes).toEqual([W1, W2, W3].map((name) => ({ node: name, mac: macOf(name), watched: true })));
    const [order] = vipOrders({
      nodes: NODES.map((name) => ({ name, labels: {}, lanInterface: "eth0", networkUnavailable: false })),
      pools: new Map([[POOL, {}]]),
      advertisements: [advertisement("all")],
      vips: [
        {
          address: parseIpv4("192.168.2.36")!,
          pool: POOL,
          services: [{ labels: {}, local: false, endpointNodes: new Set(NODES) }],
        },
      ],
    });
    expect(order!.nodes).toHaveLength(4);
    expect(vips).toEqual([
      { address: "192.168.2.36", pool: POOL, services: ["default/web"], nodes: order!.nodes, problem: null },
    ]);
  });

  test("every node compiles the same orders, whatever the order in which objects come", () => {
    const reversed = new World(W3);
    reversed.services.setSlice(slice("web", [...NODES].reverse()));
    reversed.services.setService(service("web"));
    reversed.announcements.setAdvertisement(advertisement("default-advertise-all-pools"));
    reversed.announcements.setPool(pool(POOL));
    for (const name of [...NODES].reverse()) reversed.announcements.setNode(node(name));
    expect(reversed.compile().vips).toEqual(walkthrough().compile().vips);
  });

  test.each<[string, ServiceFields, string[], string[] | string]>([
    ["policy Local: nodes with an endpoint", { local: true }, [W1, W3], [W1, W3]],
    ["policy Local: one that is not ready does not count", { local: true }, [W1, `${W3} unready`], [W1]],
    ["policy Local: one that leaves and still serves does", { local: true }, [`${W3} leaving`], [W3]],
    ["policy Local: one without a node serves nowhere", { local: true }, [""], "noNode"],
    ["policy Cluster: anywhere", {}, [W1], NODES],
    ["no endpoint that can serve", {}, [`${W1} unready`], "noEndpoints"],
    ["no endpoint", {}, [], "noEndpoints"],
    ["a pool that is not there", { pool: "gone" }, [W1], "notAdvertised"],
    ["no word about the pool", { pool: "" }, [W1], "notAdvertised"],
    ["no address", { ips: [] }, [W1], "unknown"],
  ])("%s", (_, fields, endpoints, expected) => {
    expect(walkthrough(fields, endpoints).eligible()).toEqual(expected);
  });

  test.each<[string, L2Advertisement["spec"], string[] | string]>([
    ["pools by name", { ipAddressPools: ["other"] }, "notAdvertised"],
    ["pools by labels", { ipAddressPoolSelectors: [{ matchLabels: { zone: "east" } }] }, NODES],
    ["nodes by labels", { nodeSelectors: [{ matchLabels: { rack: "a" } }] }, [W1, W2]],
    ["interfaces", { interfaces: ["eth1"] }, [W3]],
    ["Services by labels", { serviceSelectors: [{ matchLabels: { app: "web" } }] }, NODES],
    ["other Services", { serviceSelectors: [{ matchLabels: { app: "db" } }] }, "notAdvertised"],
  ])("an advertisement chooses %s", (_, spec, expected) => {
    const world = walkthrough({ labels: { app: "web" } });
    world.announcements.setPool(pool(POOL, { zone: "east" }));
    for (const name of [W1, W2]) world.announcements.setNode(node(name, { labels: { rack: "a" } }));
    world.announcements.setNode(node(W3, { lan: "eth1" }));
    world.announcements.setAdvertisement(advertisement("default-advertise-all-pools", spec));
    expect(world.eligible()).toEqual(expected);
  });

  test("nodes that are excluded, without network or without a LAN interface announce nothing", () => {
    const world = walkthrough();
    const exclude = { "node.kubernetes.io/exclude-from-external-load-balancers": "" };
    world.announcements.setNode(node(MASTER, { labels: exclude }));
    world.announcements.setNode(node(W1, { conditions: [{ type: "NetworkUnavailable", status: "True" }] }));
    world.announcements.setNode(node(W2, { mac: "" }));
    expect(world.eligible()).toEqual([W3]);
    // Without the annotation it has no agent to watch either; the others are watched all the same.
    expect(world.compile().nodes.map((each) => each.node)).toEqual([W1, W3]);
    expect(world.announcements.setNode(node(W2, { mac: "01:00:5e:00:00:01" }))).toBe(false);
    world.announcements.setNode(node(W1, { conditions: [{ type: "NetworkUnavailable", status: "False" }] }));
    expect(world.eligible()).toEqual([W1, W3]);
  });

  test("each change counts at once, and nothing but a change is one", () => {
    const world = walkthrough({ local: true }, [W1]);
    const { announcements, services } = world;
    expect(world.eligible()).toEqual([W1]);
    services.setSlice(slice("web", [W2]));
    expect(world.eligible()).toEqual([W2]);
    expect(announcements.removeAdvertisement("default-advertise-all-pools")).toBe(true);
    expect(announcements.removeAdvertisement("default-advertise-all-pools")).toBe(false);
    expect(world.eligible()).toBe("notAdvertised");
    expect(announcements.setAdvertisement(advertisement("again"))).toBe(true);
    expect(announcements.setAdvertisement(advertisement("again"))).toBe(false);
    expect(world.eligible()).toEqual([W2]);
    expect(announcements.setNode(node(W2))).toBe(false);
    expect(announcements.removeNode(W2)).toBe(true);
    expect(world.eligible()).toBe("noNode");
    expect(announcements.setNode(node(W2))).toBe(true);
    expect(announcements.setPool(pool(POOL))).toBe(false);
    expect(announcements.removePool(POOL)).toBe(true);
    expect(world.eligible()).toBe("notAdvertised");
    services.removeService("default", "web");
    expect(world.compile().vips).toEqual([]);
  });

  test("Services that share an address: the oldest comes first and says the pool; each Local one counts", () => {
    const world = walkthrough({ created: "2026-11-23T11:00:00Z" }, [MASTER]);
    world.services.setService(service("old", { created: "2026-11-23T09:00:00Z", local: true }));
    world.services.setService(service("mid", { created: "2026-11-23T10:00:00Z", pool: "other" }));
    world.services.setSlice(slice("old", [W1, W2]));
    world.services.setSlice(slice("mid", [W3]));
    expect(world.compile().vips).toMatchObject([
      { pool: POOL, services: ["default/old", "default/mid", "default/web"] },
    ]);
    expect(world.eligible()).toEqual([W1, W2]);
  });

  test("addresses come in ascending order, each of a Service's", () => {
    const world = walkthrough({ ips: ["192.168.2.40", "192.168.2.9"] });
    expect(world.compile().vips.map(({ address }) => address)).toEqual(["192.168.2.9", "192.168.2.40"]);
  });

  test("a node that announces nothing watches nobody", () => {
    const world = walkthrough();
    world.announcements.removeNode(MASTER);
    expect(world.compile().nodes.map(({ watched }) => watched)).toEqual([false, false, false]);
  });

  test("in a large cluster all are known, and some are watched", () => {
    const names = Array.from({ length: 3 * FULL_MESH }, (_, i) => `node-${i}`);
    const announcements = new VipAnnouncements("node-7");
    names.forEach((name, i) => {
      const mac = `02:00:00:00:00:${(i & 255).toString(16).padStart(2, "0")}`;
      announcements.setNode(node(name, { mac }));
    });
    const { nodes } = announcements.compile([]);
    expect(nodes).toHaveLength(names.length - 1);
    expect(nodes.filter(({ watched }) => watched)).toHaveLength(4 * REACH);
  });
});
