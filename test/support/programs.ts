/** Foreign programs that tests need, each with the Debian package that has it. */
import { execFileSync } from "node:child_process";
import { release } from "node:os";

const PACKAGES = {
  bridge: "iproute2",
  curl: "curl",
  ethtool: "ethtool",
  iperf3: "iperf3",
  nginx: "nginx",
  ping: "iputils-ping",
  python3: "python3",
  "redis-benchmark": "redis-tools",
  "redis-server": "redis-server",
  sysctl: "procps",
  tcpdump: "tcpdump",
  tshark: "tshark",
} as const;

export type Program = keyof typeof PACKAGES;

/** Throws, with the names of the packages to install, unless all of these programs are there. */
export function requirePrograms(...programs: Program[]): void {
  const missing = programs.filter((program) => !isInstalled(program));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((program) => PACKAGES[program]))].join(" ");
  throw new Error(`these tests need ${missing.join(", ")}: apt-get install ${packages}`);
}

function isInstalled(program: Program): boolean {
  try {
    execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Whether the running kernel is at least MAJOR.MINOR. */
export function kernelAtLeast(major: number, minor: number): boolean {
  const [a = 0, b = 0] = release().split(".").map(Number);
  return a > major || (a === major && b >= minor);
}

/** The send modes that this kernel has: tunnel GSO for TAP devices came with Linux 6.17. */
export const SEND_MODES: ("off" | "on")[] = kernelAtLeast(6, 17) ? ["off", "on"] : ["off"];
