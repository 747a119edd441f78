/**
 * TCP headers (RFC 9293 §3.1).
 *
 *    0    2    4     8     12       13    14     16       18  20
 *   ┌────┬────┬─────┬─────┬────────┬─────┬──────┬────────┬───┬─────────
 *   │ sp │ dp │ seq │ ack │ offset │flags│window│checksum│urg│ options…
 *   └────┴────┴─────┴─────┴────────┴─────┴──────┴────────┴───┴─────────
 */
export const HEADER_MIN = 20;
export const SEQUENCE = 4;
export const ACKNOWLEDGEMENT = 8;
export const DATA_OFFSET = 12;
export const FLAGS = 13;
export const WINDOW = 14;
export const CHECKSUM = 16;
export const URGENT = 18;

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;
export const URG = 0x20;
export const ECE = 0x40;
export const CWR = 0x80;

export function headerLength(view: DataView, o: number): number {
  return (view.getUint8(o + DATA_OFFSET) >>> 4) << 2;
}

/** Option kinds (RFC 9293 §3.2, RFC 7323 §2.2). */
const OPTION_END = 0;
const OPTION_NOP = 1;
const OPTION_WINDOW_SCALE = 3;

/** The window scale option in a header of `length` bytes at `o`: its shift count, -1 without. */
export function windowScale(view: DataView, o: number, length: number): number {
  const end = o + length;
  for (let at = o + HEADER_MIN; at + 2 < end; ) {
    const kind = view.getUint8(at);
    if (kind === OPTION_END) return -1;
    if (kind === OPTION_NOP) {
      at++;
      continue;
    }
    if (kind === OPTION_WINDOW_SCALE) return view.getUint8(at + 2);
    at += Math.max(2, view.getUint8(at + 1));
  }
  return -1;
}
