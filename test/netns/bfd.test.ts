/**
 * BFD on a real network: sockets with TTL 255, and FRR's bfdd (another implementation of RFC 5880)
 * as the peer.
 *
 *   ns ours ── eth0 192.0.2.1 ════ veth ════ eth0 192.0.2.2 ── ns frr: zebra, bfdd
 */
import { execFile, execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { native } from "../../src/binding/index.js";
import type { NativeIo } from "../../src/binding/types.js";
import { Bfd, type BfdSink, type BfdTimers } from "../../src/liveness/Bfd.js";
import { Arena } from "../../src/packet/Arena.js";
import {
  ARENA,
  PORT_UDP,
  RX_LENGTH,
  RX_OFFSET,
  RX_PEER,
  RX_PORT,
  RX_STRIDE,
  STATUS_NOW_US,
} from "../../src/packet/layout.js";
import { TxPlan } from "../../src/packet/TxPlan.js";
import * as wire from "../../src/wire/bfd.js";
import { DEFAULT_TIMERS, FAST_TIMERS } from "../support/bfd.js";
import { address } from "../support/frames.js";
import { netnsUnavailable, TestNet, waitFor } from "../support/netns.js";

/** Waits for what both sides get to within a few slow intervals. */
const until = (what: string, condition: () => boolean | Promise<boolean>) =>
  waitFor(condition, { what, deadlineMs: 30_000 });
const run = promisify(execFile);

const BFDD = "/usr/lib/frr/bfdd";
const ZEBRA = "/usr/lib/frr/zebra";
const RECEIVE = 1;
const TRANSMIT = 2;
const PEER = 0;
const OURS = "192.0.2.1";
const THEIRS = "192.0.2.2";
/** Packets that may be missed: this process is one of many on a busy machine, and breathes when it can. */
const MULTIPLIER = 12;
const SLOW_TIMERS: BfdTimers = { ...DEFAULT_TIMERS, detectMult: MULTIPLIER };

/** One node's BFD over sockets of its own; breathes from `start` to `stop`. */
class Speaker implements BfdSink {
  readonly arena = new Arena(native.createArena(ARENA.bytes));
  readonly plan = new TxPlan(this.arena);
  readonly view = this.arena.view;
  readonly changes: { to: number; diag: number }[] = [];
  readonly bfd = new Bfd(4, this, (_peer, _from, to, diag) => this.changes.push({ to, diag }), process.pid);
  received = 0;
  readonly #wake = native.openEvent();
  readonly #io: NativeIo = native.createIo(this.arena.buffer, this.#wake);
  readonly #sockets: number[];
  #running: Promise<void> | null = null;
  #stopped = false;

  constructor(netns: string) {
    const open = (port: number) => native.openBfd({ netns, address: OURS, port });
    this.#sockets = [open(wire.UDP_PORT), open(wire.SOURCE_PORT_MIN)];
    this.#io.addPort(RECEIVE, PORT_UDP, this.#sockets[0], true);
    this.#io.addPort(TRANSMIT, PORT_UDP, this.#sockets[1], false);
    this.#io.setPeer(PEER, address(THEIRS), wire.UDP_PORT);
    this.#breathe();
  }

  room(): number {
    return this.plan.slot();
  }

  send(start: number, length: number, peer: number): void {
    this.plan.message(TRANSMIT, peer, start, length, 0);
  }

  get nowUs(): number {
    return this.arena.status[STATUS_NOW_US];
  }

  get state(): number {
    return this.bfd.state[PEER];
  }

  talk(timers: BfdTimers): void {
    this.bfd.add(PEER, address(THEIRS), timers, this.nowUs);
  }

  start(): void {
    this.#stopped = false;
    this.#running = (async () => {
      while (!this.#stopped) {
        this.#breathe();
        await setImmediate();
      }
    })();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async close(): Promise<void> {
    await this.stop();
    this.#io.close();
    for (const fd of [...this.#sockets, this.#wake]) native.close(fd);
  }

  #breathe(): void {
    const count = this.#io.breathe(this.plan.messages, 1, 0);
    this.plan.reset();
    const { rx } = this.arena;
    for (let d = 0; d < count * RX_STRIDE; d += RX_STRIDE) {
      if (rx[d + RX_PORT] !== RECEIVE) continue;
      this.received++;
      this.bfd.receive(this.view, rx[d + RX_OFFSET], rx[d + RX_LENGTH], rx[d + RX_PEER], this.nowUs);
    }
    this.bfd.advance(this.nowUs);
  }
}

describe.skipIf(netnsUnavailable() !== "")("BFD sockets", () => {
  const net = new TestNet();
  let ours = "";
  let theirs = "";
  let speaker: Speaker;

  beforeAll(async () => {
    ours = await net.netns("ours");
    theirs = await net.netns("frr");
    await net.link(
      { ns: ours, name: "eth0", address: `${OURS}/24` },
      { ns: theirs, name: "eth0", address: `${THEIRS}/24` },
    );
    speaker = new Speaker(net.path(ours));
  });
  afterAll(async () => {
    await speaker?.close();
    await net.cleanup();
  });

  it("drop what has come with another TTL than 255", async () => {
    speaker.start();
    const send = (ttl: number, times: number) =>
      net.exec(theirs, "python3", [
        "-c",
        `import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ${ttl})
for _ in range(${times}): s.sendto(bytes(24), ("${OURS}", 3784))`,
      ]);
    await send(254, 5);
    await send(1, 5);
    await send(255, 3);
    await until("the three with TTL 255", () => speaker.received >= 3);
    expect(speaker.received).toBe(3);
    await speaker.stop();
  });

  describe.skipIf(!existsSync(BFDD))("with FRR's bfdd (Debian package frr)", () => {
    let directory = "";
    /** Never waited for by the thread, which has to breathe meanwhile. */
    const vtysh = async (...commands: string[]) => {
      const args = ["--vty_socket", directory, ...commands.flatMap((command) => ["-c", command])];
      return (await run("vtysh", args)).stdout;
    };
    // biome-ignore lint/suspicious/noExplicitAny: another program's JSON
    const peer = async (): Promise<any> => JSON.parse(await vtysh("show bfd peers json"))[0];
    const isUp = async () => speaker.state === wire.UP && (await peer()).status === "up";

    beforeAll(async () => {
      directory = net.directory();
      const zserv = join(directory, "zserv.api");
      const config = join(directory, "bfdd.conf");
      writeFileSync(
        config,
        `bfd
 peer ${OURS} local-address ${THEIRS} interface eth0
  detect-multiplier ${MULTIPLIER}
  receive-interval 150
  transmit-interval 120
  no shutdown
`,
      );
      writeFileSync(join(directory, "zebra.conf"), "");
      // FRR's programs insist on running as their own user.
      execFileSync("chown", ["-R", "frr:frr", directory]);
      const common = ["-u", "frr", "-g", "frr", "--vty_socket", directory, "-z", zserv, "-P", "0"];
      net.spawn(theirs, ZEBRA, [
        ...common,
        "-i",
        join(directory, "zebra.pid"),
        "-f",
        join(directory, "zebra.conf"),
      ]);
      await until("zebra's socket", () => existsSync(zserv));
      net.spawn(theirs, BFDD, [
        ...common,
        "--bfdctl",
        join(directory, "bfdd.sock"),
        "-i",
        join(directory, "bfdd.pid"),
        "-f",
        config,
      ]);
      await until("bfdd's peer", async () => (await peer()).peer === OURS);
      speaker.start();
    });

    it("comes up, and both negotiate the same intervals", async () => {
      speaker.talk(SLOW_TIMERS);
      await until("our session", () => speaker.state === wire.UP);
      await until("FRR's session", isUp);
      await until("the Poll Sequences", () => speaker.bfd.detectionTime(PEER) === MULTIPLIER * 120_000);
      expect(speaker.bfd.transmitInterval(PEER)).toBe(150_000);
      await until("our intervals at FRR", async () => (await peer())["remote-transmit-interval"] === 100);
      expect(await peer()).toMatchObject({
        "remote-detect-multiplier": MULTIPLIER,
        "remote-receive-interval": 100,
      });
    });

    it("changes its intervals by a Poll Sequence, and stays up", async () => {
      const before = speaker.changes.length;
      speaker.talk({ ...FAST_TIMERS, detectMult: MULTIPLIER + 1 });
      await until("our intervals at FRR", async () => (await peer())["remote-transmit-interval"] === 10);
      await until(
        "the multiplier at FRR",
        async () => (await peer())["remote-detect-multiplier"] === MULTIPLIER + 1,
      );
      await until("the Final", () => speaker.bfd.detectionTime(PEER) === MULTIPLIER * 120_000);
      speaker.talk(SLOW_TIMERS);
      await until("the former ones", async () => (await peer())["remote-transmit-interval"] === 100);
      expect((await peer()).status).toBe("up");
      expect(speaker.changes.length).toBe(before);
    });

    it("is told of an administrative down, in both directions", async () => {
      speaker.bfd.setAdminDown(PEER, true, speaker.nowUs);
      await until("FRR's session down", async () => (await peer()).status === "down");
      expect((await peer())["remote-diagnostic"]).toMatch(/administratively down/i);
      speaker.bfd.setAdminDown(PEER, false, speaker.nowUs);
      await until("up again", isUp);

      const session = ["configure terminal", "bfd", `peer ${OURS} local-address ${THEIRS} interface eth0`];
      await vtysh(...session, "shutdown");
      await until("our session down", () => speaker.state === wire.DOWN);
      expect(speaker.bfd.remoteState(PEER)).toBe(wire.ADMIN_DOWN);
      await vtysh(...session, "no shutdown");
      await until("up again", () => speaker.state === wire.UP);
    });

    it("gives up a peer that is silent, and is given up when it is", async () => {
      await until("FRR's session", isUp);
      await net.exec(theirs, "ip", ["link", "set", "eth0", "down"]);
      await until("detection", () => speaker.state === wire.DOWN);
      expect(speaker.changes.at(-1)).toEqual({ to: wire.DOWN, diag: wire.DIAG_DETECTION_TIME_EXPIRED });
      await net.exec(theirs, "ip", ["link", "set", "eth0", "up"]);
      await until("both up", isUp);
      await speaker.stop();
      await until("FRR's detection", async () => (await peer()).status === "down");
      expect((await peer()).diagnostic).toMatch(/detection time expired/i);
      speaker.start();
      await until("both up", isUp);
    });
  });
});
