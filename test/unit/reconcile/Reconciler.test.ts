import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { parseConfig } from "../../../src/agent/config.js";
import { FakeHost, type FakeNamespace } from "../../../src/host/FakeHost.js";
import type { AgentConfig } from "../../../src/model/AgentConfig.js";
import { formatIpv4, parseIpv4 } from "../../../src/model/ipv4.js";
import type { DevicePlace } from "../../../src/reconcile/device.js";
import { Reconciler } from "../../../src/reconcile/Reconciler.js";
import type { RoutingRecord } from "../../../src/reconcile/routing.js";
import { FakeWorker } from "../../support/FakeWorker.js";

class MemoryRecord {
  list: DevicePlace[] = [];
  changedRouting: RoutingRecord | null = null;
  devices() {
    return this.list;
  }
  write(devices: DevicePlace[]) {
    this.list = devices;
  }
  routing() {
    return this.changedRouting;
  }
  writeRouting(routing: RoutingRecord | null) {
    this.changedRouting = routing;
  }
}

const POD_A = { name: "default/a", netns: "/run/netns/a", address: "10.1.235.193" };
const POD_B = { name: "default/b", netns: "/run/netns/b", address: "10.1.235.194" };

function config(change: Record<string, unknown> = {}): AgentConfig {
  const text = JSON.stringify({
    node: "k8s-master",
    underlay: { address: "192.168.2.30" },
    podPool: "10.1.0.0/16",
    blocks: ["10.1.235.192/26"],
    vteps: [{ node: "k8s-worker01", address: "192.168.2.31", blocks: ["10.1.79.64/26"] }],
    pods: [POD_A],
    ...change,
  });
  return parseConfig("f", text).config;
}

let host: FakeHost;
let worker: FakeWorker;
let record: MemoryRecord;
let own: FakeNamespace;
let pod: FakeNamespace;
let now: number;
let reconciler: Reconciler;

function make(): Reconciler {
  return new Reconciler({ host, worker, buildImage: worker.buildImage, record, now: () => now });
}

async function stop(): Promise<void> {
  await reconciler.halt();
  await worker.stop();
  reconciler.close();
}

/** Ends the agent's part and starts another on the same host. */
async function restart(): Promise<void> {
  await stop();
  worker = new FakeWorker();
  reconciler = make();
}

/** Lets what was kicked off run to its end. */
async function settle(): Promise<void> {
  await reconciler.resync();
}

function routes(): string[] {
  return worker.tables.routes.map((r) => `${formatIpv4(r.address)}/${r.length} ${r.to}`);
}

beforeEach(() => {
  host = new FakeHost();
  host.offloads = 0x6f;
  own = host.namespaces.get("")!;
  const eth0 = own.addLink("eth0", { up: true });
  own.addressTable.push({ index: eth0.index, address: parseIpv4("192.168.2.30")!, length: 24 });
  pod = host.addNamespace("/run/netns/a");
  worker = new FakeWorker();
  record = new MemoryRecord();
  now = 100_000;
  reconciler = make();
});

afterEach(async () => {
  expect(worker.breaches).toEqual([]);
  await stop();
  expect(host.taps.size + host.sockets.size).toBe(0);
});

describe("start", () => {
  test("makes the devices, attaches them and publishes", async () => {
    await reconciler.start(config());
    expect(worker.commands).toEqual(["attach 0", "attach 1", "attach 3", "publish"]);
    const eth0 = (await pod.link("eth0"))!;
    expect(eth0).toMatchObject({ mac: "02:70:0a:01:eb:c1", mtu: 1450, up: true, kind: "tun" });
    expect((await pod.link("lo"))!.up).toBe(true);
    expect(pod.addressTable).toEqual([{ index: eth0.index, address: parseIpv4("10.1.235.193"), length: 32 }]);
    expect(pod.routeTable).toMatchObject([
      { gateway: "169.254.1.1", protocol: 112, destination: { length: 0 } },
    ]);
    expect(pod.neighbourTable).toMatchObject([{ address: "169.254.1.1", permanent: true }]);
    expect(own.routeTable).toMatchObject([{ source: "10.1.235.192", destination: { length: 16 } }]);
    expect(own.sysctls.get("net/ipv4/conf/podwire0/rp_filter")).toBe("2");
    expect(record.list).toEqual([
      { netns: "", name: "podwire0" },
      { netns: "/run/netns/a", name: "eth0" },
    ]);
  });

  test("IPv6 is off before a device is up", async () => {
    await reconciler.start(config());
    const at = (pattern: RegExp) => host.actions.findIndex((action) => pattern.test(action));
    expect(at(/conf\/podwire0\/disable_ipv6/)).toBeLessThan(at(/set link podwire0 up/));
    expect(at(/conf\/eth0\/disable_ipv6/)).toBeLessThan(at(/set link eth0 up/));
  });

  test("falls back to segments where the kernel has no tunnel GSO, and says so", async () => {
    await reconciler.start(config());
    expect(reconciler.status()).toMatchObject({ send: "udp-segment", uso: true, overlayMtu: 1450 });
    expect(worker.tables.node.gsoPort).toBe(-1);
    expect(await own.link("podwire-tx")).toBeNull();
  });

  test("uses tunnel GSO where the kernel has it", async () => {
    host.offloads = 0x1ef;
    await reconciler.start(config());
    expect(reconciler.status().send).toBe("tunnel-gso");
    expect(worker.tables.node.gsoPort).toBe(2);
  });

  test("tunnel GSO on, without the kernel's support", async () => {
    await expect(reconciler.start(config({ dataplane: { tunnelGso: "on" } }))).rejects.toMatchObject({
      fault: "no-tunnel-gso",
    });
    expect(await own.link("podwire0")).toBeNull();
  });

  test("uso on, without the kernel's support", async () => {
    host.offloads = 0x0f;
    await expect(reconciler.start(config({ dataplane: { uso: "on" } }))).rejects.toMatchObject({
      fault: "no-uso",
    });
  });

  test.each([
    ["the socket", /bind/, "EADDRINUSE"],
    ["a device", /open eth0/, "EPERM"],
    ["an attribute", /set link eth0 mac/, "EBUSY"],
    ["a route", /add route podwire0/, "EPERM"],
    ["a sysctl", /sysctl .*podwire0/, "EACCES"],
  ])("takes everything back when %s fails", async (_, pattern, code) => {
    host.failOn(pattern, code);
    await expect(reconciler.start(config())).rejects.toThrow();
    expect((await own.links()).map(({ name }) => name)).toEqual(["lo", "eth0"]);
    expect((await pod.links()).map(({ name }) => name)).toEqual(["lo"]);
    expect(own.routeTable).toEqual([]);
    expect(host.taps.size + host.sockets.size).toBe(0);
    expect(worker.ports.size).toBe(0);
    expect(record.list).toEqual([]);
  });

  test("a failed start leaves alone what an earlier agent had made", async () => {
    await reconciler.start(config());
    await restart();
    host.failOn(/open net1/, "EPERM");
    const pods = [POD_A, { ...POD_B, netns: "/run/netns/a", interface: "net1" }];
    await expect(reconciler.start(config({ pods }))).rejects.toThrow();
    expect(await pod.link("eth0")).not.toBeNull();
    expect(await own.link("podwire0")).not.toBeNull();
    expect(record.list).toHaveLength(2);
  });

  test("a device that is not ours is left alone", async () => {
    pod.addLink("eth0", { kind: "veth" });
    await expect(reconciler.start(config())).rejects.toMatchObject({ fault: "foreign-device" });
    expect((await pod.link("eth0"))!.kind).toBe("veth");
    expect(record.list).toEqual([]);
  });

  test("a TAP without alias is ours only where the record says so", async () => {
    pod.addLink("eth0", { kind: "tun" });
    await expect(reconciler.start(config())).rejects.toMatchObject({ fault: "foreign-device" });
    record.list = [{ netns: "/run/netns/a", name: "eth0" }];
    reconciler = make();
    await reconciler.start(config());
    expect((await pod.link("eth0"))!.alias).toBe("podwire: pod default/a of node k8s-master");
  });

  test("a route of somebody else is not taken over", async () => {
    const eth0 = (await own.link("eth0"))!;
    own.routeTable.push({
      table: 254,
      destination: { address: parseIpv4("10.1.0.0")!, length: 16 },
      index: eth0.index,
      gateway: null,
      source: null,
      protocol: 4,
      priority: 0,
    });
    await expect(reconciler.start(config())).rejects.toMatchObject({
      fault: "route-taken",
      message: "a route 10.1.0.0/16 dev eth0 exists",
    });
    expect(own.routeTable).toHaveLength(1);
  });
});

describe("restart", () => {
  test("attaches to what is there, with the same devices", async () => {
    await reconciler.start(config());
    const before = [(await own.link("podwire0"))!.index, (await pod.link("eth0"))!.index];
    await restart();
    expect([(await own.link("podwire0"))!.index, (await pod.link("eth0"))!.index]).toEqual(before);
    const actions = host.actions.length;
    await reconciler.start(config());
    expect([(await own.link("podwire0"))!.index, (await pod.link("eth0"))!.index]).toEqual(before);
    // Nothing to change: bind and opens only.
    expect(host.actions.slice(actions).filter((action) => !/^(bind|open|close) /.test(action))).toEqual([]);
  });

  test("removes what the record names and the config does not", async () => {
    await reconciler.start(config());
    await restart();
    await reconciler.start(config({ pods: [] }));
    expect(await pod.link("eth0")).toBeNull();
    expect(record.list).toEqual([{ netns: "", name: "podwire0" }]);
  });

  test("another process that holds the device", async () => {
    await reconciler.start(config());
    const first = worker;
    worker = new FakeWorker();
    const other = config({ underlay: { address: "192.168.2.30", port: 8472 } });
    await expect(make().start(other)).rejects.toMatchObject({ fault: "device-busy" });
    expect(await own.link("podwire0")).not.toBeNull();
    expect(host.taps.size).toBe(2);
    worker = first;
  });
});

describe("reconfigure", () => {
  test("adds and removes pods; the others keep their ports", async () => {
    host.addNamespace("/run/netns/b");
    await reconciler.start(config());
    await reconciler.reconfigure(config({ pods: [POD_A, POD_B] }));
    const portOf = (address: string) =>
      worker.tables.ports.find((p) => p.address === parseIpv4(address))?.port;
    expect([portOf("10.1.235.193"), portOf("10.1.235.194")]).toEqual([3, 4]);
    worker.commands.length = 0;
    await reconciler.reconfigure(config({ pods: [POD_B] }));
    expect(worker.commands).toEqual(["publish", "detach 3"]);
    expect(portOf("10.1.235.194")).toBe(4);
    expect(await pod.link("eth0")).toBeNull();
    expect(record.list.map(({ netns }) => netns)).toEqual(["", "/run/netns/b"]);
    expect(routes()).not.toContain("10.1.235.193/32 port");
  });

  test("VTEP indices are stable, and free only after a table without them", async () => {
    const vtep = (n: number) => ({
      node: `w${n}`,
      address: `192.168.2.${40 + n}`,
      blocks: [`10.1.${n}.0/26`],
    });
    const indices = () => worker.tables.vteps.map(({ index }) => index);
    await reconciler.start(config({ vteps: [vtep(1), vtep(2), vtep(3)] }));
    expect(indices()).toEqual([0, 1, 2]);
    await reconciler.reconfigure(config({ vteps: [vtep(3), vtep(4)] }));
    expect(indices()).toEqual([2, 3]);
    await reconciler.reconfigure(config({ vteps: [vtep(3), vtep(4), vtep(5)] }));
    expect(indices()).toEqual([2, 3, 0]);
  });

  test("a pod's new address is set on the device it has", async () => {
    await reconciler.start(config());
    const { index } = (await pod.link("eth0"))!;
    await reconciler.reconfigure(config({ pods: [{ ...POD_A, address: "10.1.235.200" }] }));
    expect(await pod.link("eth0")).toMatchObject({ index, mac: "02:70:0a:01:eb:c8" });
    expect(pod.addressTable.map(({ address }) => formatIpv4(address))).toEqual(["10.1.235.200"]);
    expect(routes()).toContain("10.1.235.200/32 port");
  });

  test("another underlay port moves the socket", async () => {
    await reconciler.start(config());
    worker.commands.length = 0;
    await reconciler.reconfigure(config({ underlay: { address: "192.168.2.30", port: 8472 } }));
    expect(worker.commands).toEqual(["detach 0", "attach 0", "publish"]);
    expect([...host.sockets.values()].map(({ port }) => port)).toEqual([8472]);
  });

  test("a socket that cannot be had changes nothing", async () => {
    await reconciler.start(config());
    const published = worker.published.length;
    host.failOn(/bind .*:8472/, "EADDRINUSE");
    const next = config({ underlay: { address: "192.168.2.30", port: 8472 }, pods: [] });
    await expect(reconciler.reconfigure(next)).rejects.toMatchObject({ code: "EADDRINUSE" });
    expect(worker.published.length).toBe(published);
    expect(await pod.link("eth0")).not.toBeNull();
  });

  test("the same config again changes nothing", async () => {
    await reconciler.start(config());
    const [actions, commands] = [host.actions.length, worker.commands.length];
    await reconciler.reconfigure(config());
    expect(host.actions.length).toBe(actions);
    expect(worker.commands.length).toBe(commands);
  });

  test("a pod that fails does not stop the others, and is tried again", async () => {
    await reconciler.start(config());
    await reconciler.reconfigure(config({ pods: [{ ...POD_B, name: "default/0" }, POD_A, POD_B].slice(1) }));
    expect(reconciler.status().devices.find(({ id }) => id === "pod default/b")).toMatchObject({
      state: "failed",
      message: "there is no network namespace at /run/netns/b",
    });
    expect(routes()).toContain("10.1.235.193/32 port");
    host.addNamespace("/run/netns/b");
    now += 2000;
    await reconciler.resync();
    expect(routes()).toContain("10.1.235.194/32 port");
    expect(reconciler.status().devices.every(({ state }) => state === "up")).toBe(true);
  });

  test("a TAP of somebody else in a new pod stays theirs at every attempt", async () => {
    await reconciler.start(config());
    const b = host.addNamespace("/run/netns/b");
    b.addLink("eth0", { kind: "tun" });
    await reconciler.reconfigure(config({ pods: [POD_A, POD_B] }));
    for (let i = 0; i < 3; i++) {
      now += 2000;
      await reconciler.resync();
    }
    expect((await b.link("eth0"))!.alias).toBe("");
    expect(record.list).toHaveLength(2);
  });
});

describe("repair", () => {
  beforeEach(() => reconciler.start(config()));

  test("everything that was changed behind our back", async () => {
    const node = (await own.link("podwire0"))!;
    await own.setLink(node, { mtu: 1400, up: true });
    await own.deleteAddress(node, parseIpv4("10.1.235.192")!, 32);
    await own.addAddress(node, parseIpv4("10.9.9.9")!, 32);
    own.routeTable = [];
    own.neighbourTable = [];
    own.sysctls.set("net/ipv4/conf/podwire0/rp_filter", "1");
    await reconciler.resync();
    expect((await own.link("podwire0"))!.mtu).toBe(1450);
    const addresses = await own.addresses(node.index);
    expect(addresses.map(({ address }) => formatIpv4(address))).toEqual(["10.1.235.192"]);
    expect(own.routeTable).toHaveLength(1);
    expect(own.neighbourTable).toHaveLength(1);
    expect(own.sysctls.get("net/ipv4/conf/podwire0/rp_filter")).toBe("2");
  });

  test("another MTU of the underlay goes to devices and tables", async () => {
    await own.setLink((await own.link("eth0"))!, { mtu: 9000 });
    await reconciler.resync();
    expect((await own.link("podwire0"))!.mtu).toBe(8950);
    expect((await pod.link("eth0"))!.mtu).toBe(8950);
    expect(worker.tables.node.mtu).toBe(8950);
  });

  test("a deleted device is made again, at most once a second", async () => {
    pod.drop((await pod.link("eth0"))!.index);
    reconciler.portFailed(3, 9);
    await settle();
    expect(await pod.link("eth0")).toBeNull();
    expect(routes()).not.toContain("10.1.235.193/32 port");
    now += 2000;
    await reconciler.resync();
    expect(await pod.link("eth0")).not.toBeNull();
    expect(routes()).toContain("10.1.235.193/32 port");
    expect(worker.ports.has(3)).toBe(true);
  });

  test("a namespace that goes: descriptor closed, entries gone; and it comes back", async () => {
    host.namespaces.delete("/run/netns/a");
    worker.commands.length = 0;
    reconciler.checkNamespaces();
    await settle();
    expect(worker.commands.slice(0, 2)).toEqual(["publish", "detach 3"]);
    expect([...host.taps.values()].map(({ name }) => name)).toEqual(["podwire0"]);
    expect(routes()).not.toContain("10.1.235.193/32 port");
    now += 2000;
    pod = host.addNamespace("/run/netns/a");
    reconciler.checkNamespaces();
    await settle();
    expect(await pod.link("eth0")).not.toBeNull();
    expect(routes()).toContain("10.1.235.193/32 port");
  });

  test("a namespace that was replaced under its path", async () => {
    now += 2000;
    pod = host.addNamespace("/run/netns/a");
    reconciler.checkNamespaces();
    await settle();
    expect(await pod.link("eth0")).not.toBeNull();
    expect(host.taps.size).toBe(2);
  });

  test("a failed tunnel socket is opened anew", async () => {
    worker.commands.length = 0;
    reconciler.portFailed(0, 100);
    await settle();
    expect(worker.commands).toEqual(["detach 0", "attach 0"]);
    expect(host.sockets.size).toBe(1);
  });

  test("a new worker gets every port and the tables", async () => {
    worker = new FakeWorker(worker);
    await reconciler.replaceWorker(worker);
    expect(worker.commands).toEqual(["attach 0", "attach 1", "attach 3", "publish"]);
  });

  test("nothing to repair, nothing done", async () => {
    const before = host.actions.length;
    await reconciler.resync();
    expect(host.actions.length).toBe(before);
    expect(worker.published.length).toBe(1);
  });
});

test("raw sockets leave out what podwire0 gave the node, also where it is made anew", async () => {
  const given = config({ serviceRange: "10.152.183.0/24" });
  /** Protocols, and the interfaces of which nothing is heard. */
  const heard = () => [...host.rawSockets.values()].map(({ protocol, filter }) => [protocol, filter[7]]);
  await reconciler.start(given);
  const first = (await own.link("podwire0"))!.index;
  expect(heard()).toEqual([
    [1, first],
    [17, first],
  ]);
  own.drop(first);
  reconciler.portFailed(0, 9);
  now += 1000;
  await settle();
  const second = (await own.link("podwire0"))!.index;
  expect(second).not.toBe(first);
  expect(heard()).toEqual([
    [1, second],
    [17, second],
  ]);
});

test("a lost device is retried by a timer", async () => {
  vi.useFakeTimers();
  try {
    await reconciler.start(config());
    pod.drop((await pod.link("eth0"))!.index);
    reconciler.portFailed(3, 9);
    await vi.advanceTimersByTimeAsync(0);
    expect(await pod.link("eth0")).toBeNull();
    now += 1000;
    await vi.advanceTimersByTimeAsync(1000);
    expect(await pod.link("eth0")).not.toBeNull();
  } finally {
    vi.useRealTimers();
  }
});
