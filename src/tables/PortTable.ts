/**
 * What the dataplane knows of its TAPs, by port number.
 *
 *   section: [rows] rows × ROW words
 */
import type { TableInput } from "./TableInput.js";

const ROW = 5;
/** Numbers are dense: a table has a row for each up to the highest. */
const MAX_PORT = 0xffff;
const ROLE = 0;
const MAC_HI = 1;
const MAC_LO = 2;
const ADDRESS = 3;
const USO = 4;

/** Roles. A port number without a row has role 0. */
export const ROLE_NONE = 0;
export const ROLE_POD = 1;
export const ROLE_NODE = 2;

/** Builds the section. Throws RangeError on a port number that is out of range or taken. */
export function buildPortTable(ports: TableInput["ports"]): Int32Array {
  if (ports.some((p) => p.port < 0 || p.port > MAX_PORT)) throw new RangeError("port number out of range");
  const rows = ports.reduce((most, p) => Math.max(most, p.port + 1), 0);
  const section = new Int32Array(1 + rows * ROW);
  section[0] = rows;
  for (const p of ports) {
    const at = 1 + p.port * ROW;
    if (section[at + ROLE] !== ROLE_NONE) throw new RangeError("two ports with one number");
    section.set([p.role === "pod" ? ROLE_POD : ROLE_NODE, p.mac.hi, p.mac.lo, p.address, p.uso ? 1 : 0], at);
  }
  return section;
}

export class PortTable {
  readonly #image: Int32Array;
  readonly #start: number;
  readonly #rows: number;

  constructor(image: Int32Array, start: number) {
    this.#image = image;
    this.#start = start + 1;
    this.#rows = image[start];
  }

  role(port: number): number {
    return port >= 0 && port < this.#rows ? this.#image[this.#start + port * ROW + ROLE] : ROLE_NONE;
  }

  macHi(port: number): number {
    return this.#image[this.#start + port * ROW + MAC_HI];
  }

  macLo(port: number): number {
    return this.#image[this.#start + port * ROW + MAC_LO];
  }

  /** The pod's own address; the tunnel address for the node. */
  address(port: number): number {
    return this.#image[this.#start + port * ROW + ADDRESS];
  }

  /** Whether the device takes UDP GSO frames. */
  uso(port: number): boolean {
    return this.#image[this.#start + port * ROW + USO] !== 0;
  }
}
