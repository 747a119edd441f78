/**
 * Run by sanitize.test.ts: exercises the binding given as argument, which was compiled with
 * sanitizers. Memory comes from plain ArrayBuffers, so that a byte too far lies in a red zone.
 * Plain JavaScript, since it runs in a bare node process.
 */

import { openSync } from "node:fs";
import { createRequire } from "node:module";

const native = createRequire(import.meta.url)(process.argv[2]);
const L = native.layout;

let state = 20250101;
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const below = (n) => Math.floor(random() * n);
const pick = (list) => list[below(list.length)];
function check(condition, what) {
  if (!condition) throw new Error(what);
}

// ---- checksum: buffers that end where the sum ends ----
for (let length = 0; length < 700; length++) {
  const offset = below(64);
  const buffer = new ArrayBuffer(offset + length);
  new Uint8Array(buffer).forEach((_, i, bytes) => {
    bytes[i] = below(256);
  });
  const expected = native.checksumPlain(buffer, offset, length, length);
  for (const kernel of native.checksumKernels) {
    check(
      native.checksum(buffer, offset, length, length, kernel) === expected,
      `checksum ${kernel} ${length}`,
    );
  }
}

// ---- an Io: a UDP socket that sends to itself, one that is read as a TAP, and a TAP nobody reads ----
const arena = new ArrayBuffer(L.ARENA_bytes);
const rx = new Int32Array(arena, L.ARENA_rx, L.RX_CAPACITY * L.RX_STRIDE);
const msg = new Int32Array(arena, L.ARENA_msg, L.MSG_CAPACITY * L.MSG_STRIDE);
const iov = new Int32Array(arena, L.ARENA_iov, L.IOV_CAPACITY * L.IOV_STRIDE);
const io = native.createIo(arena, native.openEvent());
function bind() {
  for (let tries = 0; ; tries++) {
    const port = 20000 + Math.floor(Math.random() * 10000);
    const options = {
      netns: "",
      address: "127.0.0.1",
      port,
      gro: true,
      receiveBuffer: 1 << 20,
      sendBuffer: 1 << 20,
    };
    try {
      return [native.openUdp(options), port];
    } catch (error) {
      if (tries === 20) throw error;
    }
  }
}
const [udp, udpPort] = bind();
const [asTap, tapPort] = bind();
const sink = openSync("/dev/null", "w");
io.addPort(0, L.PORT_UDP, udp, true);
io.addPort(1, L.PORT_TAP, asTap, true);
io.addPort(2, L.PORT_TAP, sink, false);
io.setPeer(0, 0x7f000001, udpPort);
io.setPeer(1, 0x7f000001, tapPort);
io.setPeer(L.MAX_PEERS - 1, 0x7f000001, udpPort);

// Plans that are right for the most part, and wrong in a few numbers.
const extremes = [
  -1,
  0,
  1,
  0x7fffffff,
  -0x80000000,
  L.ARENA_bytes,
  L.ARENA_bytes - 1,
  L.IOV_CAPACITY - 1,
  255,
];
const spoilt = (value) => (random() < 0.03 ? pick(extremes) : value);
let received = 0;
let sent = 0;
let failed = 0;
for (let round = 0; round < 3000; round++) {
  const messages = below(20);
  let piece = below(L.IOV_CAPACITY - 4000);
  for (let m = 0; m < messages; m++) {
    const count = 1 + below(random() < 0.1 ? L.MAX_IOV : 6);
    const headers = 54 + below(24);
    const base = m * L.MSG_STRIDE;
    msg[base + L.MSG_PORT] = spoilt(below(3));
    msg[base + L.MSG_IOV] = spoilt(piece);
    msg[base + L.MSG_IOV_COUNT] = spoilt(count);
    msg[base + L.MSG_PEER] = spoilt(pick([0, 1, L.MAX_PEERS - 1]));
    msg[base + L.MSG_GSO] = spoilt(random() < 0.3 ? 200 + below(1400) : 0);
    msg[base + L.MSG_FLAGS] = spoilt(random() < 0.4 ? L.MSG_FLAG_VERIFY : 0);
    msg[base + L.MSG_L4_LENGTH] = spoilt(20);
    msg[base + L.MSG_PSEUDO] = spoilt(below(0x40000));
    msg[base + L.MSG_HEADERS] = spoilt(headers);
    for (let k = 0; k < count && piece < L.IOV_CAPACITY - 1; k++, piece++) {
      const at = piece * L.IOV_STRIDE;
      const flags = pick([0, L.CSUM_TO_END, L.CSUM_NEXT, L.CSUM_UDP, L.CSUM_NEXT | L.CSUM_UDP]);
      const length = below(random() < 0.1 ? 9000 : 300);
      iov[at + L.IOV_OFFSET] = spoilt(L.ARENA_scratch + below(L.SCRATCH_BYTES * L.SCRATCH_SLOTS - 9000));
      iov[at + L.IOV_LENGTH] = spoilt(length);
      iov[at + L.IOV_NEXT] = spoilt(piece + 1);
      iov[at + L.IOV_CSUM] = spoilt(
        random() < 0.4 ? L.CSUM_REQUEST | below(60) | ((below(10) * 2) << 8) | flags : 0,
      );
    }
  }
  if (round % 3 === 0) {
    failed += io.execute(messages);
  } else {
    const count = io.breathe(messages, 0, 0);
    for (let d = 0; d < count; d++) {
      const at = d * L.RX_STRIDE;
      const offset = rx[at + L.RX_OFFSET];
      const length = rx[at + L.RX_LENGTH];
      check(rx[at + L.RX_FLAGS] === 0, "a port failed");
      check(offset >= 0 && length >= 0 && offset + length <= L.ARENA_scratch, "a frame outside its area");
      received++;
    }
  }
  for (let m = 0; m < messages; m++) {
    if (msg[m * L.MSG_STRIDE + L.MSG_ERRNO] === 0) sent++;
  }
}
check(sent > 1000 && received > 1000 && failed > 100, `sent ${sent}, received ${received}, failed ${failed}`);
io.removePort(1);
io.close();
console.log("sanitize: done");
