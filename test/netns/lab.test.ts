/**
 * The lab from end to end, by its command line: what it leads to, what it leaves behind, and that
 * it gets up again after everything was killed. Needs root, like all namespace tests.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { existingNamespaces } from "../../src/lab/namespaces.js";
import { macOf, namespacePath, nodePaths, ourNamespaces } from "../../src/lab/plan.js";
import { isAlive, type ProcessId, startTimeOf } from "../../src/lab/processes.js";
import { NODES as LAB_NODES } from "../../src/lab/walkthrough.js";
import { commandsOf, fences, missing, words } from "../support/documents.js";

const PODWIRE = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const root = process.getuid?.() === 0;

/** A command of the lab ends within that, on a machine with much else to do. */
const LAB_MS = 200_000;

/** Step 1 of the walkthrough: nodes, addresses, blocks, tunnel addresses. */
const NODES = [
  /k8s-master +192\.168\.2\.30 +10\.1\.235\.192\/26 +10\.1\.235\.192\n/,
  /k8s-worker01 +192\.168\.2\.31 +10\.1\.79\.64\/26 +10\.1\.79\.64\n/,
  /k8s-worker02 +192\.168\.2\.32 +10\.1\.69\.192\/26 +10\.1\.69\.192\n/,
  /k8s-worker03 +192\.168\.2\.33 +10\.1\.39\.192\/26 +10\.1\.39\.192\n/,
];

interface Walk {
  ok: boolean;
  readySeconds: number;
  pods: { name: string; ip: string; node: string }[];
  steps: {
    step: number;
    ok: boolean;
    total: number;
    passed: number;
    matrix?: boolean[][];
    spread?: {
      service: string;
      clusterIP: string;
      externalIP?: string;
      answers: Record<string, number>;
    }[];
    owners?: { address: string; owner: string; mac: string }[];
    failures: { from: string; to: string; reason: string }[];
  }[];
}

function lab(...args: string[]): { code: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PODWIRE, "lab", ...args], {
    encoding: "utf8",
    timeout: LAB_MS,
  });
  return { code: status, stdout, stderr };
}

/** Of the kernel's settings what counts, is used up or changes by itself. */
const RESTLESS =
  /^(fs\.(dentry|inode|file-nr|aio-nr|quota)|kernel\.(random|ns_last_pid|pty\.nr|perf_)|net\.netfilter\.nf_conntrack_count)/;

/**
 * What has to be the same before and after. Namespaces that are not the lab's are left out: other
 * programs on the machine make and remove theirs meanwhile.
 */
function machine(): string[] {
  const lists = [
    ["-o", "link"],
    ["-brief", "address"],
    ["rule"],
    ["route", "show", "table", "all"],
    ["-6", "rule"],
    ["-6", "route", "show", "table", "all"],
  ];
  const ip = (list: string[]) => execFileSync("ip", list, { encoding: "utf8" }).split("\n").sort();
  const namespaces = ip(["netns"]).map((line) => line.split(" ")[0]!);
  // Some cannot be read by anybody; that fails the command, and its output is good.
  const settings = spawnSync("sysctl", ["-a"], { encoding: "utf8", maxBuffer: 1 << 26 }).stdout.split("\n");
  return [
    ...ourNamespaces(namespaces),
    ...lists.flatMap(ip),
    ...settings.filter((line) => !RESTLESS.test(line)).sort(),
    ...["/run/podwire", "/var/lib/podwire", "/run/podwire-lab", "/run/podwire-lab.lock"].filter(existsSync),
  ];
}

/** What a lab is known by while it is up; whatever on the machine bears one of these names is its own. */
interface Traces {
  /** Its directory, its namespaces' paths, and the UIDs of its pods. */
  names: string[];
  processes: ProcessId[];
}

function traces(): Traces {
  const { owner, agents, services } = record();
  const recorded = [...(owner === null ? [] : [owner]), ...agents, ...services];
  const namespaces = existingNamespaces();
  return {
    names: [
      "/run/podwire-lab",
      ...namespaces.map(namespacePath),
      ...namespaces.flatMap((name) => /^podwire-pod-(.+)$/.exec(name)?.[1] ?? []),
    ],
    processes: [...new Set([...recorded.map(({ pid }) => pid), ...insideProcesses()])].map((pid) => ({
      pid,
      startTime: startTimeOf(pid) ?? 0,
    })),
  };
}

/** What of a lab is still on the machine: processes, mounts (namespaces of all kinds are some), cgroups, files. */
function left({ names, processes }: Traces): string[] {
  const bearing = (text: string) => names.some((name) => text.includes(name));
  const output = (command: string, ...args: string[]) =>
    spawnSync(command, args, { encoding: "utf8", maxBuffer: 1 << 26 })
      .stdout.split("\n")
      .filter(Boolean);
  const cgroups = output("find", "/sys/fs/cgroup", "-type", "d", "-path", "*/podwire*");
  const files = ["/run", "/var/lib", tmpdir()].flatMap((root) => output("find", root, "-maxdepth", "3"));
  return [
    ...processes.filter(isAlive).map(({ pid }) => `process ${pid}`),
    // Others have a /run/podwire-lab of their own: users' labs.
    ...output("ps", "-eo", "args").filter((command) => names.slice(1).some((name) => command.includes(name))),
    ...output("cat", "/proc/self/mountinfo").filter(bearing),
    ...cgroups.filter(bearing),
    // The pods' parent goes with the last of them, which may be another agent's.
    ...cgroups.filter(
      (path) => /\/podwire$/.test(path) && !cgroups.some((each) => each.startsWith(`${path}/`)),
    ),
    ...files.filter(bearing),
  ];
}

/** Of the page's view of the cluster. */
interface PageView {
  nodes: { name: string; live: boolean }[];
  pods: unknown[];
}

interface LabRecord {
  owner: { pid: number } | null;
  agents: { pid: number; node: string }[];
  services: { pid: number; name: string }[];
}

function record(): LabRecord {
  return JSON.parse(readFileSync("/run/podwire-lab/lab.json", "utf8"));
}

/** Every process in one of the lab's namespaces. */
function insideProcesses(): number[] {
  return existingNamespaces().flatMap((name) =>
    execFileSync("ip", ["netns", "pids", name], { encoding: "utf8" }).split("\n").filter(Boolean).map(Number),
  );
}

async function until(what: string, condition: () => boolean, deadlineMs = 60_000): Promise<void> {
  for (const end = performance.now() + deadlineMs; performance.now() < end; ) {
    if (condition()) return;
    await sleep(100);
  }
  throw new Error(`waited in vain: ${what}`);
}

/** What asks the agent of the node that it runs on, by its directory. */
const OF_THIS_NODE = new Set(["status", "get", "check", "announce"]);

/** Runs the commands that a document shows at a place of the lab, until they print what it shows. */
async function expectAsShown(file: string): Promise<void> {
  const commands = fences(file)
    .filter(({ language }) => language === "console")
    .flatMap(commandsOf);
  expect(commands.length, file).toBeGreaterThan(0);
  for (const { place, prompt, text, output } of commands) {
    const command = words(text);
    if (OF_THIS_NODE.has(command[1]!)) command.push("--state-dir", nodePaths(prompt).stateDir);
    const printed = () => {
      const { stdout, stderr } = lab("exec", prompt, "--", ...command);
      return missing(output!, stdout + stderr);
    };
    await expect.poll(printed, { message: place, timeout: 20_000, interval: 500 }).toBeNull();
  }
}

/** The lines `podwire lab exec …` of a document, without those that wait for somebody. */
function execLines(file: string): string[][] {
  return fences(file)
    .flatMap(commandsOf)
    .map(({ text }) => words(text))
    .filter(([program, name, what]) => program === "podwire" && name === "lab" && what === "exec")
    .filter((line) => !line.includes("-it") && !line.includes("tshark"))
    .map((line) => line.slice(2));
}

describe.skipIf(!root)("podwire lab", () => {
  let before: string[];
  beforeAll(() => {
    lab("down");
    before = machine();
  });
  afterEach(() => {
    lab("down");
    expect(machine()).toEqual(before);
  });
  afterAll(() => {
    lab("down");
  });

  it("run --once: the walkthrough's steps, and nothing is left", () => {
    const pictures = mkdtempSync(join(tmpdir(), "podwire-pictures-"));
    onTestFinished(() => rmSync(pictures, { recursive: true }));
    const { code, stdout, stderr } = lab("run", "--once", "--json", "--no-install", "--pictures", pictures);
    expect(code, stderr).toBe(0);
    for (const [name, fact] of [
      ["1-overlay", "VXLAN, VNI 4096"],
      ["2-clusterip", "clusterip-redis-ds"],
      ["3-nodeport", ":30379"],
      ["4-loadbalancer", "192.168.2.36 :8080"],
    ]) {
      const file = join(pictures, `${name}.svg`);
      expect(stderr).toContain(`Picture: ${file}`);
      expect(readFileSync(file, "utf8")).toContain(`>${fact}</text>`);
    }
    const walk: Walk = JSON.parse(stdout);
    expect(walk.steps.flatMap(({ failures }) => failures)).toEqual([]);
    expect(walk.ok).toBe(true);
    expect(walk.steps.map(({ step, total, passed }) => [step, total, passed])).toEqual([
      [1, 144, 144],
      [2, 51, 51],
      [3, 60, 60],
      [4, 51, 51],
    ]);
    const [pods, clusterIps, nodePorts, balanced] = walk.steps;
    for (const { service, answers } of [clusterIps!, nodePorts!, balanced!].flatMap(
      ({ spread }) => spread!,
    )) {
      const counts = Object.values(answers);
      expect(counts, service).toHaveLength(4);
      expect(Math.min(...counts), service).toBeGreaterThan(0);
    }
    const addresses = [...clusterIps!.spread!, ...nodePorts!.spread!].map(({ clusterIP }) => clusterIP);
    expect(new Set(addresses).size).toBe(6);
    for (const address of addresses) expect(address).toMatch(/^10\.152\.183\.\d+$/);
    for (const [name, port] of [
      ["nodeport-nginx-ds", "80:30080/TCP"],
      ["nodeport-apache2-ds", "90:30090/TCP"],
      ["nodeport-redis-ds", "6379:30379/TCP"],
    ])
      expect(stderr).toMatch(
        new RegExp(`${name} +NodePort +10\\.152\\.183\\.\\d+ +<none> +${port} +\\d+s +name=`),
      );
    for (const [i, [name, ports]] of [
      ["lb-nginx-ds", "8080:30800/TCP"],
      ["lb-apache-ds", "9090:30900/TCP"],
      ["lb-redis-ds", "6379:30379/TCP"],
    ].entries()) {
      const row = `${name} +LoadBalancer +10\\.152\\.183\\.\\d+`;
      expect(stderr).toMatch(new RegExp(`${row} +<pending> +${ports} +\\d+s +name=`));
      const { externalIP } = balanced!.spread![i]!;
      expect(externalIP).toMatch(/^192\.168\.2\.(3[6-9]|40)$/);
      expect(stderr).toMatch(new RegExp(`${row} +${externalIP} +${ports} +\\d+s +name=`));
      // The pc's neighbour table, as it was printed.
      const { owner, mac } = balanced!.owners!.find(({ address }) => address === externalIP)!;
      expect(stderr).toMatch(new RegExp(`^${externalIP} .*${mac}`, "m"));
      expect(mac).toBe(macOf(LAB_NODES.find(({ name: node }) => node === owner)!.address));
    }
    expect(pods!.matrix).toEqual(new Array(12).fill(new Array(12).fill(true)));
    expect(walk.readySeconds).toBeLessThan(30);
    expect(walk.pods.filter((pod) => pod.node === "k8s-worker02").map((pod) => pod.ip)).toEqual([
      "10.1.69.193",
      "10.1.69.194",
      "10.1.69.195",
    ]);
    for (const line of ["144 of 144 passed", "51 of 51 passed", "60 of 60 passed"])
      expect(stderr).toContain(line);
    for (const line of NODES) expect(stderr).toMatch(line);
    const shown = fences("README.md").filter(({ language }) => language === "text");
    expect(shown).toHaveLength(walk.steps.length);
    for (const { place, lines } of shown) expect(missing(lines, stderr), place).toBeNull();
    expect(machine()).toEqual(before);
  });

  it("up, status, exec, walk, down", async () => {
    const pictures = mkdtempSync(join(tmpdir(), "podwire-pictures-"));
    onTestFinished(() => rmSync(pictures, { recursive: true }));
    expect(lab("up", "--no-install").code).toBe(0);

    const status = lab("status", "--json");
    expect(status.code).toBe(0);
    expect(JSON.parse(status.stdout).state).toBe("running");

    const again = lab("up");
    expect(again.code).toBe(1);
    expect(again.stderr).toContain("the lab is up already");

    const master = lab("exec", "k8s-master", "--", "ip", "-brief", "address", "show", "dev", "podwire0");
    expect(master.stdout).toContain("10.1.235.192/32");
    const page = lab("exec", "k8s-worker03", "--", "curl", "-sS", "--max-time", "5", "http://10.1.79.66:90/");
    expect(page.stdout).toMatch(/^apache-ds-.{5} on k8s-worker01\n$/);
    expect(lab("exec", "pc", "--", "ping", "-c1", "-W10", "192.168.2.33").code).toBe(0);
    expect(lab("exec", "n0", "--", "sh", "-c", "exit 7").code).toBe(7);
    expect(lab("exec", "k8s-worker", "--", "true").stderr).toContain("could be");
    const typed = { encoding: "utf8", input: "kubectl get node -o name\nexit 3\n", timeout: 60_000 } as const;
    const shell = spawnSync(process.execPath, [PODWIRE, "lab", "shell", "k8s-master"], typed);
    expect(shell.status, shell.stderr).toBe(3);
    expect(shell.stdout).toContain("node/k8s-worker03\n");

    // Nothing of the lab's networks is in the namespace that we are in.
    expect(machine().filter((line) => /192\.168\.2\.|10\.1\./.test(line))).toEqual([]);

    // What the documents say to type, and what they show of it.
    const balanced = lab("walk", "--step", "4", "--pictures", pictures);
    expect(balanced.code, balanced.stdout + balanced.stderr).toBe(0);
    await expectAsShown("README.md");
    await expectAsShown("docs/services.md");
    const places = existingNamespaces().length;
    const lines = ["README.md", "docs/lab.md"].flatMap(execLines);
    expect(lines.length).toBeGreaterThan(5);
    for (const line of lines) {
      const { code, stdout, stderr } = lab(...line);
      expect(code, `${line.join(" ")}\n${stdout}${stderr}`).toBe(0);
    }
    expect(lab("exec", "k8s-master", "--", "kubectl", "delete", "deployment", "echo").code).toBe(0);
    await until("the documents' pods are gone", () => existingNamespaces().length === places);

    // The first restart is immediate; then it waits.
    for (let attempt = 0; attempt < 2; attempt++) {
      await until("redis answers", () => lab("exec", "r2", "--", "redis-cli", "PING").stdout === "PONG\n");
      lab("exec", "r2", "--", "redis-cli", "shutdown", "nosave");
    }
    expect(lab("status").code).toBe(1);
    const walk = lab("walk", "--step", "1", "--json");
    expect(walk.code).toBe(1);
    const { passed, failures } = (JSON.parse(walk.stdout) as Walk).steps[0]!;
    expect(passed).toBe(132);
    expect(failures[0]!.from).toMatch(/^nginx-ds-/);
    expect(failures[0]!.to).toMatch(/^redis-ds-/);
    expect(failures[0]!.reason).toContain("refused");

    const ours = traces();
    // What is looked for is there.
    const there = left(ours).join("\n");
    expect(there).toMatch(/^process \d+$/m);
    expect(there).toMatch(/nsfs/);
    expect(there).toMatch(/^\/run\/podwire-lab\/lab\.json$/m);
    expect(there).toMatch(/conmon .*\/run\/podwire-lab/);
    if (existsSync("/sys/fs/cgroup")) expect(there).toMatch(/^\/sys\/fs\/cgroup\/.*\/podwire\/.{36}$/m);
    expect(lab("down").stdout).toContain("18 namespaces removed");
    expect(left(ours)).toEqual([]);
    expect(machine()).toEqual(before);
    expect(lab("down")).toMatchObject({ code: 0, stdout: "The lab is down.\n" });
    expect(lab("status").code).toBe(1);
    expect(lab("exec", "pc", "--", "true").stderr).toContain("the lab is not up");
  });

  describe("run that is killed", () => {
    let child: ChildProcess;
    let output: string;
    async function startRun(): Promise<void> {
      child = spawn(process.execPath, [PODWIRE, "lab", "run", "--step", "1", "--no-install"], {
        stdio: "pipe",
      });
      output = "";
      for (const stream of [child.stdout!, child.stderr!]) {
        stream.setEncoding("utf8").on("data", (text: string) => {
          output += text;
        });
      }
      const settled = () => output.includes("Ctrl-C ends it.") || child.exitCode !== null;
      await until("run is up", settled, LAB_MS);
      expect(child.exitCode, output).toBeNull();
    }
    const ended = () => until("run has ended", () => child.exitCode !== null || child.signalCode !== null);

    it("alone: the next up finds and clears it", async () => {
      await startRun();
      process.kill(record().owner!.pid, "SIGKILL");
      await ended();
      expect(lab("status").stdout).toContain("crashed");
      const up = lab("up", "--no-install");
      expect(up.code, up.stderr).toBe(0);
      expect(up.stdout).toContain("Cleared what an earlier run had left: 18 namespaces");
      expect(lab("walk", "--step", "1").code).toBe(0);
    });

    it("with everything in it: up and down work", async () => {
      await startRun();
      const killed = traces();
      for (const { pid } of killed.processes) process.kill(pid, "SIGKILL");
      await ended();
      const up = lab("up", "--no-install");
      expect(up.code, up.stderr).toBe(0);
      const again = traces();
      expect(lab("down").code).toBe(0);
      expect([...left(killed), ...left(again)]).toEqual([]);
      expect(machine()).toEqual(before);
    });

    it("with everything in it: down alone clears", async () => {
      await startRun();
      const killed = traces();
      for (const { pid } of killed.processes) process.kill(pid, "SIGKILL");
      await ended();
      expect(lab("down").stdout).toContain("18 namespaces removed");
      expect(left(killed)).toEqual([]);
    });

    it("by Ctrl-C: clears up itself", async () => {
      await startRun();
      child.kill("SIGINT");
      await ended();
      expect(child.exitCode, output).toBe(0);
      expect(machine()).toEqual(before);
    });

    it("by down from elsewhere: clears up itself", async () => {
      await startRun();
      expect(lab("down").code).toBe(0);
      await ended();
      expect(machine()).toEqual(before);
    });
  });

  describe("without root", () => {
    const NOBODY = [
      "setpriv",
      "--reuid=65534",
      "--regid=65534",
      "--clear-groups",
      "env",
      "-u",
      "XDG_RUNTIME_DIR",
    ];
    const asUser = (setup: string, ...args: string[]) =>
      spawnSync(
        "unshare",
        [
          "--mount",
          "sh",
          "-c",
          `${setup} && exec "$@"`,
          "sh",
          ...NOBODY,
          process.execPath,
          PODWIRE,
          "lab",
          ...args,
        ],
        { encoding: "utf8", timeout: LAB_MS },
      );
    // A /dev/net/tun of our own, so that the machine's keeps its mode.
    const tun = (mode: string) =>
      `mount -t tmpfs -o dev,mode=0755 tmpfs /mnt && mknod -m ${mode} /mnt/tun c 10 200 && mount --bind /mnt/tun /dev/net/tun`;
    const possible = () => {
      const node = spawnSync(NOBODY[0]!, [...NOBODY.slice(1), process.execPath, "--check", PODWIRE]);
      const namespaces = spawnSync(NOBODY[0]!, [
        ...NOBODY.slice(1),
        "unshare",
        "--user",
        "--map-root-user",
        "true",
      ]);
      return node.status === 0 && namespaces.status === 0;
    };

    it("says so when /dev/net/tun is closed", ({ skip }) => {
      if (!possible())
        skip("nobody may not read this checkout, or the kernel has no user namespaces for users");
      const { status, stderr } = asUser(tun("0600"), "run", "--once");
      expect(status).toBe(1);
      expect(stderr).toContain("/dev/net/tun is closed to users (mode 0600)");
    });

    it("down removes the record of a lab that was killed", ({ skip }) => {
      if (!possible())
        skip("nobody may not read this checkout, or the kernel has no user namespaces for users");
      const file = join(tmpdir(), "podwire-lab-65534.json");
      // A process of that number and start time never was.
      writeFileSync(file, JSON.stringify({ pid: 1, startTime: 1 }), { mode: 0o600 });
      onTestFinished(() => rmSync(file, { force: true }));
      chownSync(file, 65534, 65534);
      expect(asUser("true", "down").status).toBe(0);
      expect(existsSync(file)).toBe(false);
    });

    it("run --once works where it is open", ({ skip }) => {
      if (!possible())
        skip("nobody may not read this checkout, or the kernel has no user namespaces for users");
      const { status, stdout, stderr } = asUser(tun("0666"), "run", "--once", "--json");
      expect(status, stderr).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({
        ok: true,
        steps: [{ passed: 144 }, { passed: 51 }, { passed: 60 }, { passed: 51 }],
      });
      expect(machine()).toEqual(before);
    });
  });
});

describe.skipIf(!root)("podwire lab that is up", () => {
  let before: string[];
  beforeAll(() => {
    lab("down");
    before = machine();
    expect(lab("up", "--no-install").code).toBe(0);
  });
  afterAll(() => {
    lab("down");
    expect(machine()).toEqual(before);
  });

  it("ui: this machine's loopback has the page, which every agent tells its state", async () => {
    const page = spawn(process.execPath, [PODWIRE, "lab", "ui", "--port", "0"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    onTestFinished(() => void page.kill("SIGKILL"));
    let said = "";
    page.stdout.setEncoding("utf8").on("data", (piece: string) => {
      said += piece;
    });
    await until("an address", () => /http:\S+/.test(said));
    const url = /http:\S+/.exec(said)![0];
    const ask = (path: string) => fetch(`${url}${path}`, { signal: AbortSignal.timeout(5_000) });
    await expect
      .poll(
        async () => {
          const view = (await (await ask("api/cluster")).json()) as PageView;
          return [view.pods.length, ...view.nodes.map(({ name, live }) => `${name} ${live}`)];
        },
        { timeout: 30_000, interval: 200 },
      )
      .toEqual([12, "k8s-master true", "k8s-worker01 true", "k8s-worker02 true", "k8s-worker03 true"]);
    expect(await (await ask("api/flows")).json()).toEqual(expect.arrayContaining([expect.anything()]));
    const traced = await (await ask("api/trace?from=node/k8s-worker01&to=10.1.69.193:80")).json();
    expect(traced).toMatchObject({
      verdict: "answered",
      request: { through: expect.arrayContaining(["vtep:k8s-worker01", "lan", "vtep:k8s-worker02"]) },
    });
    page.kill("SIGTERM");
    await until("the end", () => page.exitCode !== null);
    expect(page.exitCode).toBe(0);
  });

  it("says which agent has ended", async () => {
    process.kill(record().agents.find((agent) => agent.node === "k8s-worker02")!.pid, "SIGKILL");
    const status = lab("status");
    expect(status.code).toBe(1);
    expect(status.stdout).toMatch(/k8s-worker02.*ended/);
    expect(status.stdout).toMatch(/k8s-master.*ready/);
    expect(lab("restart", "k8s-worker02")).toMatchObject({ code: 0 });
    expect(lab("status").code).toBe(0);
    const walk = lab("walk", "--step", "3");
    expect(walk.code, walk.stdout).toBe(0);
    await expectAsShown("docs/trace.md");
    expect(lab("restart", "k8s-worker9").stderr).toContain('no node "k8s-worker9"');
  });

  it("kubectl on a node shows the walkthrough, and what it makes is served", async () => {
    const kubectl = (...args: string[]) => {
      const { code, stdout, stderr } = lab("exec", "k8s-master", "--", "kubectl", ...args);
      expect(code, stderr).toBe(0);
      return stdout;
    };
    const nodes = kubectl("get", "node", "-o", "wide").trim().split("\n").slice(1);
    expect(nodes.map((line) => line.split(/ {2,}/)).map((cells) => [cells[0], cells[1], cells[5]])).toEqual([
      ["k8s-master", "Ready", "192.168.2.30"],
      ["k8s-worker01", "Ready", "192.168.2.31"],
      ["k8s-worker02", "Ready", "192.168.2.32"],
      ["k8s-worker03", "Ready", "192.168.2.33"],
    ]);
    const blocks = kubectl("get", "ipamblocks", "-o", "wide");
    for (const block of ["10.1.235.192/26", "10.1.79.64/26", "10.1.69.192/26", "10.1.39.192/26"])
      expect(blocks).toMatch(new RegExp(`${block} +k8s-\\w+ +confirmed +4 +true`));

    const pods = kubectl("get", "pod", "-o", "wide").trim().split("\n").slice(1);
    expect(pods).toHaveLength(12);
    const cells = pods.map((line) => line.split(/ {2,}/));
    for (const [, ready, status] of cells) expect([ready, status]).toEqual(["1/1", "Running"]);
    const addresses = (set: string) =>
      Object.fromEntries(cells.filter(([name]) => name!.startsWith(set)).map((each) => [each[6], each[5]]));
    const at = (master: string, one: string, two: string, three: string) => ({
      "k8s-master": `10.1.235.${master}`,
      "k8s-worker01": `10.1.79.${one}`,
      "k8s-worker02": `10.1.69.${two}`,
      "k8s-worker03": `10.1.39.${three}`,
    });
    expect(addresses("nginx-ds-")).toEqual(at("193", "65", "193", "193"));
    expect(addresses("apache-ds-")).toEqual(at("194", "66", "194", "194"));
    expect(addresses("redis-ds-")).toEqual(at("195", "67", "195", "195"));
    expect(kubectl("get", "ds").match(/ds +4 +4 +4 +4 +4/g)).toHaveLength(3);

    // From another node, and a pod that the lab did not ask for.
    expect(lab("exec", "k8s-worker03", "--", "kubectl", "run", "web", "--image=nginx").code).toBe(0);
    kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=60s");
    const address = kubectl("get", "pod", "web", "-o", "jsonpath={.status.podIP}");
    const page = lab("exec", "r2", "--", "curl", "-sS", "--max-time", "5", `http://${address}/`);
    expect(page.stdout, page.stderr).toMatch(/^web on k8s-/);
    const uid = kubectl("get", "pod", "web", "-o", "jsonpath={.metadata.uid}");
    expect(existingNamespaces()).toContain(`podwire-pod-${uid}`);
    expect(lab("exec", "web", "--", "ip", "-brief", "address", "show", "eth0").stdout).toContain(address);
    kubectl("delete", "pod", "web");
    expect(existingNamespaces()).not.toContain(`podwire-pod-${uid}`);

    // A DaemonSet's pod that is deleted is replaced.
    kubectl("delete", "pod", cells.find(([name]) => name!.startsWith("nginx-ds-"))![0]!);
    kubectl("rollout", "status", "daemonset/nginx-ds", "--timeout=60s");
    expect(lab("walk", "--step", "1").code).toBe(0);
    expect(lab("status").code).toBe(0);

    process.kill(record().services.find(({ name }) => name === "API server")!.pid, "SIGKILL");
    const status = lab("status");
    expect(status.code).toBe(1);
    expect(status.stdout).toContain("The API server has ended.");
    // The agents forward without it, and the lab's places are known.
    const again = lab("exec", "n1", "--", "curl", "-sS", "--max-time", "5", "http://10.1.39.194:90/");
    expect(again.stdout).toMatch(/ on k8s-worker03\n$/);
  });
});
