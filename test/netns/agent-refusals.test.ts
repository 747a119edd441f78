/** What the agent refuses: it names file, field and remedy, exits non-zero and leaves nothing behind. */
import { existsSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { PODWIRE, startAgent } from "../support/agent.js";
import { netnsUnavailable, TestNet } from "../support/netns.js";

const reason = netnsUnavailable();

describe.skipIf(reason !== "")(`agent refuses ${reason}`, () => {
  const net = new TestNet();
  let node: string;
  let pod: string;
  let podB: string;
  let before: string;
  let config: Record<string, unknown>;

  /** Links, addresses, routes and rules of all namespaces. */
  const picture = async () => {
    const parts: string[] = [];
    for (const ns of [node, pod, podB])
      for (const what of ["link", "addr", "route", "rule"])
        parts.push(
          (await net.exec(ns, "ip", [what, "show"])).stdout.replace(/STALE|REACHABLE|DELAY|tentative/g, ""),
        );
    return parts.join("\n");
  };

  beforeAll(async () => {
    node = await net.netns("node");
    pod = await net.netns("pod");
    podB = await net.netns("b");
    // Without duplicate address detection the picture does not change by itself.
    await net.exec(node, "sysctl", ["-qw", "net.ipv6.conf.default.accept_dad=0"]);
    await net.lan("lan", [{ ns: node, name: "eth0", address: "192.168.2.30/24" }]);
  });
  afterAll(() => net.cleanup());
  beforeEach(async () => {
    config = {
      node: "k8s-master",
      underlay: { address: "192.168.2.30" },
      podPool: "10.1.0.0/16",
      blocks: ["10.1.235.192/26"],
      vteps: [{ node: "k8s-worker01", address: "192.168.2.31", blocks: ["10.1.79.64/26"] }],
      pods: [{ name: "default/a", netns: net.path(pod), address: "10.1.235.193" }],
    };
    before = await picture();
  });
  afterEach(async () => expect(await picture()).toBe(before));

  /** Starts an agent that must refuse, and returns what it said. */
  const refused = async (text: object | string, exit: number, uid?: number) => {
    const agent = startAgent(
      net,
      uid === undefined ? node : "",
      text,
      uid === undefined ? {} : { uid, gid: uid },
    );
    const code = await agent.process.exited;
    const said = agent.process.stderr.replaceAll(agent.configFile, "FILE");
    expect({ code, said }).toMatchObject({ code: exit });
    expect(existsSync(agent.stateDir)).toBe(false);
    return said;
  };

  test("an unknown key", async () => {
    expect(await refused({ ...config, podpool: "10.1.0.0/16" }, 2)).toMatch(
      /^FILE:\d+:1: podpool: unknown key\. Did you mean podPool\?$/m,
    );
  });
  test("overlapping addresses", async () => {
    const vteps = [{ node: "k8s-worker01", address: "192.168.2.31", blocks: ["10.1.235.0/24"] }];
    expect(await refused({ ...config, vteps }, 2)).toMatch(
      /^FILE:\d+:\d+: vteps\[0\]\.blocks\[0\]: block 10\.1\.235\.0\/24 of k8s-worker01 overlaps block .* Give each node/m,
    );
  });
  test("no YAML", async () => {
    expect(await refused("node: [\n", 2)).toMatch(/^FILE:2:1: .*Correct the YAML syntax/);
  });
  test("no such file", async () => {
    const { code, stderr } = await net.tryExec(node, process.execPath, [
      PODWIRE,
      "agent",
      "-c",
      "/nonexistent",
    ]);
    expect([code, stderr]).toEqual([
      2,
      "/nonexistent: there is no such file. Name the config file with --config.\n",
    ]);
  });
  test("a missing namespace", async () => {
    const pods = [{ name: "default/a", netns: "/run/netns/nobody", address: "10.1.235.193" }];
    expect(await refused({ ...config, pods }, 1)).toMatch(
      /^FILE:\d+:\d+: pods\[0\]\.netns: there is no network namespace at \/run\/netns\/nobody\. Make it first/,
    );
  });
  test("a file that is no namespace", async () => {
    const pods = [{ name: "default/a", netns: "/etc/hostname", address: "10.1.235.193" }];
    expect(await refused({ ...config, pods }, 1)).toMatch(
      /pods\[0\]\.netns: there is no network namespace at/,
    );
  });
  test("a port in use", async () => {
    const script =
      'const s=require("dgram").createSocket("udp4");s.bind(4789,"192.168.2.30",()=>console.log("bound"))';
    const holder = net.spawn(node, process.execPath, ["-e", script]);
    await new Promise((resolve) => holder.child.stdout!.once("data", resolve));
    expect(await refused(config, 1)).toMatch(
      /^FILE:\d+:\d+: underlay\.port: UDP port 4789 of 192\.168\.2\.30 is in use\. Another VXLAN .*`ss -ulpn`/,
    );
    await holder.stop();
  });
  test("a port that a kernel vxlan device uses", async () => {
    const made = await net.tryExec(
      node,
      "ip",
      "link add vxlan0 type vxlan id 1 dstport 4789 local 192.168.2.30".split(" "),
    );
    if (made.code !== 0) return; // no vxlan driver in this kernel
    await net.exec(node, "ip", ["link", "set", "vxlan0", "up"]);
    expect(await refused(config, 1)).toMatch(/underlay\.port: UDP port 4789 .*is in use/);
    await net.exec(node, "ip", ["link", "del", "vxlan0"]);
  });
  test("an underlay address of another node", async () => {
    expect(await refused({ ...config, underlay: { address: "192.168.2.77" } }, 1)).toMatch(
      /^FILE:\d+:\d+: underlay\.address: no interface of this node has 192\.168\.2\.77\. Write/,
    );
  });
  test("no /dev/net/tun", async () => {
    const file = `${net.directory()}/agent.yaml`;
    const script = `mount -t tmpfs none /dev/net && cat > ${file} && exec "$@" -c ${file}`;
    const { code, stderr } = await net.tryExec(node, "unshare", [
      "-m",
      "sh",
      "-c",
      `${script.replace("cat >", `printf '%s' '${stringify({ ...config, stateDir: `${file}.d` })}' >`)}`,
      "sh",
      process.execPath,
      PODWIRE,
      "agent",
    ]);
    expect(code).toBe(1);
    expect(stderr).toBe(
      `${file}: /dev/net/tun cannot be opened: ENOENT. Load the driver: \`modprobe tun\`; in a container also \`mkdir -p /dev/net && mknod /dev/net/tun c 10 200\`.\n`,
    );
    expect(existsSync(`${file}.d`)).toBe(false);
  });
  test("no rights", async () => {
    const script = "process.setgroups([]);process.setgid(65534);process.setuid(65534);";
    const file = `${net.directory()}.yaml`;
    const { writeFileSync, rmSync } = await import("node:fs");
    writeFileSync(file, stringify({ ...config, stateDir: `${file}.d` }));
    const { code, stderr } = await net.tryExec(node, process.execPath, [
      "--input-type=module",
      "-e",
      `${script};process.argv.splice(1,0,"podwire");await import(${JSON.stringify(`file://${PODWIRE}`)})`,
      "agent",
      "-c",
      file,
    ]);
    rmSync(file);
    expect([code, stderr]).toEqual([
      1,
      `${file}: the agent lacks CAP_NET_ADMIN and CAP_SYS_ADMIN. Run it as root, or give it these capabilities.\n`,
    ]);
    expect(existsSync(`${file}.d`)).toBe(false);
  });
  test("a device of somebody else in the pod", async () => {
    await net.exec(pod, "ip", ["link", "add", "eth0", "type", "bridge"]);
    expect(await refused(config, 1)).toMatch(
      /pods\[0\]\.interface: the namespace of pod default\/a has a bridge device eth0 already that is not podwire's\. Remove it/,
    );
    await net.exec(pod, "ip", ["link", "del", "eth0"]);
    await net.exec(pod, "ip", ["tuntap", "add", "eth0", "mode", "tap"]);
    expect(await refused(config, 1)).toMatch(/has a tun device eth0 already/);
    await net.exec(pod, "ip", ["link", "del", "eth0"]);
  });
  test("a route of another plugin, after devices were made", async () => {
    await net.exec(node, "ip", ["route", "add", "10.1.0.0/16", "dev", "eth0"]);
    expect(await refused(config, 1)).toMatch(
      /podPool: a route 10\.1\.0\.0\/16 dev eth0 exists\. Another network plugin/,
    );
    await net.exec(node, "ip", ["route", "del", "10.1.0.0/16", "dev", "eth0"]);
  });
  test("one pod of several: the others' devices are taken back", async () => {
    const pods = [
      { name: "default/a", netns: net.path(pod), address: "10.1.235.193" },
      { name: "default/b", netns: net.path(podB), address: "10.1.235.194" },
    ];
    await net.exec(podB, "ip", ["route", "add", "default", "dev", "lo"]);
    expect(await refused({ ...config, pods }, 1)).toMatch(
      /pods\[1\]\.netns: a route 0\.0\.0\.0\/0 dev lo exists/,
    );
    await net.exec(podB, "ip", ["route", "del", "default", "dev", "lo"]);
  });
  test("usage errors", async () => {
    for (const args of [
      [],
      ["nonsense"],
      ["agent"],
      ["agent", "--nonsense"],
      ["agent", "-c", "x", "--log-level", "loud"],
    ]) {
      const { code } = await net.tryExec("", process.execPath, [PODWIRE, ...args]);
      expect([args, code]).toEqual([args, 2]);
    }
    for (const args of [["--help"], ["--version"], ["agent", "--help"], ["help", "agent"]]) {
      const { code, stdout } = await net.tryExec("", process.execPath, [PODWIRE, ...args]);
      expect([args, code]).toEqual([args, 0]);
      expect(stdout).not.toBe("");
    }
  });
});
