/**
 * Address probes on a real LAN; the kernel at the other end answers or stays silent.
 *
 *   ns ours ── eth0 192.0.2.1 ════ veth ════ eth0 192.0.2.2, 192.0.2.36 ── ns theirs
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { native } from "../../src/binding/index.js";
import { macOf } from "../../src/desired/mac.js";
import { probeLan } from "../../src/worker/probeLan.js";
import { address } from "../support/frames.js";
import { netnsUnavailable, TestNet } from "../support/netns.js";

const OURS = "02:00:c0:00:02:01";
const THEIRS = "02:00:c0:00:02:02";
const TAKEN = "192.0.2.36";
const FREE = "192.0.2.37";

describe.skipIf(netnsUnavailable() !== "")("probeLan", () => {
  const net = new TestNet();
  let ours = "";
  let theirs = "";

  beforeAll(async () => {
    [ours, theirs] = [await net.netns("ours"), await net.netns("theirs")];
    await net.link(
      { ns: ours, name: "eth0", address: "192.0.2.1/24", mac: OURS },
      { ns: theirs, name: "eth0", address: "192.0.2.2/24", mac: THEIRS },
    );
    await net.exec(theirs, "ip", ["address", "add", `${TAKEN}/24`, "dev", "eth0"]);
  });
  afterAll(() => net.cleanup());

  const probe = (ns: string, mac: string, text: string, ifname = "eth0") =>
    probeLan({ native, netns: `/run/netns/${ns}`, ifname, mac: macOf(mac), address: address(text) });

  test("who has the address is named by its MAC", async () => {
    expect(await probe(ours, OURS, TAKEN)).toEqual(macOf(THEIRS));
  });

  test("an address that nobody has is free, and several are asked about at a time", async () => {
    const all = [FREE, TAKEN, "192.0.2.38", "192.0.2.39"].map((each) => probe(ours, OURS, each));
    expect(await Promise.all(all)).toEqual([null, macOf(THEIRS), null, null]);
  });

  test("of two that probe at the same time at least one hears the other", async () => {
    const found = await Promise.all([probe(ours, OURS, FREE), probe(theirs, THEIRS, FREE)]);
    expect(found.filter((each) => each !== null).length).toBeGreaterThan(0);
  });

  test("without the interface, or with one that is down, it rejects", async () => {
    await expect(probe(ours, OURS, FREE, "eth9")).rejects.toThrow(/if_nametoindex/);
    await net.exec(ours, "ip", ["link", "set", "eth0", "down"]);
    try {
      await expect(probe(ours, OURS, FREE)).rejects.toThrow(/ENETDOWN/);
    } finally {
      await net.exec(ours, "ip", ["link", "set", "eth0", "up"]);
    }
  });
});
