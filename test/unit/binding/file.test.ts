import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { native, SysError } from "../../../src/binding/index.js";

const BYTES = 3 * 4096 + 100;
let base: string;
let file: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "podwire-file-"));
  file = join(base, "memory");
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

function mapError(path: string, bytes = BYTES): SysError {
  try {
    native.mapFile(path, bytes);
  } catch (error) {
    expect(error).toBeInstanceOf(SysError);
    return error as SysError;
  }
  throw new Error("nothing was thrown");
}

test("a file is made of zeroes, for its owner only, with its blocks; views of it are one memory", () => {
  const first = new Int32Array(native.mapFile(file, BYTES));
  expect(first.length).toBe(BYTES / 4);
  expect(first.every((word) => word === 0)).toBe(true);
  const { mode, size, blocks } = statSync(file);
  expect([mode & 0o777, size]).toEqual([0o600, BYTES]);
  expect(blocks * 512).toBeGreaterThanOrEqual(BYTES);
  const second = new Int32Array(native.mapFile(file, BYTES));
  expect(second.buffer).not.toBe(first.buffer);
  Atomics.store(first, 3000, 0x1234567);
  expect(Atomics.compareExchange(second, 3000, 0x1234567, 77)).toBe(0x1234567);
  expect(first[3000]).toBe(77);
  expect(readFileSync(file).readInt32LE(12_000)).toBe(77);
});

test("what was written is there for the next, and stays while the file is gone", () => {
  new Int32Array(native.mapFile(file, BYTES))[7] = 42;
  const again = new Int32Array(native.mapFile(file, BYTES));
  rmSync(file);
  expect(again[7]).toBe(42);
  again[8] = 1;
  expect(new Int32Array(native.mapFile(file, BYTES))[8]).toBe(0);
});

test("refusals", () => {
  writeFileSync(file, "short");
  expect(mapError(file)).toMatchObject({ code: "EINVAL", syscall: "mmap" });
  expect(readFileSync(file, "utf8")).toBe("short");
  symlinkSync(file, join(base, "link"));
  expect(mapError(join(base, "link"))).toMatchObject({ code: "ELOOP", syscall: "open" });
  expect(mapError(join(base, "none", "x"))).toMatchObject({ code: "ENOENT" });
  expect(() => native.mapFile(file, 0)).toThrow(RangeError);
  expect(() => native.mapFile(file, "1" as never)).toThrow(TypeError);
});
