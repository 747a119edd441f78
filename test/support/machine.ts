/**
 * A machine for tests of what installing does: a network namespace, and this machine's files under an
 * overlay whose upper layer shows what was written. /run is its own and empty; there is no systemd, and the
 * units that installing writes are started as they say by start().
 */
import type { ExecResult, TestNet, TestProcess } from "./netns.js";
import { waitFor } from "./netns.js";

/** Everything that podwire could leave, by what it is; sysctls that only count are left out. */
const SNAPSHOT: Readonly<Record<string, string>> = {
  links: "ip -o link | cut -d' ' -f2-4",
  addresses: "ip -o -4 address | sed 's/ valid_lft.*//'",
  routes: "ip -4 route show table all | sort",
  rules: "ip rule",
  sysctls: "sysctl -a 2>/dev/null | grep '^net\\.' | grep -vE 'nf_conntrack_count|random|stat_refresh'",
  // Of the overlay what is written, and everything that lies in /run.
  files: "cd /upper && find . ! -type d | sort; find /run | sort",
};

/** Where a machine of a test's cluster is: its name, and its address on a LAN of /24. */
export interface MachinePlace {
  name: string;
  address: string;
}

/** Makes the namespaces of machines, `net.prefix-NAME`, and the LAN at which they are as eth1. */
export async function machineLan(net: TestNet, machines: readonly MachinePlace[]): Promise<void> {
  for (const { name } of machines) await net.netns(name);
  const ports = machines.map(({ name, address }) => ({
    ns: `${net.prefix}-${name}`,
    name: "eth1",
    address: `${address}/24`,
  }));
  await net.lan("lan", ports);
}

export class TestMachine {
  private constructor(
    private readonly net: TestNet,
    private readonly process: TestProcess,
  ) {}

  /**
   * Starts a machine that is in a namespace of `net`, and ends with that. `name`: its host name. `setup`:
   * a shell script that is run on it first.
   */
  static async start(net: TestNet, ns: string, name: string, setup = "true"): Promise<TestMachine> {
    const root = net.directory();
    // The upper layer lies in a tmpfs: it must not be part of the lower one.
    const script = [
      `hostname ${name} && mount -t tmpfs tmpfs ${root} && mkdir ${root}/upper ${root}/work ${root}/all`,
      `mount -t overlay -o lowerdir=/,upperdir=${root}/upper,workdir=${root}/work overlay ${root}/all`,
      `cd ${root}/all && for d in proc sys dev tmp; do mount --rbind /$d $d; done`,
      `mount -t tmpfs tmpfs run && mkdir -p upper && mount --bind ${root}/upper upper`,
      `exec chroot . sh -ec 'cd /; mkdir -p /etc/systemd/system; ${setup}; echo ready; exec sleep infinity'`,
    ].join(" && ");
    const unshare = ["--mount", "--uts", "--propagation", "private"];
    const process = net.spawn(ns, "unshare", [...unshare, "sh", "-c", script]);
    await waitFor(() => process.stdout.includes("ready"), { what: `the machine: ${process.stderr}` });
    return new TestMachine(net, process);
  }

  /** Runs a command on the machine, whatever it ends with. */
  run(...command: string[]): Promise<ExecResult> {
    return this.net.tryExec("", "nsenter", this.inside(command));
  }

  /** Standard output of a command that has to succeed. */
  async runOrThrow(...command: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...command);
    if (code !== 0) throw new Error(`${command.join(" ")}: ${stderr || stdout}`);
    return stdout;
  }

  /** Starts a command on the machine; it ends with the test's net. */
  spawn(...command: string[]): TestProcess {
    return this.net.spawn("", "nsenter", this.inside(command));
  }

  /** Starts what a unit's ExecStart= says, with the variable of its EnvironmentFile=, as systemd would. */
  async startUnit(unit: string): Promise<TestProcess> {
    const text = await this.runOrThrow("cat", `/etc/systemd/system/${unit}`);
    const setting = (name: string) => new RegExp(`^${name}=(.*)$`, "m").exec(text)![1]!;
    const variables = await this.runOrThrow("cat", setting("EnvironmentFile"));
    const command = setting("ExecStart").replace(
      /\$(\w+)/g,
      (_, name: string) => new RegExp(`^${name}=(.*)$`, "m").exec(variables)![1]!,
    );
    return this.spawn("sh", "-c", `exec ${command}`);
  }

  /** What podwire could leave, by what it is. `more`: further scripts whose output is kept. */
  async snapshot(more: Readonly<Record<string, string>> = {}): Promise<Record<string, string>> {
    const found: Record<string, string> = {};
    for (const [what, script] of Object.entries({ ...SNAPSHOT, ...more }))
      found[what] = await this.runOrThrow("sh", "-c", script);
    return found;
  }

  private inside(command: readonly string[]): string[] {
    return ["-t", String(this.process.pid), "-m", "-n", "-u", "-r", "-w", ...command];
  }
}
