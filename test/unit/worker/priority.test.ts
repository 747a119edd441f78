import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { CALM_MS, LATE_MS, MARGIN, REST_MS, SessionPriority, STEP_MS } from "../../../src/worker/priority.js";

const PRIORITY = fileURLToPath(new URL("../../../dist/worker/priority.js", import.meta.url));
/** Prints the session's nice value raised and released. */
const SHOW =
  `const { ownSession } = await import(${JSON.stringify(PRIORITY)}); const session = ownSession();` +
  `const { readFileSync } = await import("node:fs");` +
  `const show = () => console.log(readFileSync("/proc/self/autogroup", "utf8").trim());` +
  `session.renice(-20); show(); session.renice(0); show(); session.close(); session.renice(-20); show();`;

/** This process's session, as the kernel shows it: `/autogroup-N nice M`. */
function session(): string {
  return readFileSync("/proc/self/autogroup", "utf8").trim();
}

function show(program: string, ...args: string[]): string[] {
  const output = execFileSync(program, [...args, "--input-type=module", "-e", SHOW], { encoding: "utf8" });
  // A session without an autogroup shows nothing: the lines are empty.
  return output.split("\n").slice(0, -1);
}

const allowed = existsSync("/proc/self/autogroup") && process.getuid?.() === 0;

describe.runIf(allowed)("ownSession", () => {
  it("is reniced where it is the agent's own, until it is closed", () => {
    const nice = show("setsid", "--wait", process.execPath).map((line) => line.split(" ").at(-1));
    expect(nice).toEqual(["-20", "0", "0"]);
  });

  it("is left alone where it is somebody else's", () => {
    const before = session();
    expect(show(process.execPath)).toEqual([before, before, before]);
    expect(session()).toBe(before);
  });
});

describe("SessionPriority", () => {
  const play = (start = 0) => {
    const said: (number | string)[] = [];
    const priority = new SessionPriority({
      renice: (nice) => said.push(nice),
      close: () => said.push("closed"),
    });
    let now = start;
    /** Waits for at most `most` ms, and comes back after `took`. */
    const wait = (most: number, took: number) => {
      now = (now + took) | 0;
      priority.look(now, most);
    };
    wait(100, 5_000_000);
    return { priority, said, wait };
  };

  it("is raised by a wait that lasted too long, and by no other", () => {
    const { priority, said, wait } = play();
    wait(1000, 1000);
    wait(0, LATE_MS - 1);
    wait(100, 100 + LATE_MS - 1);
    expect(said).toEqual([]);
    wait(100, 100 + LATE_MS);
    wait(100, 300);
    expect(said).toEqual([-20]);
    expect(priority.nice).toBe(-20);
  });

  it("goes back step by step after a time without, counted from the last", () => {
    const { said, wait } = play(0x7fff_0000);
    wait(0, LATE_MS);
    for (let ms = 0; ms < CALM_MS - 100; ms += 100) wait(100, 100);
    wait(0, LATE_MS);
    for (let ms = 0; ms < CALM_MS - 100; ms += 100) wait(100, 100);
    expect(said).toEqual([-20]);
    wait(100, 100);
    expect(said).toEqual([-20, -19]);
    wait(STEP_MS - 1, STEP_MS - 1);
    expect(said).toEqual([-20, -19]);
    wait(1, 1);
    expect(said).toEqual([-20, -19, -18]);
    for (let ms = 0; ms < 100 * STEP_MS; ms += STEP_MS) wait(STEP_MS, STEP_MS);
    expect(said).toEqual(Array.from({ length: 21 - MARGIN }, (_, n) => n - 20));
  });

  it("keeps off the value at which the thread was late, and goes nearer from time to time", () => {
    const { priority, wait } = play(0x7fff_0000);
    /** Lets time pass without a delay. */
    const calm = (ms: number) => {
      for (let passed = 0; passed < ms; passed += STEP_MS) wait(STEP_MS, STEP_MS);
    };
    for (const rest of [1, 2, 3, 4, 5, 6].map((times) => -times * MARGIN)) {
      wait(0, LATE_MS);
      expect(priority.nice).toBe(-20);
      calm(REST_MS - STEP_MS);
      expect(priority.nice).toBe(rest);
    }
    wait(0, LATE_MS);
    // Where it cannot go further it rests where it was before.
    wait(0, LATE_MS);
    calm(REST_MS - STEP_MS);
    for (let nice = -20; nice < 0; nice++) {
      expect(priority.nice).toBe(nice);
      calm(REST_MS);
    }
    calm(REST_MS);
    expect(priority.nice).toBe(0);
    // And again as at first.
    wait(0, LATE_MS);
    calm(REST_MS - STEP_MS);
    expect(priority.nice).toBe(-MARGIN);
  });

  it("is raised anew on its way back, and waits then", () => {
    const { said, wait } = play();
    wait(0, LATE_MS);
    wait(CALM_MS, CALM_MS);
    for (let n = 0; n < 9; n++) wait(STEP_MS, STEP_MS);
    expect(said.at(-1)).toBe(-10);
    wait(0, LATE_MS);
    wait(CALM_MS - 1, CALM_MS - 1);
    expect(said.at(-1)).toBe(-20);
    wait(1, 1);
    expect(said.at(-1)).toBe(-19);
  });

  it("is as before when the thread ends", () => {
    const { priority, said, wait } = play();
    wait(0, LATE_MS);
    priority.release();
    expect(said).toEqual([-20, 0, "closed"]);
  });
});
