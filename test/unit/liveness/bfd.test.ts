import { describe, expect, it } from "vitest";
import { type BfdTimers, NO_SESSION, SESSION_ADMIN_DOWN, SETTLE_US } from "../../../src/liveness/Bfd.js";
import * as wire from "../../../src/wire/bfd.js";
import { DEFAULT_TIMERS, FAST_TIMERS, Mesh, packet, readPacket, Station } from "../../support/bfd.js";
import { hex, toHex } from "../../support/frames.js";
import { Random } from "../../support/random.js";

const { ADMIN_DOWN, DOWN, INIT, UP, FLAG_POLL, FLAG_FINAL, FLAG_DEMAND } = wire;
const MS = 1000;
const PEER = 4;
const ADDRESS = 0xc0000202 | 0;

/** A station with a session whose own state is `state`; what was sent on the way is forgotten. */
function stationIn(state: number, timers: BfdTimers = DEFAULT_TIMERS): Station {
  const station = new Station(1);
  station.bfd.add(PEER, ADDRESS, timers, 0);
  station.advanceTo(0);
  const yours = station.bfd.discriminator(PEER);
  if (state === INIT || state === UP) station.receive(packet({ state: DOWN }), ADDRESS);
  if (state === UP) station.receive(packet({ state: UP, yours, minTx: 100 * MS }), ADDRESS);
  if (state === ADMIN_DOWN) station.bfd.setAdminDown(PEER, true, 0);
  expect(station.bfd.state[PEER]).toBe(state);
  station.sent.length = 0;
  station.changes.length = 0;
  return station;
}

/** A packet of the peer to a station, which knows the session. */
function toStation(station: Station, fields: Parameters<typeof packet>[0]): Uint8Array {
  return packet({ yours: station.bfd.discriminator(PEER), minTx: 100 * MS, ...fields });
}

describe("Bfd, its state machine", () => {
  const TABLE: [own: number, received: number, next: number, diag: number | null][] = [
    [DOWN, ADMIN_DOWN, DOWN, null],
    [DOWN, DOWN, INIT, 0],
    [DOWN, INIT, UP, 0],
    [DOWN, UP, DOWN, null],
    [INIT, ADMIN_DOWN, DOWN, 3],
    [INIT, DOWN, INIT, null],
    [INIT, INIT, UP, 0],
    [INIT, UP, UP, 0],
    [UP, ADMIN_DOWN, DOWN, 3],
    [UP, DOWN, DOWN, 3],
    [UP, INIT, UP, null],
    [UP, UP, UP, null],
    [ADMIN_DOWN, ADMIN_DOWN, ADMIN_DOWN, null],
    [ADMIN_DOWN, DOWN, ADMIN_DOWN, null],
    [ADMIN_DOWN, INIT, ADMIN_DOWN, null],
    [ADMIN_DOWN, UP, ADMIN_DOWN, null],
  ];

  it.each(TABLE)("in state %i, hearing %i: %i", (own, received, next, diag) => {
    const station = stationIn(own);
    const verdict = station.receive(toStation(station, { state: received }), ADDRESS);
    expect(verdict).toBe(own === ADMIN_DOWN ? SESSION_ADMIN_DOWN : wire.VALID);
    expect(station.bfd.state[PEER]).toBe(next);
    if (diag === null) {
      expect(station.changes).toEqual([]);
      expect(station.take()).toEqual([]);
    } else {
      expect(station.changes).toEqual([{ atUs: 0, peer: PEER, from: own, to: next, diag }]);
      expect(station.take()).toMatchObject([{ state: next, diag, yours: 9 }]);
    }
  });

  it.each([
    [DOWN, DOWN],
    [INIT, DOWN],
    [UP, DOWN],
  ])("in state %i when the detection time is over: %i", (own, next) => {
    const station = stationIn(own);
    const dueUs = own === DOWN ? 10_000 * MS : station.bfd.detectionTime(PEER);
    if (own !== DOWN) expect(dueUs).toBe(own === UP ? 300 * MS : 3000 * MS);
    for (let t = 50 * MS; t < dueUs; t += 50 * MS) station.advanceTo(t);
    expect(station.bfd.state[PEER]).toBe(own);
    station.advanceTo(dueUs);
    expect(station.bfd.state[PEER]).toBe(next);
    if (own !== DOWN) expect(station.take().at(-1)).toMatchObject({ state: DOWN, diag: 1, yours: 0 });
  });

  it("first packet, byte for byte", () => {
    const station = new Station(1);
    station.bfd.add(PEER, ADDRESS, DEFAULT_TIMERS, 5000);
    station.advanceTo(5000);
    const mine = station.bfd.discriminator(PEER);
    expect(mine).not.toBe(0);
    expect(station.sent.map(({ bytes }) => toHex(bytes))).toEqual([
      toHex(
        hex(`20 40 03 18 ${(mine >>> 0).toString(16).padStart(8, "0")} 00000000 000f4240 000186a0 00000000`),
      ),
    ]);
  });

  it("admin down tells the peer at once, goes on telling it, and comes back as Down", () => {
    const station = stationIn(UP);
    station.bfd.setAdminDown(PEER, true, 0);
    expect(station.take()).toMatchObject([{ state: ADMIN_DOWN, diag: 7, minTx: 1000 * MS }]);
    for (let t = 0; t <= 5000 * MS; t += 10 * MS) station.advanceTo(t);
    const repeats = station.take();
    expect(repeats.length).toBeGreaterThanOrEqual(5);
    expect(repeats.every((p) => p.state === ADMIN_DOWN && p.diag === 7)).toBe(true);
    station.bfd.setAdminDown(PEER, false, 5000 * MS);
    expect(station.take()).toMatchObject([{ state: DOWN, diag: 0 }]);
  });

  it("finds the session by discriminator, or by address where there is none", () => {
    const station = stationIn(DOWN);
    const mine = station.bfd.discriminator(PEER);
    expect(station.receive(packet({ yours: mine ^ 0x10000 }), ADDRESS)).toBe(NO_SESSION);
    expect(station.receive(packet({ yours: mine + 1 }), ADDRESS)).toBe(NO_SESSION);
    expect(station.receive(packet({ yours: mine }), ADDRESS + 1)).toBe(NO_SESSION);
    expect(station.receive(packet({ yours: 0 }), ADDRESS + 1)).toBe(NO_SESSION);
    expect(station.receive(packet({ yours: 0xffff }), ADDRESS)).toBe(NO_SESSION);
    expect(station.changes).toEqual([]);
    expect(station.receive(packet({ yours: mine }), ADDRESS)).toBe(wire.VALID);
    station.bfd.remove(PEER);
    expect(station.receive(packet({ yours: mine }), ADDRESS)).toBe(NO_SESSION);
    expect(station.receive(packet({ yours: 0 }), ADDRESS)).toBe(NO_SESSION);
  });

  it("a session anew has another discriminator", () => {
    const station = stationIn(UP);
    const before = station.bfd.discriminator(PEER);
    station.bfd.add(PEER, ADDRESS + 1, DEFAULT_TIMERS, 0);
    expect(station.bfd.state[PEER]).toBe(DOWN);
    expect(station.bfd.discriminator(PEER)).not.toBe(before);
    expect(station.bfd.sessions).toBe(1);
  });

  it("a malformed packet changes nothing", () => {
    const station = stationIn(UP);
    const bytes = toStation(station, { state: DOWN });
    bytes[2] = 0;
    expect(station.receive(bytes, ADDRESS)).toBe(wire.ZERO_DETECT_MULT);
    expect(station.receive(bytes.slice(0, 20), ADDRESS)).toBe(wire.TOO_SHORT);
    expect(station.bfd.state[PEER]).toBe(UP);
    expect(station.take()).toEqual([]);
  });

  it.each([
    ["no interval", { ...DEFAULT_TIMERS, desiredMinTxUs: 0 }],
    ["half a microsecond", { ...DEFAULT_TIMERS, requiredMinRxUs: 100_000.5 }],
    ["more than 32 bits", { ...DEFAULT_TIMERS, requiredMinRxUs: 2 ** 32 }],
    ["multiplier 0", { ...DEFAULT_TIMERS, detectMult: 0 }],
    ["multiplier 256", { ...DEFAULT_TIMERS, detectMult: 256 }],
  ])("refuses timers with %s", (_, timers) => {
    expect(() => new Station(1).bfd.add(PEER, ADDRESS, timers, 0)).toThrow(RangeError);
  });
});

describe("Bfd, its timers", () => {
  it("is slow until Up, whatever is configured", () => {
    const station = stationIn(DOWN, FAST_TIMERS);
    expect(station.bfd.transmitInterval(PEER)).toBe(1000 * MS);
    station.receive(packet({ state: DOWN, minRx: 10 * MS }), ADDRESS);
    expect(station.bfd.state[PEER]).toBe(INIT);
    expect(station.bfd.transmitInterval(PEER)).toBe(1000 * MS);
    station.receive(toStation(station, { state: INIT, minRx: 10 * MS }), ADDRESS);
    expect(station.bfd.transmitInterval(PEER)).toBe(10 * MS);
  });

  it("sends no more often than the peer wants to receive, and expects no more than it sends", () => {
    const station = stationIn(UP);
    station.receive(toStation(station, { state: UP, minTx: 250 * MS, minRx: 400 * MS, mult: 5 }), ADDRESS);
    expect(station.bfd.transmitInterval(PEER)).toBe(400 * MS);
    expect(station.bfd.detectionTime(PEER)).toBe(5 * 250 * MS);
    station.receive(toStation(station, { state: UP, minTx: 1 * MS, minRx: 1 * MS, mult: 2 }), ADDRESS);
    expect(station.bfd.transmitInterval(PEER)).toBe(100 * MS);
    expect(station.bfd.detectionTime(PEER)).toBe(2 * 100 * MS);
  });

  it("sends no periodic packets to a peer that wants none, and answers its polls", () => {
    const station = stationIn(UP);
    station.receive(toStation(station, { state: UP, minRx: 0 }), ADDRESS);
    for (let t = 0; t < 2000 * MS; t += 50 * MS) {
      station.receive(toStation(station, { state: UP, minRx: 0 }), ADDRESS);
      station.advanceTo(t);
    }
    expect(station.take()).toEqual([]);
    station.receive(toStation(station, { state: UP, minRx: 0, flags: FLAG_POLL }), ADDRESS);
    expect(station.take()).toMatchObject([{ state: UP, flags: FLAG_FINAL }]);
    expect(station.bfd.state[PEER]).toBe(UP);
  });

  it("ceases when the peer asks for demand mode, but finishes its own poll first", () => {
    const station = stationIn(UP);
    const demand = { state: UP, flags: FLAG_DEMAND };
    const listen = (ms: number, from: number) => {
      for (let t = from; t < from + ms * MS; t += 20 * MS) {
        station.advanceTo(t);
        station.receive(toStation(station, demand), ADDRESS);
      }
      return station.take();
    };
    const polls = listen(1000, 0);
    expect(polls.length).toBeGreaterThan(8);
    expect(polls.every(({ flags }) => flags === FLAG_POLL)).toBe(true);
    station.receive(toStation(station, { state: UP, flags: FLAG_DEMAND | FLAG_FINAL }), ADDRESS);
    expect(listen(1000, 1000 * MS)).toEqual([]);
    station.receive(toStation(station, { state: UP, flags: FLAG_DEMAND | FLAG_POLL }), ADDRESS);
    expect(station.take()).toMatchObject([{ state: UP, flags: FLAG_FINAL }]);
    station.receive(toStation(station, { state: UP }), ADDRESS);
    for (let t = 2000 * MS; t < 2100 * MS; t += MS) station.advanceTo(t);
    expect(station.take().length).toBeGreaterThan(0);
    expect(station.bfd.state[PEER]).toBe(UP);
  });

  it.each([
    [3, 75, 100],
    [1, 75, 90],
  ])(
    "with multiplier %i packets come after %i to %i %% of the interval, all over it",
    (detectMult, least, most) => {
      const station = stationIn(UP, { ...DEFAULT_TIMERS, detectMult });
      for (let t = 0; t < 100_000 * MS; t += 100) {
        if (t % (50 * MS) === 0)
          station.receive(toStation(station, { state: UP, flags: FLAG_FINAL }), ADDRESS);
        station.advanceTo(t);
      }
      const gaps = station.sent.slice(1).map(({ atUs }, i) => (atUs - station.sent[i].atUs) / (100 * MS));
      expect(gaps.length).toBeGreaterThan(900);
      // Time goes on in steps of 0.1 % of the interval.
      expect(Math.min(...gaps)).toBeGreaterThanOrEqual(least / 100);
      expect(Math.max(...gaps)).toBeLessThanOrEqual(most / 100 + 0.001);
      expect(Math.min(...gaps)).toBeLessThan(least / 100 + 0.01);
      expect(Math.max(...gaps)).toBeGreaterThan(most / 100 - 0.01);
    },
  );

  it("never waits where nothing is due, and always wakes for what is", () => {
    const station = stationIn(UP);
    for (let t = 0; t < 1000 * MS; ) {
      const next = station.bfd.nextUs;
      expect(next).toBeGreaterThan(t);
      expect(next).toBeLessThanOrEqual(t + 100 * MS);
      station.advanceTo(next - 1);
      expect(station.sent).toEqual([]);
      station.receive(toStation(station, { state: UP }), ADDRESS);
      station.advanceTo(next);
      expect(station.take()).toHaveLength(1);
      t = next;
    }
  });
});

describe("Bfd, Poll Sequences", () => {
  it("polls on scheduled packets until the Final, after coming up", () => {
    const station = stationIn(UP);
    for (let t = 0; t < 250 * MS; t += MS) station.advanceTo(t);
    const polls = station.take();
    expect(polls.length).toBeGreaterThanOrEqual(2);
    expect(polls.length).toBeLessThanOrEqual(4);
    expect(polls.every(({ flags }) => flags === FLAG_POLL)).toBe(true);
    station.receive(toStation(station, { state: UP, flags: FLAG_FINAL }), ADDRESS);
    for (let t = 250 * MS; t < 500 * MS; t += MS) station.advanceTo(t);
    expect(station.take().every(({ flags }) => flags === 0)).toBe(true);
  });

  it("answers a poll at once, with F alone, though it polls itself", () => {
    const station = stationIn(UP);
    station.receive(toStation(station, { state: UP, flags: FLAG_POLL }), ADDRESS);
    expect(station.take()).toMatchObject([{ state: UP, flags: FLAG_FINAL }]);
    for (let t = 0; t <= 110 * MS; t += MS) station.advanceTo(t);
    expect(station.take()[0]).toMatchObject({ flags: FLAG_POLL });
  });

  /** Up, with the poll of coming up finished. */
  function settled(): Station {
    const station = stationIn(UP);
    station.receive(
      toStation(station, { state: UP, flags: FLAG_FINAL, minRx: 10 * MS, minTx: 10 * MS }),
      ADDRESS,
    );
    station.sent.length = 0;
    return station;
  }
  const final = { state: UP, flags: FLAG_FINAL, minRx: 10 * MS, minTx: 10 * MS };

  it("sends less often only after the peer has acknowledged", () => {
    const station = settled();
    station.bfd.add(PEER, ADDRESS, { ...DEFAULT_TIMERS, desiredMinTxUs: 500 * MS }, 0);
    expect(station.bfd.transmitInterval(PEER)).toBe(100 * MS);
    station.advanceTo(0);
    expect(station.take()).toMatchObject([{ minTx: 500 * MS, flags: FLAG_POLL }]);
    expect(station.bfd.transmitInterval(PEER)).toBe(100 * MS);
    station.receive(toStation(station, final), ADDRESS);
    expect(station.bfd.transmitInterval(PEER)).toBe(500 * MS);
  });

  it("sends more often at once", () => {
    const station = settled();
    station.bfd.add(PEER, ADDRESS, { ...DEFAULT_TIMERS, desiredMinTxUs: 20 * MS }, 0);
    expect(station.bfd.transmitInterval(PEER)).toBe(20 * MS);
  });

  it("expects packets sooner only after the peer has acknowledged, later at once", () => {
    const station = settled();
    expect(station.bfd.detectionTime(PEER)).toBe(300 * MS);
    station.bfd.add(PEER, ADDRESS, { ...DEFAULT_TIMERS, requiredMinRxUs: 20 * MS }, 0);
    expect(station.bfd.detectionTime(PEER)).toBe(300 * MS);
    station.receive(toStation(station, final), ADDRESS);
    expect(station.bfd.detectionTime(PEER)).toBe(60 * MS);
    station.bfd.add(PEER, ADDRESS, { ...DEFAULT_TIMERS, requiredMinRxUs: 200 * MS }, 0);
    expect(station.bfd.detectionTime(PEER)).toBe(600 * MS);
  });

  it("a second change waits for the first one's Final and has a sequence of its own", () => {
    const station = settled();
    station.bfd.add(PEER, ADDRESS, { ...DEFAULT_TIMERS, desiredMinTxUs: 500 * MS }, 0);
    station.bfd.add(PEER, ADDRESS, { ...DEFAULT_TIMERS, desiredMinTxUs: 800 * MS }, 0);
    station.advanceTo(0);
    expect(station.take()).toMatchObject([{ minTx: 500 * MS, flags: FLAG_POLL }]);
    station.receive(toStation(station, final), ADDRESS);
    expect(station.take()).toMatchObject([{ minTx: 800 * MS, flags: FLAG_POLL }]);
    expect(station.bfd.transmitInterval(PEER)).toBe(500 * MS);
    station.receive(toStation(station, final), ADDRESS);
    expect(station.bfd.transmitInterval(PEER)).toBe(800 * MS);
  });

  it("a Final that nobody asked for does nothing", () => {
    const station = settled();
    station.receive(toStation(station, { ...final, minRx: 100 * MS }), ADDRESS);
    expect(station.bfd.transmitInterval(PEER)).toBe(100 * MS);
    expect(station.take()).toEqual([]);
  });
});

describe("Bfd, machines against one another", () => {
  it("come up within the slow interval, and stay", () => {
    const mesh = new Mesh(2, 1);
    mesh.run(2500 * MS);
    expect(mesh.allUp()).toBe(true);
    const changes = mesh.stations.map((s) => s.changes.length);
    mesh.run(20_000 * MS);
    expect(mesh.stations.map((s) => s.changes.length)).toEqual(changes);
    for (const { bfd } of mesh.stations) expect([bfd.sessions, bfd.settled(mesh.nowUs)]).toEqual([1, true]);
  });

  it.each([
    ["the default", DEFAULT_TIMERS, 100],
    ["fast", FAST_TIMERS, 10],
  ])("a dead peer is noticed within 3 intervals, %s profile", (_, timers, ms) => {
    const mesh = new Mesh(4, 7, timers);
    mesh.run(3000 * MS);
    expect(mesh.allUp()).toBe(true);
    mesh.dead.add(2);
    const diedUs = mesh.nowUs;
    mesh.run(4 * ms * MS);
    for (const i of [0, 1, 3]) {
      const last = mesh.stations[i].changes.at(-1)!;
      expect(last).toMatchObject({ peer: 2, from: UP, to: DOWN, diag: wire.DIAG_DETECTION_TIME_EXPIRED });
      expect(last.atUs - diedUs).toBeGreaterThan(1.9 * ms * MS);
      expect(last.atUs - diedUs).toBeLessThanOrEqual(3 * ms * MS + 200);
      expect(mesh.stations[i].bfd.settled(mesh.nowUs)).toBe(true);
    }
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 8])("come up through loss, delay and reordering, seed %i", (seed) => {
    const mesh = new Mesh(3, seed);
    mesh.weather = { lossOneIn: 3, delayUs: [0, 90 * MS] };
    let everUp = false;
    mesh.run(30_000 * MS, () => {
      everUp ||= mesh.allUp();
    });
    expect(everUp).toBe(true);
    mesh.weather = { lossOneIn: 0, delayUs: [50, 50] };
    mesh.run(6000 * MS);
    expect(mesh.allUp()).toBe(true);
  });

  it.each([11, 12, 13])(
    "one packet in 50 lost and jittered delay do not bring a session down, seed %i",
    (seed) => {
      const mesh = new Mesh(2, seed);
      mesh.run(3000 * MS);
      mesh.weather = { lossOneIn: 50, delayUs: [50, 20 * MS] };
      const before = mesh.stations.map((s) => s.changes.length);
      mesh.run(30_000 * MS);
      expect(mesh.stations.map((s) => s.changes.length)).toEqual(before);
    },
  );

  it("a restarted peer is Down and Up again within milliseconds of its first packet", () => {
    const mesh = new Mesh(3, 5);
    mesh.run(3000 * MS);
    const restartedUs = mesh.nowUs;
    mesh.restart(1);
    let upUs = 0;
    mesh.run(100 * MS, () => {
      if (upUs === 0 && mesh.allUp()) upUs = mesh.nowUs;
    });
    expect(upUs - restartedUs).toBeGreaterThan(0);
    expect(upUs - restartedUs).toBeLessThan(5 * MS);
    const seen = mesh.stations[0].changes.filter((c) => c.peer === 1 && c.atUs >= restartedUs);
    expect(seen[0]).toMatchObject({ from: UP, to: DOWN, diag: wire.DIAG_NEIGHBOR_SIGNALED_DOWN });
    expect(mesh.stations[1].bfd.settled(mesh.nowUs)).toBe(true);
  });

  it.each([1, 2, 3, 4, 5, 6])(
    "interval changes while packets flow never bring a session down, seed %i",
    (seed) => {
      const mesh = new Mesh(2, seed);
      mesh.run(3000 * MS);
      const before = mesh.stations.map((s) => s.changes.length);
      const random = new Random(seed);
      const interval = () => random.pick([10, 20, 50, 100, 300, 1000]) * MS;
      for (let n = 0; n < 20; n++) {
        const [i, peer] = random.oneIn(2) ? [0, 1] : [1, 0];
        const detectMult = random.between(2, 5);
        const timers = { desiredMinTxUs: interval(), requiredMinRxUs: interval(), detectMult };
        mesh.stations[i].bfd.add(peer, 100 + peer, timers, mesh.nowUs);
        // Now and then before the change before it is acknowledged.
        mesh.run(random.pick([100, 30 * MS, 3000 * MS]));
      }
      mesh.run(5000 * MS);
      expect(mesh.stations.map((s) => s.changes.length)).toEqual(before);
      expect(mesh.allUp()).toBe(true);
    },
  );

  it("a partition is noticed on both sides and heals at the first packet heard", () => {
    const mesh = new Mesh(2, 3);
    mesh.run(3000 * MS);
    mesh.cut.add("0-1").add("1-0");
    mesh.run(400 * MS);
    expect([mesh.state(0, 1), mesh.state(1, 0)]).toEqual([DOWN, DOWN]);
    mesh.run(5000 * MS);
    mesh.cut.clear();
    mesh.run(1100 * MS);
    expect(mesh.allUp()).toBe(true);
  });

  it("one-way loss brings both sides down: the one that hears is told", () => {
    const mesh = new Mesh(2, 4);
    mesh.run(3000 * MS);
    mesh.cut.add("0-1");
    mesh.run(400 * MS);
    expect(mesh.stations[1].changes.at(-1)).toMatchObject({
      to: DOWN,
      diag: wire.DIAG_DETECTION_TIME_EXPIRED,
    });
    expect(mesh.stations[0].changes.find((c) => c.from === UP)).toMatchObject({
      to: DOWN,
      diag: wire.DIAG_NEIGHBOR_SIGNALED_DOWN,
    });
    // What it hears is Down, so that it goes to Init and, having no answer, back.
    mesh.run(5000 * MS);
    expect([mesh.state(0, 1), mesh.state(1, 0)]).not.toContain(UP);
  });

  it("administrative down is told to the peer, and is no failure", () => {
    const mesh = new Mesh(2, 6);
    mesh.run(3000 * MS);
    mesh.stations[0].bfd.setAdminDown(1, true, mesh.nowUs);
    mesh.run(MS);
    expect(mesh.state(1, 0)).toBe(DOWN);
    expect(mesh.stations[1].bfd.remoteState(0)).toBe(ADMIN_DOWN);
    expect(mesh.stations[1].bfd.diagnostic(0)).toBe(wire.DIAG_NEIGHBOR_SIGNALED_DOWN);
    mesh.run(10_000 * MS);
    expect(mesh.state(1, 0)).toBe(DOWN);
    mesh.stations[0].bfd.setAdminDown(1, false, mesh.nowUs);
    mesh.run(1100 * MS);
    expect(mesh.allUp()).toBe(true);
  });
});

describe("Bfd, a node that stood still", () => {
  it.each([350, 800, 1500, 5000])("for %i ms takes nobody for dead, and says that it knows nothing", (ms) => {
    const mesh = new Mesh(3, ms);
    mesh.run(3000 * MS);
    const { bfd, changes } = mesh.stations[0];
    mesh.frozen.add(0);
    mesh.run(ms * MS);
    expect([mesh.state(1, 0), mesh.state(2, 0)]).toEqual([DOWN, DOWN]);
    const before = changes.length;
    mesh.frozen.delete(0);
    let settledBeforeUp = false;
    mesh.run(5 * MS, () => {
      const bothUp = mesh.state(0, 1) === UP && mesh.state(0, 2) === UP;
      if (bfd.settled(mesh.nowUs) && !bothUp) settledBeforeUp = true;
    });
    expect(settledBeforeUp).toBe(false);
    const down = changes.slice(before).filter((c) => c.to === DOWN);
    expect(down.some((c) => c.diag === wire.DIAG_DETECTION_TIME_EXPIRED)).toBe(false);
    mesh.run(1200 * MS);
    expect(mesh.allUp()).toBe(true);
    expect(bfd.settled(mesh.nowUs)).toBe(true);
  });

  it("finds out who died meanwhile, once it has settled", () => {
    const mesh = new Mesh(3, 8);
    mesh.run(3000 * MS);
    mesh.frozen.add(0);
    mesh.dead.add(2);
    mesh.run(1000 * MS);
    mesh.frozen.delete(0);
    mesh.run(SETTLE_US - 100 * MS);
    const { bfd } = mesh.stations[0];
    expect(bfd.settled(mesh.nowUs)).toBe(false);
    expect(bfd.settleUs).toBeGreaterThan(mesh.nowUs);
    mesh.run(200 * MS);
    expect(bfd.settled(mesh.nowUs)).toBe(true);
    expect([mesh.state(0, 1), mesh.state(0, 2)]).toEqual([UP, DOWN]);
  });

  it("a peer that has withdrawn is known, and not waited for", () => {
    const mesh = new Mesh(2, 10);
    mesh.run(3000 * MS);
    mesh.stations[1].bfd.setAdminDown(0, true, mesh.nowUs);
    mesh.run(MS);
    const { bfd } = mesh.stations[0];
    bfd.unsettle(mesh.nowUs);
    expect(bfd.settled(mesh.nowUs)).toBe(true);
  });

  it("a short standstill is none", () => {
    const mesh = new Mesh(2, 2);
    mesh.run(3000 * MS);
    const before = mesh.stations[0].changes.length;
    mesh.frozen.add(0);
    mesh.run(150 * MS);
    mesh.frozen.delete(0);
    mesh.run(1000 * MS);
    expect(mesh.stations[0].changes.length).toBe(before);
    expect(mesh.allUp()).toBe(true);
  });
});

it("readPacket and packet are each other's mirror", () => {
  const fields = { diag: 3, state: 2, flags: 9, mult: 4, mine: 5, yours: 6, minTx: 7, minRx: 8 };
  expect(readPacket(packet(fields))).toEqual(fields);
});
