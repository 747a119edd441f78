/**
 * Nodes on a LAN in memory, each with BFD and announcer as a dataplane thread has them: who answers
 * for which address while nodes die, freeze, start, lose their link and are drained.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { hashNode, rendezvousOrder } from "../../../src/announce/rendezvous.js";
import { type BfdTimers, SETTLE_US, UP } from "../../../src/liveness/Bfd.js";
import { buildVipTable, THIS_NODE, VipTable } from "../../../src/tables/VipTable.js";
import * as wire from "../../../src/wire/bfd.js";
import { Ownership, welcomeUs } from "../../../src/worker/Ownership.js";
import { DEFAULT_TIMERS, FAST_TIMERS } from "../../support/bfd.js";
import { Random } from "../../support/random.js";

const MS = 1000;
const STEP_US = 500;
const NAMES = ["k8s-master", "k8s-worker01", "k8s-worker02", "k8s-worker03"];
const VIPS = [0xc0a80224, 0xc0a80225, 0xc0a80226, 0xc0a80227, 0xc0a80228].map((a) => a | 0);
/** Longest way of a packet. */
const DELAY_US = 1000;

/** One node, with the queues of its two sockets. */
class Node {
  readonly ownership: Ownership;
  readonly bfdQueue: { from: number; bytes: Uint8Array; dueUs: number }[] = [];
  readonly lanQueue: { bytes: Uint8Array; dueUs: number }[] = [];
  state: "running" | "frozen" | "dead" = "running";
  link = true;
  /** A firewall lets its BFD packets through in neither direction. */
  noBfd = false;
  /** The LAN is in parts: nodes hear those of the same part. */
  part = 0;
  conflicts = 0;

  constructor(
    readonly lan: Lan,
    readonly index: number,
    seed: number,
  ) {
    const memory = () => {
      const bytes = new Uint8Array(64);
      return { bytes, view: new DataView(bytes.buffer), room: () => 0 };
    };
    const bfd = memory();
    const arp = memory();
    this.ownership = new Ownership(
      {
        ...bfd,
        send: (start, length, peer) => lan.unicast(this, peer, bfd.bytes.slice(start, start + length)),
      },
      { ...arp, send: (start, length) => lan.broadcast(this, arp.bytes.slice(start, start + length)) },
      new VipTable(buildVipTable({ port: 0, mac: { hi: 0, lo: 0 }, nodes: [], vips: [] }), 0),
      { ownerChanged: () => {}, conflict: () => this.conflicts++ },
      () => {},
      seed,
    );
    const number = (other: number) => (other === index ? THIS_NODE : other);
    const others = NAMES.map((_, i) => i).filter((i) => i !== index);
    const hashed = NAMES.map(hashNode);
    const vips = VIPS.map((address) => ({
      address,
      order: rendezvousOrder(hashed, address).map(({ name }) => number(NAMES.indexOf(name))),
    }));
    const nodes = others.map((node) => ({ node, mac: { hi: 0x5254, lo: node } }));
    const table = new VipTable(buildVipTable({ port: 0, mac: { hi: 0x5254, lo: index }, nodes, vips }), 0);
    const { timers } = lan;
    this.ownership.setPeers(
      others.map((peer) => ({ peer, address: 100 + peer, timers })),
      lan.nowUs,
    );
    this.ownership.setCarrier(true, lan.nowUs);
    this.ownership.adoptTable(table, 0x5254, index, lan.nowUs);
  }

  owns(vip: number): boolean {
    return this.state === "running" && this.link && this.ownership.announcer.owns(vip);
  }

  breathe(): void {
    const { nowUs } = this.lan;
    this.ownership.begin(nowUs);
    const bfd = this.bfdQueue.filter(({ dueUs }) => dueUs <= nowUs);
    const lan = this.lanQueue.filter(({ dueUs }) => dueUs <= nowUs);
    // As many as a breath reads; what is queued longer waits for the next.
    for (const { from, bytes } of bfd.splice(0, 8)) {
      this.bfdQueue.splice(
        this.bfdQueue.findIndex((p) => p.bytes === bytes),
        1,
      );
      this.ownership.receiveBfd(new DataView(bytes.buffer), 0, bytes.length, 100 + from, nowUs);
    }
    for (const frame of lan) {
      this.lanQueue.splice(this.lanQueue.indexOf(frame), 1);
      this.ownership.receiveLan(new DataView(frame.bytes.buffer), 0, frame.bytes.length, nowUs);
    }
    this.ownership.end(nowUs);
  }
}

class Lan {
  nowUs = 0;
  readonly nodes: Node[] = [];
  readonly random: Random;
  /** Time for which an address had two owners that hear each other, and for which none, microseconds. */
  twoUs = 0;
  noneUs = 0;

  constructor(
    seed: number,
    readonly timers: BfdTimers,
  ) {
    this.random = new Random(seed);
    for (let i = 0; i < NAMES.length; i++) this.start(i);
  }

  start(i: number): void {
    this.nodes[i] = new Node(this, i, this.random.word());
  }

  unicast(from: Node, to: number, bytes: Uint8Array): void {
    const peer = this.nodes[to];
    if (
      !peer ||
      from.noBfd ||
      peer.noBfd ||
      !from.link ||
      !peer.link ||
      peer.state === "dead" ||
      peer.part !== from.part
    )
      return;
    // A socket's queue is not endless, and what comes then is lost.
    if (peer.bfdQueue.length < 200)
      peer.bfdQueue.push({ from: from.index, bytes, dueUs: this.nowUs + this.random.below(DELAY_US) });
  }

  broadcast(from: Node, bytes: Uint8Array): void {
    if (!from.link) return;
    const dueUs = this.nowUs + this.random.below(DELAY_US);
    for (const node of this.nodes)
      if (node !== from && node.link && node.part === from.part && node.state !== "dead")
        node.lanQueue.push({ bytes, dueUs });
  }

  owners(vip: number): Node[] {
    return this.nodes.filter((node) => node.owns(vip));
  }

  run(us: number): void {
    this.twoUs = 0;
    this.noneUs = 0;
    let two = 0;
    let none = 0;
    for (const end = this.nowUs + us; this.nowUs < end; this.nowUs += STEP_US) {
      for (const node of this.nodes) if (node.state === "running") node.breathe();
      const counts = VIPS.map((vip) => this.owners(vip).length);
      two = counts.some((n) => n > 1) ? two + STEP_US : 0;
      none = counts.some((n) => n === 0) ? none + STEP_US : 0;
      this.twoUs = Math.max(this.twoUs, two);
      this.noneUs = Math.max(this.noneUs, none);
    }
  }

  /** Name of the one owner of each address; "none" or "several" otherwise. */
  map(): string[] {
    return VIPS.map((vip) => {
      const owners = this.owners(vip);
      return owners.length === 1 ? NAMES[owners[0].index] : owners.length === 0 ? "none" : "several";
    });
  }
}

const HASHED = NAMES.map(hashNode);
/** Who should own each address with these nodes alive. */
function expected(alive: string[]): string[] {
  return VIPS.map((vip) => rendezvousOrder(HASHED, vip).find(({ name }) => alive.includes(name))!.name);
}

const OWNER_OF_FIRST = NAMES.indexOf(expected(NAMES)[0]);

describe.each([
  ["default", DEFAULT_TIMERS, 100],
  ["fast", FAST_TIMERS, 10],
])("Ownership, %s profile", (_, timers, interval) => {
  let lan: Lan;
  const DETECT_US = 3 * interval * MS;

  beforeEach(() => {
    lan = new Lan(interval, timers);
    lan.run(SETTLE_US + 2000 * MS);
    expect(lan.map()).toEqual(expected(NAMES));
  });

  const others = NAMES.filter((_name, i) => i !== OWNER_OF_FIRST);
  const owner = () => lan.nodes[OWNER_OF_FIRST];

  it("addresses are on more than one node, and stay where they are", () => {
    expect(new Set(lan.map()).size).toBeGreaterThan(1);
    lan.run(20_000 * MS);
    expect([lan.twoUs, lan.noneUs]).toEqual([0, 0]);
  });

  it("a dead owner is succeeded within the detection time", () => {
    owner().state = "dead";
    lan.run(DETECT_US + 2 * MS);
    expect(lan.map()).toEqual(expected(others));
    lan.run(3000 * MS);
    expect([lan.twoUs, lan.noneUs]).toEqual([0, 0]);
  });

  it("a started node takes over without a moment of nobody, nor two that hear each other", () => {
    owner().state = "dead";
    lan.run(5000 * MS);
    lan.start(OWNER_OF_FIRST);
    lan.run(6000 * MS);
    expect(lan.map()).toEqual(expected(NAMES));
    expect(lan.noneUs).toBe(0);
    expect(lan.twoUs).toBeLessThanOrEqual(interval * MS);
    expect(lan.nodes.map(({ conflicts }) => conflicts)).toEqual([0, 0, 0, 0]);
  });

  it("it claims when the owner has known it for long enough to tell it of connections", () => {
    owner().state = "dead";
    lan.run(5000 * MS);
    const [before] = lan.owners(VIPS[0]);
    lan.start(OWNER_OF_FIRST);
    while (!owner().ownership.announcer.owns(VIPS[0])) lan.run(STEP_US);
    const knownUs = lan.nowUs - before.ownership.bfd.upSinceUs[OWNER_OF_FIRST];
    expect(knownUs).toBeGreaterThan(welcomeUs(timers) - interval * MS);
    expect(knownUs).toBeLessThan(SETTLE_US);
  });

  it("at once where the owner dies before that", () => {
    owner().state = "dead";
    lan.run(5000 * MS);
    lan.start(OWNER_OF_FIRST);
    const apart = () => others.some((name) => owner().ownership.bfd.state[NAMES.indexOf(name)] !== UP);
    while (apart()) lan.run(STEP_US);
    for (const name of others) lan.nodes[NAMES.indexOf(name)].state = "dead";
    const alone = () => others.every((name) => owner().ownership.bfd.state[NAMES.indexOf(name)] !== UP);
    while (!alone()) lan.run(STEP_US);
    lan.run(STEP_US);
    expect(owner().ownership.announcer.owns(VIPS[0])).toBe(true);
  });

  it("so does one that starts while another is dead", () => {
    const [first, second] = [OWNER_OF_FIRST, (OWNER_OF_FIRST + 1) % 4];
    lan.nodes[first].state = "dead";
    lan.nodes[second].state = "dead";
    lan.run(5000 * MS);
    lan.start(first);
    lan.run(6000 * MS);
    expect(lan.map()).toEqual(expected(NAMES.filter((_name, i) => i !== second)));
    expect(lan.noneUs).toBe(0);
    expect(lan.twoUs).toBeLessThanOrEqual(interval * MS);
  });

  it.each([400, 900, 3000, 20_000])(
    "an owner that was frozen for %i ms does not answer before it is the owner again",
    (ms) => {
      owner().state = "frozen";
      lan.run(ms * MS);
      expect(lan.map()).toEqual(expected(others));
      owner().state = "running";
      lan.run(6000 * MS);
      expect(lan.map()).toEqual(expected(NAMES));
      expect(lan.noneUs).toBe(0);
      expect(lan.twoUs).toBeLessThanOrEqual(interval * MS);
    },
  );

  it("a short stop changes nothing", () => {
    owner().state = "frozen";
    lan.run(DETECT_US / 3);
    owner().state = "running";
    lan.run(1000 * MS);
    expect(lan.map()).toEqual(expected(NAMES));
    expect(lan.twoUs).toBe(0);
    for (const { ownership } of lan.nodes) expect(ownership.bfd.settleUs).toBe(Number.POSITIVE_INFINITY);
  });

  it("a drained owner is succeeded within a round trip, and comes back", () => {
    owner().ownership.drain(true, lan.nowUs);
    lan.run(3 * MS);
    expect(lan.map()).toEqual(expected(others));
    lan.run(10_000 * MS);
    expect([lan.map(), lan.noneUs, lan.twoUs]).toEqual([expected(others), 0, 0]);
    owner().ownership.drain(false, lan.nowUs);
    lan.run(6000 * MS);
    expect(lan.map()).toEqual(expected(NAMES));
    expect(lan.noneUs).toBe(0);
    expect(lan.twoUs).toBeLessThanOrEqual(interval * MS);
  });

  it("others hold a node for dead when it dies or freezes, not when it is drained, unless it then falls silent", () => {
    const downs = () =>
      others.map((name) => lan.nodes[NAMES.indexOf(name)].ownership.liveness.down[OWNER_OF_FIRST]);
    expect(downs()).toEqual([0, 0, 0]);
    owner().ownership.drain(true, lan.nowUs);
    lan.run(10_000 * MS);
    expect(downs()).toEqual([0, 0, 0]);
    const before = lan.nodes[NAMES.indexOf(others[0])].ownership.liveness.changes[0];
    owner().state = "dead";
    lan.run(10_000 * MS);
    expect(downs()).toEqual([1, 1, 1]);
    expect(lan.nodes[NAMES.indexOf(others[0])].ownership.liveness.changes[0]).toBeGreaterThan(before);
    lan.start(OWNER_OF_FIRST);
    lan.run(6000 * MS);
    expect(downs()).toEqual([0, 0, 0]);
    owner().state = "frozen";
    lan.run(DETECT_US + 2 * MS);
    expect(downs()).toEqual([1, 1, 1]);
  });

  it("others know at once of a drained node that it forwards no more, and of one that was not drained", () => {
    const downs = () =>
      others.map((name) => lan.nodes[NAMES.indexOf(name)].ownership.liveness.down[OWNER_OF_FIRST]);
    const leave = () => {
      owner().ownership.takeLeave(lan.nowUs);
      lan.run(MS);
      owner().state = "dead";
      lan.run(2 * MS);
    };
    owner().ownership.drain(true, lan.nowUs);
    lan.run(1000 * MS);
    expect(downs()).toEqual([0, 0, 0]);
    leave();
    expect(downs()).toEqual([1, 1, 1]);
    lan.start(OWNER_OF_FIRST);
    lan.run(6000 * MS);
    expect(downs()).toEqual([0, 0, 0]);
    leave();
    expect([downs(), lan.map()]).toEqual([[1, 1, 1], expected(others)]);
  });

  describe("a node whose session never came up", () => {
    const NONE = Array.from(NAMES, () => [0, 0, 0, 0]);
    const downs = () => lan.nodes.map(({ ownership }) => [...ownership.liveness.down.subarray(0, 4)]);
    const only = (...lost: number[]) => NAMES.map((_, i) => (lost.includes(i) ? 1 : 0));

    it("may own nothing, and is dead for nobody, until it was heard once", () => {
      lan = new Lan(interval, timers);
      owner().noBfd = true;
      lan.run(SETTLE_US + 10_000 * MS);
      // Who stands before whom is decided without it.
      const ups = others.map((name) => lan.nodes[NAMES.indexOf(name)].ownership.isUp[OWNER_OF_FIRST]);
      expect(ups).toEqual([0, 0, 0]);
      expect(downs()).toEqual(NONE);
      owner().noBfd = false;
      lan.run(6000 * MS);
      expect(lan.map()).toEqual(expected(NAMES));
      owner().noBfd = true;
      lan.run(DETECT_US + 2 * MS);
      // Those three hold it for dead, and it them.
      const own = others.map((name) => NAMES.indexOf(name));
      expect(downs()).toEqual(
        NAMES.map((_, i) => (i === OWNER_OF_FIRST ? only(...own) : only(OWNER_OF_FIRST))),
      );
    });

    it("is so for a node that starts beside a dead one; those that knew that one hold it for dead", () => {
      const late = (OWNER_OF_FIRST + 1) % 4;
      owner().state = "dead";
      lan.run(DETECT_US + 2 * MS);
      lan.start(late);
      lan.run(6000 * MS);
      expect(downs()[late]).toEqual([0, 0, 0, 0]);
      const knew = NAMES.findIndex((_, i) => i !== late && i !== OWNER_OF_FIRST);
      expect(downs()[knew]).toEqual(only(OWNER_OF_FIRST));
      expect(lan.map()).toEqual(expected(others));
    });

    it("counts anew where it has another address", () => {
      const other = NAMES.indexOf(others[0]);
      const { ownership } = lan.nodes[other];
      owner().state = "dead";
      lan.run(DETECT_US + 2 * MS);
      expect(ownership.liveness.down[OWNER_OF_FIRST]).toBe(1);
      const peers = NAMES.map((_, peer) => ({ peer, address: 100 + peer, timers })).filter(
        ({ peer }) => peer !== other,
      );
      ownership.setPeers(
        peers.map((each) => (each.peer === OWNER_OF_FIRST ? { ...each, address: 200 } : each)),
        lan.nowUs,
      );
      lan.run(SETTLE_US + 1000 * MS);
      expect(ownership.liveness.down[OWNER_OF_FIRST]).toBe(0);
    });
  });

  it("a part of the LAN has owners of its own; once they hear each other there is one, and it is said", () => {
    owner().part = 1;
    lan.run(DETECT_US + 2 * MS);
    expect(owner().ownership.announcer.owns(VIPS[0])).toBe(true);
    expect(lan.owners(VIPS[0]).length).toBe(2);
    lan.run(10_000 * MS);
    owner().part = 0;
    // Sessions that are Down say a word a second (RFC 5880 §6.8.3).
    const apart = () => others.some((name) => owner().ownership.bfd.state[NAMES.indexOf(name)] !== UP);
    while (apart()) lan.run(STEP_US);
    lan.run(interval * MS);
    expect(lan.map()).toEqual(expected(NAMES));
    expect(owner().conflicts).toBeGreaterThan(0);
    lan.run(20_000 * MS);
    expect([lan.map(), lan.noneUs, lan.twoUs]).toEqual([expected(NAMES), 0, 0]);
  });

  it("an owner without link is succeeded; with it again there are never two for longer than an interval", () => {
    owner().link = false;
    owner().ownership.setCarrier(false, lan.nowUs);
    lan.run(DETECT_US + 2 * MS);
    expect(lan.map()).toEqual(expected(others));
    lan.run(5000 * MS);
    owner().link = true;
    owner().ownership.setCarrier(true, lan.nowUs);
    lan.run(6000 * MS);
    expect(lan.map()).toEqual(expected(NAMES));
    expect(lan.noneUs).toBe(0);
    expect(lan.twoUs).toBeLessThanOrEqual(interval * MS);
  });
});

it.each(Array.from({ length: 10 }, (_, i) => i + 1))(
  "whatever happens, each address has in the end the owner that it should have, seed %i",
  (seed) => {
    const lan = new Lan(seed, DEFAULT_TIMERS);
    const { random } = lan;
    for (let n = 0; n < 25; n++) {
      const node = random.pick(lan.nodes);
      if (node.state === "dead") lan.start(node.index);
      else if (node.state === "frozen") node.state = "running";
      else node.state = random.pick(["dead", "frozen", "frozen"] as const);
      lan.run(random.pick([20, 150, 400, 1200, 4000]) * MS);
    }
    for (const node of lan.nodes) {
      if (node.state === "dead") lan.start(node.index);
      node.state = "running";
    }
    lan.run(10_000 * MS);
    expect(lan.map()).toEqual(expected(NAMES));
    for (const { ownership } of lan.nodes)
      for (let peer = 0; peer < 4; peer++)
        if (ownership.bfd.has(peer)) expect(ownership.bfd.state[peer]).toBe(wire.UP);
    lan.run(5000 * MS);
    expect([lan.twoUs, lan.noneUs]).toEqual([0, 0]);
  },
  30_000,
);
