/**
 * A program of its own: `node probe.js URL` starts a curl every STEP_MS, whatever became of those before,
 * until SIGTERM. Prints "ready" after the first answer, and in the end a line for each curl in the order
 * of their starts: "START CODE", START in milliseconds of the monotonic clock, which all processes share.
 */

import { spawn } from "node:child_process";
import { monotonicMs } from "./clock.js";

const STEP_MS = 10;
/** `--max-time` in seconds: what comes later is no answer. */
const MAX_TIME = "0.25";

const url = process.argv[2]!;
const starts: { at: number; code: number | null }[] = [];
let under = 0;
let ready = false;
let over = false;
let dueMs = monotonicMs();

function start(): void {
  const row = { at: monotonicMs(), code: null as number | null };
  starts.push(row);
  under++;
  const child = spawn("curl", ["-q", "-s", "-o", "/dev/null", "--max-time", MAX_TIME, url], {
    stdio: "ignore",
    env: {},
  });
  child.on("error", (error) => {
    console.error(error.message);
    process.exit(1);
  });
  child.on("exit", (code) => {
    row.code = code;
    under--;
    if (code === 0 && !ready) process.stdout.write("ready\n");
    ready ||= code === 0;
    if (over && under === 0) finish();
  });
}

function tick(): void {
  if (over) return;
  const now = monotonicMs();
  if (now >= dueMs) {
    start();
    // A slot that was missed is gone: two at a time would not be every STEP_MS.
    dueMs = Math.max(dueMs + STEP_MS, now);
  }
  setTimeout(tick, Math.max(0, dueMs - monotonicMs()));
}

function finish(): void {
  process.stdout.write(starts.map(({ at, code }) => `${at} ${code ?? -1}\n`).join(""), () => process.exit(0));
}

process.on("SIGTERM", () => {
  over = true;
  if (under === 0) finish();
});
tick();
