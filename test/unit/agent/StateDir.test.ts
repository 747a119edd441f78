import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  devicesIn,
  LockedError,
  readRecord,
  StateDir,
  StateError,
  StateRecord,
} from "../../../src/agent/StateDir.js";

let base: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "podwire-state-"));
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

test("a lock is held once, and free after release", () => {
  const first = new StateDir(join(base, "a/b"));
  first.acquire();
  expect(first.holder()).toBe(process.pid);
  const second = new StateDir(join(base, "a/b"));
  expect(() => second.acquire()).toThrow(LockedError);
  expect(() => second.acquire()).toThrow(`belongs to a running agent (process ${process.pid})`);
  first.release();
  second.acquire();
  second.undo();
  expect(readdirSync(join(base, "a/b"))).toEqual([]);
  first.undo();
  expect(existsSync(join(base, "a"))).toBe(false);
});

test("the lock of a process that ended, or of another with its number, is taken over", () => {
  const dir = new StateDir(base);
  const dead = execFileSync("sh", ["-c", "echo $$"], { encoding: "utf8" }).trim();
  for (const owner of [
    `{"pid":${dead},"startTime":"1"}`,
    `{"pid":${process.pid},"startTime":"1"}`,
    "garbage",
  ]) {
    writeFileSync(join(base, "agent.lock"), owner);
    writeFileSync(dir.readyFile, "{}");
    expect(dir.holder()).toBe(0);
    dir.acquire();
    expect(dir.holder()).toBe(process.pid);
    expect(existsSync(dir.readyFile)).toBe(false);
    dir.release();
  }
  expect(readdirSync(base)).toEqual([]);
});

test("a directory that cannot be made", () => {
  writeFileSync(join(base, "file"), "");
  expect(() => new StateDir(join(base, "file/state")).acquire()).toThrow(StateError);
});

test("the record is written, read again, and kept by an unsuccessful start", () => {
  const dir = new StateDir(join(base, "s"));
  dir.acquire();
  const record = new StateRecord(dir.recordFile, "n", "4:1");
  expect(record.devices()).toEqual([]);
  const devices = [
    { netns: "", name: "podwire0" },
    { netns: "/run/netns/a", name: "eth0" },
  ];
  record.write(devices);
  expect(new StateRecord(dir.recordFile, "n", "4:1").devices()).toEqual(devices);
  dir.undo();
  expect(readRecord(dir.recordFile)).toEqual({ node: "n", netns: "4:1", devices, routing: null });
});

test("an empty record goes with an unsuccessful start", () => {
  const dir = new StateDir(join(base, "s"));
  dir.acquire();
  new StateRecord(dir.recordFile, "n", "4:1").write([]);
  dir.undo();
  expect(existsSync(join(base, "s"))).toBe(false);
});

test("a device in the own namespace of another agent's namespace is not ours", () => {
  const recorded = {
    node: "n",
    routing: null,
    netns: "4:1",
    devices: [
      { netns: "", name: "podwire0" },
      { netns: "/a", name: "eth0" },
    ],
  };
  expect(devicesIn(recorded, "4:1")).toHaveLength(2);
  expect(devicesIn(recorded, "4:2")).toEqual([{ netns: "/a", name: "eth0" }]);
});

test("a damaged record is told, not ignored", () => {
  mkdirSync(join(base, "s"));
  const file = join(base, "s/state.json");
  for (const text of ["", "{}", '{"version":9,"devices":[]}']) {
    writeFileSync(file, text);
    expect(() => readRecord(file)).toThrow(StateError);
  }
  expect(readFileSync(file, "utf8")).toContain("9");
});

test("ready says who", () => {
  const dir = new StateDir(base);
  dir.acquire();
  dir.setReady("n");
  expect(JSON.parse(readFileSync(dir.readyFile, "utf8"))).toEqual({ pid: process.pid, node: "n" });
  dir.remove();
  expect(existsSync(base)).toBe(false);
});
