/**
 * Messages of rtnetlink(7) about links: RTM_NEWLINK and RTM_DELLINK. Offsets count from the start of
 * the message. Numbers are in the machine's order, which is little-endian on all that we run on.
 *
 *   0       4     6      8    12   16       18    20     24     28      32
 *   ┌───────┬─────┬──────┬────┬────┬────────┬─────┬──────┬──────┬───────┬────────────┐
 *   │length │type │flags │seq │pid │family 0│type │index │flags │change │attributes …│
 *   └───────┴─────┴──────┴────┴────┴────────┴─────┴──────┴──────┴───────┴────────────┘
 */
export const LENGTH = 0;
export const TYPE = 4;
export const FLAGS = 24;
/** Length of both headers: what a message about a link has at least. */
export const HEADER = 32;

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;

export const IFF_UP = 0x1;
/** The driver reports carrier. */
export const IFF_LOWER_UP = 0x10000;

/** How often the link has lost its carrier. */
const IFLA_CARRIER_DOWN_COUNT = 48;
const ATTRIBUTE_HEADER = 4;

/** Whether `length` bytes at `o` hold a whole message about a link; the accessors are then safe. */
export function isLink(view: DataView, o: number, length: number): boolean {
  if (length < HEADER) return false;
  const stated = view.getUint32(o + LENGTH, true);
  const type = view.getUint16(o + TYPE, true);
  return stated >= HEADER && stated <= length && (type === RTM_NEWLINK || type === RTM_DELLINK);
}

/** The link is there, up, and has a carrier. */
export function hasCarrier(view: DataView, o: number): boolean {
  const wanted = IFF_UP | IFF_LOWER_UP;
  return (
    view.getUint16(o + TYPE, true) === RTM_NEWLINK && (view.getInt32(o + FLAGS, true) & wanted) === wanted
  );
}

/** How often the link has lost its carrier; -1 where the message does not say. */
export function carrierDownCount(view: DataView, o: number): number {
  const end = o + view.getUint32(o + LENGTH, true);
  for (let a = o + HEADER; a + ATTRIBUTE_HEADER <= end; ) {
    const length = view.getUint16(a, true);
    if (length < ATTRIBUTE_HEADER || a + length > end) return -1;
    if (view.getUint16(a + 2, true) === IFLA_CARRIER_DOWN_COUNT && length >= ATTRIBUTE_HEADER + 4)
      return view.getInt32(a + ATTRIBUTE_HEADER, true);
    a += (length + 3) & ~3;
  }
  return -1;
}
