/**
 * Lays out the root file system of an instance: directories, links to where the host's programs will
 * be, the files that its image entry brings. What it writes goes there too, and with it.
 */
import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { ContainerSpec, SandboxSpec } from "./ContainerEngine.js";
import type { Machine } from "./oci.js";

const DIRECTORIES = ["dev", "etc", "home", "mnt", "opt", "proc", "root", "run", "srv", "sys", "usr", "var"];
const VAR_DIRECTORIES = ["var/cache", "var/lib", "var/log", "var/spool"];
const FOR_ALL = ["tmp", "var/tmp", "run/lock"];

/** Fills an empty directory. Throws as the file system does. */
export function layRootfs(root: string, pod: SandboxSpec, container: ContainerSpec, machine: Machine): void {
  const { image, user, workingDir } = container;
  const own = (path: string) => {
    if (!machine.rootless) chownSync(path, user.uid, user.gid);
  };
  mkdirSync(root, { recursive: true, mode: 0o755 });
  for (const each of [...DIRECTORIES, ...VAR_DIRECTORIES, ...FOR_ALL])
    mkdirSync(join(root, each), { recursive: true, mode: 0o755 });
  // mkdir's mode is subject to the umask.
  chmodSync(root, 0o755);
  for (const each of FOR_ALL) chmodSync(join(root, each), 0o1777);
  symlinkSync("/run", join(root, "var/run"));
  symlinkSync("/proc/self/mounts", join(root, "etc/mtab"));
  for (const [path, target] of Object.entries(machine.rootLinks))
    if (target !== "") symlinkSync(target, join(root, path));
  for (const each of [...image.directories, workingDir]) {
    const path = join(root, each);
    if (mkdirSync(path, { recursive: true, mode: 0o755 }) !== undefined || image.directories.includes(each))
      own(path);
  }
  for (const [path, text] of Object.entries(image.files)) {
    const file = join(root, path);
    mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
    writeFileSync(file, substitute(text, pod), { mode: 0o644 });
  }
}

/** Puts a pod's names into a text of the image table. */
export function substitute(text: string, { name, node }: { name: string; node: string }): string {
  return text.replaceAll("{podName}", name).replaceAll("{nodeName}", node);
}
