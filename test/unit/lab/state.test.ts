import { describe, expect, it } from "vitest";
import { exitCode, isAlive, listensOn, self, startTimeOf } from "../../../src/lab/processes.js";
import { completePath, installCommand, REQUIREMENTS } from "../../../src/lab/requirements.js";
import { judge, type LabState } from "../../../src/lab/state.js";

const owner = { pid: 100, startTime: 1 };
const agent = { pid: 200, startTime: 1, node: "k8s-master" };

function state(change: Partial<LabState>): LabState {
  return {
    version: 2,
    phase: "up",
    owner: null,
    startedAt: "2024-01-01T00:00:00Z",
    agents: [agent],
    services: [],
    ...change,
  };
}

describe("judge", () => {
  it.each<[string, LabState | null, number, number[], string]>([
    ["nothing at all", null, 0, [], "down"],
    ["namespaces without a record", null, 3, [], "crashed"],
    ["up, agents alive", state({}), 18, [200], "running"],
    ["up, agents dead", state({}), 18, [], "crashed"],
    ["up, namespaces gone", state({}), 0, [200], "crashed"],
    ["a run whose process lives", state({ owner }), 18, [100], "running"],
    ["a run whose process died", state({ owner }), 18, [200], "crashed"],
    ["starting", state({ phase: "starting", owner }), 0, [100], "running"],
    ["died while starting", state({ phase: "starting", owner }), 5, [], "crashed"],
    ["died while stopping", state({ phase: "stopping" }), 5, [200], "crashed"],
  ])("%s", (_, record, namespaces, living, verdict) => {
    expect(judge(record, namespaces, (id) => living.includes(id.pid))).toBe(verdict);
  });
});

describe("processes", () => {
  it("knows itself, and does not take a reused number for the same process", () => {
    expect(isAlive(self())).toBe(true);
    expect(isAlive({ pid: process.pid, startTime: self().startTime + 1 })).toBe(false);
    expect(startTimeOf(0x7fffffff)).toBeNull();
  });

  it("gives a shell's exit codes", () => {
    expect(exitCode(3, null)).toBe(3);
    expect(exitCode(null, "SIGKILL")).toBe(137);
  });
});

describe("listensOn", () => {
  const text = [
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
    "   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 65534        0 1 1 0 100 0 0 10 0",
    "   1: 0100007F:18EB 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1",
  ].join("\n");

  it("sees listeners only", () => {
    expect(listensOn(text, 80)).toBe(true);
    expect(listensOn(text, 6379)).toBe(false); // connected, not listening
    expect(listensOn(text, 90)).toBe(false);
  });
});

describe("requirements", () => {
  it("names a package for every program, each once in the command", () => {
    expect(installCommand(REQUIREMENTS).slice(0, 4)).toEqual([
      "apt-get",
      "install",
      "-y",
      "--no-install-recommends",
    ]);
    expect(installCommand([REQUIREMENTS[0]!, REQUIREMENTS[0]!]).slice(4)).toEqual(["iproute2"]);
  });

  it("looks where a user's PATH does not", () => {
    expect(completePath("/home/u/bin:/usr/bin").split(":").slice(0, 2)).toEqual(["/home/u/bin", "/usr/bin"]);
    expect(completePath(undefined)).toContain("/usr/sbin");
  });
});
