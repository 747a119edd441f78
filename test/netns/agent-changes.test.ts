/** What happens while the agent runs: the file changes, namespaces and devices come and go, it is killed. */
import { existsSync, renameSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { PODWIRE, startAgent, type TestAgent } from "../support/agent.js";
import { netnsUnavailable, TestNet, waitFor } from "../support/netns.js";

const reason = netnsUnavailable();

describe.skipIf(reason !== "")(`agent and changes ${reason}`, () => {
  const net = new TestNet();
  let node: string;
  let podA: string;
  let podB: string;
  let agent: TestAgent;
  let stateDir: string;

  const config = (pods: [string, string, string][]) => ({
    node: "k8s-master",
    stateDir,
    underlay: { address: "192.168.2.30" },
    podPool: "10.1.0.0/16",
    blocks: ["10.1.235.192/26"],
    pods: pods.map(([name, ns, address]) => ({ name: `default/${name}`, netns: net.path(ns), address })),
  });
  const A = (): [string, string, string] => ["a", podA, "10.1.235.193"];
  const B = (): [string, string, string] => ["b", podB, "10.1.235.194"];
  const links = async (ns: string) => (await net.ipJson(ns, "link")).map(({ ifname }) => ifname);
  const pings = async (from: string, to: string) =>
    (await net.tryExec(from, "ping", ["-c1", "-W1", to])).code === 0;
  const podStates = async () =>
    Object.fromEntries(
      (await agent.request("status")).pods.map(({ name, state }: Record<string, string>) => [name, state]),
    );

  beforeAll(async () => {
    node = await net.netns("node");
    podA = await net.netns("a");
    podB = await net.netns("b");
    await net.lan("lan", [{ ns: node, name: "eth0", address: "192.168.2.30/24" }]);
    stateDir = `${net.directory()}/state`;
    agent = startAgent(net, node, config([A()]), { stateDir });
    await agent.ready();
  });
  afterAll(() => net.cleanup());

  test("a pod is added when the file is replaced by rename", async () => {
    writeFileSync(`${agent.configFile}~`, stringify(config([A(), B()])));
    renameSync(`${agent.configFile}~`, agent.configFile);
    await waitFor(async () => (await podStates())["default/b"] === "up", { what: "pod b" });
    // The device is up a moment before the tables name it.
    await waitFor(() => pings(podA, "10.1.235.194"), { what: "pod b answers" });
    expect(await pings(podB, "10.1.235.193")).toBe(true);
  });

  test("a bad file changes nothing and is told", async () => {
    agent.rewrite(`${stringify(config([A(), B()]))}colour: red\n`);
    await waitFor(() => /config not taken over: \S+: colour: unknown key/.test(agent.process.stderr), {
      what: "log",
    });
    expect(await podStates()).toEqual({ "default/a": "up", "default/b": "up" });
    expect(await pings(podA, "10.1.235.194")).toBe(true);
  });

  test("a pod is removed when the file is written in place", async () => {
    agent.rewrite(config([A()]));
    await waitFor(async () => !("default/b" in (await podStates())), { what: "pod b gone" });
    await waitFor(async () => !(await links(podB)).includes("eth0"), { what: "device gone" });
    expect(await pings(podA, "10.1.235.192")).toBe(true);
    expect(await pings(podA, "10.1.235.194")).toBe(false);
  });

  test("a pod whose namespace is not there yet fails alone, and comes when it is", async () => {
    agent.rewrite(config([A(), ["c", `${net.prefix}-c`, "10.1.235.195"]]));
    await waitFor(async () => (await podStates())["default/c"] === "failed", { what: "pod c failed" });
    expect(await pings(podA, "10.1.235.192")).toBe(true);
    const podC = await net.netns("c");
    await waitFor(async () => (await podStates())["default/c"] === "up", { what: "pod c" });
    expect(await pings(podC, "10.1.235.193")).toBe(true);
  });

  test("a deleted namespace is let go, and its successor under the same path is served", async () => {
    const podC = `${net.prefix}-c`;
    await net.deleteNetns(podC);
    const deviceC = async () => {
      const { devices } = await agent.request("status");
      return devices.find(({ id }: { id: string }) => id === "pod default/c");
    };
    await waitFor(async () => (await deviceC()).port === -1, { what: "pod c let go" });
    expect(await deviceC()).toMatchObject({
      state: "failed",
      message: expect.stringContaining("no network namespace"),
    });
    await net.netns("c");
    await waitFor(async () => (await podStates())["default/c"] === "up", { what: "pod c again" });
    // At once replaced, before the agent could look.
    await net.deleteNetns(podC);
    await net.netns("c");
    await waitFor(() => pings(podC, "10.1.235.193"), { what: "pod c a third time" });
  });

  test("deleted devices are made again", async () => {
    await net.exec(podA, "ip", ["link", "del", "eth0"]);
    await net.exec(node, "ip", ["link", "del", "podwire0"]);
    await waitFor(() => pings(podA, "10.1.235.192"), { what: "pod a and node" });
  });

  test("SIGHUP repairs what was changed by hand", async () => {
    // The last address takes routes and neighbours along.
    await net.exec(podA, "ip", ["addr", "flush", "dev", "eth0"]);
    await net.exec(node, "sysctl", ["-qw", "net.ipv4.conf.podwire0.accept_local=0"]);
    await net.exec(node, "ip", ["link", "set", "podwire0", "down", "mtu", "1300"]);
    agent.process.kill("SIGHUP");
    await waitFor(() => pings(podA, "10.1.235.192"), { what: "pod a" });
    const [podwire0] = await net.ipJson(node, "link", "show", "podwire0");
    expect(podwire0.mtu).toBe(1450);
    expect((await net.exec(node, "sysctl", ["-n", "net.ipv4.conf.podwire0.accept_local"])).stdout).toBe(
      "1\n",
    );
  });

  test("another underlay port", async () => {
    const moved = { ...config([A()]), underlay: { address: "192.168.2.30", port: 8472 } };
    agent.rewrite(moved);
    const bound = async (port: number) =>
      (await net.exec(node, "ss", ["-Huln"])).stdout.includes(`192.168.2.30:${port}`);
    await waitFor(() => bound(8472), { what: "new port" });
    expect(await bound(4789)).toBe(false);
    expect(await pings(podA, "10.1.235.192")).toBe(true);
  });

  test("after kill -9 the next agent goes on, and cleanup removes everything", async () => {
    const index = async () => (await net.ipJson(podA, "link", "show", "eth0"))[0].ifindex;
    const before = await index();
    agent.process.kill("SIGKILL");
    await agent.process.exited;
    expect(existsSync(`${stateDir}/agent.lock`)).toBe(true);
    agent = startAgent(net, node, config([A()]), { stateDir });
    await agent.ready();
    expect(await index()).toBe(before);
    expect(await pings(podA, "10.1.235.192")).toBe(true);

    agent.process.kill("SIGKILL");
    await agent.process.exited;
    const { code, stdout, stderr } = await net.tryExec(node, process.execPath, [
      PODWIRE,
      "cleanup",
      "--config",
      agent.configFile,
    ]);
    expect({ code, stdout, stderr }).toEqual({
      code: 0,
      stdout: `removed podwire0\nremoved eth0 in ${net.path(podA)}\n`,
      stderr: "",
    });
    expect(await links(node)).toEqual(["lo", "eth0"]);
    expect(await links(podA)).toEqual(["lo"]);
    expect(existsSync(stateDir)).toBe(false);
  });
});
