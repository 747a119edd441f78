/**
 * VXLAN headers (RFC 7348 §5).
 *
 *    0     1          4     7          8
 *   ┌─────┬──────────┬─────┬──────────┬─────────────
 *   │flags│ reserved │ VNI │ reserved │ inner frame
 *   └─────┴──────────┴─────┴──────────┴─────────────
 *
 * Reserved fields are sent as zero and ignored on receipt.
 */
export const HEADER = 8;
export const FLAG_VNI = 0x08;
/** UDP port assigned by IANA. */
export const PORT = 4789;
/** What VXLAN over IPv4 adds to an inner IP packet: inner Ethernet, VXLAN, UDP, outer IPv4. */
export const OVERHEAD_IPV4 = 14 + 8 + 8 + 20;

export function hasVni(view: DataView, o: number): boolean {
  return (view.getUint8(o) & FLAG_VNI) !== 0;
}

export function vni(view: DataView, o: number): number {
  return view.getInt32(o + 4) >>> 8;
}

export function emit(view: DataView, o: number, networkIdentifier: number): void {
  view.setInt32(o, FLAG_VNI << 24);
  view.setInt32(o + 4, networkIdentifier << 8);
}
