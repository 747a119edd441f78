/** The controller against a server in memory: what it writes, when, and what it says. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeClock, settle } from "../../../src/kube/Clock.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { EVENTS, IPADDRESSPOOLS, L2ADVERTISEMENTS, NODES, SERVICES } from "../../../src/kube/resources.js";
import type { Event, IPAddressPool, L2Advertisement, Node, Service } from "../../../src/kube/types.js";
import {
  ADDRESS_PROBE,
  PROBE_REQUEST,
  PROBE_RESULT,
  readProbeRequests,
} from "../../../src/model/addressProbe.js";
import { METALLB_NAMESPACE } from "../../../src/model/metallb.js";
import { type LoadBalancer, startLoadBalancer } from "../../../src/vip/startLoadBalancer.js";
import { pool, type ServiceFacts, service } from "./objects.js";

const FIVE = pool("default", "192.168.2.36-192.168.2.40");
const FROM_POOL = "metallb.io/ip-allocated-from-pool";

let clock: FakeClock;
let kube: FakeKube;
let balancer: LoadBalancer;
let failures: string[];

async function start(loadBalancerClass?: string): Promise<void> {
  const onError = (key: string, error: unknown) => failures.push(`${key}: ${error}`);
  balancer = startLoadBalancer(kube, { clock, random: Math.random, loadBalancerClass, onError });
  await calm();
}

/** Until the controller has nothing to do, after what the watches still bring. */
async function calm(): Promise<void> {
  for (let i = 0; i < 3; i++) {
    await settle();
    await balancer.idle();
  }
}

const put = (name: string, facts: ServiceFacts = {}) => kube.put(SERVICES, service(name, facts));
const putPool = (object: IPAddressPool) => kube.put(IPADDRESSPOOLS, object);
const get = (name: string) => kube.peek<Service>(SERVICES, name, "default")!;
const shown = (name: string): string =>
  (get(name).status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip).join() || "<pending>";
const patch = (name: string, change: object) => kube.patch(SERVICES, name, "default", "merge", change);
const told = (): string[] =>
  kube
    .all<Event>(EVENTS)
    .map(
      ({ involvedObject, type, reason, message, count }) =>
        `${involvedObject.name} ${type} ${reason}: ${message}${count === 1 ? "" : ` x${count}`}`,
    );
const NO_IPS = (name: string) =>
  `${name} Warning AllocationFailed: Failed to allocate IP for "default/${name}": no available IPs`;

beforeEach(() => {
  clock = new FakeClock();
  kube = new FakeKube({ now: () => clock.date() });
  failures = [];
});
afterEach(async () => {
  await balancer.stop();
  expect(failures).toEqual([]);
});

describe("addresses", () => {
  test("pending without a pool, said once; in the order of their coming when it is there", async () => {
    await start();
    for (const name of ["lb-nginx-ds", "lb-apache-ds", "lb-redis-ds"]) {
      put(name);
      await calm();
      expect(shown(name)).toBe("<pending>");
    }
    await patch("lb-apache-ds", { metadata: { labels: { a: "b" } } });
    await calm();
    expect(told()).toEqual(["lb-nginx-ds", "lb-apache-ds", "lb-redis-ds"].map(NO_IPS));
    putPool(FIVE);
    await calm();
    expect(["lb-nginx-ds", "lb-apache-ds", "lb-redis-ds"].map(shown)).toEqual([
      "192.168.2.36",
      "192.168.2.37",
      "192.168.2.38",
    ]);
    expect(get("lb-nginx-ds").status).toEqual({
      loadBalancer: { ingress: [{ ip: "192.168.2.36", ipMode: "VIP" }] },
    });
    expect(get("lb-nginx-ds").metadata.annotations).toEqual({ [FROM_POOL]: "default" });
    expect(told().slice(3)).toEqual([
      'lb-nginx-ds Normal IPAllocated: Assigned IP ["192.168.2.36"]',
      'lb-apache-ds Normal IPAllocated: Assigned IP ["192.168.2.37"]',
      'lb-redis-ds Normal IPAllocated: Assigned IP ["192.168.2.38"]',
    ]);
    expect(balancer.usage()).toEqual([{ pool: "default", assigned: 3, available: 2 }]);
    expect(kube.peek<IPAddressPool>(IPADDRESSPOOLS, "default", METALLB_NAMESPACE)!.status).toEqual({
      assignedIPv4: 3,
      assignedIPv6: 0,
      availableIPv4: 2,
      availableIPv6: 0,
    });
  });

  test("what is deleted goes to who waits", async () => {
    putPool(pool("default", "192.168.2.36/32"));
    put("a");
    await start();
    put("b");
    await calm();
    expect([shown("a"), shown("b")]).toEqual(["192.168.2.36", "<pending>"]);
    await kube.delete(SERVICES, "a", "default");
    await calm();
    expect(shown("b")).toBe("192.168.2.36");
  });

  test("another type gives it back, and a later one gets one again", async () => {
    putPool(pool("default", "192.168.2.36/32"));
    put("a");
    await start();
    put("b");
    await patch("a", { spec: { type: "ClusterIP" } });
    await calm();
    expect(get("a").status).toEqual({ loadBalancer: {} });
    expect(get("a").metadata.annotations ?? {}).toEqual({});
    expect(shown("b")).toBe("192.168.2.36");
    await patch("a", { spec: { type: "LoadBalancer" } });
    await kube.delete(SERVICES, "b", "default");
    await calm();
    expect(shown("a")).toBe("192.168.2.36");
  });

  test("kept over a restart, also where the pool would now give others first", async () => {
    putPool(FIVE);
    put("a");
    await start();
    for (const name of ["b", "c"]) put(name);
    await calm();
    await kube.delete(SERVICES, "a", "default");
    await calm();
    const before = [shown("b"), shown("c")];
    await balancer.stop();
    put("aa");
    await start();
    expect([shown("b"), shown("c"), shown("aa")]).toEqual([...before, "192.168.2.36"]);
    expect(before).toEqual(["192.168.2.37", "192.168.2.38"]);
  });

  test("a Service of the same name is another", async () => {
    putPool(FIVE);
    put("a");
    await start();
    await kube.delete(SERVICES, "a", "default");
    put("a", { annotations: { "metallb.io/loadBalancerIPs": "192.168.2.40" } });
    await calm();
    expect(shown("a")).toBe("192.168.2.40");
  });

  test("a status that somebody empties is written again, the same", async () => {
    putPool(FIVE);
    put("a");
    put("b");
    await start();
    const before = shown("b");
    await kube.patch(SERVICES, "b", "default", "merge", { status: { loadBalancer: null } }, "status");
    await kube.delete(SERVICES, "a", "default");
    await calm();
    expect(shown("b")).toBe(before);
  });

  test("two that show one address: the older keeps it", async () => {
    putPool(FIVE);
    put("old", { has: ["192.168.2.36"] });
    await clock.advance(2000);
    put("new", { has: ["192.168.2.36"] });
    await start();
    expect([shown("old"), shown("new")]).toEqual(["192.168.2.36", "192.168.2.37"]);
    expect(told()).toContain(
      'new Normal ClearAssignment: current IP for "default/new" not allowed by config, will attempt for new IP assignment: can\'t change sharing key for "default/new", address also in use by default/old',
    );
  });

  test("a key taken away from a shared address lets nobody else in, and one of them moves", async () => {
    putPool(FIVE);
    const shared = { "metallb.io/allow-shared-ip": "k" };
    put("a", { annotations: shared, ports: ["80"] });
    put("b", { annotations: shared, ports: ["443"] });
    await start();
    expect([shown("a"), shown("b")]).toEqual(["192.168.2.36", "192.168.2.36"]);
    await patch("b", { metadata: { annotations: { "metallb.io/allow-shared-ip": null } } });
    await calm();
    expect([shown("a"), shown("b")]).toEqual(["192.168.2.36", "192.168.2.37"]);
  });

  test("a key put on lets in who waits", async () => {
    putPool(pool("default", "192.168.2.36/32"));
    const shared = { "metallb.io/allow-shared-ip": "k" };
    put("a", { ports: ["80"] });
    await start();
    put("b", { annotations: shared, ports: ["443"] });
    await calm();
    expect(shown("b")).toBe("<pending>");
    await patch("a", { metadata: { annotations: shared } });
    await calm();
    expect([shown("a"), shown("b")]).toEqual(["192.168.2.36", "192.168.2.36"]);
  });

  test("nodePorts are no matter", async () => {
    putPool(FIVE);
    put("a", { spec: { allocateLoadBalancerNodePorts: false } });
    await start();
    expect(shown("a")).toBe("192.168.2.36");
  });
});

describe("classes", () => {
  const of = (loadBalancerClass: string): ServiceFacts => ({ spec: { loadBalancerClass } });
  test("ours and none by default", async () => {
    putPool(FIVE);
    put("none");
    put("ours", of("podwire.dev/load-balancer"));
    put("other", { ...of("example.com/lb"), has: ["192.0.2.1"] });
    await start();
    expect(["none", "ours", "other"].map(shown)).toEqual(["192.168.2.36", "192.168.2.37", "192.0.2.1"]);
  });
  test("only the one that is named", async () => {
    putPool(FIVE);
    put("none");
    put("named", of("example.com/lb"));
    await start("example.com/lb");
    expect(["none", "named"].map(shown)).toEqual(["<pending>", "192.168.2.36"]);
    await patch("named", { spec: { type: "ClusterIP", loadBalancerClass: null } });
    await calm();
    expect(shown("named")).toBe("<pending>");
  });
});

describe("configuration", () => {
  test("a pool shrunk, and deleted, under live Services", async () => {
    putPool(FIVE);
    put("a", { has: ["192.168.2.40"] });
    await start();
    putPool(pool("default", "192.168.2.36-192.168.2.38"));
    await calm();
    expect(shown("a")).toBe("192.168.2.36");
    await kube.delete(IPADDRESSPOOLS, "default", METALLB_NAMESPACE);
    await calm();
    expect(shown("a")).toBe("<pending>");
    expect(get("a").metadata.annotations ?? {}).toEqual({});
    const cleared = (ip: string) =>
      `a Normal ClearAssignment: current IP for "default/a" not allowed by config, will attempt for new IP assignment: ["${ip}"] is not allowed in config`;
    expect(told()).toEqual([
      cleared("192.168.2.40"),
      'a Normal IPAllocated: Assigned IP ["192.168.2.36"]',
      cleared("192.168.2.36"),
      NO_IPS("a"),
    ]);
  });

  test("a faulty one is told and the last good one stays", async () => {
    putPool(FIVE);
    await start();
    putPool(pool("other", "192.168.2.40/32"));
    put("a");
    await calm();
    expect(shown("a")).toBe("192.168.2.36");
    expect(told()[0]).toBe(
      'other Warning ConfigError: failed to parse configuration: CIDR "192.168.2.40/32" in pool "other" overlaps with already defined CIDR "192.168.2.40/32"',
    );
    putPool(pool("other", "192.168.2.41/32"));
    put("b", { annotations: { "metallb.io/address-pool": "other" } });
    await calm();
    expect(shown("b")).toBe("192.168.2.41");
  });

  test("a faulty one at the start: nobody loses anything", async () => {
    putPool(FIVE);
    putPool(pool("other", "192.168.2.40/32"));
    put("a", { has: ["192.168.2.39"] });
    put("b");
    await start();
    expect([shown("a"), shown("b")]).toEqual(["192.168.2.39", "<pending>"]);
    await kube.delete(IPADDRESSPOOLS, "other", METALLB_NAMESPACE);
    await calm();
    expect([shown("a"), shown("b")]).toEqual(["192.168.2.39", "192.168.2.36"]);
  });

  test("pools of other namespaces are none", async () => {
    kube.put(IPADDRESSPOOLS, { ...FIVE, metadata: { name: "default", namespace: "default" } });
    put("a");
    await start();
    expect(shown("a")).toBe("<pending>");
  });

  test("an advertisement of a pool that stays unknown", async () => {
    await start();
    const advertisement = (name: string, pools: string[]) =>
      kube.put<L2Advertisement>(L2ADVERTISEMENTS, {
        metadata: { name, namespace: METALLB_NAMESPACE },
        spec: { ipAddressPools: pools },
      });
    advertisement("early", ["default"]);
    advertisement("wrong", ["default", "nix"]);
    await calm();
    putPool(FIVE);
    await clock.advance(10_000);
    await calm();
    expect(told()).toEqual(["wrong Warning UnknownPool: no IPAddressPool of this name: nix"]);
  });
});

describe("a server with faults", () => {
  test("a lost answer, a conflict and a refusal: one address, one Event", async () => {
    putPool(FIVE);
    await start();
    kube.loseResponse({ verb: "patch", plural: "services" });
    put("a");
    await calm();
    await clock.advance(1000);
    await calm();
    kube.failNext({ verb: "patch", plural: "services" });
    put("b");
    await calm();
    await clock.advance(1000);
    await calm();
    // Changed between our reading and our writing.
    let go = () => {};
    kube.delay({ verb: "patch", plural: "services" }, new Promise<void>((resolve) => (go = resolve)));
    put("c");
    await settle();
    kube.put(SERVICES, service("c", { labels: { changed: "yes" } }));
    go();
    await clock.advance(1000);
    await calm();
    expect(["a", "b", "c"].map(shown)).toEqual(["192.168.2.36", "192.168.2.37", "192.168.2.38"]);
    expect(told()).toEqual(
      ["a 36", "b 37", "c 38"].map((text) => {
        const [name, last] = text.split(" ");
        return `${name} Normal IPAllocated: Assigned IP ["192.168.2.${last}"]`;
      }),
    );
    expect(failures).toHaveLength(2);
    failures = [];
  });

  test("an address goes to another only when the first no longer shows it", async () => {
    putPool(FIVE);
    put("a");
    await start();
    let go = () => {};
    kube.delay({ verb: "patch", plural: "services" }, new Promise<void>((resolve) => (go = resolve)));
    await kube.delete(SERVICES, "a", "default");
    put("x", { has: ["192.168.2.36"], annotations: { "metallb.io/loadBalancerIPs": "192.168.2.37" } });
    await settle();
    // x moves to .37 and waits for its write; .36 is not free yet.
    put("y", { annotations: { "metallb.io/loadBalancerIPs": "192.168.2.36" } });
    await settle();
    expect([shown("x"), shown("y")]).toEqual(["192.168.2.36", "<pending>"]);
    go();
    await calm();
    expect([shown("x"), shown("y")]).toEqual(["192.168.2.37", "192.168.2.36"]);
    expect(told().filter((text) => text.includes("Failed"))).toEqual([]);
  });
});

describe("a watch that stands still", () => {
  /** Until the clock goes on by 50 ms. */
  const stall = async () => {
    kube.failNext({ verb: "watch", plural: "services" });
    kube.disconnectWatches("services");
    await settle();
  };

  test("our own write is known before it is heard of", async () => {
    putPool(FIVE);
    put("a", { has: ["192.168.2.37"] });
    put("b", { has: ["192.168.2.36"] });
    await start();
    await stall();
    putPool(pool("default", ["192.168.2.36/32", "192.168.2.38/32"]));
    await calm();
    expect(shown("a")).toBe("192.168.2.38");
    const before = told();
    // Every Service has another turn, with a pool that would come first.
    putPool(pool("another", "192.0.2.1/32"));
    await calm();
    expect(shown("a")).toBe("192.168.2.38");
    await clock.advance(1000);
    await calm();
    expect(told()).toEqual(before);
    expect(failures.map((text) => text.split(":")[0])).toEqual(["services"]);
    failures = [];
  });

  test("after a lost answer the server is asked", async () => {
    await start();
    put("a");
    await calm();
    await stall();
    kube.loseResponse({ verb: "patch", plural: "services" });
    putPool(FIVE);
    await settle();
    await clock.advance(25);
    expect(told().slice(1)).toEqual(['a Normal IPAllocated: Assigned IP ["192.168.2.36"]']);
    expect(kube.requests.filter((text) => text === "patch services a")).toHaveLength(1);
    expect(failures.map((text) => text.split(":")[0])).toEqual(["services", "default/a"]);
    failures = [];
  });
});

describe("probes", () => {
  /** An agent's part: answers what it is asked, from what the LAN has. */
  async function answer(node: string, lan: Record<string, string>): Promise<string[]> {
    const requests = readProbeRequests(kube.peek<Node>(NODES, node)!.metadata.annotations?.[PROBE_REQUEST]);
    const results = Object.fromEntries(
      Object.entries(requests).map(([address, id]) => [address, { id, mac: lan[address] ?? "" }]),
    );
    await kube.patch(NODES, node, undefined, "merge", {
      metadata: { annotations: { [PROBE_RESULT]: JSON.stringify(results) } },
    });
    await calmBut();
    return Object.keys(requests);
  }
  /** The controller may wait for an answer. */
  const calmBut = async () => {
    for (let i = 0; i < 3; i++) await settle();
  };
  const able = (name: string) =>
    kube.put<Node>(NODES, {
      metadata: { name, annotations: { [ADDRESS_PROBE]: "true" } },
      status: { conditions: [{ type: "Ready", status: "True" }] },
    } as Node);
  const begin = async () => {
    balancer = startLoadBalancer(kube, { clock, random: Math.random });
    await calmBut();
  };

  test("a free one is used, one that is taken is told and passed over", async () => {
    able("n1");
    putPool(FIVE);
    put("a");
    await begin();
    put("b");
    await calmBut();
    expect(shown("a")).toBe("<pending>");
    const lan = { "192.168.2.36": "02:00:5e:00:53:01" };
    expect(await answer("n1", lan)).toEqual(["192.168.2.36", "192.168.2.37"]);
    expect(shown("b")).toBe("192.168.2.37");
    expect(await answer("n1", lan)).toEqual(["192.168.2.38"]);
    expect(shown("a")).toBe("192.168.2.38");
    expect(kube.peek<Node>(NODES, "n1")!.metadata.annotations).not.toHaveProperty(PROBE_REQUEST);
    expect(told()).toEqual([
      'a Warning AddressInUse: IP "192.168.2.36" is in use by 02:00:5e:00:53:01 on the LAN, it is left out',
      'b Normal IPAllocated: Assigned IP ["192.168.2.37"]',
      'a Normal IPAllocated: Assigned IP ["192.168.2.38"]',
    ]);
  });

  test("only a taken one is left: pending, and tried again later without a new Event", async () => {
    able("n1");
    putPool(pool("default", "192.168.2.36/32"));
    put("a");
    await begin();
    await answer("n1", { "192.168.2.36": "02:00:5e:00:53:01" });
    await balancer.idle();
    expect(shown("a")).toBe("<pending>");
    await clock.advance(300_000);
    await answer("n1", { "192.168.2.36": "02:00:5e:00:53:01" });
    await balancer.idle();
    const warnings = [
      'a Warning AddressInUse: IP "192.168.2.36" is in use by 02:00:5e:00:53:01 on the LAN, it is left out',
      NO_IPS("a"),
    ];
    expect(told()).toEqual(warnings);
    await clock.advance(300_000);
    await answer("n1", {});
    await balancer.idle();
    expect(shown("a")).toBe("192.168.2.36");
  });

  test("one that was ours a moment ago is not probed, one of long ago is", async () => {
    able("n1");
    putPool(pool("default", "192.168.2.36/32"));
    put("a", { has: ["192.168.2.36"] });
    await begin();
    await kube.delete(SERVICES, "a", "default");
    put("b");
    await calm();
    expect(shown("b")).toBe("192.168.2.36");
    await kube.delete(SERVICES, "b", "default");
    await calm();
    await clock.advance(60_000);
    put("c");
    await calmBut();
    expect(shown("c")).toBe("<pending>");
    expect(await answer("n1", {})).toEqual(["192.168.2.36"]);
    expect(shown("c")).toBe("192.168.2.36");
  });

  test("one that a Service has is not probed for those who share it", async () => {
    able("n1");
    putPool(FIVE);
    const annotations = { "metallb.io/allow-shared-ip": "k" };
    put("a", { has: ["192.168.2.36"], annotations });
    put("b", { annotations, ports: ["443"] });
    await begin();
    expect(shown("b")).toBe("192.168.2.36");
  });

  test("no answer from two nodes: it is used all the same; a stop waits for none", async () => {
    for (const name of ["n1", "n2", "n3"]) able(name);
    putPool(FIVE);
    put("a");
    await begin();
    await clock.advance(8_000);
    await clock.advance(7_000);
    expect(shown("a")).toBe("<pending>");
    await clock.advance(1_000);
    await calm();
    expect(shown("a")).toBe("192.168.2.36");
    put("b");
    await calmBut();
    await balancer.stop();
    expect(shown("b")).toBe("<pending>");
    expect(clock.waiting).toBe(0);
  });
});
