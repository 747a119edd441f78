/**
 * Random pools, Services, changes, faults of the server and restarts of the controller, from a seed:
 * at no time do two Services show an address that they do not share, and when all is calm nobody waits
 * for what is free, nobody has what it may not have, and the counters add up.
 */
import { expect, test } from "vitest";
import { FakeClock, settle } from "../../../src/kube/Clock.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { IPADDRESSPOOLS, SERVICES } from "../../../src/kube/resources.js";
import type { IPAddressPool, Service } from "../../../src/kube/types.js";
import { parseIpv4 } from "../../../src/model/ipv4.js";
import { METALLB_NAMESPACE } from "../../../src/model/metallb.js";
import { statusAddresses } from "../../../src/vip/converge.js";
import { type Pool, poolFits, poolHas, poolsOf } from "../../../src/vip/pools.js";
import { claimOf, requestedAddresses, requestedPool, serviceKey } from "../../../src/vip/request.js";
import { type LoadBalancer, startLoadBalancer } from "../../../src/vip/startLoadBalancer.js";
import { Random } from "../../support/random.js";
import { pool, type ServiceFacts, service } from "./objects.js";

const SEEDS = Array.from({ length: 20 }, (_, i) => 1000 + i);
const OPERATIONS = 150;
/** Those that never share, and those that always have a key. */
const ALONE = ["a", "b", "c", "d"];
const SHARING = ["e", "f", "g", "h"];
const RANGES = ["192.0.2.0/31", "192.0.2.8-192.0.2.9", "192.0.2.255/32", "198.51.100.7/32"];
const ADDRESSES = ["192.0.2.0", "192.0.2.1", "192.0.2.8", "192.0.2.9", "192.0.2.255", "198.51.100.7"];

test.each(SEEDS)("seed %i: one owner at a time, nothing lost", async (seed) => {
  const random = new Random(seed);
  const fraction = () => random.below(2 ** 30) / 2 ** 30;
  const clock = new FakeClock();
  const kube = new FakeKube({ now: () => clock.date(), random: fraction });
  const start = (): LoadBalancer => startLoadBalancer(kube, { clock, random: fraction });
  let balancer = start();

  const putService = (name: string) => {
    const wish = service(name, facts(random, SHARING.includes(name)));
    const old = kube.peek<Service>(SERVICES, name, "default");
    // A user's write leaves the status alone; with another type it goes, as the server sees to.
    const status = wish.spec?.type === "LoadBalancer" ? old?.status : undefined;
    kube.put(SERVICES, { ...wish, status: status ?? { loadBalancer: {} } });
  };
  const operations: (() => unknown)[] = [
    () => putService(random.pick(ALONE)),
    () => putService(random.pick(SHARING)),
    () => putService(random.pick([...ALONE, ...SHARING])),
    () => kube.delete(SERVICES, random.pick([...ALONE, ...SHARING]), "default").catch(() => {}),
    () => kube.put(IPADDRESSPOOLS, randomPool(random)),
    () => kube.put(IPADDRESSPOOLS, randomPool(random)),
    () => kube.delete(IPADDRESSPOOLS, `p${random.below(4)}`, METALLB_NAMESPACE).catch(() => {}),
    () => kube.loseResponse({ verb: "patch" }),
    () => kube.failNext({ verb: "patch" }),
    () => kube.disconnectWatches(),
    () => kube.delay({ verb: "patch" }, settle()),
    async () => {
      await balancer.stop();
      balancer = start();
    },
  ];

  for (let i = 0; i < OPERATIONS; i++) {
    await random.pick(operations)();
    for (let turns = random.below(4); turns > 0; turns--) {
      await new Promise((resolve) => setImmediate(resolve));
      noneBesideAnother(kube);
    }
    if (random.oneIn(10)) await clock.advance(random.below(100_000));
    noneBesideAnother(kube);
  }
  // What failed is tried again within the longest wait.
  await clock.advance(120_000);
  for (let i = 0; i < 3; i++) {
    await balancer.idle();
    await settle();
  }
  everybodyServed(kube);
  await balancer.stop();
  expect(clock.waiting).toBe(0);
});

function facts(random: Random, shares: boolean): ServiceFacts {
  return {
    ports: random.pick([["80"], ["443"], ["80", "443"], ["53/UDP"]]),
    labels: random.pick([{}, { color: "red" }]),
    annotations: {
      ...(shares && { "metallb.io/allow-shared-ip": random.pick(["k", "k", "l"]) }),
      ...(random.oneIn(5) && { "metallb.io/address-pool": random.pick(["p0", "p1", "p2"]) }),
      ...(random.oneIn(5) && { "metallb.universe.tf/loadBalancerIPs": random.pick(ADDRESSES) }),
    },
    spec: {
      type: random.oneIn(8) ? "ClusterIP" : "LoadBalancer",
      externalTrafficPolicy: random.oneIn(4) ? "Local" : "Cluster",
      selector: { app: random.pick(["x", "y"]) },
    },
  };
}

function randomPool(random: Random): IPAddressPool {
  const i = random.below(RANGES.length);
  const serviceAllocation = { priority: i, serviceSelectors: [{ matchLabels: { color: "red" } }] };
  return pool(`p${i}`, RANGES[i]!, {
    autoAssign: !random.oneIn(8),
    avoidBuggyIPs: random.oneIn(3),
    ...(random.oneIn(3) && { serviceAllocation }),
  });
}

const holders = (kube: FakeKube): Service[] =>
  kube.all<Service>(SERVICES).filter((each) => statusAddresses(each).length > 0);

/** Holds at every moment. Those with a key may have changed it, or their ports, a moment ago. */
function noneBesideAnother(kube: FakeKube): void {
  const owners = new Map<string, string>();
  for (const each of holders(kube)) {
    const name = each.metadata.name!;
    for (const address of statusAddresses(each)) {
      const other = owners.get(address);
      if (other !== undefined)
        expect(
          [name, other].some((one) => ALONE.includes(one)),
          `${name}, ${other} on ${address}`,
        ).toBe(false);
      owners.set(address, name);
    }
  }
}

/** Holds when all is calm. */
function everybodyServed(kube: FakeKube): void {
  const objects = kube.all<IPAddressPool>(IPADDRESSPOOLS);
  const pools = [...poolsOf(objects, []).values()];
  const all = holders(kube);
  for (const each of kube.all<Service>(SERVICES)) {
    const key = serviceKey(each);
    const shown = statusAddresses(each);
    const from = each.metadata.annotations?.["metallb.io/ip-allocated-from-pool"];
    if (each.spec?.type !== "LoadBalancer") {
      expect([shown, from], key).toEqual([[], undefined]);
      continue;
    }
    const others = all.filter((other) => other.metadata.name !== each.metadata.name);
    const possible = pools.flatMap((one) =>
      ADDRESSES.filter((address) => mayHave(each, one, address, others)).map(
        (address) => `${one.name} ${address}`,
      ),
    );
    if (shown.length === 0) expect(possible, `${key} waits`).toEqual([]);
    else {
      const mine = pools.flatMap((one) => (isIn(one, shown[0]!) ? [one.name] : []));
      expect([mine, shown.length], key).toEqual([[from], 1]);
      // A pool that no longer gives out by itself takes nothing away.
      const kept = pools.map((one) => ({ ...one, autoAssign: true }));
      expect(
        kept.some((one) => mayHave(each, one, shown[0]!, others)),
        `${key} has ${shown[0]}`,
      ).toBe(true);
    }
  }
  for (const { metadata, status } of objects) {
    const one = pools.find(({ name }) => name === metadata.name)!;
    const has = ADDRESSES.filter((address) => isIn(one, address));
    const assigned = has.filter((address) => all.some((each) => statusAddresses(each)[0] === address)).length;
    expect(status, metadata.name!).toMatchObject({
      assignedIPv4: assigned,
      availableIPv4: has.length - assigned,
    });
  }
}

const isIn = (one: Pool, address: string): boolean => poolHas(one, parseIpv4(address)!);

/** The rules once more, the plain way. */
function mayHave(asker: Service, one: Pool, address: string, others: Service[]): boolean {
  const { metadata } = asker;
  if (!isIn(one, address) || !poolFits(one, metadata.namespace!, metadata.labels)) return false;
  const [wish] = requestedAddresses(asker);
  const named = requestedPool(asker);
  if (wish !== undefined && wish !== address) return false;
  if (named !== "" && named !== one.name) return false;
  if (wish === undefined && named === "" && !one.autoAssign) return false;
  return others
    .filter((other) => statusAddresses(other)[0] === address)
    .every((other) => sharing(claimOf(asker), claimOf(other)));
}

function sharing(a: ReturnType<typeof claimOf>, b: ReturnType<typeof claimOf>): boolean {
  const ports = new Set(a.ports.map(({ protocol, l4Port }) => `${protocol}/${l4Port}`));
  return (
    a.sharingKey !== "" &&
    a.sharingKey === b.sharingKey &&
    a.backendKey === b.backendKey &&
    !b.ports.some(({ protocol, l4Port }) => ports.has(`${protocol}/${l4Port}`))
  );
}
