import { beforeEach, describe, expect, test } from "vitest";
import type { LanSpec } from "../../../src/desired/lan.js";
import { NO_LAN_PORTS } from "../../../src/desired/lan.js";
import { FakeHost } from "../../../src/host/FakeHost.js";
import { MAX_PORTS, PORT_BFD, PORT_LINK, PORT_NETLINK } from "../../../src/packet/layout.js";
import { LAN_PORTS, LanSockets } from "../../../src/reconcile/LanSockets.js";
import { FakeWorker } from "../../support/FakeWorker.js";

const SPEC: LanSpec = {
  interface: { name: "eth0", index: 2, mac: "52:54:00:00:00:30" },
  address: "192.168.2.30",
  filter: [6, 0, 0, 1],
};

let host: FakeHost;
let worker: FakeWorker;
let sockets: LanSockets;
const open = () => host.packetSockets.size + host.bfdSockets.size + host.linkEvents.size;
const kinds = () => [...worker.ports.values()].map(({ kind }) => kind).sort((a, b) => a - b);

beforeEach(() => {
  host = new FakeHost();
  worker = new FakeWorker();
  sockets = new LanSockets(host, (port) => worker.detachPort(port));
});

describe("sockets of announcement", () => {
  test("are opened and attached, and named only then", async () => {
    expect(sockets.ports).toEqual(NO_LAN_PORTS);
    await sockets.sync(SPEC, worker);
    expect(kinds()).toEqual([PORT_LINK, PORT_BFD, PORT_BFD, PORT_NETLINK]);
    expect(worker.ports.size).toBe(LAN_PORTS);
    expect(worker.ports.get(sockets.ports.lan)?.kind).toBe(PORT_LINK);
    expect(worker.ports.get(sockets.ports.bfd)?.kind).toBe(PORT_BFD);
    for (const port of worker.ports.keys()) expect(port).toBeLessThan(MAX_PORTS - 2);
    expect([...host.bfdSockets.values()]).toEqual([
      { netns: "", address: "192.168.2.30", port: 3784 },
      { netns: "", address: "192.168.2.30", port: 49152 },
    ]);
    expect([...host.linkEvents.values()]).toEqual([{ netns: "", ifindex: 2 }]);
  });

  test("stay with another filter, which the packet socket gets", async () => {
    await sockets.sync(SPEC, worker);
    const before = host.actions.length;
    await sockets.sync({ ...SPEC, filter: [6, 0, 0, 2] }, worker);
    expect(host.actions.length).toBe(before);
    expect([...host.packetSockets.values()][0]!.filter).toEqual([6, 0, 0, 2]);
  });

  test.each([
    ["another interface of that name", { interface: { ...SPEC.interface, index: 3 } }],
    ["another underlay address", { address: "192.168.2.31" }],
  ])("are opened anew for %s", async (_what, change) => {
    await sockets.sync(SPEC, worker);
    const fds = [...worker.ports.values()].map(({ fd }) => fd);
    await sockets.sync({ ...SPEC, ...change }, worker);
    expect(open()).toBe(LAN_PORTS);
    for (const { fd } of worker.ports.values()) expect(fds).not.toContain(fd);
  });

  test("are opened anew after one has failed", async () => {
    await sockets.sync(SPEC, worker);
    expect(sockets.portFailed(5)).toBe(false);
    expect(sockets.portFailed(sockets.ports.lan)).toBe(true);
    const fds = [...worker.ports.values()].map(({ fd }) => fd);
    await sockets.sync(SPEC, worker);
    expect(open()).toBe(LAN_PORTS);
    for (const { fd } of worker.ports.values()) expect(fds).not.toContain(fd);
  });

  test.each([/open packet/, /bind BFD 192.168.2.30:3784/, /follow interface/])(
    "none is left open where one cannot be had (%s)",
    async (pattern) => {
      const heal = host.failOn(pattern, "EADDRINUSE");
      await expect(sockets.sync(SPEC, worker)).rejects.toThrow(/EADDRINUSE/);
      expect([open(), worker.ports.size, sockets.ports]).toEqual([0, 0, NO_LAN_PORTS]);
      heal();
      await sockets.sync(SPEC, worker);
      expect(open()).toBe(LAN_PORTS);
    },
  );

  test("a source port that somebody has is passed over", async () => {
    host.failOn(/bind BFD .*:4915[23]$/, "EADDRINUSE");
    await sockets.sync(SPEC, worker);
    expect([...host.bfdSockets.values()].map(({ port }) => port)).toEqual([3784, 49154]);
  });

  test("are closed where nothing is announced, after the worker has let go of them", async () => {
    await sockets.sync(SPEC, worker);
    await sockets.sync(null, worker);
    expect([open(), worker.ports.size, sockets.ports]).toEqual([0, 0, NO_LAN_PORTS]);
  });
});
