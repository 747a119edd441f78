/**
 * What a packet's comment says: where it came from, what became of it and why, its flow. Words as in
 * `podwire conntrack list`, so that one knows the other's output.
 *
 *   from=default/client verdict=tunnel to=node-b tcp ESTABLISHED original src=… dst=… sport=… dport=…
 *   src=… dst=… sport=… dport=… flags=dnat service=default/web:http backend=10.1.79.75:8080
 */
import { formatIpv4 } from "../model/ipv4.js";
import { ANSWERED, DROPPED, HELD, TO_TAP, TO_VTEP } from "../packet/Batch.js";
import { DROP_REASON_NAMES } from "../packet/DropReason.js";
import { flagNames, PROTOCOL_NAMES } from "../tables/FlowReader.js";
import { STATE_NAMES } from "../tables/flowLayout.js";
import * as ipv4 from "../wire/ipv4.js";
import {
  RECORD_DIRECTION,
  RECORD_FLAG_HEARD,
  RECORD_FLAG_MADE,
  RECORD_FLAG_OUT,
  RECORD_FLAG_PARTIAL,
  RECORD_FLAGS,
  RECORD_FLOW_FLAGS,
  RECORD_GSO,
  RECORD_ORIGINAL,
  RECORD_OUT,
  RECORD_PORT,
  RECORD_PROTOCOL,
  RECORD_REPLY,
  RECORD_SERVICE,
  RECORD_STATE,
  RECORD_VERDICT,
  RECORD_VTEP,
} from "./layout.js";

/** Names for the numbers that the dataplane goes by; "" where there is none (any more). */
export interface CaptureNames {
  /** What is behind the TAP with a port number: namespace/name of a pod, podwire0. */
  port(port: number): string;
  /** Node of the VTEP with an index. */
  vtep(index: number): string;
  /** namespace/name:port of the service port with a number. */
  service(id: number): string;
}

const VERDICTS: Readonly<Record<number, string>> = {
  [DROPPED]: "dropped",
  [ANSWERED]: "answered",
  [TO_TAP]: "deliver",
  [TO_VTEP]: "tunnel",
  [HELD]: "held",
};

/** The comment of the record at `record` of a ring. */
export function commentOf(words: Int32Array, record: number, names: CaptureNames): string {
  const flags = words[record + RECORD_FLAGS];
  const gso = words[record + RECORD_GSO];
  return [
    ...((flags & RECORD_FLAG_MADE) === 0 ? [] : ["made-by=podwire", "in-answer-to:"]),
    ...from(words, record, names),
    ...verdict(words, record, names),
    ...(words[record + RECORD_DIRECTION] < 0 ? [] : flow(words, record, names)),
    ...((flags & RECORD_FLAG_HEARD) === 0 ? [] : ["heard-by=raw-socket"]),
    ...((flags & RECORD_FLAG_PARTIAL) === 0 ? [] : ["checksum=partial"]),
    ...(gso === 0 ? [] : [`gso-size=${gso}`]),
  ].join(" ");
}

/** Where a packet came from; where the kernel was asked to send it, if it refused. */
function from(words: Int32Array, record: number, names: CaptureNames): string[] {
  const vtep = words[record + RECORD_VTEP];
  const name = vtep >= 0 ? names.vtep(vtep) : names.port(words[record + RECORD_PORT]);
  const flags = words[record + RECORD_FLAGS];
  // Dropped on its way out: the kernel refused it, and where it came from is not known any more.
  const refused =
    words[record + RECORD_VERDICT] === DROPPED &&
    (flags & (RECORD_FLAG_OUT | RECORD_FLAG_MADE)) === RECORD_FLAG_OUT;
  return name === "" ? [] : [`${refused ? "to=" : "from="}${name}`];
}

function verdict(words: Int32Array, record: number, names: CaptureNames): string[] {
  const number = words[record + RECORD_VERDICT];
  const out = words[record + RECORD_OUT];
  const said = `verdict=${VERDICTS[number] ?? number}`;
  if (number === DROPPED) return [said, `reason=${DROP_REASON_NAMES[out] ?? out}`];
  if (number === TO_TAP) return [said, `to=${names.port(out) || `port ${out}`}`];
  if (number === TO_VTEP) return [said, `to=${names.vtep(out) || `VTEP ${out}`}`];
  return [said];
}

function flow(words: Int32Array, record: number, names: CaptureNames): string[] {
  const protocol = words[record + RECORD_PROTOCOL];
  const service = words[record + RECORD_SERVICE];
  const flags = flagNames(words[record + RECORD_FLOW_FLAGS]);
  const isEcho = protocol === ipv4.PROTOCOL_ICMP;
  const source = formatIpv4(words[record + RECORD_REPLY]);
  const backend = isEcho ? source : `${source}:${words[record + RECORD_REPLY + 2] >>> 16}`;
  return [
    PROTOCOL_NAMES[protocol] ?? `proto=${protocol}`,
    STATE_NAMES[words[record + RECORD_STATE]] ?? "",
    words[record + RECORD_DIRECTION] === 0 ? "original" : "reply",
    key(words, record + RECORD_ORIGINAL, isEcho, false),
    key(words, record + RECORD_REPLY, isEcho, true),
    ...(flags.length === 0 ? [] : [`flags=${flags.join(",")}`]),
    ...(service === 0 ? [] : [`service=${names.service(service) || service}`]),
    ...(service === 0 ? [] : [`backend=${backend}`]),
  ];
}

/** One direction of a flow; an echo's identifier stands where the asker's port would. */
function key(words: Int32Array, at: number, isEcho: boolean, reply: boolean): string {
  const addresses = `src=${formatIpv4(words[at])} dst=${formatIpv4(words[at + 1])}`;
  const sourcePort = words[at + 2] >>> 16;
  const destinationPort = words[at + 2] & 0xffff;
  if (isEcho) return `${addresses} id=${reply ? destinationPort : sourcePort}`;
  return `${addresses} sport=${sourcePort} dport=${destinationPort}`;
}
