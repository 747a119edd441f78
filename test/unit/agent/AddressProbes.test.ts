/** The agent's side of address probes; where it matters, against the controller's own. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AddressProbes } from "../../../src/agent/AddressProbes.js";
import { FakeClock, settle } from "../../../src/kube/Clock.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { Informer } from "../../../src/kube/Informer.js";
import { NODES } from "../../../src/kube/resources.js";
import type { Node } from "../../../src/kube/types.js";
import { ADDRESS_PROBE, PROBE_REQUEST, PROBE_RESULT } from "../../../src/model/addressProbe.js";
import { formatIpv4 } from "../../../src/model/ipv4.js";
import { NodeProber } from "../../../src/vip/NodeProber.js";

const MAC = "02:00:5e:00:53:01";

let clock: FakeClock;
let kube: FakeKube;
/** What the LAN has, MAC by address. */
let lan: Record<string, string>;
let probed: string[];
/** Ends the probes that wait, or null: they end at once. */
let held: (() => void)[] | null;
let broken: boolean;
let errors: string[];
let stops: (() => Promise<unknown>)[];

beforeEach(() => {
  clock = new FakeClock();
  kube = new FakeKube({ now: () => clock.date() });
  [lan, probed, held, broken, errors, stops] = [{}, [], null, false, [], []];
});
afterEach(async () => {
  for (const end of held ?? []) end();
  await Promise.all(stops.map((stop) => stop()));
});

function register(name: string, annotations: Record<string, string> = {}): void {
  kube.put<Node>(NODES, {
    metadata: { name, annotations: { [ADDRESS_PROBE]: "true", ...annotations } },
    status: { conditions: [{ type: "Ready", status: "True" }] },
  });
}

/** Starts a node's agent, as far as this goes. */
async function start(node: string): Promise<AddressProbes> {
  const probes = new AddressProbes({
    api: kube,
    node,
    clock,
    random: () => 0.5,
    onError: (error) => errors.push((error as Error).message),
    probe: async (address) => {
      const text = formatIpv4(address);
      probed.push(text);
      await new Promise<void>((resolve) => (held === null ? resolve() : held.push(resolve)));
      if (broken) throw new Error("no carrier");
      return lan[text] ?? "";
    },
  });
  const nodes = new Informer<Node>(kube, NODES, { clock });
  const take = (each: Node) => {
    if (each.metadata.name === node) probes.take(each);
  };
  nodes.addHandler({ added: take, updated: take }).start();
  stops.push(
    () => nodes.stop(),
    () => probes.stop(),
  );
  await settle();
  return probes;
}

const annotation = (node: string, name: string) => kube.peek<Node>(NODES, node)!.metadata.annotations?.[name];
const result = (node = "n1") => JSON.parse(annotation(node, PROBE_RESULT) ?? "{}") as object;
const ask = async (requests: Record<string, string>) => {
  const value = Object.keys(requests).length === 0 ? null : JSON.stringify(requests);
  await kube.patch(NODES, "n1", undefined, "merge", {
    metadata: { annotations: { [PROBE_REQUEST]: value } },
  });
  await settle();
};

describe("AddressProbes", () => {
  test("answers with who has an address, or that nobody has", async () => {
    register("n1");
    await start("n1");
    lan["192.168.2.36"] = MAC;
    await ask({ "192.168.2.36": "a", "192.168.2.37": "b" });
    expect(result()).toEqual({
      "192.168.2.36": { id: "a", mac: MAC },
      "192.168.2.37": { id: "b", mac: "" },
    });
  });

  test("probes once for an id, again for another, and keeps no answer that nobody asks for", async () => {
    register("n1");
    await start("n1");
    await ask({ "192.168.2.36": "a" });
    await ask({ "192.168.2.36": "a", "192.168.2.37": "b" });
    expect(probed).toEqual(["192.168.2.36", "192.168.2.37"]);
    lan["192.168.2.36"] = MAC;
    await ask({ "192.168.2.36": "c" });
    expect(probed).toHaveLength(3);
    expect(result()).toEqual({ "192.168.2.36": { id: "c", mac: MAC } });
    await ask({});
    expect(annotation("n1", PROBE_RESULT)).toBeUndefined();
  });

  test("a question that is taken back while it is probed has no answer", async () => {
    register("n1");
    await start("n1");
    held = [];
    await ask({ "192.168.2.36": "a", "192.168.2.37": "b" });
    await ask({ "192.168.2.37": "b" });
    for (const end of held.splice(0)) end();
    await settle();
    expect(result()).toEqual({ "192.168.2.37": { id: "b", mac: "" } });
  });

  test("is not led astray by an address that is none", async () => {
    register("n1");
    await start("n1");
    await ask({ "192.168.2.400": "a", "192.168.2.36": "b" });
    expect(result()).toEqual({ "192.168.2.36": { id: "b", mac: "" } });
  });

  test("a LAN that cannot be asked is tried again for as long as the question stands", async () => {
    register("n1");
    await start("n1");
    broken = true;
    await ask({ "192.168.2.36": "a" });
    expect(annotation("n1", PROBE_RESULT)).toBeUndefined();
    broken = false;
    await clock.advance(2_000);
    expect(result()).toEqual({ "192.168.2.36": { id: "a", mac: "" } });
    broken = true;
    await ask({ "192.168.2.36": "b" });
    const before = probed.length;
    await ask({});
    await clock.advance(60_000);
    expect(probed).toHaveLength(before);
    expect(errors).toEqual(["no carrier", "no carrier"]);
  });

  test("goes by what the agent of before answered, and clears what nobody asks for any more", async () => {
    register("n1", {
      [PROBE_REQUEST]: JSON.stringify({ "192.168.2.36": "a" }),
      [PROBE_RESULT]: JSON.stringify({
        "192.168.2.36": { id: "a", mac: MAC },
        "192.168.2.37": { id: "old", mac: "" },
      }),
    });
    await start("n1");
    expect(probed).toEqual([]);
    expect(result()).toEqual({ "192.168.2.36": { id: "a", mac: MAC } });
  });

  test("a write that fails is made again", async () => {
    register("n1");
    await start("n1");
    held = [];
    await ask({ "192.168.2.36": "a" });
    kube.failNext({ verb: "patch", plural: "nodes" }, undefined, 2);
    for (const end of held.splice(0)) end();
    await settle();
    expect(annotation("n1", PROBE_RESULT)).toBeUndefined();
    await clock.advance(5_000);
    expect(result()).toEqual({ "192.168.2.36": { id: "a", mac: "" } });
    expect(errors).toHaveLength(2);
  });
});

describe("with the controller's prober", () => {
  async function prober(): Promise<NodeProber> {
    const made = new NodeProber(kube, { clock, random: Math.random });
    made.start();
    stops.push(() => made.stop());
    await settle();
    return made;
  }

  test("it learns what the LAN has, and leaves nothing behind", async () => {
    register("n1");
    await start("n1");
    lan["192.168.2.36"] = MAC;
    const asked = await prober();
    expect(await asked.probe("192.168.2.36")).toEqual({ state: "taken", mac: MAC });
    expect(await asked.probe("192.168.2.37")).toEqual({ state: "free" });
    await settle();
    expect(annotation("n1", PROBE_REQUEST)).toBeUndefined();
    expect(annotation("n1", PROBE_RESULT)).toBeUndefined();
  });

  test("where one node cannot ask the LAN, the next one is asked after 8 s", async () => {
    register("n1");
    register("n2");
    await start("n2");
    const asked = await prober();
    const found = asked.probe("192.168.2.36");
    await clock.advance(7_900);
    expect(probed).toEqual([]);
    await clock.advance(200);
    expect(await found).toEqual({ state: "free" });
    expect(probed).toEqual(["192.168.2.36"]);
  });
});
