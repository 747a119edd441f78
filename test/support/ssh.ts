/** Machines that are reached by ssh: Vagrant's, and whichever an ssh config knows. */
import { spawnSync } from "node:child_process";

/**
 * A shell script as run by root on a machine, as a command line of this one. It ends with status 255 where
 * the machine cannot be reached.
 *
 * @param config ssh's config file, "" for ssh's own
 */
export function sshCommand(config: string, machine: string, script: string): string[] {
  const file = config === "" ? [] : ["-F", config];
  // One connection to a machine serves every command: its name is short, as a socket's path has to be.
  const shared = ["-o", "ControlMaster=auto", "-o", "ControlPath=/tmp/podwire-%C", "-o", "ControlPersist=30"];
  const quoted = quote(script);
  const asRoot = `if [ "$(id -u)" -eq 0 ]; then exec sh -c ${quoted}; else exec sudo -n sh -c ${quoted}; fi`;
  return ["ssh", ...file, ...shared, "-o", "BatchMode=yes", machine, asRoot];
}

/** A word as a shell takes it, whatever is in it. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** What `vagrant ssh-config` says of the machines that run. Throws an Error where the master does not. */
export function vagrantSshConfig(directory: string): string {
  const { stdout, stderr, status } = spawnSync("vagrant", ["ssh-config"], {
    cwd: directory,
    encoding: "utf8",
  });
  // It fails for those that do not run, such as a pc that nobody started, and prints the others.
  if (!/^Host k8s-master$/m.test(stdout ?? ""))
    throw new Error(`vagrant ssh-config: exit status ${status}: ${stderr}`);
  return stdout;
}
