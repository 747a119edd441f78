/** Flow tables and drafts for tests. Addresses are dotted or int32. */
import { FlowTable, formatFlowTable } from "../../src/tables/FlowTable.js";
import {
  FLOW_FLAGS,
  FLOW_ORIGINAL,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_STATE,
  FLOW_WORDS,
  flowTableBytes,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  KEY_TAG,
  TCP_SYN_SENT,
} from "../../src/tables/flowLayout.js";
import { address } from "./frames.js";

export interface Key {
  source: string | number;
  destination: string | number;
  sourcePort: number;
  destinationPort: number;
  tag?: number;
}

export function newTable(capacity: number, key: [number, number] = [0x1234567, 0x89abcde]): FlowTable {
  const buffer = new SharedArrayBuffer(flowTableBytes(capacity));
  formatFlowTable(buffer, capacity, key);
  return new FlowTable(buffer);
}

export function number(a: string | number): number {
  return typeof a === "string" ? address(a) : a;
}

export function portsOf(key: Key): number {
  return (key.sourcePort << 16) | key.destinationPort;
}

/** Writes a key into a draft. */
function setKey(draft: Int32Array, at: number, key: Key): void {
  draft[at + KEY_SOURCE] = number(key.source);
  draft[at + KEY_DESTINATION] = number(key.destination);
  draft[at + KEY_PORTS] = portsOf(key);
  draft[at + KEY_TAG] = key.tag ?? 0;
}

/** A draft; without `reply` the flow is not translated. */
export function draft(
  protocol: number,
  original: Key,
  reply: Key = turned(original),
  state = TCP_SYN_SENT,
  flags = 0,
): Int32Array {
  const words = new Int32Array(FLOW_WORDS);
  words[FLOW_PROTOCOL] = protocol;
  words[FLOW_STATE] = state;
  words[FLOW_FLAGS] = flags;
  setKey(words, FLOW_ORIGINAL, original);
  setKey(words, FLOW_REPLY, reply);
  return words;
}

/** The key of a packet the other way. */
export function turned(key: Key): Key {
  return {
    source: key.destination,
    destination: key.source,
    sourcePort: key.destinationPort,
    destinationPort: key.sourcePort,
  };
}

/** What find says of a key: 2 × record + direction, or -1. */
export function find(table: FlowTable, protocol: number, key: Key): number {
  return table.find(number(key.source), number(key.destination), portsOf(key), protocol, key.tag ?? 0);
}
