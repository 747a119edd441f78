/** The worker threads' claim on the processor. */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { setPriority } from "node:os";

/**
 * Nice value of a worker thread (setpriority(2), which on Linux is a thread's own). A woken worker must
 * not wait for the time slice of whoever fills the processor: with 0 the mean RTT of a ping was two to
 * three times as long, dominated by a few waits of milliseconds. The least there is, so that this holds
 * beside processes that were themselves raised.
 */
const NICE = -20;
/** Milliseconds after its time that a thread comes back at the earliest for its session to be raised. */
export const LATE_MS = 40;
/** Milliseconds without such a delay after which it goes back, and until it goes back by one more. */
export const CALM_MS = 10_000;
export const STEP_MS = 250;
/** Steps by which it then stays before the value at which the thread was late. */
export const MARGIN = 3;
/** Milliseconds until it goes nearer to that value, by one step, and until the next. */
export const REST_MS = 600_000;

/** Puts the calling thread before others of its session, where it may (CAP_SYS_NICE). Never throws. */
export function raiseThread(): void {
  try {
    setPriority(NICE);
  } catch {
    // It works without.
  }
}

/** What sets a session's nice value. */
export interface Session {
  /** @param nice -20 to 19, as of setpriority(2); never throws */
  renice(nice: number): void;
  close(): void;
}

/**
 * The agent's session, raised above others while the thread is kept from the processor.
 *
 * With autogroups (sched(7)) a thread's nice value counts among its own session only, and sessions share
 * the processors alike: beside a dozen busy ones a thread of nice -20 waited for up to seconds, and its
 * node was taken for dead. To raise the session for good is no way out: then each packet interrupts who
 * sends it, trains get short, and throughput is a fraction (64-byte datagrams: a fifth).
 *
 * It goes back step by step: when a session fell from -20 to 0 at once, on a busy machine with kernel
 * 6.18, its threads stood still for 0.1 to 1 s. And it does not go back to where the thread was late, but
 * nearer by one step from time to time: each return costs a delay, and the next may be the one that is long
 * enough for a neighbour. Where a step costs one, it is likely a short one.
 */
export class SessionPriority {
  readonly #session: Session;
  #nice = 0;
  /** From when on it goes back by one; meaningless while not raised. */
  #backMs = 0;
  /** It goes back no further than to there, and from #restMs on by one. */
  #rest = 0;
  #restMs = 0;
  #beforeMs = 0;
  #first = true;

  constructor(session: Session) {
    this.#session = session;
  }

  /** Nice value of the session now, 0 or less. */
  get nice(): number {
    return this.#nice;
  }

  /**
   * To be called after each wait of the thread.
   *
   * @param nowMs when it was over, in milliseconds of a monotonic clock, wrapping at 32 bits
   * @param waitMs how long it was to be at most, in milliseconds
   */
  look(nowMs: number, waitMs: number): void {
    const late = ((nowMs - this.#beforeMs) | 0) - waitMs;
    this.#beforeMs = nowMs;
    if (this.#first) {
      this.#first = false;
    } else if (late >= LATE_MS) {
      this.#backMs = (nowMs + CALM_MS) | 0;
      this.#restMs = (nowMs + REST_MS) | 0;
      if (this.#nice > NICE) this.#rest = Math.max(NICE, this.#nice - MARGIN);
      this.#turn(NICE);
    } else if (this.#nice < 0 && ((nowMs - this.#backMs) | 0) >= 0) {
      this.#backMs = (nowMs + STEP_MS) | 0;
      if (this.#nice === this.#rest) {
        if (((nowMs - this.#restMs) | 0) < 0) return;
        this.#restMs = (nowMs + REST_MS) | 0;
        this.#rest++;
      }
      this.#turn(this.#nice + 1);
    }
  }

  /** The session is as it was. */
  release(): void {
    this.#turn(0);
    this.#session.close();
  }

  #turn(nice: number): void {
    if (nice === this.#nice) return;
    this.#nice = nice;
    this.#session.renice(nice);
  }
}

/**
 * The session of this process by /proc/self/autogroup, if it is the agent's own, as where systemd or the
 * lab starts it: a pod's processes have sessions of their own. Does nothing where it is somebody else's,
 * where the kernel has no autogroups, or without the right to (CAP_SYS_NICE). Where systemd puts services
 * into groups of processor time autogroups have no say; there the unit's CPUWeight= does it.
 */
export function ownSession(): Session {
  let file = -1;
  try {
    // proc_pid_stat(5): the name in parentheses may hold anything; the session is the fourth after it.
    const stat = readFileSync("/proc/self/stat", "utf8");
    const session = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[3];
    if (Number(session) === process.pid) file = openSync("/proc/self/autogroup", "w");
  } catch {
    // No such file.
  }
  return {
    renice: (nice) => {
      try {
        if (file >= 0) writeSync(file, String(nice));
      } catch {
        // No right to.
      }
    },
    close: () => {
      if (file >= 0) closeSync(file);
      file = -1;
    },
  };
}
