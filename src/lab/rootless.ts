/**
 * Owns the lab of a user who is not root: the namespaces it lives in, and the way into them. Must
 * not know what happens inside, where the lab runs exactly as it does for root.
 *
 * A holder process keeps a user, network, mount and process namespace. It is the first process of
 * the last, so that with it everything in the lab ends. /run inside is a file system of its own.
 * Each command of podwire lab runs itself again inside and is told to stop over an IPC channel:
 * signals do not cross `nsenter`.
 */
import { spawn } from "node:child_process";
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { PODWIRE } from "./agents.js";
import { LabError } from "./errors.js";
import { LAB_DIRECTORY } from "./plan.js";
import { endAll, exitCode, isAlive, type ProcessId, run, runAttached, startTimeOf } from "./processes.js";

const INSIDE = "PODWIRE_LAB_INSIDE";

/** Whether this process already runs in the holder's namespaces. */
export function isInside(): boolean {
  return process.env[INSIDE] === "1";
}

const holderSchema = z.object({ pid: z.number().int().positive(), startTime: z.number() });

function holderFile(): string {
  return join(process.env.XDG_RUNTIME_DIR ?? tmpdir(), `podwire-lab-${process.getuid!()}.json`);
}

/** The living holder of this user's lab, or null. */
export function findHolder(): ProcessId | null {
  try {
    const file = holderFile();
    if (statSync(file).uid !== process.getuid!()) return null; // Not ours, whatever it says.
    const holder = holderSchema.parse(JSON.parse(readFileSync(file, "utf8")));
    return isAlive(holder) ? holder : null;
  } catch {
    return null;
  }
}

/** Removes the record of a holder that was killed; with it everything in its lab has ended. */
export function forgetHolder(): void {
  const file = holderFile();
  if (statSync(file, { throwIfNoEntry: false })?.uid === process.getuid!()) rmSync(file, { force: true });
}

/** Prints its number as seen from outside, prepares /proc and /run, and waits for ever. */
const HOLDER_SCRIPT = `
read -r pid rest < /proc/self/stat
mount -t proc proc /proc && mount -t tmpfs -o mode=0755 tmpfs /run && mkdir /run/netns || exit 1
echo "$pid"
exec > /dev/null 2>&1
while :; do sleep 3600; done
`;

function whyForbidden(said: string): string {
  const settings: [string, string, string][] = [
    ["/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"],
    [
      "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
      "1",
      "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ],
    ["/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"],
  ];
  const advice = settings
    .filter(([file, forbidding]) => {
      try {
        return readFileSync(file, "utf8").trim() === forbidding;
      } catch {
        return false;
      }
    })
    .map(([, , command]) => command);
  return (
    `without root the lab needs a user namespace, which is not to be had here (${said}).\n` +
    `Run it as root${advice.length > 0 ? `, or as root allow it: ${advice.join("; ")}` : ""}.`
  );
}

/** Starts a holder. */
async function startHolder(): Promise<ProcessId> {
  const unshare = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork"];
  const probe = await run([...unshare, "true"]);
  if (probe.code !== 0) throw new LabError(whyForbidden(probe.stderr.trim()), "LAB_NO_USER_NAMESPACE");
  const child = spawn(
    unshare[0]!,
    [...unshare.slice(1), "--kill-child", "sh", "-c", HOLDER_SCRIPT, "podwire-lab"],
    {
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      cwd: "/",
    },
  );
  const pid = await new Promise<number>((resolve, reject) => {
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
    child.stdout.setEncoding("utf8").once("data", (text: string) => resolve(Number(text)));
    child.on("exit", () => reject(new LabError(whyForbidden(said.trim()), "LAB_NO_USER_NAMESPACE")));
  });
  child.stdout.destroy();
  child.stderr.destroy();
  child.unref();
  const holder = { pid, startTime: startTimeOf(pid) ?? 0 };
  rmSync(holderFile(), { force: true });
  writeFileSync(holderFile(), JSON.stringify(holder), { mode: 0o600, flag: "wx" });
  return holder;
}

/** Whether something of a lab is left inside. */
function isOccupied(holder: ProcessId): boolean {
  const root = `/proc/${holder.pid}/root`;
  return existsSync(`${root}${LAB_DIRECTORY}`) || existsSync(`${root}${LAB_DIRECTORY}.lock`);
}

async function endHolder(holder: ProcessId): Promise<void> {
  await endAll([holder], 0); // The first process of a namespace hears nothing but SIGKILL.
  rmSync(holderFile(), { force: true });
}

function enterCommand(holder: ProcessId, labArguments: readonly string[]): string[] {
  const nsenter = ["nsenter", "-t", String(holder.pid), "-U", "-m", "-n", "-p", "--preserve-credentials"];
  return [...nsenter, process.execPath, PODWIRE, "lab", ...labArguments];
}

/** Runs `podwire lab ARGUMENTS` inside on our terminal. */
export function runInside(holder: ProcessId, labArguments: readonly string[]): Promise<number> {
  return runAttached(enterCommand(holder, labArguments), { ...process.env, [INSIDE]: "1" });
}

/**
 * Runs a `podwire lab` command that brings the lab up or down inside, making the namespaces first if
 * `start` says so and removing them once nothing is left in them. Returns the exit code.
 */
export async function manageInside(labArguments: readonly string[], start: boolean): Promise<number> {
  const holder = findHolder() ?? (start ? await startHolder() : null);
  if (holder === null) return 0;
  const [program, ...rest] = enterCommand(holder, labArguments);
  const child = spawn(program!, rest, {
    // Away from the terminal's Ctrl-C, which would end nsenter and leave its child alone.
    detached: true,
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...process.env, [INSIDE]: "1" },
  });
  const stop = () => {
    if (child.connected) child.send("stop");
  };
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, stop);
  const code = await new Promise<number>((resolve) => {
    child.on("error", (error) => {
      console.error(`podwire lab: ${program}: ${error.message}`);
      resolve(127);
    });
    child.on("exit", (status, signal) => resolve(exitCode(status, signal)));
  });
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.off(name, stop);
  if (!isOccupied(holder)) await endHolder(holder);
  return code;
}

/** Calls `stop` when the process outside says so, or is gone. */
export function onStopFromOutside(stop: () => void): void {
  if (!process.channel) return;
  process.on("message", (message) => {
    if (message === "stop") stop();
  });
  process.on("disconnect", stop);
  process.channel.unref();
}
