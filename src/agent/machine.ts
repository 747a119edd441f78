/** What a Node object says of its machine. Looks only. */
import { readFileSync } from "node:fs";
import { arch, cpus, release, totalmem } from "node:os";

export interface Machine {
  /** Kubernetes' name of the architecture: amd64, arm64. */
  architecture: string;
  kernelVersion: string;
  osImage: string;
  machineId: string;
  systemUuid: string;
  bootId: string;
  cpus: number;
  memoryKib: number;
}

const ARCHITECTURES: Record<string, string> = { x64: "amd64", ia32: "386" };

export function readMachine(): Machine {
  const pretty = /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(read("/etc/os-release"));
  return {
    architecture: ARCHITECTURES[arch()] ?? arch(),
    kernelVersion: release(),
    osImage: pretty?.[1] ?? "Linux",
    machineId: read("/etc/machine-id"),
    systemUuid: read("/sys/class/dmi/id/product_uuid").toLowerCase() || read("/etc/machine-id"),
    bootId: read("/proc/sys/kernel/random/boot_id"),
    cpus: Math.max(1, cpus().length),
    memoryKib: Math.floor(totalmem() / 1024),
  };
}

/** The text of a file, "" where it cannot be read. */
function read(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    return "";
  }
}
