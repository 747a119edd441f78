/** The worker threads' claim on the processor. */
import { readFileSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";

/**
 * Nice value of a worker thread (setpriority(2), which on Linux is a thread's own), and of the agent's
 * session. A woken worker must not wait for the time slice of whoever fills the processor: with 0 the
 * mean RTT of a ping was two to three times as long, dominated by a few waits of milliseconds. The
 * least there is, so that this holds beside processes that were themselves raised.
 */
const NICE = -20;
const AUTOGROUP = "/proc/self/autogroup";

/**
 * Puts the calling thread before what else runs on the node, as far as the kernel allows (CAP_SYS_NICE);
 * never throws, for it works without.
 *
 * With autogroups (sched(7)) a thread's nice value counts only among its own session, and sessions share
 * the processors alike: beside a dozen busy ones a thread of nice -20 was seen to wait for seconds, and
 * its node was taken for dead. So the session is raised too, where it is the agent's own: a pod's
 * processes have sessions of their own. Where systemd puts services into groups of processor time,
 * autogroups have no say; there the unit's CPUWeight= does it.
 */
export function raisePriority(): void {
  attempt(() => setPriority(NICE));
  if (leadsSession()) attempt(() => writeFileSync(AUTOGROUP, String(NICE)));
}

/** Whether this process is the first of its session: nobody else's processes are in it then. */
function leadsSession(): boolean {
  try {
    // proc_pid_stat(5): the name in parentheses may hold anything; the session is the fourth after it.
    const stat = readFileSync("/proc/self/stat", "utf8");
    const session = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[3];
    return Number(session) === process.pid;
  } catch {
    return false;
  }
}

function attempt(what: () => void): void {
  try {
    what();
  } catch {
    // No right to, or a kernel without autogroups.
  }
}
