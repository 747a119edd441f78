import { readlinkSync } from "node:fs";
import { constants } from "node:os";
import { expect, test } from "vitest";
import { native, SysError, type TapOptions, type UdpOptions } from "../../../src/binding/index.js";
import { ARENA } from "../../../src/packet/layout.js";
import { addLoopback, Bench } from "./support.js";

const UDP: UdpOptions = {
  netns: "",
  address: "127.0.0.1",
  port: 0,
  gro: true,
  receiveBuffer: 0,
  sendBuffer: 0,
};
const TAP: TapOptions = {
  netns: "",
  name: "podwire-test",
  multiQueue: false,
  vnetHeader: 10,
  offloads: 0,
  optionalOffloads: [],
  persist: false,
  mode: "create",
};

function thrown(fn: () => unknown): unknown {
  try {
    fn();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

test("a refusal of the kernel is a SysError with code, errno, syscall and a readable message", () => {
  const bench = new Bench();
  const port = addLoopback(bench, 0);
  const error = thrown(() => native.openUdp({ ...UDP, port })) as SysError;
  expect(error).toBeInstanceOf(SysError);
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({
    name: "SysError",
    code: "EADDRINUSE",
    errno: constants.errno.EADDRINUSE,
    syscall: "bind",
    message: "bind: EADDRINUSE, Address already in use",
  });
  expect(error.stack).toContain("errors.test.ts");
  bench.close();
});

test.each<[string, () => unknown, string, string]>([
  ["close of no descriptor", () => native.close(-1), "close", "EBADF"],
  ["signalEvent of no descriptor", () => native.signalEvent(-1), "write", "EBADF"],
  ["setTapPersist of no TAP", () => native.setTapPersist(-1, true), "TUNSETPERSIST", "EBADF"],
  [
    "an unknown namespace",
    () => native.openUdp({ ...UDP, netns: "/run/netns/none-of-this-name" }),
    "open",
    "ENOENT",
  ],
  ["a file that is no namespace", () => native.withNetns("/proc/self/status", () => 0), "setns", "EINVAL"],
  ["an address that is none", () => native.openUdp({ ...UDP, address: "127.0.0" }), "inet_pton", "EINVAL"],
  [
    "an address of another machine",
    () => native.openUdp({ ...UDP, address: "192.0.2.1" }),
    "bind",
    "EADDRNOTAVAIL",
  ],
  [
    "a link that is not there",
    () => native.openPacket({ netns: "", ifname: "podwire-none", protocol: 3, filter: [] }),
    "if_nametoindex",
    "ENODEV",
  ],
  [
    "attaching to a TAP that is not there",
    () => native.openTap({ ...TAP, mode: "attach" }),
    "TUNSETIFF",
    "ENODEV",
  ],
  ["a name the kernel would fill in", () => native.openTap({ ...TAP, name: "tap%d" }), "TUNSETIFF", "EINVAL"],
  ["an empty name", () => native.openTap({ ...TAP, name: "" }), "TUNSETIFF", "EINVAL"],
  [
    "an Io without event descriptor",
    () => native.createIo(native.createArena(ARENA.bytes), -1),
    "epoll_ctl",
    "EBADF",
  ],
])("%s", (_, fn, syscall, code) => {
  expect(thrown(fn)).toMatchObject({ name: "SysError", syscall, code });
});

test.each<[string, () => unknown, typeof Error]>([
  ["no options", () => native.openUdp(undefined as never), TypeError],
  ["a missing option", () => native.openUdp({ ...UDP, address: undefined } as never), TypeError],
  ["a wrong type", () => native.openUdp({ ...UDP, gro: 1 } as never), TypeError],
  ["a port out of range", () => native.openUdp({ ...UDP, port: 65536 }), RangeError],
  ["a name of 16 bytes", () => native.openTap({ ...TAP, name: "x".repeat(16) }), TypeError],
  ["a zero byte in a name", () => native.openTap({ ...TAP, name: "a\0b" }), TypeError],
  ["an unknown mode", () => native.openTap({ ...TAP, mode: "make" } as never), TypeError],
  ["offloads that are no array", () => native.openTap({ ...TAP, optionalOffloads: 1 } as never), TypeError],
  [
    "half a BPF instruction",
    () => native.openPacket({ netns: "", ifname: "lo", protocol: 3, filter: [6, 0] }),
    RangeError,
  ],
  [
    "an array without end",
    () => native.openTap({ ...TAP, optionalOffloads: new Array(2 ** 32 - 1) }),
    TypeError,
  ],
  ["an arena of no bytes", () => native.createArena(0), RangeError],
  ["an arena that is too small", () => native.createIo(new ArrayBuffer(64), 0), RangeError],
  ["an arena that is none", () => native.createIo(new Uint8Array(64) as never, 0), TypeError],
  ["a function that is none", () => native.withNetns("", 1 as never), TypeError],
  ["an asynchronous function", () => native.withNetns("", async () => 1), TypeError],
])("wrong use: %s", (_, fn, type) => {
  const error = thrown(fn);
  expect(error).toBeInstanceOf(type);
  expect(error).not.toBeInstanceOf(SysError);
});

test("withNetns returns the result, passes an exception on, and comes back", () => {
  const here = () => readlinkSync("/proc/thread-self/ns/net");
  const before = here();
  expect(native.withNetns("", () => 42)).toBe(42);
  expect(native.withNetns("/proc/self/ns/net", () => "x")).toBe("x");
  const mine = new Error("mine");
  expect(
    thrown(() =>
      native.withNetns("/proc/self/ns/net", () => {
        throw mine;
      }),
    ),
  ).toBe(mine);
  expect(here()).toBe(before);
});
