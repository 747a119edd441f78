import { describe, expect, test } from "vitest";
import { parse as parseYaml, stringify as stringifyYaml } from "yaml";
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
      announce: null,
      metrics: "127.0.0.1:9475",
      services: [],
      dataplane: {
        tunnelGso: "auto",
        uso: "auto",
        threads: 1,
        spinMicroseconds: 50,
        cpuLatency: "auto",
        maxFlows: 131_072,
      },
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

describe("metrics", () => {
  const parse = (metrics: string) => parseConfig("agent.yaml", `${GOOD}metrics: ${metrics}\n`).config.metrics;
  test("an address, or off", () => {
    expect(parse("192.168.2.30:9475")).toBe("192.168.2.30:9475");
    expect([parse("off"), parse('"off"')]).toEqual([null, null]);
  });
  test.each(["9475", "localhost:9475", '""', "127.0.0.1:0"])("%s is refused", (text) => {
    expect(() => parse(text)).toThrow(/metrics: .*(is no ADDRESS:PORT|must be a text)/);
  });
});

describe("serviceHost", () => {
  test("follows from Services and their range", () => {
    const services = `services:
  - { name: a/a, clusterIP: 10.99.0.1, loadBalancerIPs: [192.168.2.36], externalIPs: [192.0.2.1], ports: [{ port: 80 }] }
  - { name: a/b, clusterIP: 10.99.0.2, loadBalancerIPs: [192.168.2.36], ports: [{ port: 81 }] }
`;
    const text = `${GOOD}serviceRange: 10.99.0.0/16\nserviceHost: { vips: [192.168.2.37] }\n${services}`;
    expect(parseConfig("a", text).config.serviceHost).toMatchObject({
      ranges: ["10.99.0.0/16"],
      vips: ["192.168.2.37", "192.0.2.1", "192.168.2.36"],
      nodePorts: { first: 30000, last: 32767 },
    });
    expect(parseConfig("a", GOOD + services).config.serviceHost?.vips).toHaveLength(2);
  });

  test("the default range is checked like one that is written", () => {
    const pools = changed("10.1.0.0/16", "[10.1.0.0/16, 10.152.0.0/16]");
    expect(() => parseConfig("a", `${pools}serviceHost: {}\n`)).toThrow(
      /serviceRange: 10\.152\.183\.0\/24 overlaps the pod pool/,
    );
    expect(problems(`${pools}serviceRange: 10.152.183.0/24\n`)).toHaveLength(1);
  });

  const parse = (services: string) =>
    parseConfig("agent.yaml", `${GOOD}serviceHost: ${services}\n`).config.serviceHost;

  test("get every default", () => {
    for (const text of ["", "{}"])
      expect(parse(text)).toEqual({
        ranges: ["10.152.183.0/24"],
        nodePorts: { first: 30000, last: 32767 },
        egress: "masquerade",
        egressPorts: { first: 61000, last: 65534 },
        nodePortAddresses: [],
        localhostNodePorts: true,
        vips: [],
        udpNodePorts: [],
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
      /serviceHost\.nodePorts: "30000-65535" is no range of ports from 1024 to 65534\. Write/,
    ],
    ["{ nodePorts: 4000-5000 }", /serviceHost\.nodePorts: 4000-5000 contains the VXLAN port 4789/],
    [
      "{ egressPorts: 32000-33000 }",
      /serviceHost\.egressPorts: 32000-33000 and the NodePorts 30000-32767 overlap/,
    ],
    ["{ healthz: 10256 }", /serviceHost\.healthz: must be a text/],
    ['{ healthz: "localhost:1" }', /serviceHost\.healthz: "localhost:1" is no ADDRESS:PORT/],
    ["{ nodePort: 1 }", /serviceHost\.nodePort: unknown key\. Did you mean nodePorts\?/],
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
    [
      "no profile of BFD",
      `${GOOD}announce: { bfd: slow }\n`,
      [/announce\.bfd: must be default, fast, or a map with intervalMs and multiplier/],
    ],
    [
      "half of BFD's times",
      `${GOOD}announce: { bfd: { intervalMs: 50 } }\n`,
      [/9:13: announce\.bfd\.multiplier: is missing\. Add it, e\.g\. "multiplier: 3"/],
    ],
    [
      "another of BFD's times",
      `${GOOD}announce: { bfd: { intervalMs: 50, multiplyer: 3 } }\n`,
      [/bfd\.multiplier: is missing/, /bfd\.multiplyer: unknown key\. Did you mean multiplier\?/],
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
    [
      "flow table",
      `${GOOD}dataplane: { maxFlows: 100000 }\n`,
      [/dataplane\.maxFlows: must be a power of two from 1024 to 16777216\. Leave it out for 131072/],
    ],
    [
      "kind of peer",
      changed("2.31,", "2.31, peer: calico,"),
      [/vteps\[0\]\.peer: "calico" is none of podwire, vxlan/],
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

  const SERVICE = "{ name: default/web, clusterIP: 10.152.183.10, ports: [{ port: 80 }] }";
  const withServices = (...services: string[]) =>
    `${GOOD}serviceRange: 10.152.183.0/24\nservices:\n${services.map((each) => `  - ${each}\n`).join("")}`;
  const serviceCases: [string, string, RegExp[]][] = [
    ["a good one", withServices(SERVICE), []],
    [
      "unknown keys",
      withServices(
        SERVICE.replace("clusterIP", "clusterIp").replace("port:", "prot:"),
        SERVICE.replace("}] }", "}], backends: [{ address: 10.1.79.65, pod: a }] }").replace("web", "api"),
      ),
      [
        /11:26: services\[0\]\.clusterIp: unknown key\. Did you mean clusterIP\?/,
        /services\[0\]\.clusterIP: is missing\. Add it, e\.g\. "clusterIP: 10\.152\.183\.10"/,
        /services\[0\]\.ports\[0\]\.prot: unknown key\. Known keys here: name, protocol, port,/,
        /services\[0\]\.ports\[0\]\.port: is missing/,
        /services\[1\]\.backends\[0\]\.pod: unknown key\. Known keys here: address, port, node, ready/,
      ],
    ],
    [
      "bad values",
      withServices(
        SERVICE.replace("10.152.183.10", "10.152.183.300").replace("80", "65536"),
        "{ name: web, clusterIP: 10.152.183.11, ports: [], sessionAffinitySeconds: 0 }",
        SERVICE.replace("port: 80", "port: 80, protocol: ICMP")
          .replace("web", "x")
          .replace("ports", "internalTrafficPolicy: Nearby, ports"),
      ),
      [
        /services\[0\]\.clusterIP: "10\.152\.183\.300" is no IPv4 address/,
        /services\[0\]\.ports\[0\]\.port: must be a whole number from 1 to 65535/,
        /services\[1\]\.name: "web" is no service name/,
        /services\[1\]\.ports: is empty/,
        /services\[1\]\.sessionAffinitySeconds: must be a whole number from 1 to 86400/,
        /services\[2\]\.internalTrafficPolicy: "Nearby" is none of Cluster, Local/,
        /services\[2\]\.ports\[0\]\.protocol: "ICMP" is none of TCP, UDP, SCTP/,
      ],
    ],
    [
      "duplicates",
      withServices(
        SERVICE,
        SERVICE.replace("port: 80", "port: 80, nodePort: 30080"),
        "{ name: default/x, clusterIP: 10.152.183.11, ports: [{ port: 80, nodePort: 30080 }, { port: 81 }, { port: 80, name: a }] }",
      ),
      [
        /12:13: services\[1\]\.name: service name default\/web is taken already by services\[0\]\.name/,
        /services\[1\]\.clusterIP: cluster address 10\.152\.183\.10 is taken already by services\[0\]\.clusterIP/,
        /services\[2\]\.ports\[0\]\.nodePort: node port 30080\/TCP is taken already by services\[1\]\.ports\[0\]\.nodePort/,
        /services\[2\]\.ports\[1\]: another TCP port of this service has no name either/,
        /services\[2\]\.ports\[2\]\.port: port 80\/TCP is there twice/,
      ],
    ],
    [
      "addresses of others",
      withServices(
        SERVICE.replace("10.152.183.10", "10.1.5.5"),
        "{ name: default/a, clusterIP: 192.168.2.31, ports: [{ port: 80 }] }",
        "{ name: default/b, clusterIP: 10.152.183.11, loadBalancerIPs: [192.168.2.36], externalIPs: [10.152.183.11], ports: [{ port: 80 }] }",
        "{ name: default/c, clusterIP: 10.152.183.12, loadBalancerIPs: [192.168.2.36], ports: [{ port: 80 }] }",
        "{ name: default/d, clusterIP: 10.152.183.13, loadBalancerIPs: [192.168.2.36], ports: [{ port: 81 }] }",
        "{ name: default/e, clusterIP: 10.152.183.14, ports: [{ port: 81 }], backends: [{ address: 127.0.0.1 }, { address: 10.152.183.12 }, { address: 10.1.1.1 }, { address: 10.1.1.1 }] }",
      ),
      [
        /services\[0\]\.clusterIP: 10\.1\.5\.5 is in the pod pool 10\.1\.0\.0\/16/,
        /services\[0\]\.clusterIP: 10\.1\.5\.5 is outside the service range \(10\.152\.183\.0\/24\)/,
        /services\[1\]\.clusterIP: 192\.168\.2\.31 is the underlay address of k8s-worker01/,
        /services\[1\]\.clusterIP: 192\.168\.2\.31 is outside the service range/,
        /services\[2\]\.externalIPs\[0\]: 10\.152\.183\.11 is the cluster address of services\[2\]\.clusterIP/,
        /services\[3\]\.loadBalancerIPs\[0\]: 192\.168\.2\.36:80\/TCP is taken already by services\[2\]\.loadBalancerIPs\[0\]/,
        /services\[5\]\.backends\[0\]\.address: 127\.0\.0\.1 is a loopback address/,
        /services\[5\]\.backends\[1\]\.address: 10\.152\.183\.12 is itself a service's address \(services\[3\]\.clusterIP\)/,
        /services\[5\]\.backends\[3\]\.address: backend 10\.1\.1\.1 is there twice/,
      ],
    ],
    [
      "service range",
      `${GOOD}serviceRange: [10.1.128.0/24, 192.168.0.0/16, 224.0.0.0/8]\n`,
      [
        /9:16: serviceRange\[0\]: service range 10\.1\.128\.0\/24 overlaps pool 10\.1\.0\.0\/16/,
        /serviceRange\[1\]: service range 192\.168\.0\.0\/16 contains the underlay address 192\.168\.2\.30/,
        /serviceRange\[2\]: service range 224\.0\.0\.0\/8 is for multicast/,
      ],
    ],
    [
      "a UDP node port that is VXLAN's",
      withServices(SERVICE.replace("port: 80", "port: 80, protocol: UDP, nodePort: 4789")),
      [/services\[0\]\.ports\[0\]\.nodePort: 4789 is the port of VXLAN/],
    ],
  ];
  test.each(serviceCases)("services: %s", (_, text, expected) => {
    const found = problems(text);
    for (const pattern of expected) expect(found.join("\n")).toMatch(pattern);
    expect(found).toHaveLength(expected.length);
  });

  test("a large JSON file, read the fast way, is the same as YAML, and problems have their place", () => {
    const services = Array.from({ length: 1000 }, (_, n) => ({
      name: `default/s${n}`,
      clusterIP: `10.152.${n >> 8}.${n & 255}`,
      ports: [{ protocol: "TCP", port: 80 }],
      backends: [{ address: "10.1.79.65", port: 8080, node: "k8s-worker01" }],
    }));
    const config = { ...parseYaml(GOOD), services };
    const json = JSON.stringify(config, null, 1);
    expect(json.length).toBeGreaterThan(65_536);
    expect(parseConfig("a", json).config).toEqual(parseConfig("a", stringifyYaml(config)).config);
    services[998]!.clusterIP = services[997]!.clusterIP;
    const line = JSON.stringify({ ...config, services }, null, 1).split("\n");
    const [found] = problems(line.join("\n"));
    const [, row] = /^agent\.yaml:(\d+):\d+: services\[998\]\.clusterIP: cluster address/.exec(found!)!;
    expect(line[Number(row) - 1]).toContain(`"clusterIP": "${services[998]!.clusterIP}"`);
    expect(line[Number(row) - 2]).toContain("default/s998");
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
