/** What is failed over: an address on a LAN, its owner, and a computer that asks. */

import type { Namespaces } from "../testbed/topology.js";

/** What happens to the owner of the address. */
export const FAULTS = ["kill", "freeze", "link", "drain"] as const;
export type Fault = (typeof FAULTS)[number];

/** Faults in words. */
export const FAULT_TITLES: Readonly<Record<Fault, string>> = {
  kill: "agent killed (SIGKILL)",
  freeze: "agent frozen (SIGSTOP)",
  link: "LAN link of the node down",
  drain: "agent stopped (SIGTERM)",
};

/** One variant, set up and ready to be measured. Owns its namespaces and programs. */
export interface Bed {
  readonly set: Namespaces;
  /** Faults that this variant can have. */
  readonly faults: readonly Fault[];
  /** Namespace of the computer that asks. */
  readonly pc: string;
  /** What it asks. */
  readonly url: string;
  /** Builds everything and waits until the address is at its owner. Throws TestbedError. */
  up(): Promise<void>;
  /** Does it to the owner. Returns when that was, by monotonicMs: not later than anything of it had an effect. */
  inject(fault: Fault): Promise<number>;
  /** Undoes it. Returns once the address is at its owner again, as before. Throws TestbedError. */
  recover(fault: Fault): Promise<void>;
  /** The last words of the programs that own the address. */
  logs(): string;
  down(): Promise<void>;
}
