/**
 * ARP for IPv4 over Ethernet (RFC 826; probes: RFC 5227 §2.1.1). Offsets count from the start of
 * the ARP packet, behind the Ethernet header.
 *
 *    0    2    4  5  6    8      14     18     24     28
 *   ┌────┬────┬──┬──┬────┬──────┬──────┬──────┬──────┐
 *   │htyp│ptyp│hl│pl│oper│ sha  │ spa  │ tha  │ tpa  │
 *   └────┴────┴──┴──┴────┴──────┴──────┴──────┴──────┘
 */
export const LENGTH = 28;
export const HARDWARE_TYPE = 0;
export const PROTOCOL_TYPE = 2;
export const HARDWARE_LENGTH = 4;
export const PROTOCOL_LENGTH = 5;
export const OPERATION = 6;
export const SENDER_HARDWARE = 8;
export const SENDER_PROTOCOL = 14;
export const TARGET_HARDWARE = 18;
export const TARGET_PROTOCOL = 24;

export const REQUEST = 1;
export const REPLY = 2;

/** Whether this is ARP for IPv4 over Ethernet: types and lengths as RFC 826 wants them. */
export function isEthernetIpv4(view: DataView, o: number): boolean {
  return view.getInt32(o) === 0x00010800 && view.getUint16(o + HARDWARE_LENGTH) === 0x0604;
}

/** REQUEST, REPLY or another one. */
export function operation(view: DataView, o: number): number {
  return view.getUint16(o + OPERATION);
}

/** Sender's IPv4 address; 0 in a probe. */
export function senderAddress(view: DataView, o: number): number {
  return view.getInt32(o + SENDER_PROTOCOL);
}

/** Target's IPv4 address, int32. */
export function targetAddress(view: DataView, o: number): number {
  return view.getInt32(o + TARGET_PROTOCOL);
}

/** Turns the request at `o` into the reply that says `target address` is at this MAC, in place. */
export function turnIntoReply(view: DataView, o: number, hi: number, lo: number): void {
  const target = targetAddress(view, o);
  view.setUint16(o + OPERATION, REPLY);
  view.setUint16(o + TARGET_HARDWARE, view.getUint16(o + SENDER_HARDWARE));
  view.setInt32(o + TARGET_HARDWARE + 2, view.getInt32(o + SENDER_HARDWARE + 2));
  view.setInt32(o + TARGET_PROTOCOL, view.getInt32(o + SENDER_PROTOCOL));
  view.setUint16(o + SENDER_HARDWARE, hi);
  view.setInt32(o + SENDER_HARDWARE + 2, lo);
  view.setInt32(o + SENDER_PROTOCOL, target);
}

/** Writes an ARP packet of LENGTH bytes. */
export function emit(
  view: DataView,
  o: number,
  op: number,
  senderHi: number,
  senderLo: number,
  sender: number,
  targetHi: number,
  targetLo: number,
  target: number,
): void {
  view.setInt32(o, 0x00010800);
  view.setUint16(o + HARDWARE_LENGTH, 0x0604);
  view.setUint16(o + OPERATION, op);
  view.setUint16(o + SENDER_HARDWARE, senderHi);
  view.setInt32(o + SENDER_HARDWARE + 2, senderLo);
  view.setInt32(o + SENDER_PROTOCOL, sender);
  view.setUint16(o + TARGET_HARDWARE, targetHi);
  view.setInt32(o + TARGET_HARDWARE + 2, targetLo);
  view.setInt32(o + TARGET_PROTOCOL, target);
}
