/** Whose claims of an announced address become Events: a foreign device's, and no node's that comes or goes. */
import { beforeEach, describe, expect, test } from "vitest";
import { Announcements } from "../../../src/agent/announcements.js";
import { Services } from "../../../src/desired/services.js";
import { FakeClock } from "../../../src/kube/Clock.js";
import { EventRecorder } from "../../../src/kube/EventRecorder.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { EVENTS, SERVICES } from "../../../src/kube/resources.js";
import type { Event, Node, Service } from "../../../src/kube/types.js";

const VIP = "192.168.2.36";
const MAC = "02:00:c0:a8:02:1f";
const SERVICE: Service = {
  metadata: { name: "lb", namespace: "default" },
  spec: { type: "LoadBalancer", clusterIP: "10.152.183.20", ports: [{ port: 80, protocol: "TCP" }] },
  status: { loadBalancer: { ingress: [{ ip: VIP }] } },
};

let kube: FakeKube;
let clock: FakeClock;
let announcements: Announcements;

beforeEach(async () => {
  kube = new FakeKube();
  clock = new FakeClock();
  const onError = (error: unknown) => expect.fail(String(error));
  const service = await kube.create<Service>(SERVICES, SERVICE);
  const services = new Services({ node: "k8s-master", externalIpRanges: [] });
  services.setService(SERVICE);
  announcements = new Announcements({
    api: kube,
    node: "k8s-master",
    settings: {
      interface: "eth0",
      bfd: { intervalMs: 100, multiplier: 3 },
    },
    services,
    identify: () => service,
    events: new EventRecorder(kube, { component: "podwire-agent", host: "k8s-master", clock, onError }),
    log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
    clock,
    random: () => 0.5,
    backoff: { first: 100, most: 1000 },
    onError,
    onChanged: () => {},
  });
  announcements.compile();
});

function node(mac: string): Node {
  return { metadata: { name: "k8s-worker01", annotations: { "podwire.dev/lan-mac": mac } } } as Node;
}

/** A frame was heard that claims the address, from a MAC that the dataplane takes for no node's. */
function claimed(mac = MAC): void {
  announcements.report({ type: "conflict", address: VIP, node: null, mac, yielded: false });
}

/** Messages of Events, after `ms`. */
async function saidAfter(ms: number): Promise<string[]> {
  await clock.advance(ms);
  return kube.all<Event>(EVENTS).map(({ reason, message }) => `${reason}: ${message}`);
}

const FOREIGN = `AddressConflict: the device ${MAC} claims ${VIP} too: node "k8s-master" goes on announcing it`;

describe("a claim of an unknown MAC", () => {
  test("is a foreign device's, and said once although it is heard again", async () => {
    claimed();
    claimed();
    expect(await saidAfter(4_999)).toEqual([]);
    expect(await saidAfter(1)).toEqual([FOREIGN]);
    expect(kube.all<Event>(EVENTS)[0]!.count).toBe(1);
    claimed();
    await saidAfter(5_000);
    expect(kube.all<Event>(EVENTS)[0]!.count).toBe(2);
  });

  test("is a new node's, whose Node comes after it", async () => {
    claimed();
    await saidAfter(4_000);
    announcements.setNode(node(MAC.toUpperCase()));
    expect(await saidAfter(10_000)).toEqual([]);
  });

  test.each<[string, () => void]>([
    ["has been deleted", () => announcements.removeNode("k8s-worker01")],
    ["has lost its LAN interface", () => announcements.setNode(node(""))],
    ["has another MAC now", () => announcements.setNode(node("02:00:c0:a8:02:20"))],
  ])("is a node's that %s, for a minute", async (_, leave) => {
    announcements.setNode(node(MAC));
    leave();
    claimed();
    expect(await saidAfter(54_000)).toEqual([]);
    claimed("02:00:5E:00:53:01");
    expect(await saidAfter(5_000)).toEqual([FOREIGN.replace(MAC, "02:00:5e:00:53:01")]);
    claimed();
    expect((await saidAfter(5_000)).at(-1)).toBe(FOREIGN);
  });

  test("is not said any more once the agent has stopped", async () => {
    claimed();
    await announcements.stop();
    expect(await saidAfter(10_000)).toEqual([]);
  });
});

test("a node's claim is said at once", async () => {
  announcements.report({ type: "conflict", address: VIP, node: "k8s-worker01", mac: MAC, yielded: true });
  expect(await saidAfter(0)).toEqual([
    `AddressConflict: node "k8s-worker01" claims ${VIP} too: node "k8s-master" stands behind it and yields`,
  ]);
});
