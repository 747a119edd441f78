/** What makes Services work on the nodes of a set: the part that differs between the variants. */

import type { Side } from "../testbed/topology.js";
import type { BenchService } from "./services.js";

export interface Translator {
  /** Builds pods and overlay, without Services. Throws TestbedError. */
  build(): Promise<void>;
  /** Puts `services` into effect on one node. Returns the seconds from handing them in until then. Throws TestbedError. */
  load(side: Side, services: readonly BenchService[]): Promise<number>;
  /** Connections that the node's rules counted, for each backend of the Service; null where nothing counts them. */
  counted(side: Side, service: BenchService): number[] | null;
  /** Whether a pod sees the client's own address in what came to a NodePort. */
  readonly keepsClientAddress: boolean;
}
