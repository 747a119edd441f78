/** NetlinkHost against the kernel, with `ip` as the other observer; and its errors. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { HostNamespace, LinkInfo } from "../../src/host/Host.js";
import type { NetlinkHost } from "../../src/host/NetlinkHost.js";
import { formatIpv4, parseIpv4 } from "../../src/model/ipv4.js";
import { netnsUnavailable, TestNet } from "../support/netns.js";

const reason = netnsUnavailable();

describe.skipIf(reason !== "")(`NetlinkHost ${reason}`, () => {
  const net = new TestNet();
  let ns: string;
  let path: string;
  let host: NetlinkHost;
  let fd = -1;

  const inside = <T>(work: (namespace: HostNamespace) => Promise<T>) => host.within(path, work);
  const withLink = <T>(work: (namespace: HostNamespace, link: LinkInfo) => Promise<T>) =>
    inside(async (namespace) => work(namespace, (await namespace.link("tap0"))!));

  beforeAll(async () => {
    const { native } = await import("../../src/binding/index.js");
    const { NetlinkHost } = await import("../../src/host/NetlinkHost.js");
    host = new NetlinkHost(native);
    ns = await net.netns("host");
    path = net.path(ns);
    const options = { netns: path, name: "tap0", multiQueue: false, vnetHeader: 10, offloads: 0x0f };
    fd = host.openTap({ ...options, optionalOffloads: [], persist: false, mode: "create" }).fd;
  });
  afterAll(async () => {
    if (fd >= 0) host.close(fd);
    await net.cleanup();
  });

  test("identity of a namespace", async () => {
    expect(host.netnsIdentity(path)).toMatch(/^\d+:\d+$/);
    expect(host.netnsIdentity(path)).not.toBe(host.netnsIdentity("/proc/self/ns/net"));
    for (const none of ["/nonexistent", "/etc/hostname", "/proc/self"])
      expect(host.netnsIdentity(none)).toBeNull();
  });

  test("links", async () => {
    await withLink((namespace, link) =>
      namespace.setLink(link, {
        mac: "02:70:0a:01:eb:c1",
        mtu: 1450,
        txQueueLength: 500,
        alias: "podwire: Ä",
        up: true,
      }),
    );
    expect(await net.ipJson(ns, "link", "show", "tap0")).toMatchObject([
      {
        address: "02:70:0a:01:eb:c1",
        mtu: 1450,
        txqlen: 500,
        ifalias: "podwire: Ä",
        operstate: expect.any(String),
      },
    ]);
    expect(await inside((namespace) => namespace.link("tap0"))).toMatchObject({
      name: "tap0",
      mac: "02:70:0a:01:eb:c1",
      mtu: 1450,
      txQueueLength: 500,
      alias: "podwire: Ä",
      kind: "tun",
      up: true,
    });
    expect((await inside((namespace) => namespace.links())).map(({ name, kind }) => [name, kind])).toEqual([
      ["lo", ""],
      ["tap0", "tun"],
    ]);
    expect(await inside((namespace) => namespace.link("none"))).toBeNull();
  });

  test("addresses", async () => {
    const address = parseIpv4("10.1.235.193")!;
    await withLink(async (namespace, link) => {
      await namespace.addAddress(link, address, 32);
      await namespace.addAddress(link, address, 32);
      const own = { index: link.index, address, length: 32, scope: 0, secondary: false };
      expect(await namespace.addresses(link.index)).toEqual([own]);
      expect((await namespace.addresses()).map((each) => formatIpv4(each.address))).toEqual([
        "127.0.0.1",
        "10.1.235.193",
      ]);
    });
    expect((await net.ipJson(ns, "-4", "addr", "show", "tap0"))[0].addr_info).toMatchObject([
      { local: "10.1.235.193", prefixlen: 32 },
    ]);
  });

  test("neighbours and routes", async () => {
    await withLink(async (namespace, link) => {
      await namespace.setNeighbour(link, "169.254.1.1", "ee:ee:ee:ee:ee:ee");
      expect(await namespace.neighbours(link.index)).toEqual([
        { index: link.index, address: "169.254.1.1", mac: "ee:ee:ee:ee:ee:ee", permanent: true },
      ]);
      const route = {
        table: 254,
        destination: { address: 0, length: 0 },
        index: link.index,
        gateway: "169.254.1.1",
        source: "10.1.235.193",
        protocol: 112,
        priority: 0,
      };
      await namespace.addRoute(link, route, false);
      expect(await namespace.routes()).toEqual([route]);
      await expect(namespace.addRoute(link, route, false)).rejects.toMatchObject({
        name: "HostError",
        code: "EEXIST",
        message: `add route 0.0.0.0/0 via 169.254.1.1 (tap0 in ${path}): EEXIST`,
      });
      await namespace.addRoute(link, { ...route, source: null }, true);
      expect((await namespace.routes())[0]!.source).toBeNull();
      expect(await net.ipJson(ns, "route", "show", "default")).toMatchObject([
        { gateway: "169.254.1.1", dev: "tap0", protocol: "112", flags: expect.arrayContaining(["onlink"]) },
      ]);
      await namespace.deleteRoute({ ...route, source: null });
      await namespace.deleteRoute({ ...route, source: null });
      expect(await namespace.routes()).toEqual([]);
      // Of others: a number that the package has a name for.
      await net.exec(ns, "ip", ["route", "add", "198.51.100.0/24", "dev", "tap0"]);
      expect(await namespace.routes()).toMatchObject([{ protocol: -1, gateway: null }]);
    });
  });

  test("sysctls of the namespace, not of ours", async () => {
    const key = "net/ipv4/conf/tap0/accept_local";
    await inside(async (namespace) => {
      await namespace.writeSysctl(key, "1");
      expect(await namespace.readSysctl(key)).toBe("1");
      expect(await namespace.readSysctl("net/ipv4/conf/none/accept_local")).toBeNull();
      await expect(namespace.writeSysctl("net/ipv4/conf/none/accept_local", "1")).rejects.toMatchObject({
        code: "ENOENT",
        message: expect.stringContaining(`(${path})`),
      });
    });
    expect((await net.exec(ns, "sysctl", ["-n", "net.ipv4.conf.tap0.accept_local"])).stdout).toBe("1\n");
    await host.within("", async (namespace) => expect(await namespace.readSysctl(key)).toBeNull());
  });

  test("errors name the action, the place and the errno", async () => {
    await expect(host.within("/nonexistent", async () => {})).rejects.toMatchObject({ code: "ENOENT" });
    const options = {
      netns: path,
      name: "tap0",
      multiQueue: false,
      vnetHeader: 10,
      offloads: 0,
      persist: false,
    };
    const open =
      (mode: "create" | "attach", name = "tap0") =>
      () =>
        host.openTap({ ...options, name, optionalOffloads: [], mode });
    expect(open("create")).toThrow(expect.objectContaining({ name: "HostError", code: "EEXIST" }));
    expect(open("attach")).toThrow(expect.objectContaining({ code: "EBUSY" }));
    expect(open("attach", "none")).toThrow(`attach to TAP device (none in ${path}): ENODEV`);
    const udp = { netns: path, port: 4789, gro: true, receiveBuffer: 1 << 16, sendBuffer: 1 << 16 };
    expect(() => host.openUdp({ ...udp, address: "203.0.113.1" })).toThrow(
      expect.objectContaining({ code: "EADDRNOTAVAIL" }),
    );
    const socket = host.openUdp({ ...udp, address: "127.0.0.1" });
    expect(() => host.openUdp({ ...udp, address: "127.0.0.1" })).toThrow(
      expect.objectContaining({ code: "EADDRINUSE" }),
    );
    host.close(socket);
  });

  test("no capability is missing here, and TAP devices are to be had", () => {
    expect(host.missingCapabilities()).toEqual([]);
    expect(() => host.checkTun()).not.toThrow();
  });

  test("deleting what is gone is no error", async () => {
    await withLink(async (namespace, link) => {
      await namespace.deleteAddress(link, parseIpv4("192.0.2.1")!, 32);
      await namespace.deleteLink(link);
      await namespace.deleteLink(link);
      await expect(namespace.setLink(link, { mtu: 1400 })).rejects.toMatchObject({ code: "ENODEV" });
    });
  });

  test("a hundred views leave no socket behind", async () => {
    const { readdirSync } = await import("node:fs");
    const before = readdirSync("/proc/self/fd").length;
    for (let i = 0; i < 100; i++) await inside((namespace) => namespace.link("lo"));
    await new Promise((resolve) => setImmediate(resolve));
    expect(readdirSync("/proc/self/fd").length).toBeLessThanOrEqual(before + 1);
  });
});
