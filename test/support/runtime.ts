/** What tests need of the machine to run pods. */
import { execFileSync } from "node:child_process";

/** Why pods cannot be run here, or "" where they can: use with describe.skipIf. */
export function runtimeUnavailable(): string {
  for (const program of ["runc", "conmon"])
    try {
      execFileSync(program, ["--version"], { stdio: "ignore" });
    } catch {
      return `needs ${program}`;
    }
  return "";
}
