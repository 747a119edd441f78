/**
 * Announcement in the breaths of a thread: what comes in by the ports of BFD, LAN and netlink, and what
 * the plan sends for it. Who owns what and why is ownership.test.ts's.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { HANDOVER_US } from "../../../src/dataplane/Announcer.js";
import { SETTLE_US } from "../../../src/liveness/Bfd.js";
import { OTHER_COUNTERS } from "../../../src/packet/counters.js";
import { BFD_PEERS, PORT_BFD, PORT_LINK, PORT_NETLINK } from "../../../src/packet/layout.js";
import { buildTableImage, Tables } from "../../../src/tables/TableImage.js";
import type { Mac } from "../../../src/tables/TableInput.js";
import { NO_NODE, THIS_NODE } from "../../../src/tables/VipTable.js";
import * as wire from "../../../src/wire/bfd.js";
import { Announcement, HANDOVER_WAIT_US } from "../../../src/worker/Announcement.js";
import { welcomeUs } from "../../../src/worker/Ownership.js";
import { PeerLiveness } from "../../../src/worker/PeerLiveness.js";
import { DEFAULT_TIMERS, packet, readPacket } from "../../support/bfd.js";
import {
  accounted,
  BFD_RECEIVE_PORT,
  BFD_SEND_PORT,
  LAN_MAC,
  LAN_PORT,
  LINK_EVENTS_PORT,
  lanMac,
  MASTER,
  TestNode,
  tableInput,
  WORKER01,
  WORKER02,
} from "../../support/dataplane.js";
import { ARP, address, arp, BROADCAST, ethernet, NO_MAC, udpPacket } from "../../support/frames.js";

const MS = 1000;
const VIP = "192.168.2.36";
const PC = "192.168.2.99";
const PC_MAC = "52:54:00:00:00:99";
const PEERS = [WORKER01, WORKER02];
const EIO = 5;

/** RTM_NEWLINK of eth0, as the kernel writes it: up, with or without carrier, and how often it was lost. */
function linkMessage(carrier: boolean, losses: number): Uint8Array {
  const bytes = new Uint8Array(32 + 8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, 16, true);
  view.setInt32(20, 2, true);
  view.setUint32(24, 0x1 | (carrier ? 0x10000 : 0), true);
  view.setUint16(32, 8, true);
  view.setUint16(34, 48, true);
  view.setUint32(36, losses, true);
  return bytes;
}

/** k8s-master with announcement; k8s-worker01 and 02 are played. */
class Announcing extends TestNode {
  readonly liveness = new PeerLiveness();
  readonly owners: { vip: number; owner: number }[] = [];
  readonly conflicts: { claimant: number; mac: Mac; yielded: boolean }[] = [];
  readonly announcement: Announcement;

  constructor(readonly vips: Record<string, number[]>) {
    super({ announce: vips });
    this.io.nowUs = 5_000_000;
    this.announcement = new Announcement(
      this.breather.dataplane,
      {
        ownerChanged: (vip, owner) => this.owners.push({ vip, owner }),
        conflict: (_vip, claimant, hi, lo, yielded) =>
          this.conflicts.push({ claimant, mac: { hi, lo }, yielded }),
        sessionChanged: () => {},
      },
      7,
      this.liveness,
    );
    this.breather.announcement = this.announcement;
    const ports = [
      [LAN_PORT, PORT_LINK],
      [BFD_RECEIVE_PORT, PORT_BFD],
      [BFD_SEND_PORT, PORT_BFD],
      [LINK_EVENTS_PORT, PORT_NETLINK],
    ] as const;
    for (const [port, kind] of ports) {
      this.io.addPort(port, kind, -1, true);
      this.announcement.attach(port, kind);
    }
    // Before any table: as when the control side attaches its sockets.
    this.io.injectTap(LINK_EVENTS_PORT, linkMessage(true, 1));
    this.breather.breathe(0, 0);
    this.adopt(vips);
  }

  adopt(vips: Record<string, number[]>): void {
    const tables = new Tables(buildTableImage(tableInput({ announce: vips })));
    this.breather.dataplane.tables = tables;
    this.announcement.adopt(tables);
  }

  get nowUs(): number {
    return this.io.nowUs;
  }

  /** Time passes; the thread breathes when it has to. */
  wait(us: number): void {
    for (const end = this.nowUs + us; this.nowUs < end; ) {
      const ms = Math.max(1, this.announcement.longestWait(1000));
      this.io.nowUs = Math.min(end, this.nowUs + ms * MS);
      this.run();
    }
  }

  /** BFD packets to peers that were sent since the last call, with the peer's number. */
  hellos() {
    return this.outcomeOf(BFD_SEND_PORT).map(({ peer, bytes }) => ({
      peer: peer - BFD_PEERS,
      ...readPacket(bytes),
    }));
  }

  /** Frames to the LAN since the last call. */
  frames(): Uint8Array[] {
    return this.outcomeOf(LAN_PORT).map(({ bytes }) => bytes);
  }

  readonly #sent: ReturnType<TestNode["run"]>["sent"] = [];

  private outcomeOf(port: number) {
    const mine = this.#sent.filter((each) => each.port === port);
    for (const each of mine) this.#sent.splice(this.#sent.indexOf(each), 1);
    return mine;
  }

  override run() {
    const outcome = super.run();
    this.#sent.push(...outcome.sent);
    expect(accounted(outcome)).toBe(true);
    expect(this.faults).toEqual([]);
    return outcome;
  }

  /** A packet of a peer, and a breath. */
  hears(peer: number, fields: Parameters<typeof packet>[0]): void {
    const mine = this.announcement.ownership.bfd.discriminator(peer);
    this.io.injectUdp(
      BFD_RECEIVE_PORT,
      address(PEERS[peer].underlay),
      packet({ mine: 100 + peer, yours: mine, ...fields }),
    );
    this.run();
  }

  /** Brings a session up, or keeps it so. */
  up(peer: number): void {
    if (this.announcement.ownership.bfd.state[peer] !== wire.UP)
      this.hears(peer, { state: wire.DOWN, yours: 0 });
    this.hears(peer, { state: wire.UP });
  }

  lan(frame: Uint8Array): void {
    this.io.injectTap(LAN_PORT, frame);
    this.run();
  }

  asks(target = VIP): void {
    const body = arp({ operation: 1, senderMac: PC_MAC, sender: PC, targetMac: NO_MAC, target });
    this.lan(ethernet(BROADCAST, PC_MAC, ARP, body));
  }

  claims(mac: string, vip = VIP): void {
    const body = arp({ operation: 1, senderMac: mac, sender: vip, targetMac: NO_MAC, target: vip });
    this.lan(ethernet(BROADCAST, mac, ARP, body));
  }
}

const reply = ethernet(
  PC_MAC,
  LAN_MAC,
  ARP,
  arp({ operation: 2, senderMac: LAN_MAC, sender: VIP, targetMac: PC_MAC, target: PC }),
);

describe("announcement in a thread's breaths", () => {
  let node: Announcing;

  describe("of an address that is this node's alone", () => {
    beforeEach(() => {
      node = new Announcing({ [VIP]: [THIS_NODE] });
      node.run();
    });

    it("speaks BFD to both peers by their own destinations at once", () => {
      expect(node.hellos().map(({ peer, state, yours }) => [peer, state, yours])).toEqual([
        [0, wire.DOWN, 0],
        [1, wire.DOWN, 0],
      ]);
    });

    it("owns nothing before it knows its peers, and all as soon as it does", () => {
      node.asks();
      expect(node.frames()).toEqual([]);
      node.up(0);
      node.asks();
      expect(node.frames()).toEqual([]);
      node.up(1);
      expect(node.owners).toEqual([{ vip: address(VIP), owner: THIS_NODE }]);
      // A gratuitous request and a reply.
      const operations = node.frames().map((frame) => [frame[21], frame.subarray(28, 32).join(".")]);
      expect(operations).toEqual([
        [1, VIP],
        [2, VIP],
      ]);
      node.asks();
      expect(node.frames()).toEqual([reply]);
    });

    it("announces it in the breath in which it is decided", () => {
      node.wait(SETTLE_US - 2 * MS);
      expect(node.owners).toEqual([]);
      node.io.nowUs += 4 * MS;
      node.io.sent = [];
      node.breather.breathe(0, 0);
      expect(node.owners).toHaveLength(1);
      expect(node.io.sent.filter(({ port }) => port === LAN_PORT)).toHaveLength(2);
    });

    it("or when they were waited for", () => {
      node.wait(SETTLE_US + MS);
      expect(node.owners).toEqual([{ vip: address(VIP), owner: THIS_NODE }]);
      // Nobody knows whether they are dead.
      expect([...node.liveness.down.subarray(0, 3)]).toEqual([0, 0, 0]);
    });

    it("tells all threads of a peer that was up and is lost, and only of that one", () => {
      node.wait(SETTLE_US + MS);
      node.up(0);
      expect([node.liveness.up[0], node.liveness.down[0]]).toEqual([1, 0]);
      node.wait(4000 * MS);
      expect([node.liveness.up[0], node.liveness.up[1]]).toEqual([0, 0]);
      expect([...node.liveness.down.subarray(0, 3)]).toEqual([1, 0, 0]);
      expect(node.announcement.status().sessions).toMatchObject([
        { peer: 0, down: true },
        { peer: 1, down: false },
      ]);
      node.up(0);
      expect([...node.liveness.down.subarray(0, 3)]).toEqual([0, 0, 0]);
    });

    it("counts its own packets apart from frames", () => {
      node.up(0);
      node.up(1);
      node.asks();
      node.lan(new Uint8Array(42));
      node.fromPod(udpPacket({ source: MASTER.pod, destination: WORKER01.pod }, new Uint8Array(10)));
      expect(node.run()).toMatchObject({ received: 1, forwarded: 1, answered: 0, dropped: {} });
      const { other } = counted(node);
      expect(other).toMatchObject({ bfdReceived: 4, bfdDiscarded: 0, lanReceived: 2, lanReplies: 1 });
      expect(other).toMatchObject({ takeovers: 1, lanAnnouncements: 2 });
    });

    it("what cannot be sent is a lost reply and no frame's", () => {
      node.io.failures.set(LAN_PORT, EIO);
      node.up(0);
      node.up(1);
      expect(node.run()).toMatchObject({ forwarded: 0, dropped: {} });
    });

    it("sleeps until something is due", () => {
      node.up(0);
      node.up(1);
      const wait = node.announcement.longestWait(1000);
      expect(wait).toBeGreaterThan(0);
      expect(wait).toBeLessThanOrEqual(100);
    });

    it("a carrier that is lost: it owns nothing", () => {
      node.up(0);
      node.up(1);
      node.frames();
      node.io.injectTap(LINK_EVENTS_PORT, linkMessage(false, 2));
      node.asks();
      expect(node.frames()).toEqual([]);
      expect(node.owners.map(({ owner }) => owner)).toEqual([THIS_NODE, NO_NODE]);
      expect(node.announcement.status()).toMatchObject({ carrier: false, vips: [{ answers: false }] });
    });

    it("a carrier that was lost and is there again: who was dead may live, and is waited for", () => {
      node.up(0);
      node.wait(SETTLE_US + MS);
      node.up(0);
      expect(node.owners.map(({ owner }) => owner)).toEqual([THIS_NODE]);
      node.io.injectTap(LINK_EVENTS_PORT, linkMessage(true, 2));
      node.run();
      expect(node.owners.map(({ owner }) => owner)).toEqual([THIS_NODE, NO_NODE]);
      node.up(1);
      expect(node.owners.map(({ owner }) => owner)).toEqual([THIS_NODE, NO_NODE, THIS_NODE]);
    });

    it("a socket that is taken away is a carrier that is lost", () => {
      node.up(0);
      node.up(1);
      node.announcement.detach(LINK_EVENTS_PORT);
      node.run();
      expect(node.owners.at(-1)).toEqual({ vip: address(VIP), owner: NO_NODE });
    });

    it("a table without the address ends it", () => {
      node.up(0);
      node.up(1);
      node.adopt({});
      node.frames();
      node.asks();
      expect(node.frames()).toEqual([]);
      expect(node.owners.at(-1)).toEqual({ vip: address(VIP), owner: NO_NODE });
    });

    it("should it throw, the node falls silent and forwards on", () => {
      node.up(0);
      node.up(1);
      node.announcement.ownership.receiveLan = () => {
        throw new Error("broken");
      };
      node.io.injectTap(LAN_PORT, reply);
      node.breather.breathe(0, 0);
      expect(node.faults.splice(0)).toEqual([new Error("broken")]);
      expect(node.breather.announcement).toBe(null);
      node.fromPod(udpPacket({ source: MASTER.pod, destination: WORKER01.pod }, new Uint8Array(10)));
      expect(node.run()).toMatchObject({ received: 1, forwarded: 1 });
    });
  });

  it("what was queued while the thread stood still is not answered before the peers are known", () => {
    node = new Announcing({ [VIP]: [THIS_NODE, 0] });
    node.up(0);
    node.up(1);
    const welcome = welcomeUs(DEFAULT_TIMERS);
    node.wait(welcome);
    expect(node.owners.at(-1)?.owner).toBe(THIS_NODE);
    node.frames();
    node.io.nowUs += 2_000 * MS;
    node.asks();
    expect(node.frames()).toEqual([]);
    expect(node.owners.at(-1)?.owner).not.toBe(THIS_NODE);
    node.up(0);
    node.up(1);
    node.wait(welcome - MS);
    expect(node.owners.at(-1)?.owner).not.toBe(THIS_NODE);
    node.wait(MS);
    expect(node.owners.at(-1)?.owner).toBe(THIS_NODE);
  });

  it("drained, it tells the peers and waits until the next is heard", () => {
    node = new Announcing({ [VIP]: [THIS_NODE, 0] });
    node.up(0);
    node.up(1);
    node.hellos();
    node.announcement.drain(true);
    node.run();
    expect(node.hellos().map(({ peer, state }) => [peer, state])).toEqual([
      [0, wire.ADMIN_DOWN],
      [1, wire.ADMIN_DOWN],
    ]);
    node.frames();
    node.asks();
    expect(node.frames()).toEqual([]);
    // Nobody else is known to be up: there is none to wait for.
    expect(node.announcement.handedOver()).toBe(true);
    expect([...node.liveness.down.subarray(0, 2)]).toEqual([0, 0]);
  });

  it("a claim of a node that stands before is yielded to, one of a device reported", () => {
    node = new Announcing({ [VIP]: [0, THIS_NODE] });
    node.wait(SETTLE_US + MS);
    expect(node.owners.at(-1)?.owner).toBe(THIS_NODE);
    node.claims("52:54:00:00:00:77");
    expect(node.conflicts).toEqual([{ claimant: NO_NODE, mac: { hi: 0x5254, lo: 0x77 }, yielded: false }]);
    node.claims(lanMac(0));
    expect(node.conflicts.at(-1)).toMatchObject({ claimant: 0, yielded: true });
    expect(node.owners.at(-1)?.owner).toBe(0);
    expect(node.announcement.status().vips).toEqual([
      { address: address(VIP), owner: 0, answers: false, forMs: 0 },
    ]);
  });

  it("goes on answering until its successor is heard", () => {
    node = new Announcing({ [VIP]: [0, THIS_NODE] });
    node.wait(SETTLE_US + MS);
    node.up(0);
    node.frames();
    node.asks();
    expect(node.frames()).toContainEqual(reply);
    node.claims(lanMac(0));
    node.frames();
    node.asks();
    expect(node.frames()).toEqual([]);
    expect(node.conflicts).toEqual([]);
    expect(HANDOVER_WAIT_US).toBeLessThan(HANDOVER_US);
  });
});

/** Counters by name. */
function counted(node: Announcing) {
  const other: Record<string, number> = {};
  for (const [name, index] of Object.entries(OTHER_COUNTERS)) other[name] = node.counters[index];
  return { other };
}
