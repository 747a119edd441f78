/**
 * Sets of port numbers as text: "8080,30000-32767", the form of net.ipv4.ip_local_reserved_ports
 * (proc_do_large_bitmap) and of --service-node-port-range.
 */

/** A range of port numbers, both ends included. */
export interface PortRange {
  first: number;
  last: number;
}

const PORTS = 65536;

/** The range that "30000-32767" or "8080" names; null where the text names none. */
export function parsePortRange(text: string): PortRange | null {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  if (match === null) return null;
  const first = Number(match[1]);
  const last = Number(match[2] ?? match[1]);
  return first <= last && last < PORTS ? { first, last } : null;
}

/** "30000-32767", or "8080" where both ends are the same. */
export function formatPortRange({ first, last }: PortRange): string {
  return first === last ? String(first) : `${first}-${last}`;
}

/** Whether two ranges have a port in common. */
export function portRangesOverlap(a: PortRange, b: PortRange): boolean {
  return a.first <= b.last && b.first <= a.last;
}

/** The ports of both sets, in the kernel's form: ascending, without overlaps. What is no range is left out. */
export function addPorts(a: string, b: string): string {
  return format(mark(mark(new Uint8Array(PORTS), a, 1), b, 1));
}

/** The ports of `a` that are not in `b`, in the kernel's form. */
export function removePorts(a: string, b: string): string {
  return format(mark(mark(new Uint8Array(PORTS), a, 1), b, 0));
}

function mark(set: Uint8Array, text: string, value: number): Uint8Array {
  for (const part of text.split(",")) {
    const range = parsePortRange(part.trim());
    if (range !== null) set.fill(value, range.first, range.last + 1);
  }
  return set;
}

function format(set: Uint8Array): string {
  const ranges: string[] = [];
  for (let first = set.indexOf(1); first >= 0; ) {
    const end = set.indexOf(0, first);
    const last = (end < 0 ? PORTS : end) - 1;
    ranges.push(formatPortRange({ first, last }));
    first = end < 0 ? -1 : set.indexOf(1, end);
  }
  return ranges.join(",");
}
