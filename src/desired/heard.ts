/**
 * What the node's raw sockets are to hear, as classic BPF over an IPv4 packet. Pure. No policy rule
 * can bring these packets to podwire0: ICMP has no ports, and fragments do not show theirs. The
 * dataplane judges each of them again.
 */
import type { PortRange } from "../model/portRanges.js";

// Instructions (linux/bpf_common.h).
const LDW = 0x20; // ld [k]
const LDX_HEADER_LENGTH = 0xb1; // ldxb 4 * ([k] & 0xf)
const LDB_X = 0x50; // ldb [x + k]
const LDH_X = 0x48; // ldh [x + k]
const JEQ = 0x15;
const JGE = 0x35;
const JGT = 0x25;
const RET = 0x06;
const WHOLE = 0xffffffff;
/** SKF_AD_OFF + SKF_AD_IFINDEX (linux/filter.h): index of the interface that a packet came in by. */
const INTERFACE = 0xfffff000 + 8;

/** IPv4 protocol numbers. */
export const ICMP = 1;
export const UDP = 17;

const ECHO_REPLY = 0;
/** Unreachable, source quench, time exceeded, parameter problem (RFC 792). */
const ERRORS = [3, 4, 11, 12];

/** ICMP errors, and echo replies whose identifier lies in a range. */
export function icmpFilter(identifiers: PortRange): number[] {
  const { first, last } = identifiers;
  return [
    [LDX_HEADER_LENGTH, 0, 0, 0],
    [LDB_X, 0, 0, 0],
    [JEQ, ERRORS.length, 0, ECHO_REPLY],
    ...ERRORS.map((type, n) => [JEQ, ERRORS.length - n + 2, n === ERRORS.length - 1 ? 4 : 0, type]),
    [LDH_X, 0, 0, 4],
    [JGE, 0, 2, first],
    [JGT, 1, 0, last],
    [RET, 0, 0, WHOLE],
    [RET, 0, 0, 0],
  ].flat();
}

/** UDP datagrams to ports in one of the ranges. */
export function udpFilter(ranges: readonly PortRange[]): number[] {
  const tests = ranges.flatMap(({ first, last }, n) => {
    const accept = 2 * (ranges.length - 1 - n) + 1;
    return [
      [JGE, 0, 1, first],
      [JGT, 0, accept, last],
    ];
  });
  return [
    [LDX_HEADER_LENGTH, 0, 0, 0],
    [LDH_X, 0, 0, 2],
    ...tests,
    [RET, 0, 0, 0],
    [RET, 0, 0, WHOLE],
  ].flat();
}

/**
 * `filter` for what came in by other interfaces than the one with index `own`. With podwire0's: what that
 * gave the node has been through the dataplane. Heard again, an ICMP error with the addresses that the
 * node knows would be looked up as though it had those that others see, and might be another flow's.
 */
export function heardElsewhere(filter: readonly number[], own: number): number[] {
  return [[LDW, 0, 0, INTERFACE], [JEQ, 0, 1, own], [RET, 0, 0, 0], filter].flat();
}
