/**
 * BFD control packets (RFC 5880 §4.1) without the optional authentication section. Offsets count
 * from the start of the packet, behind the UDP header. Intervals are microseconds.
 *
 *    0         1              2     3    4        8          12       16       20       24
 *   ┌─────────┬──────────────┬─────┬────┬────────┬──────────┬────────┬────────┬────────┐
 *   │vers,diag│state,PFCADM  │mult │len │my discr│your discr│min tx  │min rx  │min echo│
 *   └─────────┴──────────────┴─────┴────┴────────┴──────────┴────────┴────────┴────────┘
 */
export const LENGTH = 24;
/** Shortest packet with an authentication section (RFC 5880 §6.8.6). */
export const LENGTH_AUTHENTICATED = 26;

export const VERSION_DIAGNOSTIC = 0;
export const STATE_FLAGS = 1;
export const DETECT_MULT = 2;
export const PACKET_LENGTH = 3;
export const MY_DISCRIMINATOR = 4;
export const YOUR_DISCRIMINATOR = 8;
export const DESIRED_MIN_TX = 12;
export const REQUIRED_MIN_RX = 16;
export const REQUIRED_MIN_ECHO_RX = 20;

export const VERSION = 1;

/** RFC 5881 §4: single hop, control packets. */
export const UDP_PORT = 3784;
export const SOURCE_PORT_MIN = 49152;
export const SOURCE_PORT_MAX = 65535;
/** RFC 5881 §5: what is sent has this TTL, and what has come over a router has another. */
export const TTL = 255;

export const ADMIN_DOWN = 0;
export const DOWN = 1;
export const INIT = 2;
export const UP = 3;
/** Names of the states by number. */
export const STATE_NAMES = ["AdminDown", "Down", "Init", "Up"] as const;

export const FLAG_POLL = 0x20;
export const FLAG_FINAL = 0x10;
export const FLAG_CONTROL_PLANE_INDEPENDENT = 0x08;
export const FLAG_AUTHENTICATION = 0x04;
export const FLAG_DEMAND = 0x02;
export const FLAG_MULTIPOINT = 0x01;

export const DIAG_NONE = 0;
export const DIAG_DETECTION_TIME_EXPIRED = 1;
export const DIAG_NEIGHBOR_SIGNALED_DOWN = 3;
export const DIAG_FORWARDING_PLANE_RESET = 4;
export const DIAG_PATH_DOWN = 5;
export const DIAG_ADMIN_DOWN = 7;
/** Names of the diagnostics by number. */
export const DIAG_NAMES = [
  "No Diagnostic",
  "Control Detection Time Expired",
  "Echo Function Failed",
  "Neighbor Signaled Session Down",
  "Forwarding Plane Reset",
  "Path Down",
  "Concatenated Path Down",
  "Administratively Down",
  "Reverse Concatenated Path Down",
] as const;

/** What is wrong with a packet by itself; VALID where nothing is. */
export const VALID = 0;
export const TOO_SHORT = 1;
export const BAD_VERSION = 2;
export const BAD_LENGTH = 3;
export const ZERO_DETECT_MULT = 4;
export const MULTIPOINT = 5;
export const ZERO_MY_DISCRIMINATOR = 6;
export const ZERO_YOUR_DISCRIMINATOR = 7;
export const AUTHENTICATED = 8;

/**
 * The checks of RFC 5880 §6.8.6 that need no session, in its order, on a packet of `length` bytes
 * at `o`. After VALID every accessor below is safe. Authentication is not in use here, so that a
 * packet with the A bit is discarded.
 */
export function check(view: DataView, o: number, length: number): number {
  if (length < LENGTH) return TOO_SHORT;
  if (view.getUint8(o) >>> 5 !== VERSION) return BAD_VERSION;
  const bits = flags(view, o);
  const stated = view.getUint8(o + PACKET_LENGTH);
  const least = (bits & FLAG_AUTHENTICATION) !== 0 ? LENGTH_AUTHENTICATED : LENGTH;
  if (stated < least || stated > length) return BAD_LENGTH;
  if (view.getUint8(o + DETECT_MULT) === 0) return ZERO_DETECT_MULT;
  if ((bits & FLAG_MULTIPOINT) !== 0) return MULTIPOINT;
  if (myDiscriminator(view, o) === 0) return ZERO_MY_DISCRIMINATOR;
  if (yourDiscriminator(view, o) === 0 && state(view, o) > DOWN) return ZERO_YOUR_DISCRIMINATOR;
  if ((bits & FLAG_AUTHENTICATION) !== 0) return AUTHENTICATED;
  return VALID;
}

/** Why the sender's session went down last: a DIAG_* code (RFC 5880 §4.1). */
export function diagnostic(view: DataView, o: number): number {
  return view.getUint8(o) & 0x1f;
}

/** ADMIN_DOWN, DOWN, INIT or UP. */
export function state(view: DataView, o: number): number {
  return view.getUint8(o + STATE_FLAGS) >>> 6;
}

/** FLAG_* bits. */
export function flags(view: DataView, o: number): number {
  return view.getUint8(o + STATE_FLAGS) & 0x3f;
}

/** So many packets may be lost in a row. */
export function detectMult(view: DataView, o: number): number {
  return view.getUint8(o + DETECT_MULT);
}

/** As int32. */
export function myDiscriminator(view: DataView, o: number): number {
  return view.getInt32(o + MY_DISCRIMINATOR);
}

/** As int32; 0 where the sender does not know ours. */
export function yourDiscriminator(view: DataView, o: number): number {
  return view.getInt32(o + YOUR_DISCRIMINATOR);
}

/** Microseconds, unsigned. */
export function desiredMinTx(view: DataView, o: number): number {
  return view.getUint32(o + DESIRED_MIN_TX);
}

/** Microseconds, unsigned; 0: the sender wants no packets. */
export function requiredMinRx(view: DataView, o: number): number {
  return view.getUint32(o + REQUIRED_MIN_RX);
}

/** Writes a packet of LENGTH bytes. Required Min Echo RX is 0: echoes are not looped back. */
export function emit(
  view: DataView,
  o: number,
  diag: number,
  sta: number,
  flagBits: number,
  mult: number,
  mine: number,
  yours: number,
  minTxUs: number,
  minRxUs: number,
): void {
  view.setUint8(o + VERSION_DIAGNOSTIC, (VERSION << 5) | diag);
  view.setUint8(o + STATE_FLAGS, (sta << 6) | flagBits);
  view.setUint8(o + DETECT_MULT, mult);
  view.setUint8(o + PACKET_LENGTH, LENGTH);
  view.setInt32(o + MY_DISCRIMINATOR, mine);
  view.setInt32(o + YOUR_DISCRIMINATOR, yours);
  view.setUint32(o + DESIRED_MIN_TX, minTxUs);
  view.setUint32(o + REQUIRED_MIN_RX, minRxUs);
  view.setUint32(o + REQUIRED_MIN_ECHO_RX, 0);
}
