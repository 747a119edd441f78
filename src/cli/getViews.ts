/** What `podwire get` and `podwire top` show, as text. Pure. */
import type { CounterReport, ServiceView, VtepView } from "../agent/counterReport.js";
import type { FlowView } from "../agent/flowReport.js";
import type { TrafficCount } from "../worker/control.js";

/** How a kind of thing is listed. */
export interface View<T> {
  head: readonly string[];
  /** More columns of -o wide. */
  wide: readonly string[];
  /** Cells of `head`, then of `wide`. */
  row(item: T): readonly string[];
  /** What it is the same thing by, from one look to the next. */
  key(item: T): string;
}

/** One drop reason. */
export interface DropView {
  reason: string;
  frames: number;
}

/** The drop reasons that occurred, most frames first. */
export function dropViews({ dropped }: Pick<CounterReport, "dropped">): DropView[] {
  return Object.entries(dropped)
    .map(([reason, frames]) => ({ reason, frames }))
    .sort((a, b) => b.frames - a.frames || (a.reason < b.reason ? -1 : 1));
}

export const DROPS: View<DropView> = {
  head: ["REASON", "FRAMES"],
  wide: [],
  row: ({ reason, frames }) => [reason, String(frames)],
  key: ({ reason }) => reason,
};

const traffic = ({ packets, bytes }: TrafficCount): string[] => [String(packets), byteCount(bytes)];

export const VTEPS: View<VtepView> = {
  head: ["NODE", "UNDERLAY", "RX PACKETS", "RX BYTES", "TX PACKETS", "TX BYTES"],
  wide: [],
  row: ({ node, address, received, sent }) => [node, address, ...traffic(received), ...traffic(sent)],
  key: ({ node }) => node,
};

export const SERVICES: View<ServiceView> = {
  head: ["NAMESPACE", "NAME", "PORT", "CLUSTER-IP", "ENDPOINTS", "REQUESTS", "BYTES", "REPLIES", "BYTES"],
  wide: ["NODE-PORT", "EXTERNAL-IP"],
  row: ({
    namespace,
    name,
    l4Port,
    protocol,
    clusterIP,
    endpoints,
    requests,
    replies,
    nodePort,
    externalIPs,
  }) => [
    namespace,
    name,
    `${l4Port}/${protocol}`,
    clusterIP,
    String(endpoints),
    ...traffic(requests),
    ...traffic(replies),
    nodePort === 0 ? "<none>" : String(nodePort),
    externalIPs.length === 0 ? "<none>" : externalIPs.join(","),
  ],
  key: ({ namespace, name, port, protocol }) => `${namespace}/${name}:${port}/${protocol}`,
};

export const FLOWS: View<FlowView> = {
  head: ["PROTO", "STATE", "CLIENT", "DESTINATION", "ANSWERED BY", "SERVICE", "AGE", "EXPIRES"],
  wide: ["SEEN AS", "INGRESS", "FLAGS"],
  row: ({ protocol, protocolNumber, state, original, reply, service, ingress, age, timeout, flags }) => {
    // An echo's identifier is no port of anybody's.
    const at = (address: string, l4Port: number) =>
      protocolNumber === ICMP ? address : `${address}:${l4Port}`;
    return [
      protocol,
      state,
      protocolNumber === ICMP
        ? `${original.source} id ${original.sourcePort}`
        : at(original.source, original.sourcePort),
      at(original.destination, original.destinationPort),
      at(reply.source, reply.sourcePort),
      service === "" ? "<none>" : service,
      duration(age),
      duration(timeout),
      at(reply.destination, reply.destinationPort),
      ingress === "" ? "<none>" : ingress,
      flags.length === 0 ? "<none>" : flags.join(","),
    ];
  },
  key: ({ protocol, original }) => `${protocol} ${JSON.stringify(original)}`,
};

const ICMP = 1;

/** Seconds as kubectl writes ages: two units at most. */
export function duration(seconds: number): string {
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10 && seconds % 60 > 0) return `${minutes}m${seconds % 60}s`;
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8 && minutes % 60 > 0) return `${hours}h${minutes % 60}m`;
  return hours < 48 ? `${hours}h` : `${Math.floor(hours / 24)}d`;
}

/** Bytes with a unit: 999, 1.5KiB, 12MiB. */
export function byteCount(bytes: number): string {
  return scaled(bytes, 1024, ["", "KiB", "MiB", "GiB", "TiB", "PiB"]);
}

/** A rate with a unit: 950, 1.5k, 12M. */
export function rate(perSecond: number): string {
  return scaled(perSecond, 1000, ["", "k", "M", "G", "T"]);
}

function scaled(value: number, step: number, units: readonly string[]): string {
  let unit = 0;
  let left = value;
  // What would be shown as a full step is shown in the next unit.
  while (unit < units.length - 1 && left >= step - 0.5) {
    left /= step;
    unit++;
  }
  const digits = unit > 0 && left < 9.95 ? left.toFixed(1) : left.toFixed(0);
  return `${digits}${units[unit]}`;
}
