import { describe, expect, it } from "vitest";
import {
  AddressProbe,
  FREE,
  PROBING,
  QUICK_TIMES,
  RFC_5227_TIMES,
  TAKEN,
} from "../../../src/dataplane/AddressProbe.js";
import {
  ANSWERED,
  Announcer,
  BURST,
  FOREIGN_DEFENCE_US,
  HANDOVER_US,
  HEARD,
  type LanSink,
  MALFORMED,
  PEER_DEFENCE_US,
  PERIOD_US,
  REPEATS_US,
  REPORT_US,
  YIELD_US,
} from "../../../src/dataplane/Announcer.js";
import type { AnnounceInput } from "../../../src/tables/TableInput.js";
import { buildVipTable, NO_NODE, THIS_NODE, VipTable } from "../../../src/tables/VipTable.js";
import { address, hex, macNumbers, toHex } from "../../support/frames.js";

const MAC = "5254000000aa";
const PEER_MAC = "5254000000b0";
const LATER_MAC = "5254000000b2";
const PC_MAC = "525400000099";
const VIP = "c0a80224"; // 192.168.2.36
const OTHER_VIP = "c0a80225";
const PC = "c0a80232";
const BROADCAST = "ffffffffffff";
const NOBODY = "000000000000";
/** Numbers of the nodes that stand before and behind this one for VIP. */
const BEFORE = 0;
const BEHIND = 2;
const SECOND = 1_000_000;
const START = 50 * SECOND;

function arpFrame(
  to: string,
  from: string,
  op: 1 | 2,
  sha: string,
  spa: string,
  tha: string,
  tpa: string,
): string {
  return `${to}${from}0806 0001 0800 06 04 000${op} ${sha}${spa}${tha}${tpa}`.replaceAll(" ", "");
}
const whoHas = (tpa: string, spa = PC) => arpFrame(BROADCAST, PC_MAC, 1, PC_MAC, spa, NOBODY, tpa);
const claim = (mac: string, vip = VIP) => arpFrame(BROADCAST, mac, 1, mac, vip, NOBODY, vip);
const GRATUITOUS = (vip = VIP) => [
  arpFrame(BROADCAST, MAC, 1, MAC, vip, NOBODY, vip),
  arpFrame(BROADCAST, MAC, 2, MAC, vip, MAC, vip),
];

function mac(digits: string) {
  return macNumbers(digits.match(/../g)!.join(":"));
}

const INPUT: AnnounceInput = {
  port: 1,
  mac: mac(MAC),
  nodes: [
    { node: BEFORE, mac: mac(PEER_MAC) },
    { node: BEHIND, mac: mac(LATER_MAC) },
  ],
  vips: [
    { address: address("192.168.2.36"), order: [BEFORE, THIS_NODE, BEHIND] },
    { address: address("192.168.2.37"), order: [THIS_NODE, BEFORE] },
    { address: address("192.168.2.38"), order: [BEHIND] },
  ],
};

/** A node on the LAN: its announcer, what it sent, what it reported. */
class Lan implements LanSink {
  readonly #memory = new Uint8Array(64);
  readonly view = new DataView(this.#memory.buffer);
  readonly isUp = new Uint8Array(THIS_NODE + 1);
  readonly upSinceUs = new Float64Array(THIS_NODE);
  readonly announcer: Announcer;
  nowUs = START;
  sent: string[] = [];
  events: unknown[][] = [];

  constructor(input: Partial<AnnounceInput> = {}) {
    this.announcer = new Announcer(
      this,
      {
        ownerChanged: (a, owner) => this.events.push(["owner", (a >>> 0).toString(16), owner]),
        conflict: (a, node, hi, lo, yielded) => {
          const text = hi.toString(16).padStart(4, "0") + (lo >>> 0).toString(16).padStart(8, "0");
          this.events.push(["conflict", (a >>> 0).toString(16), node, text, yielded]);
        },
      },
      tableOf({ vips: [] }),
      this.isUp,
      this.upSinceUs,
    );
    this.isUp[THIS_NODE] = 1;
    this.adopt(input);
  }

  adopt(input: Partial<AnnounceInput>): void {
    const { hi, lo } = input.mac ?? INPUT.mac;
    this.announcer.adopt(tableOf(input), hi, lo, this.nowUs);
  }

  room(): number {
    this.#memory.fill(0xa5);
    return 2;
  }

  send(start: number, length: number): void {
    this.sent.push(toHex(this.#memory.slice(start, start + length)));
  }

  /** Nodes that are up from now on, this one beside. */
  up(...nodes: number[]): void {
    for (const node of [BEFORE, BEHIND]) {
      if (nodes.includes(node) && this.isUp[node] === 0) this.upSinceUs[node] = this.nowUs;
      this.isUp[node] = nodes.includes(node) ? 1 : 0;
    }
    this.announcer.elect(this.nowUs);
  }

  hear(frame: string, cut = 0): number {
    const bytes = hex(`a5a5${frame}`);
    return this.announcer.receive(
      new DataView(bytes.buffer as ArrayBuffer),
      2,
      bytes.length - 2 - cut,
      this.nowUs,
    );
  }

  /** Time goes on by `us`, in steps of a millisecond. */
  wait(us: number): void {
    for (const end = this.nowUs + us; this.nowUs < end; ) {
      this.nowUs += 1000;
      this.announcer.advance(this.nowUs);
    }
  }

  take(): string[] {
    return this.sent.splice(0);
  }

  takeEvents(): unknown[][] {
    return this.events.splice(0);
  }
}

function tableOf(input: Partial<AnnounceInput>): VipTable {
  return new VipTable(buildVipTable({ ...INPUT, ...input }), 0);
}

/** A LAN where this node owns both addresses that it may own, announced for long. */
function owner(): Lan {
  const lan = new Lan();
  lan.wait(20 * SECOND);
  lan.take();
  lan.takeEvents();
  return lan;
}

describe("Announcer, owning", () => {
  it("takes over what no node before it holds, and announces request and reply at once", () => {
    const lan = new Lan();
    expect(lan.takeEvents()).toEqual([
      ["owner", VIP, THIS_NODE],
      ["owner", OTHER_VIP, THIS_NODE],
    ]);
    expect(lan.take()).toEqual([...GRATUITOUS(VIP), ...GRATUITOUS(OTHER_VIP)]);
    expect(lan.announcer.owns(address("192.168.2.36"))).toBe(true);
    expect(lan.announcer.owns(address("192.168.2.38"))).toBe(false);
    expect(lan.announcer.ownerSinceUs(lan.announcer.vips.find(address("192.168.2.37")))).toBe(START);
  });

  it("is not the owner while a node before it is up, and takes over when that goes", () => {
    const lan = new Lan({ vips: [] });
    lan.up(BEFORE, BEHIND);
    lan.adopt(INPUT);
    expect(lan.takeEvents()).toEqual([["owner", OTHER_VIP, THIS_NODE]]);
    lan.wait(SECOND);
    lan.take();
    lan.up(BEHIND);
    expect(lan.takeEvents()).toEqual([["owner", VIP, THIS_NODE]]);
    expect(lan.take()).toEqual(GRATUITOUS());
  });

  it("repeats the announcement over seconds, then periodically", () => {
    const lan = new Lan({ vips: INPUT.vips.slice(0, 1) });
    const times: number[] = [];
    for (let ms = 0; ms <= 100_000; ms++) {
      if (lan.take().length > 0) times.push(lan.nowUs - START);
      lan.wait(1000);
    }
    expect(times.slice(0, REPEATS_US.length)).toEqual([...REPEATS_US]);
    const gaps = times.slice(REPEATS_US.length).map((t, i) => t - times[REPEATS_US.length - 1 + i]);
    expect(gaps.length).toBeGreaterThanOrEqual(3);
    for (const gap of gaps) {
      expect(gap).toBeGreaterThan(0.75 * PERIOD_US);
      expect(gap).toBeLessThanOrEqual(PERIOD_US + 1000);
    }
  });

  it("answers who asks for an address of its own, and nobody else", () => {
    const lan = owner();
    expect(lan.hear(whoHas(VIP))).toBe(ANSWERED);
    expect(lan.take()).toEqual([arpFrame(PC_MAC, MAC, 2, MAC, VIP, PC_MAC, PC)]);
    expect(lan.hear(whoHas("c0a80226"))).toBe(HEARD);
    expect(lan.hear(whoHas("c0a80201"))).toBe(HEARD);
    expect(lan.hear(arpFrame(MAC, PC_MAC, 2, PC_MAC, PC, MAC, VIP))).toBe(HEARD);
    expect(lan.take()).toEqual([]);
    lan.up(BEFORE);
    lan.wait(HANDOVER_US);
    expect(lan.hear(whoHas(VIP))).toBe(HEARD);
    expect(lan.take()).toEqual([]);
    expect(lan.announcer.replies).toBe(1);
  });

  it("answers a probe, so that who probes sees the address in use", () => {
    const lan = owner();
    expect(lan.hear(whoHas(VIP, "00000000"))).toBe(ANSWERED);
    expect(lan.take()).toEqual([arpFrame(PC_MAC, MAC, 2, MAC, VIP, PC_MAC, "00000000")]);
    expect(lan.takeEvents()).toEqual([]);
  });

  it.each([
    ["a frame that is too short", whoHas(VIP), 1],
    ["another EtherType", whoHas(VIP).replace("0806", "0800"), 0],
    ["hardware type 6", whoHas(VIP).replace("080600010800", "080600060800"), 0],
    ["operation 3", whoHas(VIP).replace("06040001", "06040003"), 0],
    ["a sender that is a group", whoHas(VIP).replaceAll(PC_MAC, "01005e000001"), 0],
  ])("does not answer %s", (_, frame, cut) => {
    const lan = owner();
    expect(lan.hear(frame, cut)).toBe(MALFORMED);
    expect(lan.take()).toEqual([]);
  });

  it("owns nothing while it is not up itself, and says so at once", () => {
    const lan = owner();
    lan.isUp[THIS_NODE] = 0;
    lan.announcer.elect(lan.nowUs);
    expect(lan.takeEvents()).toEqual([
      ["owner", VIP, NO_NODE],
      ["owner", OTHER_VIP, NO_NODE],
    ]);
    expect(lan.hear(whoHas(VIP))).toBe(HEARD);
    lan.wait(60 * SECOND);
    expect(lan.take()).toEqual([]);
  });

  it("a thousand addresses are announced in bursts, each within milliseconds", () => {
    const vips = Array.from({ length: 1000 }, (_, i) => ({ address: 0x0a000000 + i, order: [THIS_NODE] }));
    const lan = new Lan({ vips });
    expect(lan.take()).toHaveLength(2 * BURST);
    lan.wait(3000);
    expect(lan.announcer.announcements).toBe(2000);
  });

  it("another table keeps what is owned without announcing it again, unless the MAC is another", () => {
    const lan = owner();
    lan.adopt({ vips: [INPUT.vips[1]] });
    expect(lan.takeEvents()).toEqual([["owner", VIP, NO_NODE]]);
    expect(lan.take()).toEqual([]);
    expect(lan.announcer.ownerSinceUs(lan.announcer.vips.find(address("192.168.2.37")))).toBe(START);
    lan.adopt({ vips: [INPUT.vips[1]], mac: mac(PC_MAC) });
    expect(lan.take()[0]).toBe(arpFrame(BROADCAST, PC_MAC, 1, PC_MAC, OTHER_VIP, NOBODY, OTHER_VIP));
    expect(lan.takeEvents()).toEqual([]);
  });

  it("wakes for nothing but what is due", () => {
    const lan = new Lan({ vips: INPUT.vips.slice(0, 1) });
    for (let n = 1; n < REPEATS_US.length; n++) {
      expect(lan.announcer.nextUs).toBe(START + REPEATS_US[n]);
      lan.announcer.advance(lan.announcer.nextUs);
    }
    expect(new Lan({ vips: [] }).announcer.nextUs).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("Announcer, handing over", () => {
  it("goes on answering until the heir is heard, and is then silent", () => {
    const lan = owner();
    lan.up(BEFORE);
    lan.wait(SECOND);
    expect(lan.hear(whoHas(VIP))).toBe(ANSWERED);
    expect(lan.takeEvents()).toEqual([]);
    expect(lan.hear(claim(PEER_MAC))).toBe(HEARD);
    expect(lan.takeEvents()).toEqual([["owner", VIP, BEFORE]]);
    lan.take();
    expect(lan.hear(whoHas(VIP))).toBe(HEARD);
    expect(lan.take()).toEqual([]);
    expect(lan.announcer.conflicts).toBe(0);
  });

  it("does so for a limited time where the heir is not heard", () => {
    const lan = owner();
    lan.up(BEFORE);
    lan.wait(HANDOVER_US - 1000);
    expect(lan.announcer.owns(address("192.168.2.36"))).toBe(true);
    lan.wait(1000);
    expect(lan.takeEvents()).toEqual([["owner", VIP, BEFORE]]);
  });

  it("takes over at once when the heir goes again, whatever it claimed before", () => {
    const lan = owner();
    lan.up(BEFORE);
    lan.hear(claim(PEER_MAC));
    lan.wait(5 * SECOND);
    lan.takeEvents();
    lan.take();
    lan.up();
    expect(lan.takeEvents()).toEqual([["owner", VIP, THIS_NODE]]);
    expect(lan.take()).toEqual(GRATUITOUS());
  });

  it("gives up at once what it may no longer own", () => {
    const lan = owner();
    lan.up(BEFORE);
    lan.adopt({ vips: [{ address: address("192.168.2.36"), order: [BEFORE] }] });
    expect(lan.takeEvents()).toEqual([
      ["owner", OTHER_VIP, NO_NODE],
      ["owner", VIP, BEFORE],
    ]);
  });
});

describe("Announcer, two claimants", () => {
  it("yields to a node before it that BFD does not reach, as long as that is heard", () => {
    const lan = owner();
    lan.hear(claim(PEER_MAC));
    expect(lan.takeEvents()).toEqual([
      ["owner", VIP, BEFORE],
      ["conflict", VIP, BEFORE, PEER_MAC, true],
    ]);
    lan.take();
    for (let n = 0; n < 6; n++) {
      lan.wait(PERIOD_US);
      lan.hear(claim(PEER_MAC));
    }
    const others = lan.take().filter((frame) => frame.includes(VIP));
    expect(others).toEqual([]);
    expect(lan.takeEvents()).toEqual([]);
    lan.wait(YIELD_US - 2000);
    expect(lan.takeEvents()).toEqual([]);
    lan.wait(4000);
    expect(lan.takeEvents()).toEqual([["owner", VIP, THIS_NODE]]);
  });

  it("goes by the order again once BFD reaches a node that it has yielded to", () => {
    const FIRST = 4;
    const lan = new Lan({
      vips: [{ address: address("192.168.2.36"), order: [FIRST, BEFORE, THIS_NODE] }],
    });
    lan.hear(claim(PEER_MAC));
    expect(lan.announcer.owner(0)).toBe(BEFORE);
    // One that stands before both of them need not be heard to claim.
    lan.isUp[FIRST] = 1;
    lan.announcer.elect(lan.nowUs);
    expect(lan.announcer.owner(0)).toBe(FIRST);
    lan.isUp[FIRST] = 0;
    lan.isUp[BEFORE] = 1;
    lan.announcer.elect(lan.nowUs);
    expect(lan.announcer.owner(0)).toBe(BEFORE);
    lan.isUp[FIRST] = 1;
    lan.announcer.elect(lan.nowUs);
    expect(lan.announcer.owner(0)).toBe(FIRST);
    lan.isUp[FIRST] = 0;
    lan.isUp[BEFORE] = 0;
    lan.announcer.elect(lan.nowUs);
    expect(lan.announcer.owns(address("192.168.2.36"))).toBe(true);
  });

  it("takes the first of the order for the owner where one between claims an address that it hands over", () => {
    const FIRST = 4;
    const lan = new Lan({
      vips: [{ address: address("192.168.2.36"), order: [FIRST, BEFORE, THIS_NODE] }],
    });
    for (const node of [FIRST, BEFORE]) {
      lan.isUp[node] = 1;
      lan.upSinceUs[node] = lan.nowUs;
    }
    lan.announcer.elect(lan.nowUs);
    expect(lan.announcer.owns(address("192.168.2.36"))).toBe(true);
    lan.hear(claim(PEER_MAC));
    expect(lan.announcer.owns(address("192.168.2.36"))).toBe(false);
    expect(lan.announcer.owner(0)).toBe(FIRST);
  });

  it("tells a node behind it again, no more often than that can hear, and stays", () => {
    const lan = owner();
    for (let n = 0; n < 1000; n++) {
      lan.hear(claim(LATER_MAC));
      lan.wait(1000);
    }
    const defences = lan.take().filter((frame) => frame.includes(VIP));
    expect(defences.slice(0, 2)).toEqual(GRATUITOUS());
    expect(defences.length).toBe((2 * SECOND) / PEER_DEFENCE_US);
    expect(lan.announcer.owns(address("192.168.2.36"))).toBe(true);
    expect(lan.takeEvents()).toEqual([["conflict", VIP, BEHIND, LATER_MAC, false]]);
    expect(lan.announcer.conflicts).toBe(1000);
  });

  describe("a node behind it that was heard all the while, since orders reach nodes one after another", () => {
    /** Both are up for long; the other one has heard that the order has changed. */
    function behind(): Lan {
      const lan = owner();
      lan.up(BEHIND);
      lan.wait(10 * SECOND);
      lan.takeEvents();
      lan.take();
      return lan;
    }

    it("is told, and no conflict when this node hears of it soon", () => {
      const lan = behind();
      for (const wait of [100_000, 200_000, 700_000, SECOND]) {
        lan.hear(claim(LATER_MAC));
        lan.wait(wait);
      }
      expect(lan.take().filter((frame) => frame.includes(VIP)).length).toBe(8);
      lan.adopt({ vips: [{ address: address("192.168.2.36"), order: [BEHIND, THIS_NODE] }] });
      lan.hear(claim(LATER_MAC));
      const changes = lan.takeEvents();
      expect(changes).toContainEqual(["owner", VIP, BEHIND]);
      expect(changes.map(([what]) => what)).not.toContain("conflict");
      expect(lan.announcer.conflicts).toBe(0);
    });

    it.each([1, 2])("is a conflict where it goes on; time %i", (times) => {
      const lan = behind();
      for (let time = 0; time < times; time++) {
        lan.wait(REPORT_US);
        for (let n = 0; n < HANDOVER_US / SECOND; n++) {
          lan.hear(claim(LATER_MAC));
          expect(lan.takeEvents()).toEqual([]);
          lan.wait(SECOND);
        }
        lan.hear(claim(LATER_MAC));
        expect(lan.takeEvents()).toEqual([["conflict", VIP, BEHIND, LATER_MAC, false]]);
      }
    });
  });

  it("reports a foreign device that keeps claiming, without a storm", () => {
    const lan = owner();
    for (let ms = 0; ms < 150_000; ms += 10) {
      lan.hear(ms % 20 === 0 ? claim(PC_MAC) : arpFrame(MAC, PC_MAC, 2, PC_MAC, VIP, MAC, PC));
      lan.wait(10_000);
    }
    const conflict = ["conflict", VIP, NO_NODE, PC_MAC, false];
    expect(lan.takeEvents()).toEqual(
      Array.from({ length: Math.ceil((150 * SECOND) / REPORT_US) }, () => conflict),
    );
    const announced = lan.take().filter((frame) => frame.includes(VIP)).length / 2;
    expect(announced).toBeLessThanOrEqual((150 * SECOND) / FOREIGN_DEFENCE_US + 7);
    expect(announced).toBeGreaterThanOrEqual((150 * SECOND) / FOREIGN_DEFENCE_US);
    expect(lan.announcer.owns(address("192.168.2.36"))).toBe(true);
  });

  it("does not take its own frames, or claims to what it does not own, for conflicts", () => {
    const lan = owner();
    for (const frame of GRATUITOUS()) lan.hear(frame);
    lan.hear(claim(LATER_MAC, "c0a80226"));
    lan.hear(claim(PC_MAC, PC));
    expect(lan.takeEvents()).toEqual([]);
    expect(lan.take()).toEqual([]);
    expect(lan.announcer.conflicts).toBe(0);
  });
});

describe("AddressProbe", () => {
  function probe(times = RFC_5227_TIMES, random = () => 0.5) {
    const lan = new Lan({ vips: [] });
    const p = new AddressProbe(lan, address("192.168.2.36"), mac(MAC).hi, mac(MAC).lo, times, random, START);
    const hear = (frame: string) => {
      const bytes = hex(frame);
      return p.receive(new DataView(bytes.buffer as ArrayBuffer), 0, bytes.length);
    };
    return { lan, p, hear };
  }

  it.each([
    [RFC_5227_TIMES, [0.5, 2, 3.5], 5.5],
    [QUICK_TIMES, [0.01, 0.135, 0.26], 0.46],
  ])("sends its probes and then finds the address free", (times, probesAt, freeAt) => {
    const { lan, p } = probe(times);
    for (const at of probesAt) {
      expect(p.nextUs - START).toBeCloseTo(at * SECOND);
      expect(p.advance(p.nextUs - 1)).toBe(PROBING);
      expect(lan.take()).toEqual([]);
      expect(p.advance(p.nextUs)).toBe(PROBING);
      expect(lan.take()).toEqual([arpFrame(BROADCAST, MAC, 1, MAC, "00000000", NOBODY, VIP)]);
    }
    expect(p.nextUs - START).toBeCloseTo(freeAt * SECOND);
    expect(p.advance(p.nextUs)).toBe(FREE);
    expect(p.advance(START + 100 * SECOND)).toBe(FREE);
    expect(lan.take()).toEqual([]);
  });

  it.each([
    ["a reply", arpFrame(MAC, PC_MAC, 2, PC_MAC, VIP, MAC, "00000000")],
    ["a request from it", arpFrame(BROADCAST, PC_MAC, 1, PC_MAC, VIP, NOBODY, PC)],
    ["another's probe for it", whoHas(VIP, "00000000")],
  ])("finds it taken by %s", (_, frame) => {
    const { p, hear } = probe();
    p.advance(p.nextUs);
    expect(hear(frame)).toBe(TAKEN);
    expect([p.takenByHi, p.takenByLo >>> 0]).toEqual([0x5254, 0x99]);
    expect(p.advance(START + 100 * SECOND)).toBe(TAKEN);
  });

  it.each([
    ["its own probe", arpFrame(BROADCAST, MAC, 1, MAC, "00000000", NOBODY, VIP)],
    ["a request for it", whoHas(VIP)],
    ["a probe for another", whoHas(OTHER_VIP, "00000000")],
    ["a reply about another", arpFrame(MAC, PC_MAC, 2, PC_MAC, OTHER_VIP, MAC, VIP)],
    ["half a frame", arpFrame(MAC, PC_MAC, 2, PC_MAC, VIP, MAC, VIP).slice(0, 60)],
    ["no ARP", arpFrame(MAC, PC_MAC, 2, PC_MAC, VIP, MAC, VIP).replace("0806", "0800")],
  ])("is not misled by %s", (_, frame) => {
    const { hear } = probe();
    expect(hear(frame)).toBe(PROBING);
  });
});
