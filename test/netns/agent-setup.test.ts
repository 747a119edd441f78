/** The agent sets up podwire0 and pods, leaves them on SIGTERM, and finds them again. */
import { existsSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PODWIRE, startAgent, type TestAgent } from "../support/agent.js";
import { netnsUnavailable, TestNet } from "../support/netns.js";

const reason = netnsUnavailable();

describe.skipIf(reason !== "")(`agent on one node ${reason}`, () => {
  const net = new TestNet();
  let node: string;
  let pod: string;
  let config: Record<string, unknown>;
  let agent: TestAgent;

  beforeAll(async () => {
    node = await net.netns("node");
    pod = await net.netns("pod");
    await net.lan("lan", [{ ns: node, name: "eth0", address: "192.168.2.30/24" }]);
    config = {
      node: "k8s-master",
      underlay: { address: "192.168.2.30" },
      podPool: "10.1.0.0/16",
      blocks: ["10.1.235.192/26"],
      vteps: [{ node: "k8s-worker01", address: "192.168.2.31", blocks: ["10.1.79.64/26"] }],
      pods: [{ name: "default/nginx", netns: net.path(pod), address: "10.1.235.193" }],
    };
    agent = startAgent(net, node, config);
    await agent.ready();
  });
  afterAll(() => net.cleanup());

  const sysctl = async (ns: string, key: string) => (await net.exec(ns, "sysctl", ["-n", key])).stdout.trim();

  test("podwire0", async () => {
    const [link] = await net.ipJson(node, "addr", "show", "podwire0");
    expect(link).toMatchObject({
      mtu: 1450,
      txqlen: 1000,
      // printf k8s-master | sha1sum: d5cfd36b7e…, after 'f'
      address: "66:d5:cf:d3:6b:7e",
      ifalias: "podwire: node k8s-master, VNI 4096",
      linkinfo: {
        info_kind: "tun",
        info_data: { type: "tap", vnet_hdr: true, persist: true, multi_queue: false },
      },
    });
    expect(link.flags).toEqual(expect.arrayContaining(["UP", "LOWER_UP"]));
    // IPv6 is off: no link-local address either.
    expect(link.addr_info).toMatchObject([{ family: "inet", local: "10.1.235.192", prefixlen: 32 }]);
    expect(link.addr_info).toHaveLength(1);
    const [route] = await net.ipJson(node, "-4", "route", "show", "10.1.0.0/16");
    expect(route).toMatchObject({
      dst: "10.1.0.0/16",
      gateway: "169.254.1.1",
      dev: "podwire0",
      prefsrc: "10.1.235.192",
      protocol: "112",
      flags: ["onlink"],
    });
    expect(await net.ipJson(node, "neigh", "show", "dev", "podwire0")).toMatchObject([
      { dst: "169.254.1.1", lladdr: "ee:ee:ee:ee:ee:ee", state: ["PERMANENT"] },
    ]);
    for (const [key, value] of [
      ["accept_local", "1"],
      ["rp_filter", "2"],
      ["forwarding", "1"],
    ])
      expect(await sysctl(node, `net.ipv4.conf.podwire0.${key}`)).toBe(value);
  });

  test("the pod", async () => {
    const [link] = await net.ipJson(pod, "addr", "show", "eth0");
    expect(link).toMatchObject({
      mtu: 1450,
      address: "02:70:0a:01:eb:c1",
      linkinfo: { info_kind: "tun", info_data: { type: "tap", persist: true } },
      addr_info: [{ local: "10.1.235.193", prefixlen: 32 }],
    });
    expect(await net.ipJson(pod, "route", "show")).toMatchObject([
      { dst: "default", gateway: "169.254.1.1", dev: "eth0", flags: ["onlink"] },
    ]);
    const [loopback] = await net.ipJson(pod, "link", "show", "lo");
    expect(loopback.flags).toContain("UP");
    expect(await sysctl(pod, "net.ipv6.conf.eth0.disable_ipv6")).toBe("1");
  });

  test("node and pod reach each other", async () => {
    await net.exec(node, "ping", ["-c2", "-l2", "-W10", "10.1.235.193"]);
    await net.exec(pod, "ping", ["-c2", "-l2", "-W10", "10.1.235.192"]);
    await net.exec(pod, "ping", ["-c2", "-l2", "-W10", "192.168.2.30"]);
  });

  test("status, as text and as JSON", async () => {
    const run = (...args: string[]) =>
      net.exec("", process.execPath, [PODWIRE, "status", "--state-dir", agent.stateDir, ...args]);
    const { stdout } = await run();
    expect(stdout).toMatch(/^node +k8s-master \(process \d+/);
    expect(stdout).toMatch(/default\/nginx +10\.1\.235\.193 +eth0 +\S+ +up/);
    expect(stdout).toMatch(
      /k8s-worker01 +192\.168\.2\.31:4789 +10\.1\.79\.64 +66:c1:17:77:92:d1 +10\.1\.79\.64\/26/,
    );
    const json = JSON.parse((await run("--json")).stdout);
    expect(json).toMatchObject({ node: "k8s-master", overlayMtu: 1450, pods: [{ state: "up" }] });
    expect(json.counters.forwarded).toBeGreaterThanOrEqual(8);
  });

  test("its memory stays small", () => {
    const rss = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${agent.process.pid}/status`, "utf8"))![1];
    expect(Number(rss) / 1024).toBeLessThan(120);
  });

  test("a second agent is refused and does no harm", async () => {
    const same = startAgent(net, node, config, { stateDir: agent.stateDir });
    expect(await same.process.exited).toBe(1);
    expect(same.process.stderr).toMatch(/belongs to a running agent \(process \d+\)/);
    const other = startAgent(net, node, config);
    expect(await other.process.exited).toBe(1);
    expect(other.process.stderr).toMatch(/underlay\.port: UDP port 4789 of 192\.168\.2\.30 is in use/);
    expect(existsSync(other.stateDir)).toBe(false);
    const otherPort = startAgent(net, node, { ...config, underlay: { address: "192.168.2.30", port: 8472 } });
    expect(await otherPort.process.exited).toBe(1);
    expect(otherPort.process.stderr).toMatch(/podwire0.*EBUSY: another process holds the device/);
    await net.exec(node, "ping", ["-c1", "-W10", "10.1.235.193"]);
  });

  test("SIGTERM leaves devices and routes, and the next agent finds them", async () => {
    const index = async (ns: string, name: string) => (await net.ipJson(ns, "link", "show", name))[0].ifindex;
    const before = [await index(node, "podwire0"), await index(pod, "eth0")];
    expect(await agent.stop()).toBe(0);
    expect([await index(node, "podwire0"), await index(pod, "eth0")]).toEqual(before);
    expect(await net.ipJson(node, "route", "show", "10.1.0.0/16")).toHaveLength(1);
    expect((await net.tryExec(node, "ip", ["link", "show", "podwire-tx"])).code).not.toBe(0);
    expect(existsSync(`${agent.stateDir}/ready`)).toBe(false);

    const next = startAgent(net, node, config, { stateDir: agent.stateDir });
    await next.ready();
    expect([await index(node, "podwire0"), await index(pod, "eth0")]).toEqual(before);
    await net.exec(pod, "ping", ["-c1", "-W10", "10.1.235.192"]);
    expect(next.process.stderr).not.toMatch(/"created".*podwire0/);

    const cleanup = () =>
      net.tryExec(node, process.execPath, [PODWIRE, "cleanup", "--state-dir", agent.stateDir]);
    const refused = await cleanup();
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/belongs to a running agent .*Stop it first, or use --force/);
    expect(await next.stop()).toBe(0);
    const done = await cleanup();
    expect(done.code).toBe(0);
    expect(done.stdout).toBe(`removed podwire0\nremoved eth0 in ${net.path(pod)}\n`);
    expect((await net.ipJson(node, "link")).map(({ ifname }) => ifname)).toEqual(["lo", "eth0"]);
    expect((await net.ipJson(pod, "link")).map(({ ifname }) => ifname)).toEqual(["lo"]);
    expect(await net.ipJson(node, "route", "show", "10.1.0.0/16")).toEqual([]);
    expect(existsSync(agent.stateDir)).toBe(false);
    const again = await cleanup();
    expect([again.code, again.stdout]).toEqual([0, `nothing is recorded in ${agent.stateDir}\n`]);
  });
});
