/**
 * The OCI runtime spec (opencontainers/runtime-spec config.json) of a container: namespaces,
 * capabilities, system calls, mounts, what of /proc and /sys it does not see. Pure.
 */
import type { ContainerSpec, SandboxSpec } from "./ContainerEngine.js";
import { type SeccompFilter, seccompFilter } from "./seccomp.js";

/** What the machine and our rights on it allow. */
export interface Machine {
  /** A user namespace with one identity: no other user, no cgroup, no device nodes. */
  rootless: boolean;
  /** Whether cgroups can be made. */
  cgroups: boolean;
  /** Whether runc can filter system calls. */
  seccomp: boolean;
  /** Of /bin /lib /lib64 …: what a symbolic link points to, "" for a directory; absent ones left out. */
  rootLinks: Readonly<Record<string, string>>;
  /** Files and directories of the host's /etc that programs need, as far as they exist. */
  etc: readonly string[];
}

export interface SandboxPaths {
  ipc: string;
  uts: string;
  hosts: string;
  hostname: string;
  resolvConf: string;
}

/** Docker's and containerd's default. */
export const DEFAULT_CAPABILITIES: readonly string[] = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FSETID",
  "CAP_FOWNER",
  "CAP_MKNOD",
  "CAP_NET_RAW",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETFCAP",
  "CAP_SETPCAP",
  "CAP_NET_BIND_SERVICE",
  "CAP_SYS_CHROOT",
  "CAP_KILL",
  "CAP_AUDIT_WRITE",
];

/** Directories of the host's root that hold programs; links on most machines. */
export const PROGRAM_DIRECTORIES = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] as const;

/** Of /etc nothing but this is shown: no keys, no shadow, no configuration of the host's services. */
export const SHOWN_ETC = [
  "/etc/alternatives",
  "/etc/ca-certificates.conf",
  "/etc/group",
  "/etc/ld.so.cache",
  "/etc/ld.so.conf",
  "/etc/ld.so.conf.d",
  "/etc/localtime",
  "/etc/mime.types",
  "/etc/nsswitch.conf",
  "/etc/os-release",
  "/etc/passwd",
  "/etc/protocols",
  "/etc/services",
  "/etc/ssl/certs",
] as const;

export const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** As containerd masks them. */
const MASKED = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/interrupts",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/sys/devices/virtual/powercap",
  "/sys/firmware",
];
const READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const CPU_PERIOD_US = 100_000;

export interface OciMount {
  destination: string;
  type: string;
  source: string;
  options: string[];
}

/** The part of the spec that we write. */
export interface OciSpec {
  ociVersion: string;
  process: {
    terminal: boolean;
    user: { uid: number; gid: number; additionalGids?: number[] };
    args: string[];
    env: string[];
    cwd: string;
    capabilities: Record<"bounding" | "effective" | "permitted", string[]>;
    noNewPrivileges: true;
  };
  root: { path: string; readonly: boolean };
  hostname: string;
  mounts: OciMount[];
  linux: {
    cgroupsPath?: string;
    namespaces: { type: string; path?: string }[];
    resources: object;
    seccomp?: SeccompFilter;
    maskedPaths: string[];
    readonlyPaths: string[];
  };
}

/** What runc is to make of an instance. */
export function ociSpec(
  pod: SandboxSpec,
  container: ContainerSpec,
  sandbox: SandboxPaths,
  terminationLog: string,
  machine: Machine,
): OciSpec {
  // Where no cgroup keeps device nodes shut, none may be made.
  const capabilities = container.capabilities.filter((name) => machine.cgroups || name !== "CAP_MKNOD");
  const { uid, gid, groups } = container.user;
  const other = uid !== 0;
  // Another identity is a user namespace there, made by the program that we start.
  const seccomp = machine.seccomp ? seccompFilter(process.arch, !(machine.rootless && other)) : null;
  return {
    ociVersion: "1.0.0",
    process: {
      terminal: container.tty,
      user: machine.rootless ? { uid: 0, gid: 0 } : { uid, gid, additionalGids: groups },
      args: machine.rootless && other ? [...asUser(uid, gid), ...container.command] : container.command,
      env: container.env,
      cwd: container.workingDir,
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      noNewPrivileges: true,
    },
    root: { path: "rootfs", readonly: container.readOnlyRoot },
    hostname: pod.hostname,
    mounts: mounts(container, sandbox, terminationLog, machine),
    linux: {
      ...(machine.cgroups
        ? { cgroupsPath: `${podCgroup(pod.uid)}/${container.container}-${container.attempt}` }
        : {}),
      namespaces: [
        { type: "pid" },
        { type: "mount" },
        { type: "ipc", path: sandbox.ipc },
        { type: "uts", path: sandbox.uts },
        { type: "network", path: pod.netns },
        ...(machine.cgroups ? [{ type: "cgroup" }] : []),
      ],
      resources: machine.cgroups ? resources(container) : {},
      ...(seccomp === null ? {} : { seccomp }),
      maskedPaths: MASKED,
      readonlyPaths: READ_ONLY,
    },
  };
}

/** The only identity of a user namespace gets another number: some programs refuse to run as 0. */
function asUser(uid: number, gid: number): string[] {
  return ["unshare", "--user", `--map-user=${uid}`, `--map-group=${gid}`, "--"];
}

/** Above all pods' cgroups. */
export const CGROUP_PARENT = "/podwire";

/** A pod's path in the cgroup hierarchies; its containers' lie below. */
export function podCgroup(uid: string): string {
  return `${CGROUP_PARENT}/${uid}`;
}

function resources({ memoryLimit, cpuLimit }: ContainerSpec): object {
  const quota = cpuLimit === null ? null : Math.max(1000, Math.round((cpuLimit * CPU_PERIOD_US) / 1000));
  return {
    // runc adds the usual ones: null, zero, full, random, urandom, tty, ptmx, pts.
    devices: [{ allow: false, access: "rwm" }],
    ...(memoryLimit === null ? {} : { memory: { limit: memoryLimit } }),
    ...(quota === null ? {} : { cpu: { quota, period: CPU_PERIOD_US } }),
  };
}

function mounts(
  container: ContainerSpec,
  sandbox: SandboxPaths,
  terminationLog: string,
  machine: Machine,
): OciMount[] {
  const terminal = machine.rootless ? [] : ["gid=5"];
  const pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", ...terminal];
  const shown = (path: string) => bind(path, path, true);
  return [
    { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
    tmpfs("/dev", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    { destination: "/dev/pts", type: "devpts", source: "devpts", options: pts },
    tmpfs("/dev/shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: ["nosuid", "noexec", "nodev"] },
    { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", "ro"] },
    shown("/usr"),
    ...Object.entries(machine.rootLinks)
      .filter(([, target]) => target === "")
      .map(([path]) => shown(path)),
    ...machine.etc.map(shown),
    bind(sandbox.hosts, "/etc/hosts", false),
    bind(sandbox.hostname, "/etc/hostname", true),
    bind(sandbox.resolvConf, "/etc/resolv.conf", false),
    ...Object.entries(container.image.mounts).map(([destination, source]) => bind(source, destination, true)),
    ...container.mounts.map(({ source, destination, readOnly }) => bind(source, destination, readOnly)),
    bind(terminationLog, container.terminationMessagePath, false),
  ];
}

function tmpfs(destination: string, options: string[]): OciMount {
  return { destination, type: "tmpfs", source: "tmpfs", options };
}

function bind(source: string, destination: string, readOnly: boolean): OciMount {
  const options = ["rbind", "rprivate", "nosuid", "nodev", ...(readOnly ? ["ro"] : ["rw"])];
  return { destination, type: "bind", source, options };
}
