/** The steps of `podwire uninstall`. May be repeated, and goes on where an earlier one ended. */
import { DIRECTORIES, FILES, PARENT_DIRECTORIES, UNITS, unitPath } from "./files.js";
import type { System } from "./System.js";

/** What was undone in the kernel, in words. */
export interface Cleaned {
  done: string[];
  /** What could not be. */
  failed: string[];
}

export interface UninstallOptions {
  /** Leaves /etc/podwire and /var/lib/podwire. */
  keepData: boolean;
}

/**
 * Uninstalls. Returns what is left, in words: nothing where all went well. Where something is, the
 * agent's record stays, so that a second try knows.
 *
 * @param clean ends pods and removes devices, rules and the like; called when no service runs
 */
export async function uninstall(
  options: UninstallOptions,
  system: System,
  clean: () => Promise<Cleaned>,
  say: (line: string) => void,
): Promise<string[]> {
  const units = UNITS.filter((unit) => system.exists(unitPath(unit)));
  if (system.startsServices) {
    for (const unit of units) {
      await system.systemctl("disable", "--now", unit);
      say(`stopped ${unit}`);
    }
  }
  const { done, failed } = await clean();
  for (const line of done) say(line);
  if (failed.length > 0) return failed;
  const directories = DIRECTORIES.filter((path) => !options.keepData || path.startsWith("/run/"));
  for (const path of [...FILES, ...directories]) if (system.remove(path)) say(`removed ${path}`);
  for (const path of PARENT_DIRECTORIES) if (system.removeEmpty(path)) say(`removed ${path}`);
  if (system.startsServices && units.length > 0) {
    await system.systemctl("daemon-reload");
    // Fails where systemd has forgotten the unit, which is what is wanted.
    await system.systemctl("reset-failed", ...units).catch(() => {});
  }
  return [];
}
