/**
 * Owns what the lab needs from the machine: programs, which apt may install, and /dev/net/tun.
 * Must not know what the programs are used for.
 */
import { accessSync, constants, existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { LabError } from "./errors.js";
import { run } from "./processes.js";

interface Requirement {
  /** Name of the executable. */
  program: string;
  /** Its package in Debian and Ubuntu. */
  packageName: string;
  /** The system service that the package would start. */
  service?: string;
}

export const REQUIREMENTS: readonly Requirement[] = [
  { program: "ip", packageName: "iproute2" },
  { program: "curl", packageName: "curl" },
  { program: "nginx", packageName: "nginx", service: "nginx" },
  { program: "apache2", packageName: "apache2-bin" },
  { program: "redis-server", packageName: "redis-server", service: "redis-server" },
  { program: "redis-cli", packageName: "redis-tools" },
  { program: "setpriv", packageName: "util-linux" },
  { program: "nsenter", packageName: "util-linux" },
  { program: "runc", packageName: "runc" },
  { program: "conmon", packageName: "conmon" },
];

/** Directories where system programs lie and which a user's PATH often lacks. */
const SYSTEM_DIRECTORIES = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"];

/** PATH with the system directories behind. */
export function completePath(path: string | undefined): string {
  const present = (path ?? "").split(delimiter).filter(Boolean);
  return [...present, ...SYSTEM_DIRECTORIES.filter((directory) => !present.includes(directory))].join(
    delimiter,
  );
}

function isInstalled(program: string): boolean {
  return completePath(process.env.PATH)
    .split(delimiter)
    .some((directory) => {
      try {
        accessSync(join(directory, program), constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** What is missing here. */
function missingRequirements(): Requirement[] {
  return REQUIREMENTS.filter(({ program }) => !isInstalled(program));
}

/** The line that installs packages; for apt and for people. */
export function installCommand(missing: readonly Requirement[]): string[] {
  const packages = [...new Set(missing.map(({ packageName }) => packageName))];
  return ["apt-get", "install", "-y", "--no-install-recommends", ...packages];
}

const POLICY = "/usr/sbin/policy-rc.d";
const POLICY_TEXT = "#!/bin/sh\n# podwire lab: services stay stopped while it installs programs\nexit 101\n";

function removeOurPolicy(): void {
  try {
    if (readFileSync(POLICY, "utf8") === POLICY_TEXT) rmSync(POLICY);
  } catch {
    // There is none.
  }
}

/** Installs what is missing, and keeps the packages from starting services on this machine. */
async function install(missing: readonly Requirement[], say: (line: string) => void): Promise<void> {
  const command = installCommand(missing);
  say(`Missing here: ${missing.map(({ program }) => program).join(", ")}.`);
  say(`Installing: ${command.join(" ")}`);
  // Another apt may be at work: a machine that has just started often updates itself.
  const apt = ["apt-get", "-o", "DPkg::Lock::Timeout=120"];
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const options = { env, timeoutMs: 600_000 };
  removeOurPolicy(); // Of a run that was killed at this point.
  const policyExists = existsSync(POLICY);
  if (!policyExists) writeFileSync(POLICY, POLICY_TEXT, { mode: 0o755 });
  try {
    const installing = [...apt, ...command.slice(1)];
    let result = await run(installing, options);
    if (result.code !== 0) {
      say("That failed; once more after apt-get update.");
      await run([...apt, "update"], options);
      result = await run(installing, options);
    }
    if (result.code !== 0) {
      throw new LabError(`${command.join(" ")}: ${result.stderr.trim()}`, "LAB_INSTALL_FAILED");
    }
  } finally {
    if (!policyExists) removeOurPolicy();
  }
  const services = missing.flatMap(({ service }) => service ?? []);
  if (services.length > 0 && existsSync("/run/systemd/system")) {
    say(`The services ${services.join(", ")} stay disabled on this machine.`);
    await run(["systemctl", "disable", "--now", ...services]);
  }
}

/** Makes sure that all programs are there, by installing them if allowed, or says what to do. */
export async function ensurePrograms(allowInstall: boolean, say: (line: string) => void): Promise<void> {
  const missing = missingRequirements();
  if (missing.length === 0) return;
  const names = missing.map(({ program }) => program).join(", ");
  const advice = `Install with: ${installCommand(missing).join(" ")}`;
  if (!isInstalled("apt-get")) {
    throw new LabError(
      `missing here: ${names}. There is no apt-get to install them.`,
      "LAB_PROGRAMS_MISSING",
    );
  }
  if (!allowInstall) {
    throw new LabError(`missing here: ${names}. ${advice}`, "LAB_PROGRAMS_MISSING");
  }
  if (process.getuid!() !== 0) {
    throw new LabError(`missing here: ${names}. Only root can install: sudo ${advice.slice(14)}`);
  }
  await install(missing, say);
  const still = missingRequirements().map(({ program }) => program);
  if (still.length > 0) {
    throw new LabError(`still missing after the installation: ${still.join(", ")}`, "LAB_PROGRAMS_MISSING");
  }
}

/** Makes sure that kubectl is there. Debian and Ubuntu have no package that is new enough. */
export function ensureKubectl(): void {
  if (isInstalled("kubectl")) return;
  throw new LabError(
    "missing here: kubectl, the tool that the lab is driven with. It is one file to be put into PATH:\n" +
      "  curl -LO https://dl.k8s.io/release/v1.32.0/bin/linux/$(dpkg --print-architecture)/kubectl\n" +
      "  install -m 755 kubectl /usr/local/bin/kubectl\n" +
      "Other ways: https://kubernetes.io/docs/tasks/tools/install-kubectl-linux/",
    "LAB_KUBECTL_MISSING",
  );
}

const TUN = "/dev/net/tun";

/** Makes sure that TAP devices can be opened. */
export async function ensureTun(): Promise<void> {
  if (!existsSync(TUN) && process.getuid!() === 0) await run(["modprobe", "tun"]);
  try {
    accessSync(TUN, constants.R_OK | constants.W_OK);
  } catch {
    if (!existsSync(TUN)) {
      throw new LabError(`${TUN} does not exist: load the module with "modprobe tun" as root`, "LAB_NO_TUN");
    }
    const mode = (statSync(TUN).mode & 0o777).toString(8).padStart(4, "0");
    throw new LabError(
      `${TUN} is closed to users (mode ${mode}). Run the lab as root, or open the device: ` +
        `sudo chmod 0666 ${TUN} (the mode most distributions give it)`,
      "LAB_NO_TUN",
    );
  }
}
