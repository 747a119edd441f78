import { beforeEach, describe, expect, it } from "vitest";
import { type InstallOptions, type InstallParts, install } from "../../../src/install/install.js";
import type { System } from "../../../src/install/System.js";
import { uninstall } from "../../../src/install/uninstall.js";
import { agentUnit, apiserverUnit } from "../../../src/install/units.js";

const PROGRAM = { node: "/usr/bin/node", main: "/usr/lib/node_modules/podwire/dist/cli/main.js" };
const RANGE = "10.152.183.0/24";
const JOIN = { server: "https://192.168.2.30:6443", token: "abcdef.0123456789abcdef", caHash: "sha256:00" };

/** Files in memory; what is asked of systemctl and of the API server, in order. */
class FakeSystem implements System {
  startsServices = true;
  readonly files = new Map<string, { text: string; mode: number }>();
  readonly calls: string[] = [];
  failing = "";

  exists(path: string): boolean {
    return [...this.files.keys()].some((file) => file === path || file.startsWith(`${path}/`));
  }
  read(path: string): string | null {
    return this.files.get(path)?.text ?? null;
  }
  write(path: string, text: string, mode: number): void {
    this.files.set(path, { text, mode });
  }
  remove(path: string): boolean {
    const there = this.exists(path);
    for (const file of [...this.files.keys()])
      if (file === path || file.startsWith(`${path}/`)) this.files.delete(file);
    return there;
  }
  removeEmpty(): boolean {
    return false;
  }
  async systemctl(...args: string[]): Promise<string> {
    this.calls.push(args.join(" "));
    if (this.failing !== "" && args.join(" ").includes(this.failing)) throw new Error("refused");
    return "";
  }
}

let system: FakeSystem;
let said: string[];
let parts: InstallParts;

beforeEach(() => {
  system = new FakeSystem();
  said = [];
  parts = {
    waitForServer: async (url) => void system.calls.push(`wait ${url}`),
    ownToken: async () => ({ token: "own", caHash: "sha256:11" }),
    join: async ({ server, token }, node) => {
      system.calls.push(`join ${server} ${token} ${node}`);
      return `kubeconfig of ${node}`;
    },
  };
});

const say = (line: string) => void said.push(line);

const NODE: InstallOptions = {
  program: PROGRAM,
  agent: { node: "k8s-worker01", address: "192.168.2.31", runPods: true, serviceRange: RANGE },
  apiserver: null,
  join: JOIN,
  force: false,
  start: true,
};
const MASTER: InstallOptions = {
  ...NODE,
  agent: { ...NODE.agent, node: "k8s-master", address: "192.168.2.30" },
  apiserver: { address: "192.168.2.30", port: 6443, serviceRange: RANGE },
  join: null,
};

describe("install", () => {
  it("starts a master's API server before its agent, which joins it with a token of its own", async () => {
    await install(MASTER, system, parts, say);
    expect(system.calls).toEqual([
      "daemon-reload",
      "enable podwire-apiserver.service",
      "restart podwire-apiserver.service",
      "wait https://192.168.2.30:6443",
      "join https://192.168.2.30:6443 own k8s-master",
      "enable podwire-agent.service",
      "restart podwire-agent.service",
    ]);
    expect([...system.files.keys()]).toEqual([
      "/etc/podwire/apiserver.env",
      "/etc/systemd/system/podwire-apiserver.service",
      "/etc/podwire/agent.env",
      "/etc/systemd/system/podwire-agent.service",
      "/etc/podwire/kubeconfig",
    ]);
    expect(system.files.get("/etc/podwire/kubeconfig")).toEqual({
      text: "kubeconfig of k8s-master",
      mode: 0o600,
    });
  });

  it("lets a node join, and gives it no API server", async () => {
    await install(NODE, system, parts, say);
    expect(system.calls).toContain("join https://192.168.2.30:6443 abcdef.0123456789abcdef k8s-worker01");
    expect(system.exists("/etc/systemd/system/podwire-apiserver.service")).toBe(false);
    expect(system.read("/etc/podwire/agent.env")).toContain(
      `PODWIRE_AGENT_OPTIONS=--node k8s-worker01 --underlay-address 192.168.2.31 --service-cidr ${RANGE} --run-pods\n`,
    );
  });

  it("beside a kubelet: the agent serves CNI, whose network and plugin are there", async () => {
    await install({ ...NODE, agent: { ...NODE.agent, runPods: false } }, system, parts, say);
    expect(system.read("/etc/podwire/agent.env")).toMatch(/ --cni\n$/);
    const network = JSON.parse(system.read("/etc/cni/net.d/10-podwire.conflist")!);
    expect(network).toMatchObject({ name: "podwire", plugins: [{ type: "podwire-cni" }] });
    const { text, mode } = system.files.get("/opt/cni/bin/podwire-cni")!;
    expect(mode).toBe(0o755);
    expect(text).toContain(`exec '${PROGRAM.node}' '${PROGRAM.main.replace("cli", "cni")}'\n`);
    const files = [...system.files.keys()];
    expect(files.indexOf("/opt/cni/bin/podwire-cni")).toBeLessThan(
      files.indexOf("/etc/cni/net.d/10-podwire.conflist"),
    );
    await uninstall({ keepData: false }, system, async () => ({ done: [], failed: [] }), say);
    expect([...system.files.keys()]).toEqual([]);
  });

  it("does not start the agent of a node that has not joined", async () => {
    await expect(install({ ...NODE, join: null }, system, parts, say)).rejects.toThrow(/has not joined/);
    expect(system.calls).not.toContain("restart podwire-agent.service");
  });

  it("keeps options and certificate the second time, and renews units", async () => {
    await install(NODE, system, parts, say);
    system.write("/etc/podwire/agent.env", "PODWIRE_AGENT_OPTIONS=--mine\n", 0o644);
    system.write("/etc/systemd/system/podwire-agent.service", "of an older version", 0o644);
    system.calls.length = 0;
    await install({ ...NODE, join: null }, system, parts, say);
    expect(system.read("/etc/podwire/agent.env")).toBe("PODWIRE_AGENT_OPTIONS=--mine\n");
    expect(said.join("\n")).toContain("kept /etc/podwire/agent.env");
    expect(system.read("/etc/systemd/system/podwire-agent.service")).toBe(agentUnit(PROGRAM, true));
    expect(system.calls).toEqual([
      "daemon-reload",
      "enable podwire-agent.service",
      "restart podwire-agent.service",
    ]);
  });

  it("with force writes options anew, and joins anew", async () => {
    await install(NODE, system, parts, say);
    system.write("/etc/podwire/agent.env", "PODWIRE_AGENT_OPTIONS=--mine\n", 0o644);
    system.calls.length = 0;
    await install({ ...NODE, force: true }, system, parts, say);
    expect(system.read("/etc/podwire/agent.env")).toContain("--node k8s-worker01");
    expect(system.calls.filter((call) => call.startsWith("join"))).toHaveLength(1);
    expect(system.calls.at(-1)).toBe("restart podwire-agent.service");
  });

  it("starts nothing where it is not to, or systemd is not there", async () => {
    await install({ ...MASTER, start: false }, system, parts, say);
    expect(system.calls).toEqual([]);
    expect(said.at(-1)).toBe("nothing was started");
    system.startsServices = false;
    await install(MASTER, system, parts, say);
    expect(system.calls).toEqual([]);
    expect(said.at(-1)).toContain("systemd is not at work here");
  });

  it("tells systemd-networkd to leave our routes alone, where it is", async () => {
    await install(NODE, system, parts, say);
    expect(system.exists("/etc/systemd/networkd.conf.d")).toBe(false);
    system.write("/lib/systemd/system/systemd-networkd.service", "", 0o644);
    await install(NODE, system, parts, say);
    expect(system.read("/etc/systemd/networkd.conf.d/podwire.conf")).toMatch(
      /^\[Network\]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no$/m,
    );
  });

  it("says what systemd refuses", async () => {
    system.failing = "restart podwire-agent";
    await expect(install(NODE, system, parts, say)).rejects.toThrow("refused");
  });
});

describe("units", () => {
  const lineOf = (unit: string, key: string) =>
    unit
      .split("\n")
      .find((line) => line.startsWith(`${key}=`))
      ?.slice(key.length + 1);

  it("leave the API server no capability", () => {
    const unit = apiserverUnit(PROGRAM);
    expect(lineOf(unit, "CapabilityBoundingSet")).toBe("");
    expect(lineOf(unit, "ProtectSystem")).toBe("strict");
    expect(lineOf(unit, "ExecStart")).toBe(
      "/usr/bin/node /usr/lib/node_modules/podwire/dist/cli/main.js apiserver $PODWIRE_APISERVER_OPTIONS",
    );
  });

  it("give an agent that runs pods a container's capabilities, and no mount namespace", () => {
    const unit = agentUnit(PROGRAM, true);
    const capabilities = lineOf(unit, "CapabilityBoundingSet")!.split(" ");
    expect(capabilities).toEqual(expect.arrayContaining(["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SETUID"]));
    expect(capabilities).not.toContain("CAP_SYS_MODULE");
    expect(unit).not.toMatch(/^(Protect|Private|ReadOnly|SystemCall|RestrictSUIDSGID)/m);
    expect(lineOf(unit, "KillMode")).toBe("process");
  });

  it("shut in an agent that runs none", () => {
    const unit = agentUnit(PROGRAM, false);
    expect(lineOf(unit, "CapabilityBoundingSet")).toBe("CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_ADMIN");
    expect(lineOf(unit, "ProtectSystem")).toBe("strict");
    // Sysctls are its to set.
    expect(lineOf(unit, "ProtectKernelTunables")).toBeUndefined();
  });

  it("quote paths as systemd reads them", () => {
    const unit = apiserverUnit({ node: "/opt/my node/100%", main: "/srv/$x/main.js" });
    expect(lineOf(unit, "ExecStart")).toBe(
      '"/opt/my node/100%%" /srv/$$x/main.js apiserver $PODWIRE_APISERVER_OPTIONS',
    );
  });
});

describe("uninstall", () => {
  const clean = async () => {
    system.calls.push("clean");
    return { done: ["removed podwire0"], failed: [] };
  };

  it("stops agent and API server, then cleans, then removes every file", async () => {
    await install(MASTER, system, parts, say);
    for (const path of ["/var/lib/podwire/apiserver/data.mdb", "/run/podwire/state.json", "/etc/other"])
      system.write(path, "", 0o600);
    system.calls.length = 0;
    expect(await uninstall({ keepData: false }, system, clean, say)).toEqual([]);
    expect(system.calls).toEqual([
      "disable --now podwire-agent.service",
      "disable --now podwire-apiserver.service",
      "clean",
      "daemon-reload",
      "reset-failed podwire-agent.service podwire-apiserver.service",
    ]);
    expect([...system.files.keys()]).toEqual(["/etc/other"]);
  });

  it("keeps options and objects where it is to", async () => {
    await install(MASTER, system, parts, say);
    system.write("/var/lib/podwire/apiserver/data.mdb", "", 0o600);
    system.write("/run/podwire/state.json", "", 0o600);
    await uninstall({ keepData: true }, system, clean, say);
    expect([...system.files.keys()].sort()).toEqual([
      "/etc/podwire/agent.env",
      "/etc/podwire/apiserver.env",
      "/etc/podwire/kubeconfig",
      "/var/lib/podwire/apiserver/data.mdb",
    ]);
  });

  it("keeps the record where something could not be removed", async () => {
    await install(NODE, system, parts, say);
    system.write("/run/podwire/state.json", "", 0o600);
    const left = await uninstall(
      { keepData: false },
      system,
      async () => ({ done: [], failed: ["could not remove podwire0: busy"] }),
      say,
    );
    expect(left).toEqual(["could not remove podwire0: busy"]);
    expect(system.exists("/run/podwire/state.json")).toBe(true);
    expect(system.exists("/etc/systemd/system/podwire-agent.service")).toBe(true);
  });

  it("finds nothing to do the second time", async () => {
    await install(NODE, system, parts, say);
    await uninstall({ keepData: false }, system, clean, say);
    system.calls.length = 0;
    said.length = 0;
    await uninstall({ keepData: false }, system, async () => ({ done: [], failed: [] }), say);
    expect(system.calls).toEqual([]);
    expect(said).toEqual([]);
  });
});
