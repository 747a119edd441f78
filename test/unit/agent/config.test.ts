import { describe, expect, test } from "vitest";
import { ConfigError } from "../../../src/agent/ConfigError.js";
import { parseConfig } from "../../../src/agent/config.js";

const GOOD = `node: k8s-master
underlay: { address: 192.168.2.30 }
podPool: 10.1.0.0/16
blocks: [10.1.235.192/26]
vteps:
  - { node: k8s-worker01, address: 192.168.2.31, blocks: [10.1.79.64/26] }
pods:
  - { name: default/nginx-ds-x7k2p, netns: /run/netns/pod1, address: 10.1.235.193 }
`;

function problems(text: string): string[] {
  try {
    parseConfig("agent.yaml", text);
  } catch (error) {
    if (error instanceof ConfigError) return error.message.split("\n");
    throw error;
  }
  return [];
}

/** GOOD with one piece of text replaced; the replaced piece must be there. */
function changed(from: string, to: string): string {
  expect(GOOD).toContain(from);
  return GOOD.replace(from, to);
}

describe("a good config", () => {
  test("gets every default", () => {
    const { config } = parseConfig("agent.yaml", GOOD);
    expect(config).toEqual({
      node: "k8s-master",
      stateDir: "/run/podwire",
      underlay: { address: "192.168.2.30", port: 4789, vni: 4096, mtu: null },
      podPool: ["10.1.0.0/16"],
      blocks: ["10.1.235.192/26"],
      tunnelAddress: "10.1.235.192",
      vteps: [
        {
          node: "k8s-worker01",
          address: "192.168.2.31",
          port: 4789,
          tunnelAddress: "10.1.79.64",
          mac: "66:c1:17:77:92:d1",
          peer: "podwire",
          blocks: ["10.1.79.64/26"],
        },
      ],
      pods: [
        {
          name: "default/nginx-ds-x7k2p",
          netns: "/run/netns/pod1",
          address: "10.1.235.193",
          interface: "eth0",
        },
      ],
      serviceHost: null,
      dataplane: { tunnelGso: "auto", uso: "auto", threads: 1, spinMicroseconds: 50, cpuLatency: "auto" },
    });
  });

  test("may leave lists empty, and a VTEP takes over the port", () => {
    const { config } = parseConfig(
      "f",
      "node: a\nunderlay: { address: 192.0.2.1, port: 8472 }\npodPool: [10.0.0.0/16, 10.9.0.0/16]\nblocks: [10.0.0.0/26]\nvteps:\n  - {node: b, address: 192.0.2.2, blocks: [10.9.1.0/26]}\npods:\n",
    );
    expect(config.pods).toEqual([]);
    expect(config.vteps[0]!.port).toBe(8472);
  });
});

describe("services", () => {
  const parse = (services: string) =>
    parseConfig("agent.yaml", `${GOOD}services: ${services}\n`).config.serviceHost;

  test("get every default", () => {
    for (const text of ["", "{}"])
      expect(parse(text)).toEqual({
        ranges: ["10.152.183.0/24"],
        nodePorts: { first: 30000, last: 32767 },
        egressPorts: { first: 61000, last: 65534 },
        nodePortAddresses: [],
        localhostNodePorts: true,
        vips: [],
        healthChecks: [],
        healthz: "0.0.0.0:10256",
      });
  });

  test("as written", () => {
    expect(
      parse('{ nodePorts: "20000", egressPorts: 61000-61999, healthz: null, vips: [192.168.2.36] }'),
    ).toMatchObject({
      nodePorts: { first: 20000, last: 20000 },
      egressPorts: { first: 61000, last: 61999 },
      healthz: null,
      vips: ["192.168.2.36"],
    });
  });

  test.each([
    [
      "{ nodePorts: 30000-65535 }",
      /services\.nodePorts: "30000-65535" is no range of ports from 1024 to 65534\. Write/,
    ],
    ["{ nodePorts: 4000-5000 }", /services\.nodePorts: 4000-5000 contains the VXLAN port 4789/],
    [
      "{ egressPorts: 32000-33000 }",
      /services\.egressPorts: 32000-33000 and the NodePorts 30000-32767 overlap/,
    ],
    ["{ ranges: [10.1.0.0/24] }", /services\.ranges: 10\.1\.0\.0\/24 overlaps the pod pool/],
    ["{ ranges: [192.168.0.0/16] }", /services\.ranges: 192\.168\.0\.0\/16 overlaps this node's own address/],
    ["{ healthz: 10256 }", /services\.healthz: must be a text/],
    ['{ healthz: "localhost:1" }', /services\.healthz: "localhost:1" is no ADDRESS:PORT/],
    ["{ nodePort: 1 }", /services\.nodePort: unknown key\. Did you mean nodePorts\?/],
  ])("%s", (services, expected) => {
    expect(() => parse(services)).toThrow(expected);
  });
});

describe("each problem is told with place, field and remedy", () => {
  const cases: [string, string, RegExp[]][] = [
    [
      "unknown key",
      changed("podPool:", "podpool:"),
      [
        /^agent.yaml:3:1: podpool: unknown key\. Did you mean podPool\?$/m,
        /podPool: is missing\. Add it, e\.g\. "podPool: 10/,
      ],
    ],
    [
      "unknown key without a near one",
      `${GOOD}colour: red\n`,
      [/^agent.yaml:9:1: colour: unknown key\. Known keys here: node, /],
    ],
    [
      "unknown key in a list",
      changed("netns:", "net_ns:"),
      [
        /agent.yaml:8:37: pods\[0\]\.net_ns: unknown key\. Did you mean netns\?/,
        /pods\[0\]\.netns: is missing/,
      ].reverse(),
    ],
    [
      "wrong type",
      changed("node: k8s-master", "node: 30"),
      [/agent.yaml:1:7: node: must be a text, not 30\. Put it in quotes/],
    ],
    [
      "map instead of list",
      changed("[10.1.235.192/26]", "{a: 1}"),
      [/4:1: blocks: must be a list, not a map/],
    ],
    [
      "enum",
      `${GOOD}dataplane: { uso: maybe }\n`,
      [/dataplane\.uso: "maybe" is none of auto, on, off\. Write one of/],
    ],
    ["threads", `${GOOD}dataplane: { threads: 3 }\n`, [/9:23: dataplane\.threads: must be 1 or 2/]],
    [
      "bad address",
      changed("192.168.2.30", "192.168.2.300"),
      [/2:22: underlay\.address: "192\.168\.2\.300" is no IPv4 address\. Write dotted/],
    ],
    [
      "host bits",
      changed("10.1.235.192/26", "10.1.235.193/26"),
      [/blocks\[0\]: 10\.1\.235\.193\/26 has bits set beyond its prefix length\. Write 10\.1\.235\.192\/26/],
    ],
    [
      "prefix length",
      changed("10.1.235.192/26", "10.1.235.192/33"),
      [/blocks\[0\]: "10\.1\.235\.192\/33" is no IPv4 prefix/],
    ],
    [
      "vni",
      changed("30 }", "30, vni: 16777216 }"),
      [/underlay\.vni: must be a whole number from 1 to 16777215/],
    ],
    ["port", changed("30 }", "30, port: 0 }"), [/underlay\.port: must be a whole number from 1 to 65535/]],
    [
      "mtu",
      changed("30 }", "30, mtu: 600 }"),
      [/underlay\.mtu: must be a whole number from 626 to 65535\. The overlay's MTU is 50 less/],
    ],
    [
      "block outside the pool",
      changed("10.1.79.64/26", "10.2.79.64/26"),
      [/6:59: vteps\[0\]\.blocks\[0\]: block 10\.2\.79\.64\/26 is outside the pod pool \(10\.1\.0\.0\/16\)/],
    ],
    [
      "overlapping blocks",
      changed("10.1.79.64/26", "10.1.235.0/24"),
      [
        /vteps\[0\]\.blocks\[0\]: block 10\.1\.235\.0\/24 of k8s-worker01 overlaps block 10\.1\.235\.192\/26 of this node \(blocks\[0\]\)\. Give each/,
      ],
    ],
    [
      "pool contains the underlay",
      changed("10.1.0.0/16", "[10.1.0.0/16, 192.168.0.0/16]"),
      [
        /podPool\[1\]: pool 192\.168\.0\.0\/16 contains the underlay address 192\.168\.2\.30 of this node/,
        /192\.168\.2\.31 of k8s-worker01/,
      ],
    ],
    [
      "pool in a reserved range",
      changed("10.1.0.0/16", "[10.1.0.0/16, 169.254.0.0/20]"),
      [/podPool\[1\]: pool 169\.254\.0\.0\/20 overlaps 169\.254\.0\.0\/16 \(link-local\)/],
    ],
    [
      "node name twice",
      changed("k8s-worker01", "k8s-master"),
      [/vteps\[0\]\.node: node name k8s-master is taken already by node\./],
    ],
    [
      "underlay address twice",
      changed("2.31", "2.30"),
      [/vteps\[0\]\.address: underlay address 192\.168\.2\.30 is taken already by underlay\.address/],
    ],
    [
      "tunnel address outside",
      changed("podPool", "tunnelAddress: 10.1.79.65\npodPool"),
      [
        /tunnelAddress: tunnel address 10\.1\.79\.65 is outside the blocks of this node\. Leave it out \(then it is 10\.1\.235\.192\)/,
      ],
    ],
    [
      "pod outside the blocks",
      changed("10.1.235.193", "10.1.79.65"),
      [/8:\d+: pods\[0\]\.address: 10\.1\.79\.65 is outside this node's blocks/],
    ],
    [
      "pod with the tunnel address",
      changed("10.1.235.193", "10.1.235.192"),
      [/pods\[0\]\.address: 10\.1\.235\.192 is this node's tunnel address/],
    ],
    [
      "interface name",
      changed("10.1.235.193 }", "10.1.235.193, interface: a-very-long-name-indeed }"),
      [/pods\[0\]\.interface: "a-very-long-name-indeed" is no usable interface name/],
    ],
    ["pod name", changed("default/nginx-ds-x7k2p", "nginx"), [/pods\[0\]\.name: "nginx" is no pod name/]],
    ["namespace path", changed("/run/netns/pod1", "pod1"), [/pods\[0\]\.netns: "pod1" is no absolute path/]],
    [
      "MAC",
      changed("2.31,", "2.31, mac: '01:00:5e:00:00:01',"),
      [/vteps\[0\]\.mac: "01:00:5e:00:00:01" is no unicast MAC/],
    ],
    [
      "VTEP that leads nowhere",
      changed(", blocks: [10.1.79.64/26]", ""),
      [/6:5: vteps\[0\]: has neither blocks nor a tunnelAddress/],
    ],
    ["empty file", "", [/^agent.yaml:1:1: the file is empty\./]],
    ["YAML syntax", "node: [a\n", [/^agent.yaml:2:1: .*Correct the YAML syntax\.$/]],
    ["key twice", `${GOOD}node: b\n`, [/^agent.yaml:9:1: Map keys must be unique/]],
  ];
  test.each(cases)("%s", (_, text, expected) => {
    const found = problems(text);
    expect(found).toHaveLength(expected.length);
    for (const pattern of expected) expect(found.join("\n")).toMatch(pattern);
  });

  test("duplicates among pods", () => {
    const text = `${GOOD}  - { name: default/nginx-ds-x7k2p, netns: /run/netns/pod1, address: 10.1.235.193 }\n`;
    const found = problems(text).join("\n");
    expect(found).toMatch(
      /9:13: pods\[1\]\.name: pod name default\/nginx-ds-x7k2p is taken already by pods\[0\]\.name/,
    );
    expect(found).toMatch(
      /pods\[1\]\.address: pod address 10\.1\.235\.193 is taken already by pods\[0\]\.address/,
    );
    expect(found).toMatch(/pods\[1\]\.netns: pod interface eth0 in \/run\/netns\/pod1 is taken already/);
  });

  test("all problems in one run, in the order of the file", () => {
    const text = changed("10.1.79.64/26", "10.1.235.0/24").replace("192.168.2.30", "300.1.1.1");
    const found = problems(`${text}dataplane: { thread: 1 }\n`);
    expect(found.map((line) => line.split(":")[1])).toEqual(["2", "6", "9"]);
  });
});
