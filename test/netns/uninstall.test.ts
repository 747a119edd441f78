/**
 * podwire uninstall leaves a machine as it was before podwire install: links, addresses, rules, routes,
 * sysctls, units and files, after a stop and after a crash. The machine is a network namespace, and
 * this machine's files under an overlay whose upper layer shows what was written.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PODWIRE } from "../support/agent.js";
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
let node = "";
let machine: TestProcess;

/** Runs a command on the machine, whatever it ends with. */
function run(...command: string[]) {
  const pid = String(machine.pid);
  return net.tryExec("", "nsenter", ["-t", pid, "-m", "-n", "-r", "-w", ...command]);
}

async function runOrThrow(...command: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(...command);
  if (code !== 0) throw new Error(`${command.join(" ")}: ${stderr || stdout}`);
  return stdout;
}

/** Everything that podwire could leave. */
async function snapshot(): Promise<Record<string, string>> {
  const commands: Record<string, string> = {
    links: "ip -o link | cut -d' ' -f2-4",
    addresses: "ip -o -4 address | sed 's/ valid_lft.*//'",
    routes: "ip -4 route show table all | sort",
    rules: "ip rule",
    sysctls: "sysctl -a 2>/dev/null | grep '^net\\.' | grep -vE 'nf_conntrack_count|random|stat_refresh'",
    podLinks: "ip -n one -o link | cut -d' ' -f2-4; ip -n one route",
    // Of the overlay what is written, and everything that lies in /run.
    files: "cd /upper && find . ! -type d | sort; find /run | sort",
  };
  const found: Record<string, string> = {};
  for (const [what, script] of Object.entries(commands)) found[what] = await runOrThrow("sh", "-c", script);
  return found;
}

async function startAgent(): Promise<TestProcess> {
  const pid = String(machine.pid);
  const agent = net.spawn("", "nsenter", [
    ...["-t", pid, "-m", "-n", "-r", "-w", process.execPath, PODWIRE],
    ...["agent", "--config", "/etc/podwire/static.yaml"],
  ]);
  await waitFor(async () => (await run("test", "-e", "/run/podwire/ready")).code === 0, {
    what: `the agent: ${agent.stderr}`,
    deadlineMs: 30_000,
  });
  return agent;
}

/** Writes what an installation does, and a config for an agent without an API server. */
async function installed(): Promise<void> {
  const options = ["--role", "node", "--address", ADDRESS, "--node", "k8s-worker01", "--no-start"];
  await runOrThrow(process.execPath, PODWIRE, "install", ...options);
  await runOrThrow(
    "sh",
    "-c",
    `cat > /etc/podwire/static.yaml << 'END'\n${CONFIG}END\nmkdir -p /var/lib/podwire`,
  );
  await runOrThrow("test", "-e", "/etc/systemd/system/podwire-agent.service");
}

describe.skipIf(netnsUnavailable() !== "")("uninstall", () => {
  beforeAll(async () => {
    node = await net.netns("node");
    const lan = await net.netns("lan");
    await net.link({ ns: node, name: "eth1", address: `${ADDRESS}/24` }, { ns: lan, name: "eth0" });
    await net.exec(node, "ip", ["link", "set", "lo", "up"]);
    const root = net.directory();
    // The upper layer lies in a tmpfs: it must not be part of the lower one.
    const script = [
      `mount -t tmpfs tmpfs ${root} && mkdir ${root}/upper ${root}/work ${root}/all`,
      `mount -t overlay -o lowerdir=/,upperdir=${root}/upper,workdir=${root}/work overlay ${root}/all`,
      `cd ${root}/all && for d in proc sys dev tmp; do mount --rbind /$d $d; done`,
      `mount -t tmpfs tmpfs run && mkdir -p run/systemd-none upper && mount --bind ${root}/upper upper`,
      "exec chroot . sh -c 'cd /; ip netns add one; ip -n one link set lo up; mkdir -p /etc/systemd/system; echo ready; exec sleep infinity'",
    ].join(" && ");
    machine = net.spawn(node, "unshare", ["--mount", "--propagation", "private", "sh", "-c", script]);
    await waitFor(() => machine.stdout.includes("ready"), { what: `the machine: ${machine.stderr}` });
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
      expect(await runOrThrow("ip", "rule")).toContain("lookup 4789");

      const { code, stdout, stderr } = await run(process.execPath, PODWIRE, "uninstall");
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
    await runOrThrow("rm", "-rf", "/run/podwire");
    const { code, stdout, stderr } = await run(process.execPath, PODWIRE, "uninstall");
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
    const refused = await run(process.execPath, PODWIRE, "uninstall");
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("an agent runs");
    process.kill(agent.pid, "SIGTERM");
    await agent.exited;
    expect((await run(process.execPath, PODWIRE, "uninstall")).code).toBe(0);
    const again = await run(process.execPath, PODWIRE, "uninstall");
    expect(again).toMatchObject({ code: 0, stdout: "", stderr: "" });
  });
});
