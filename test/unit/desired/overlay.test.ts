/** Nodes, blocks, pools and pods to what is desired: table tests by value. */
import { describe, expect, test } from "vitest";
import { vtepMac } from "../../../src/desired/mac.js";
import { Overlay } from "../../../src/desired/nodes.js";
import { LocalPods, netnsPath, type PodObject } from "../../../src/desired/pods.js";

const node = (
  name: string,
  underlay: string,
  tunnel: string,
  more: Record<string, string> = {},
  created = "",
) => ({
  metadata: {
    name,
    creationTimestamp: created,
    annotations: {
      "podwire.dev/underlay-address": underlay,
      "podwire.dev/tunnel-address": tunnel,
      ...more,
    },
  },
});
const block = (cidr: string, owner: string, more: object = {}, created = "") => ({
  metadata: { name: cidr.replaceAll(/[./]/g, "-"), creationTimestamp: created },
  spec: { cidr, node: owner, ...more },
});

function overlay(): Overlay {
  const made = new Overlay({ node: "k8s-master", underlayAddress: "192.168.2.30", vxlanPort: 4789 });
  made.setPool({ metadata: { name: "default" }, spec: { cidr: "10.1.0.0/16" } });
  made.setNode(node("k8s-master", "192.168.2.30", "10.1.235.192"));
  made.setNode(node("k8s-worker01", "192.168.2.31", "10.1.79.64"));
  made.setBlock(block("10.1.235.192/26", "k8s-master"));
  made.setBlock(block("10.1.79.64/26", "k8s-worker01"));
  return made;
}

const worker01 = {
  node: "k8s-worker01",
  address: "192.168.2.31",
  port: 4789,
  tunnelAddress: "10.1.79.64",
  mac: vtepMac("k8s-worker01"),
  peer: "podwire",
  blocks: ["10.1.79.64/26"],
};

describe("Overlay", () => {
  test("the walkthrough's", () => {
    expect(overlay().compile()).toEqual({
      podPool: ["10.1.0.0/16"],
      blocks: ["10.1.235.192/26"],
      vteps: [worker01],
      problems: [],
    });
  });

  test("annotations: MAC and port; InternalIP where none names the underlay", () => {
    const made = overlay();
    const { metadata } = node("k8s-worker01", "", "10.1.79.64", {
      "podwire.dev/vtep-mac": "66:00:00:00:00:01",
      "podwire.dev/vxlan-port": "8472",
    });
    delete (metadata.annotations as Record<string, string>)["podwire.dev/underlay-address"];
    const addresses = [
      { type: "Hostname", address: "k8s-worker01" },
      { type: "InternalIP", address: "fd00::31" },
      { type: "InternalIP", address: "192.168.2.99" },
    ];
    made.setNode({ metadata, status: { addresses } });
    expect(made.compile().vteps).toEqual([
      { ...worker01, address: "192.168.2.99", port: 8472, mac: "66:00:00:00:00:01" },
    ]);
    made.setNode(
      node("k8s-worker01", "192.168.2.31", "10.1.79.64", {
        "podwire.dev/vtep-mac": "01:00:00:00:00:01",
        "podwire.dev/vxlan-port": "70000",
      }),
    );
    expect(made.compile().vteps).toEqual([worker01]);
  });

  test("says whether an object changes anything", () => {
    const made = overlay();
    expect(made.setNode(node("k8s-worker01", "192.168.2.31", "10.1.79.64", { other: "x" }))).toBe(false);
    expect(made.setNode(node("k8s-worker01", "192.168.2.41", "10.1.79.64"))).toBe(true);
    const allocations = [{ ordinal: 1, attributes: { node: "k8s-worker01" } }, { ordinal: 2 }];
    expect(made.setBlock(block("10.1.79.64/26", "k8s-worker01", { allocations }))).toBe(false);
    expect(made.setBlock(block("10.1.79.64/26", "k8s-worker01", { affinityState: "confirmed" }))).toBe(false);
    expect(made.removeNode("other")).toBe(false);
    expect(made.removeNode("k8s-worker01")).toBe(true);
    expect(made.compile().vteps).toEqual([]);
  });

  test("a node without a confirmed block, or without a tunnel address, is not there yet", () => {
    const made = overlay();
    made.setNode(node("k8s-worker02", "192.168.2.32", "10.1.69.192"));
    made.setBlock(block("10.1.69.192/26", "k8s-worker02", { affinityState: "pending" }));
    made.setBlock(block("10.1.39.192/26", "k8s-worker03"));
    made.setNode({ metadata: { name: "k8s-worker03" } });
    expect(made.compile()).toMatchObject({ vteps: [worker01], problems: [] });
    made.setBlock(block("10.1.69.192/26", "k8s-worker02", { affinityState: "confirmed" }));
    expect(made.compile().vteps.map((vtep) => vtep.node)).toEqual(["k8s-worker01", "k8s-worker02"]);
    made.setBlock(block("10.1.69.192/26", "k8s-worker02", { affinityState: "pendingDeletion" }));
    expect(made.compile().vteps).toHaveLength(2);
  });

  test("borrowed addresses lead to the borrower", () => {
    const made = overlay();
    const allocations = [
      { ordinal: 5, attributes: { node: "k8s-master" } },
      { ordinal: 6, attributes: { node: "k8s-worker01" } },
    ];
    made.setBlock(block("10.1.79.64/26", "k8s-worker01", { allocations }));
    made.setBlock(
      block("10.1.235.192/26", "k8s-master", {
        allocations: [{ ordinal: 7, attributes: { node: "k8s-worker01" } }],
      }),
    );
    const { blocks, vteps } = made.compile();
    expect(blocks).toEqual(["10.1.235.192/26", "10.1.79.69/32"]);
    expect(vteps[0]!.blocks).toEqual(["10.1.79.64/26", "10.1.235.199/32"]);
  });

  describe("what a node may not claim", () => {
    test.each<[string, (made: Overlay) => void, string]>([
      [
        "the underlay address of another",
        (made) => {
          made.setNode(node("x", "192.168.2.31", "10.1.1.0", {}, "2024"));
          made.setBlock(block("10.1.1.0/26", "x"));
        },
        "node x has an address of k8s-worker01",
      ],
      [
        "ours",
        (made) => {
          made.setNode(node("x", "192.168.2.30", "10.1.1.0"));
          made.setBlock(block("10.1.1.0/26", "x"));
        },
        "node x has an address of k8s-master",
      ],
      [
        "a tunnel address outside its blocks",
        (made) => {
          made.setNode(node("x", "192.168.2.39", "10.1.235.193"));
          made.setBlock(block("10.1.1.0/26", "x"));
        },
        "node x has the tunnel address 10.1.235.193, which is in no block of its own",
      ],
      [
        "an underlay address among the pods",
        (made) => {
          made.setNode(node("x", "10.1.235.193", "10.1.1.0"));
          made.setBlock(block("10.1.1.0/26", "x"));
        },
        "node x has the underlay address 10.1.235.193, which is in a pod pool",
      ],
      [
        "a block outside the pools",
        (made) => void made.setBlock(block("192.168.2.0/24", "x")),
        "block 192.168.2.0/24 of x is in no pool",
      ],
      [
        "a part of another's block",
        (made) => void made.setBlock(block("10.1.79.64/28", "x", {}, "2024")),
        "block 10.1.79.64/28 of x overlaps an older one",
      ],
      [
        "a range around another's block",
        (made) => void made.setBlock(block("10.1.79.0/24", "x", {}, "2024")),
        "block 10.1.79.0/24 of x overlaps an older one",
      ],
      [
        "nonsense",
        (made) => void made.setBlock({ metadata: { name: "b" }, spec: { cidr: "10.1.0.1/26", node: "x" } }),
        "block b: 10.1.0.1/26 is no IPv4 prefix",
      ],
    ])("%s", (_, change, problem) => {
      const made = overlay();
      change(made);
      const { vteps, problems } = made.compile();
      expect(problems).toEqual([problem]);
      expect(vteps).toEqual([worker01]);
    });
  });
});

describe("LocalPods", () => {
  const pod = (name: string, podIP?: string, more: Partial<PodObject> = {}): PodObject => ({
    metadata: { name, namespace: "default", uid: `u-${name}` },
    status: podIP === undefined ? {} : { podIP },
    ...more,
  });
  const pods = new LocalPods("/run/netns/{namespace}.{name}", 2);

  test("pods with an address, until they have ended", () => {
    expect(pods.set(pod("a"))).toBe(false);
    expect(pods.set(pod("a", "10.1.235.193"))).toBe(true);
    expect(pods.set(pod("a", "10.1.235.193"))).toBe(false);
    expect(pods.set(pod("host", "192.168.2.30", { spec: { hostNetwork: true } }))).toBe(false);
    expect(pods.compile(["10.1.0.0/16"])).toEqual({
      pods: [
        { name: "default/a", netns: "/run/netns/default.a", address: "10.1.235.193", interface: "eth0" },
      ],
      problems: [],
    });
    expect(pods.set({ ...pod("a"), status: { podIP: "10.1.235.193", phase: "Succeeded" } })).toBe(true);
    expect(pods.compile(["10.1.0.0/16"]).pods).toEqual([]);
  });

  test("two with one address, one outside the pools, one too many", () => {
    pods.set(pod("a", "10.1.235.193"));
    pods.set(pod("b", "10.1.235.193"));
    pods.set(pod("c", "192.168.2.1"));
    pods.set(pod("d", "10.1.235.194"));
    pods.set(pod("e", "10.1.235.195"));
    expect(pods.compile(["10.1.0.0/16"]).problems).toEqual([
      "pod default/b has the address 10.1.235.193 of default/a",
      "pod default/c has the address 192.168.2.1, which is in no pool",
      "pod default/e is one too many for this node (2)",
    ]);
  });

  test("netnsPath", () => {
    expect(netnsPath("/x/{uid}-{namespace}-{name}-{other}", pod("a"))).toBe("/x/u-a-default-a-{other}");
  });
});
