/**
 * podwire uninstall leaves a machine as it was before podwire install: links, addresses, rules, routes,
 * sysctls, units and files, after a stop and after a crash.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PODWIRE } from "../support/agent.js";
import { TestMachine } from "../support/machine.js";
import { netnsUnavailable, TestNet, type TestProcess, waitFor } from "../support/netns.js";

const ADDRESS = "192.168.2.31";
const CONFIG = `
node: k8s-worker01
underlay: { address: ${ADDRESS} }
podPool: 10.1.0.0/16
blocks: [10.1.79.64/26]
serviceRange: 10.152.183.0/24
vteps:
  - { node: k8s-master, address: 192.168.2.30, blocks: [10.1.235.192/26] }
pods:
  - { name: default/one, netns: /run/netns/one, address: 10.1.79.65 }
`;

const net = new TestNet();
let machine: TestMachine;

const snapshot = () => machine.snapshot({ podLinks: "ip -n one -o link | cut -d' ' -f2-4; ip -n one route" });

async function startAgent(): Promise<TestProcess> {
  const agent = machine.spawn(process.execPath, PODWIRE, "agent", "--config", "/etc/podwire/static.yaml");
  await waitFor(async () => (await machine.run("test", "-e", "/run/podwire/ready")).code === 0, {
    what: `the agent: ${agent.stderr}`,
    deadlineMs: 30_000,
  });
  return agent;
}

/** Writes what an installation does, and a config for an agent without an API server. */
async function installed(): Promise<void> {
  const options = ["--role", "node", "--address", ADDRESS, "--node", "k8s-worker01", "--no-start"];
  await machine.runOrThrow(process.execPath, PODWIRE, "install", ...options);
  await machine.runOrThrow(
    "sh",
    "-c",
    `cat > /etc/podwire/static.yaml << 'END'\n${CONFIG}END\nmkdir -p /var/lib/podwire`,
  );
  await machine.runOrThrow("test", "-e", "/etc/systemd/system/podwire-agent.service");
}

describe.skipIf(netnsUnavailable() !== "")("uninstall", () => {
  beforeAll(async () => {
    const node = await net.netns("node");
    const lan = await net.netns("lan");
    await net.link({ ns: node, name: "eth1", address: `${ADDRESS}/24` }, { ns: lan, name: "eth0" });
    await net.exec(node, "ip", ["link", "set", "lo", "up"]);
    const setup = "ip netns add one; ip -n one link set lo up";
    machine = await TestMachine.start(net, node, "k8s-worker01", setup);
  });
  afterAll(() => net.cleanup());

  test.each([["stopped", "SIGTERM"] as const, ["killed", "SIGKILL"] as const])(
    "leaves the machine as it was, after an agent that was %s",
    async (_, signal) => {
      const before = await snapshot();
      await installed();
      const agent = await startAgent();
      const during = await snapshot();
      for (const what of ["links", "addresses", "routes", "rules", "sysctls", "podLinks", "files"])
        expect(during[what], `${what} should show the agent`).not.toBe(before[what]);
      process.kill(agent.pid, signal);
      await agent.exited;
      expect(await machine.runOrThrow("ip", "rule")).toContain("lookup 4789");

      const { code, stdout, stderr } = await machine.run(process.execPath, PODWIRE, "uninstall");
      expect(code, stderr).toBe(0);
      expect(stdout).toContain("removed podwire0");
      expect(await snapshot()).toEqual(before);
    },
  );

  test("finds the agent's devices and rules without a record, and says what it cannot know", async () => {
    const before = await snapshot();
    await installed();
    const agent = await startAgent();
    process.kill(agent.pid, "SIGKILL");
    await agent.exited;
    await machine.runOrThrow("rm", "-rf", "/run/podwire");
    const { code, stdout, stderr } = await machine.run(process.execPath, PODWIRE, "uninstall");
    expect(code, stderr).toBe(0);
    expect(stdout).toContain("removed podwire0");
    expect(stdout).toContain("not recorded");
    const after = await snapshot();
    for (const what of ["links", "addresses", "routes", "rules", "files"])
      expect(after[what]).toBe(before[what]);
    expect(after.sysctls).toContain("net.ipv4.ip_local_reserved_ports = \n");
  });

  test("may be repeated, and refuses while an agent runs", async () => {
    await installed();
    const agent = await startAgent();
    const refused = await machine.run(process.execPath, PODWIRE, "uninstall");
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("an agent runs");
    process.kill(agent.pid, "SIGTERM");
    await agent.exited;
    expect((await machine.run(process.execPath, PODWIRE, "uninstall")).code).toBe(0);
    const again = await machine.run(process.execPath, PODWIRE, "uninstall");
    expect(again).toMatchObject({ code: 0, stdout: "", stderr: "" });
  });
});
