/** Looks at this machine for the checks. Changes nothing. */
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import type { Host } from "../host/Host.js";
import type { Facts, Networkd, Wanted } from "./facts.js";
import { type Chain, parseIptables, parseNft } from "./firewall.js";
import { type Listener, parseSockets, type SocketOwner } from "./sockets.js";

/** What running pods calls, with the Debian package of each. */
const RUNTIME_PROGRAMS: Record<string, string> = {
  runc: "runc",
  conmon: "conmon",
  unshare: "util-linux",
  nsenter: "util-linux",
  ip: "iproute2",
};

const SYSCTLS = ["net/ipv4/ip_local_port_range", "net/ipv4/ip_local_reserved_ports"];
/** Later ones win over earlier ones of the same name (sysctl.d(5)). */
const SYSCTL_DIRECTORIES = ["/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d", "/etc/sysctl.d", "/run/sysctl.d"];
const NETWORKD_DIRECTORIES = ["/usr/lib", "/usr/local/lib", "/run", "/etc"].map(
  (place) => `${place}/systemd/networkd.conf.d`,
);
/** A user's PATH often lacks these. */
const SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
const TIMEOUT_MS = 20_000;

/** Reads everything. Rejects with a HostError where rtnetlink does not answer. */
export async function readFacts(wanted: Wanted, host: Host): Promise<Facts> {
  const [network, chains, running] = await Promise.all([
    host.within("", async (namespace) => ({
      links: await namespace.links(),
      addresses: await namespace.addresses(),
      routes: await namespace.routes(),
      rules: await namespace.rules(),
      sysctls: Object.fromEntries(
        await Promise.all(SYSCTLS.map(async (key) => [key, await namespace.readSysctl(key)] as const)),
      ),
    })),
    readChains(),
    run(["systemctl", "is-active", "systemd-networkd"]),
  ]);
  return {
    wanted,
    kernel: release(),
    missingCapabilities: host.missingCapabilities(),
    tunError: tunError(host),
    missingPrograms: Object.fromEntries(
      Object.entries(RUNTIME_PROGRAMS).filter(([name]) => !isInstalled(name)),
    ),
    ...network,
    sysctlFiles: sysctlFiles(),
    listeners: readListeners(),
    chains,
    cniConfigs: namesIn("/etc/cni/net.d").filter((name) => /\.(conf|conflist|json)$/.test(name)),
    networkd: { ...networkdConfig(), running: running?.trim() === "active" },
    ufw: /^\s*ENABLED=yes/m.test(textOf("/etc/ufw/ufw.conf")),
  };
}

function tunError(host: Host): string {
  try {
    host.checkTun();
    return "";
  } catch (error) {
    return (error as { code?: string }).code || (error as Error).message;
  }
}

// ---- packet filters ---------------------------------------------------------------------------

/** Null where no program could tell. */
async function readChains(): Promise<Chain[] | null> {
  const [iptables, legacy, nft] = await Promise.all([
    run(["iptables-save"]),
    run(["iptables-legacy-save"]),
    run(["nft", "-j", "list", "ruleset"]),
  ]);
  if (iptables === null && legacy === null && nft === null) return null;
  return [
    ...parseIptables(iptables ?? "", "iptables"),
    // Where iptables is the legacy one itself, both show the same.
    ...(legacy === null || legacy === iptables ? [] : parseIptables(legacy, "iptables-legacy")),
    ...(nft === null ? [] : parseNft(nft, iptables !== null)),
  ];
}

/** Output of a command; null where there is none or it failed, but "inactive" and the like are answers too. */
function run(command: readonly string[]): Promise<string | null> {
  return new Promise((resolve) => {
    execFile(
      command[0]!,
      command.slice(1),
      {
        timeout: TIMEOUT_MS,
        maxBuffer: 256 * 1024 * 1024,
        env: { ...process.env, PATH: `${process.env.PATH}:${SYSTEM_PATH}` },
      },
      (error, stdout) => resolve(error !== null && stdout === "" ? null : stdout),
    );
  });
}

function isInstalled(program: string): boolean {
  return `${process.env.PATH}:${SYSTEM_PATH}`
    .split(":")
    .some((directory) => existsSync(join(directory, program)));
}

// ---- sockets ----------------------------------------------------------------------------------

function readListeners(): Listener[] {
  const found = (["tcp", "udp"] as const).flatMap((protocol) =>
    [protocol, `${protocol}6`].flatMap((file) => parseSockets(textOf(`/proc/self/net/${file}`), protocol)),
  );
  const owners = socketOwners(new Set(found.map(({ inode }) => inode)));
  return found.map((each) => ({ ...each, owner: owners.get(each.inode) ?? null }));
}

/** Who holds which socket, by inode: what proc(5) shows to this process. */
function socketOwners(inodes: ReadonlySet<number>): Map<number, SocketOwner> {
  const owners = new Map<number, SocketOwner>();
  for (const pid of namesIn("/proc").filter((name) => /^\d+$/.test(name))) {
    for (const fd of namesIn(`/proc/${pid}/fd`)) {
      const inode = Number(/^socket:\[(\d+)\]$/.exec(targetOf(`/proc/${pid}/fd/${fd}`))?.[1] ?? 0);
      if (inode === 0 || !inodes.has(inode) || owners.has(inode)) continue;
      const command = textOf(`/proc/${pid}/cmdline`).split("\0").filter(Boolean).join(" ");
      owners.set(inode, { pid: Number(pid), command });
    }
  }
  return owners;
}

// ---- files ------------------------------------------------------------------------------------

/** Assignments at boot: files by their names, whatever directory they are in, /etc/sysctl.conf last. */
function sysctlFiles(): Facts["sysctlFiles"] {
  const files = new Map<string, string>();
  for (const directory of SYSCTL_DIRECTORIES)
    for (const name of namesIn(directory).filter((each) => each.endsWith(".conf")))
      files.set(name, join(directory, name));
  const ordered = [...files].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, file]) => file);
  return [...ordered, "/etc/sysctl.conf"].flatMap((file) =>
    textOf(file)
      .split("\n")
      .flatMap((line) => {
        const [, key, value] = /^\s*-?([a-z][^=\s]*)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
        return key === undefined ? [] : [{ file, key: key.replaceAll(".", "/"), value: value! }];
      }),
  );
}

/** networkd.conf(5): yes unless said otherwise; the last word counts. */
function networkdConfig(): Omit<Networkd, "running"> {
  const files = new Map<string, string>();
  for (const directory of NETWORKD_DIRECTORIES)
    for (const name of namesIn(directory).filter((each) => each.endsWith(".conf")))
      files.set(name, join(directory, name));
  const ordered = [...files].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, file]) => file);
  const text = ["/etc/systemd/networkd.conf", ...ordered].map(textOf).join("\n");
  const manages = (key: string) => {
    const last = [...text.matchAll(new RegExp(`^\\s*${key}\\s*=\\s*(\\S*)`, "gm"))].at(-1)?.[1];
    return last === undefined || !/^(no|n|false|f|off|0)$/i.test(last);
  };
  return {
    installed: ["/usr/lib", "/lib"].some((lib) =>
      existsSync(`${lib}/systemd/system/systemd-networkd.service`),
    ),
    manageForeignRoutes: manages("ManageForeignRoutes"),
    manageForeignRules: manages("ManageForeignRoutingPolicyRules"),
  };
}

function textOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function targetOf(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return "";
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
