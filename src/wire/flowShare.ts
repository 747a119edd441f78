/**
 * Messages with which a node tells another about flows of load-balancer addresses (dataplane/FlowSharing):
 * UDP between tunnel addresses, inside VXLAN. Offsets count from the start of the UDP payload. Numbers
 * are big-endian.
 *
 *    0       1     2     4     8     12
 *   ┌───────┬─────┬─────┬─────┬─────┬──────────┬──────────┬─
 *   │version│flags│count│sweep│total│ record   │ record   │ … count of them
 *   └───────┴─────┴─────┴─────┴─────┴──────────┴──────────┴─
 *
 *   version   1; another one is not read
 *   flags     LAST: the last message of its sweep
 *   sweep     number of the sender's look at all its flows, of which this is a part
 *   total     LAST: records of the whole sweep, to this receiver; else 0
 *
 *    0       4          8       12     14   16           18       19
 *   ┌───────┬──────────┬───────┬──────┬────┬────────────┬────────┬────┐
 *   │client │asked     │backend│client│port│port of the │protocol│zero│
 *   │address│address   │address│'s    │    │backend     │        │    │
 *   │       │          │       │port  │    │            │        │    │
 *   └───────┴──────────┴───────┴──────┴────┴────────────┴────────┴────┘
 */
export const VERSION = 1;
export const LAST = 1;

export const HEADER = 12;
export const FLAGS = 1;
export const COUNT = 2;
export const SWEEP = 4;
export const TOTAL = 8;

export const RECORD = 20;
export const CLIENT_ADDRESS = 0;
export const ASKED_ADDRESS = 4;
export const BACKEND_ADDRESS = 8;
/** Port of the client << 16 | port that it asked for. */
export const PORTS = 12;
export const BACKEND_PORT = 16;
export const PROTOCOL = 18;

/** Writes a header. */
export function emitHeader(
  view: DataView,
  o: number,
  flags: number,
  count: number,
  sweep: number,
  total: number,
): void {
  view.setUint8(o, VERSION);
  view.setUint8(o + FLAGS, flags);
  view.setUint16(o + COUNT, count);
  view.setInt32(o + SWEEP, sweep);
  view.setInt32(o + TOTAL, total);
}

/** Writes a record. Addresses are int32, `ports` as in PORTS. */
export function emitRecord(
  view: DataView,
  o: number,
  client: number,
  asked: number,
  backend: number,
  ports: number,
  backendPort: number,
  protocol: number,
): void {
  view.setInt32(o + CLIENT_ADDRESS, client);
  view.setInt32(o + ASKED_ADDRESS, asked);
  view.setInt32(o + BACKEND_ADDRESS, backend);
  view.setInt32(o + PORTS, ports);
  view.setUint16(o + BACKEND_PORT, backendPort);
  view.setUint16(o + PROTOCOL, protocol << 8);
}

/** Whether `length` bytes at `o` are a whole message of this version. */
export function isValid(view: DataView, o: number, length: number): boolean {
  return (
    length >= HEADER && view.getUint8(o) === VERSION && length === HEADER + RECORD * view.getUint16(o + COUNT)
  );
}
