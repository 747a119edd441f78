/**
 * ICMP for IPv4 (RFC 792; next-hop MTU: RFC 1191; which errors a router sends: RFC 1812 §4.3).
 *
 *    0    1    2        4            8
 *   ┌────┬────┬────────┬────────────┬─────────────────────────────────────
 *   │type│code│checksum│ rest       │ error: IP header and data of the cause
 *   └────┴────┴────────┴────────────┴─────────────────────────────────────
 */
export const HEADER = 8;
export const CHECKSUM = 2;
export const NEXT_HOP_MTU = 6;
/** Echo: identifier of the sender (RFC 792). */
export const IDENTIFIER = 4;

export const ECHO_REPLY = 0;
export const UNREACHABLE = 3;
export const SOURCE_QUENCH = 4;
export const REDIRECT = 5;
export const ECHO_REQUEST = 8;
export const TIME_EXCEEDED = 11;
export const PARAMETER_PROBLEM = 12;

/** Codes of UNREACHABLE. */
export const NETWORK_UNREACHABLE = 0;
export const HOST_UNREACHABLE = 1;
export const PORT_UNREACHABLE = 3;
export const FRAGMENTATION_NEEDED = 4;

/** Longest ICMP error, IP header included, that every host takes (RFC 1812 §4.3.2.3). */
export const ERROR_MAX = 576;

/** Whether a type is an error, about which no error is sent (RFC 1812 §4.3.2.7). */
export function isError(type: number): boolean {
  return (
    type === UNREACHABLE ||
    type === TIME_EXCEEDED ||
    type === PARAMETER_PROBLEM ||
    type === SOURCE_QUENCH ||
    type === REDIRECT
  );
}

/** Writes the header of an error; the checksum is left 0 for whoever sums the data. */
export function emitError(view: DataView, o: number, type: number, code: number, mtu: number): void {
  view.setUint16(o, (type << 8) | code);
  view.setUint16(o + CHECKSUM, 0);
  view.setUint16(o + 4, 0);
  view.setUint16(o + NEXT_HOP_MTU, mtu);
}
