/**
 * Which flows somebody means: a plain object for people and control code, compiled to a few tests of
 * words, so that the dataplane compares numbers and a filter travels as one Int32Array.
 *
 *   tests: [word of the record, mask, value] …      a flow matches when all of them hold
 */
import {
  FLOW_BACKEND,
  FLOW_FLAGS,
  FLOW_INGRESS,
  FLOW_ORIGINAL,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_SERVICE,
  FLOW_STATE,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
} from "./flowLayout.js";

/** What is absent matches everything. Addresses are int32, ports 0 … 65535. */
export interface FlowFilter {
  /** IPv4 protocol number. */
  protocol?: number | undefined;
  /** One of STATE_*. */
  state?: number | undefined;
  /** FLAG_* bits that are all set. */
  flags?: number | undefined;
  /** The client, and the prefix length if a range is meant. */
  source?: number | undefined;
  sourceLength?: number | undefined;
  sourcePort?: number | undefined;
  /** What the client asked for: the service's address. */
  destination?: number | undefined;
  destinationLength?: number | undefined;
  destinationPort?: number | undefined;
  /** Where the flow really goes: address and port that replies come from. */
  backendAddress?: number | undefined;
  backendAddressLength?: number | undefined;
  backendPort?: number | undefined;
  /** Where replies go: the client, or what stands for it. */
  replyDestination?: number | undefined;
  replyPort?: number | undefined;
  /** Numbers of the Service port and the backend, as the stages keep them. */
  service?: number | undefined;
  backend?: number | undefined;
  /** Underlay address of the VTEP that the flow came through. */
  ingress?: number | undefined;
}

const TEST_WORDS = 3;

/** Compiles a filter. Throws RangeError on a prefix length or port out of range. */
export function flowTests(filter: FlowFilter): Int32Array {
  const tests: number[] = [];
  const word = (at: number, value: number | undefined, mask = -1) => {
    if (value !== undefined) tests.push(at, mask, value & mask);
  };
  const address = (at: number, value: number | undefined, length = 32) => {
    if (!Number.isInteger(length) || length < 0 || length > 32) throw new RangeError("prefix length");
    word(at, value, length === 0 ? 0 : -1 << (32 - length));
  };
  const port = (at: number, value: number | undefined, shift: 0 | 16) => {
    if (value === undefined) return;
    if (!Number.isInteger(value) || value < 0 || value > 0xffff) throw new RangeError("port out of range");
    word(at, value << shift, 0xffff << shift);
  };
  word(FLOW_PROTOCOL, filter.protocol);
  word(FLOW_STATE, filter.state);
  word(FLOW_FLAGS, filter.flags, filter.flags);
  address(FLOW_ORIGINAL + KEY_SOURCE, filter.source, filter.sourceLength);
  port(FLOW_ORIGINAL + KEY_PORTS, filter.sourcePort, 16);
  address(FLOW_ORIGINAL + KEY_DESTINATION, filter.destination, filter.destinationLength);
  port(FLOW_ORIGINAL + KEY_PORTS, filter.destinationPort, 0);
  address(FLOW_REPLY + KEY_SOURCE, filter.backendAddress, filter.backendAddressLength);
  port(FLOW_REPLY + KEY_PORTS, filter.backendPort, 16);
  address(FLOW_REPLY + KEY_DESTINATION, filter.replyDestination);
  port(FLOW_REPLY + KEY_PORTS, filter.replyPort, 0);
  word(FLOW_SERVICE, filter.service);
  word(FLOW_BACKEND, filter.backend);
  word(FLOW_INGRESS, filter.ingress);
  return Int32Array.from(tests);
}

/** Whether the record at `base` matches. Whether it is in use, the caller knows. */
export function matchesFlow(words: Int32Array, base: number, tests: Int32Array): boolean {
  for (let t = 0; t < tests.length; t += TEST_WORDS) {
    if ((words[base + tests[t]] & tests[t + 1]) !== tests[t + 2]) return false;
  }
  return true;
}
