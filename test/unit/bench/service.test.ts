import { describe, expect, it } from "vitest";
import { type Answer, spreadProblems } from "../../../bench/service/check.js";
import { iptablesRules } from "../../../bench/service/iptables.js";
import { selectMeasures } from "../../../bench/service/measures.js";
import { nftRules } from "../../../bench/service/nftables.js";
import { estimate, parseServiceOptions } from "../../../bench/service/options.js";
import { formatLevel, type LevelResult } from "../../../bench/service/report.js";
import { chainHash } from "../../../bench/service/ruleNames.js";
import { type BenchService, makeServices, SPREAD, USED } from "../../../bench/service/services.js";
import { selectVariants } from "../../../bench/service/variants.js";

const SERVICE: BenchService = {
  name: "ns/web",
  clusterIP: "10.152.183.9",
  ports: [{ protocol: "TCP", port: 80, nodePort: 30080 }],
  backends: [
    { address: "10.1.79.66", port: 8080, node: "b" },
    { address: "10.1.235.194", port: 8081, node: "a" },
  ],
};

describe("chainHash", () => {
  // Chains of kube-proxy's own tests for the Service port ns1/svc1:p80 with the endpoint 10.180.0.1:80.
  it.each([
    ["ns1/svc1:p80tcp", 16, "XPGD46QRK7WJZT7O"],
    ["ns1/svc1:p80tcp10.180.0.1:80", 16, "SXIVWICOYRO3J4NJ"],
    ["ns1/svc1/tcp/p80", 8, "ULMVA6XW"],
    ["ns1/svc1/tcp/p80__10.180.0.1/80", 8, "5OJB2KTY"],
  ])("%s", (text, length, hash) => expect(chainHash(text, length)).toBe(hash));
});

describe("iptablesRules", () => {
  const lines = iptablesRules([SERVICE], "10.1.0.0/16").split("\n");
  const chain = (kind: string) =>
    lines.filter((line) => line.startsWith(`:KUBE-${kind}-`)).map((line) => line.slice(1).split(" ")[0]!);
  const rulesOf = (name: string) =>
    lines.filter((line) => line.startsWith(`-A ${name} `)).map((line) => line.slice(name.length + 4));

  it("leads a ClusterIP to its chain, and NodePorts after all of them", () => {
    const [service] = chain("SVC");
    const [nodePorts] = rulesOf("KUBE-SERVICES").slice(-1);
    expect(rulesOf("KUBE-SERVICES")).toContain(
      `-m comment --comment "ns/web:tcp80 cluster IP" -m tcp -p tcp -d 10.152.183.9 --dport 80 -j ${service}`,
    );
    expect(nodePorts).toMatch(/-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS$/);
  });

  it("masquerades what comes from outside, and a backend's connection to itself", () => {
    const [service] = chain("SVC");
    const [external] = chain("EXT");
    expect(rulesOf("KUBE-NODEPORTS")).toContain(
      `-m comment --comment "ns/web:tcp80" -m tcp -p tcp --dport 30080 -j ${external}`,
    );
    expect(rulesOf(external!).map((rule) => rule.split("-j ")[1])).toEqual(["KUBE-MARK-MASQ", service]);
    expect(rulesOf(chain("SEP")[0]!)).toEqual([
      '-m comment --comment "ns/web:tcp80" -s 10.1.79.66 -j KUBE-MARK-MASQ',
      '-m comment --comment "ns/web:tcp80" -m tcp -p tcp -j DNAT --to-destination 10.1.79.66:8080',
    ]);
  });

  it("gives every backend the same share", () => {
    const four = { ...SERVICE, backends: [...SERVICE.backends, ...SERVICE.backends] };
    const shares = iptablesRules([four], "10.1.0.0/16").matchAll(/--probability ([\d.]+)/g);
    expect([...shares].map((match) => Number(match[1]))).toEqual([0.25, 0.3333333333, 0.5]);
  });

  it("leaves out the endpoints' comments in a large cluster, as kube-proxy does", () => {
    const endpoints = (count: number) => iptablesRules(makeServices(count, "last"), "10.1.0.0/16");
    expect(endpoints(100)).toContain("bench/http:tcp80 -> 10.1.79.75:8080");
    expect(endpoints(1000)).not.toContain("bench/http:tcp80 -> ");
    expect(endpoints(1000)).toContain("bench/http:tcp80 cluster IP");
  });
});

describe("nftRules", () => {
  const surroundings = {
    podCidr: "10.1.0.0/16",
    serviceCidr: "10.152.0.0/16",
    nodePortAddresses: ["192.168.2.30"],
  };
  const text = nftRules([SERVICE], surroundings);
  const name = (kind: string) =>
    new RegExp(`add chain ip kube-proxy (${kind}-[A-Z2-7]{8}-\\S+)`).exec(text)![1];

  it("looks services up in maps", () => {
    expect(text).toContain(`service-ips { 10.152.183.9 . tcp . 80 : goto ${name("service")} }`);
    expect(text).toContain(`service-nodeports { tcp . 30080 : goto ${name("external")} }`);
    expect(text).toContain("nodeport-ips { 192.168.2.30 }");
    expect(text).toContain("cluster-ips { 10.152.183.9 }");
  });

  it("chooses a backend by a random number", () => {
    const endpoints = [...text.matchAll(/add chain ip kube-proxy (endpoint-\S+)/g)].map((match) => match[1]);
    expect(endpoints).toHaveLength(2);
    expect(text).toContain(
      `${name("service")} numgen random mod 2 vmap { 0 : goto ${endpoints[0]} , 1 : goto ${endpoints[1]} }`,
    );
    expect(text).toContain(`${endpoints[1]} meta l4proto tcp counter dnat to 10.1.235.194:8081`);
  });

  it("makes every chain before a rule or an element leads to it", () => {
    const lines = nftRules(makeServices(50, "middle"), surroundings).split("\n");
    const made = new Set<string>();
    for (const line of lines) {
      for (const [, chain] of line.matchAll(/(?:goto|jump) ([^\s,]+)/g)) expect(made).toContain(chain);
      const chain = /^add chain ip kube-proxy (\S+)/.exec(line)?.[1];
      if (chain !== undefined) made.add(chain);
    }
    expect(made.size).toBeGreaterThan(150);
  });
});

describe("makeServices", () => {
  it.each([1, USED.length, 1000, 10_000])("gives %d services addresses of their own", (count) => {
    const services = makeServices(count, "last");
    expect(services).toHaveLength(Math.max(count, USED.length));
    expect(new Set(services.map(({ clusterIP }) => clusterIP)).size).toBe(services.length);
    expect(new Set(services.map(({ name }) => name)).size).toBe(services.length);
    const backends = services.flatMap((service) => service.backends);
    expect(new Set(backends.map(({ address, port }) => `${address}:${port}`)).size).toBe(backends.length);
  });

  it("puts the used ones where they are wanted", () => {
    const at = (position: "last" | "middle") =>
      makeServices(100, position).findIndex(({ name }) => name === USED[0]!.name);
    expect(at("last")).toBe(100 - USED.length);
    expect(at("middle")).toBe(48);
  });
});

describe("spreadProblems", () => {
  const answers = (client: string): Answer[] =>
    Array.from({ length: 64 }, (_, i) => {
      const { address, port } = SPREAD.backends[i % SPREAD.backends.length]!;
      return { backend: `${address}:${port}`, client };
    });
  const problems = (given: Answer[]) => spreadProblems("ClusterIP", given, (client) => client === "10.0.0.1");

  it("has nothing to say of a spread over all backends", () => {
    expect(problems(answers("10.0.0.1"))).toEqual([]);
  });

  it("names what is missing, strange or masqueraded", () => {
    const [first] = SPREAD.backends;
    const given = answers("10.0.0.2").filter(({ backend }) => backend !== `${first!.address}:${first!.port}`);
    given.push({ backend: "10.9.9.9:1", client: "10.0.0.1" });
    const text = problems(given).join("\n");
    expect(text).toContain("49 of 64 connections were answered");
    expect(text).toContain(`${first!.address}:${first!.port} got no connection`);
    expect(text).toContain("10.9.9.9:1 answered");
    expect(text).toContain("saw the client as 10.0.0.2");
  });
});

describe("parseServiceOptions", () => {
  const parse = (args: string[]) => {
    const options = parseServiceOptions(args);
    if (options === "help") throw new Error("unexpected");
    return options;
  };

  it("takes about twenty minutes by itself, and less than five when told to be quick", () => {
    expect(parse([]).services).toEqual([1, 1000, 10_000]);
    expect(estimate(parse([]))).toBeLessThan(21 * 60);
    expect(estimate(parse(["--quick"]))).toBeLessThan(5 * 60);
  });

  it.each([
    ["--services", "0"],
    ["--services", "50000"],
    ["--measures", "nothing"],
    ["--variants", "ipvs"],
    ["--position", "first"],
    ["--iptables", "old"],
    ["--reps", "x"],
  ])("refuses %s %s", (...args) => {
    expect(() => parse(args)).toThrow();
  });
});

describe("formatLevel", () => {
  const variants = selectVariants(["iptables", "nftables", "portable", "tunnel"]);
  const check = { backends: { "10.1.79.75:8090": 128 }, nodePortClients: ["192.168.2.10"] };
  const result: LevelResult = {
    services: 10_000,
    loads: { iptables: [40, 42], nftables: [10, 12], portable: [1, 1] },
    checks: { iptables: check, nftables: check, portable: check },
    otherCores: [0.01],
    failed: { tunnel: "no device" },
    values: {
      "iptables/clusterIP": { tcp1: [10, 10], http: [1000, 1000] },
      "nftables/clusterIP": { tcp1: [8, 8], http: [8000, 8000] },
      "portable/clusterIP": { tcp1: [9, 9], http: [6000, 5000] },
      "portable/pod": { tcp1: [10, 10], http: [6000, 5200] },
      "portable/nodePort": { httpKept: [0.5, 0.6] },
    },
    cpu: {},
    details: {},
    errors: [{ repetition: 1, test: "redis", variant: "nftables/nodePort", message: "no answer" }],
  };
  const text = formatLevel(result, selectMeasures(["tcp1", "http", "httpRow"]), variants);
  const row = (start: string, nth = 0) => text.split("\n").filter((line) => line.startsWith(start))[nth];

  it("compares loading", () => {
    expect(row("| vxlan + iptables")).toContain("× 41.0 [40.0–42.0] ✓");
    expect(row("| vxlan + nftables")).toContain("× 11.0 [10.0–12.0] ✗");
  });

  it("judges each ratio by what is wanted of it", () => {
    expect(row("| pod → ClusterIP, TCP, 1 stream")).toMatch(
      /0\.90 \[0\.90–0\.90\] ✗ .* 1\.13 \[1\.13–1\.13\] ✓ .*≥ 1\.00/,
    );
    expect(row("| pod → ClusterIP, HTTP, new connections")).toMatch(
      /5\.50 \[5\.00–6\.00\] ✓ .* 0\.69 \[0\.63–0\.75\] \|.*≥ 4\.00/,
    );
  });

  it("shows what a ClusterIP costs, and where new connections fall over", () => {
    expect(row("| TCP, 1 stream")).toContain("0.90 [0.90–0.90] ✗");
    expect(row("| HTTP, new connections")).toContain("0.98 [0.96–1.00] ✓");
    expect(row("| pc → NodePort, HTTP, new connections, run 4 in a row, of run 1", 1)).toContain(
      "0.55 [0.50–0.60] ✗",
    );
  });

  it("says what went wrong", () => {
    expect(text).toContain("tunnel did not come up: no device");
    expect(text).toContain("No figure: redis, nftables/nodePort, repetition 1: no answer");
  });
});
