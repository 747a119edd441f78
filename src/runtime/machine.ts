/** Looks at the machine once: rights, cgroups, where programs lie. */
import { existsSync, lstatSync, mkdirSync, readFileSync, readlinkSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { run } from "./command.js";
import { type Machine, PROGRAM_DIRECTORIES, SHOWN_ETC } from "./oci.js";

/** The runtime cannot work here; the message says what is missing. */
export class RuntimeUnavailable extends Error {
  override readonly name = "RuntimeUnavailable";
}

const PROGRAMS: Readonly<Record<string, string>> = {
  runc: "runc",
  conmon: "conmon",
  unshare: "util-linux",
  nsenter: "util-linux",
  ip: "iproute2",
};

const CGROUPS = "/sys/fs/cgroup";

/** Throws RuntimeUnavailable where programs or rights are missing. */
export async function lookAtMachine(): Promise<Machine> {
  const missing: string[] = [];
  for (const [program, debianPackage] of Object.entries(PROGRAMS))
    if ((await run([program, program === "ip" ? "-V" : "--version"])).code !== 0)
      missing.push(`${program} (Debian package ${debianPackage})`);
  if (missing.length > 0) throw new RuntimeUnavailable(`running pods needs ${missing.join(", ")}`);
  if (process.geteuid?.() !== 0) throw new RuntimeUnavailable("running pods needs root");
  const rootless = mappedIds(readFileSync("/proc/self/uid_map", "utf8")) < 65_536;
  const cgroups = !rootless && canMakeCgroups();
  return {
    rootless,
    cgroups,
    seccomp: (await run(["runc", "--version"])).stdout.includes("libseccomp"),
    rootLinks: Object.fromEntries(
      PROGRAM_DIRECTORIES.filter((path) => existsSync(path)).map((path) => [
        path,
        lstatSync(path).isSymbolicLink() ? readlinkSync(path) : "",
      ]),
    ),
    etc: SHOWN_ETC.filter((path) => existsSync(path)),
  };
}

/** How many user ids the text of uid_map maps. */
function mappedIds(uidMap: string): number {
  return uidMap
    .trim()
    .split("\n")
    .reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[2] ?? 0), 0);
}

/** In the pids hierarchy (version 1), or in the one of version 2. */
function canMakeCgroups(): boolean {
  const hierarchy = existsSync(join(CGROUPS, "pids")) ? join(CGROUPS, "pids") : CGROUPS;
  const probe = join(hierarchy, `podwire-probe-${process.pid}`);
  try {
    mkdirSync(probe);
    rmdirSync(probe);
    return true;
  } catch {
    return false;
  }
}
