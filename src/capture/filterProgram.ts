/**
 * Filters as numbers, as a dataplane thread goes through them without garbage: instructions in postfix
 * order. filter.ts makes them of text.
 */
import * as ipv4 from "../wire/ipv4.js";

/** Words of an instruction. */
export const STRIDE = 4;
export const OP_AND = 0;
export const OP_OR = 1;
export const OP_NOT = 2;
/** Sides, address, mask. */
export const OP_NET = 3;
/** Sides, lowest, highest. */
export const OP_PORT = 4;
/** IPv4 protocol number. */
export const OP_PROTOCOL = 5;
/** EtherType. */
export const OP_TYPE = 6;
/** Port number of a TAP that the packet came by. */
export const OP_TAP = 7;

/** Sides. */
export const SOURCE = 1;
export const DESTINATION = 2;
export const EITHER = SOURCE | DESTINATION;
/** Results that may wait for an operator: one bit each. */
export const MAX_DEPTH = 30;

/** Words of a shape: source, destination, ports (source << 16 | destination), protocol. */
export const SHAPE_WORDS = 4;
/** In the place of a protocol: addresses of something that is not looked into (outer headers, ARP). */
export const NO_PROTOCOL = -1;

/**
 * Whether a packet passes `program`. `shapes`: `count` shapes of SHAPE_WORDS words; `type`: its
 * EtherType; `port`: number of the port that it came by.
 */
export function matchesFilter(
  program: Int32Array,
  shapes: Int32Array,
  count: number,
  type: number,
  port: number,
): boolean {
  // Results, the last one in the lowest bit.
  let stack = 1;
  for (let p = 0; p < program.length; p += STRIDE) {
    const op = program[p];
    if (op === OP_AND) stack = ((stack >>> 1) & ~1) | (stack & (stack >>> 1) & 1);
    else if (op === OP_OR) stack = (stack >>> 1) | (stack & 1);
    else if (op === OP_NOT) stack ^= 1;
    else {
      let found = false;
      if (op === OP_TYPE) found = type === program[p + 1];
      else if (op === OP_TAP) found = port === program[p + 1];
      else for (let s = 0; s < count && !found; s++) found = holds(program, p, shapes, s * SHAPE_WORDS);
      stack = (stack << 1) | (found ? 1 : 0);
    }
  }
  return (stack & 1) !== 0;
}

/** Whether the primitive at `p` holds for the shape at `s`. */
function holds(program: Int32Array, p: number, shapes: Int32Array, s: number): boolean {
  const op = program[p];
  const protocol = shapes[s + 3];
  if (op === OP_PROTOCOL) return protocol === program[p + 1];
  const sides = program[p + 1];
  const low = program[p + 2];
  const high = program[p + 3];
  if (op === OP_NET) {
    return (
      ((sides & SOURCE) !== 0 && (shapes[s] & high) === low) ||
      ((sides & DESTINATION) !== 0 && (shapes[s + 1] & high) === low)
    );
  }
  if (!hasPorts(protocol)) return false;
  const source = shapes[s + 2] >>> 16;
  const destination = shapes[s + 2] & 0xffff;
  return (
    ((sides & SOURCE) !== 0 && source >= low && source <= high) ||
    ((sides & DESTINATION) !== 0 && destination >= low && destination <= high)
  );
}

function hasPorts(protocol: number): boolean {
  return protocol === ipv4.PROTOCOL_TCP || protocol === ipv4.PROTOCOL_UDP || protocol === ipv4.PROTOCOL_SCTP;
}
