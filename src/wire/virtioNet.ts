/**
 * The virtio-net header in front of every frame of a TAP with IFF_VNET_HDR (struct virtio_net_hdr,
 * include/uapi/linux/virtio_net.h; VIRTIO 1.2 §5.1.6). Fields are little-endian, as on every
 * machine that TUNSETVNETBE does not change.
 *
 *    0     1        2       4        6          8           10
 *   ┌─────┬────────┬───────┬────────┬──────────┬───────────┐
 *   │flags│gso_type│hdr_len│gso_size│csum_start│csum_offset│
 *   └─────┴────────┴───────┴────────┴──────────┴───────────┘
 *
 * With UDP tunnel GSO (kernel >= 6.17) it is 24 bytes: num_buffers 10, hash_value 12,
 * hash_report 16, padding 18, outer_th_offset 20, inner_nh_offset 22.
 */
export const HEADER = 10;
export const HEADER_TUNNEL = 24;

/** flags */
export const NEEDS_CSUM = 1;
export const DATA_VALID = 2;
/** The outer UDP checksum is to be filled in, too. */
export const UDP_TUNNEL_CSUM = 8;

/** gso_type */
export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_TCPV6 = 4;
export const GSO_UDP_L4 = 5;
export const GSO_UDP_TUNNEL_IPV4 = 0x20;
export const GSO_ECN = 0x80;

export function flags(view: DataView, o: number): number {
  return view.getUint8(o);
}

/** gso_type with GSO_ECN. */
export function gsoType(view: DataView, o: number): number {
  return view.getUint8(o + 1);
}

export function gsoSize(view: DataView, o: number): number {
  return view.getUint16(o + 4, true);
}

export function csumStart(view: DataView, o: number): number {
  return view.getUint16(o + 6, true);
}

export function csumOffset(view: DataView, o: number): number {
  return view.getUint16(o + 8, true);
}

/** Writes the ten bytes. */
export function emit(
  view: DataView,
  o: number,
  flagBits: number,
  type: number,
  headerLength: number,
  segmentSize: number,
  checksumStart: number,
  checksumOffset: number,
): void {
  view.setUint16(o, flagBits | (type << 8), true);
  view.setUint16(o + 2, headerLength, true);
  view.setUint16(o + 4, segmentSize, true);
  view.setUint16(o + 6, checksumStart, true);
  view.setUint16(o + 8, checksumOffset, true);
}

/** Writes the fields behind the first ten bytes of a 24-byte header. */
export function emitTunnel(view: DataView, o: number, outerTransport: number, innerNetwork: number): void {
  view.setUint16(o + 10, 0);
  view.setInt32(o + 12, 0);
  view.setInt32(o + 16, 0);
  view.setUint16(o + 20, outerTransport, true);
  view.setUint16(o + 22, innerNetwork, true);
}
