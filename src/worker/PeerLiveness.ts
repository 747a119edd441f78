/**
 * What BFD says of the nodes, in memory that all threads of a dataplane share: one writes (Ownership),
 * all read.
 *
 *   int32: [changes] then bytes by node number: up (THIS_NODE + 1), down (THIS_NODE)
 */
import { THIS_NODE } from "../tables/VipTable.js";

const HEAD = 4;
/** Bytes of the memory. */
export const PEER_LIVENESS_BYTES = HEAD + 2 * THIS_NODE + 1;

export class PeerLiveness {
  /** One number, raised after each change of the others. */
  readonly changes: Int32Array;
  /** Not 0 where a node is alive and may own load-balancer addresses; THIS_NODE's included. */
  readonly up: Uint8Array;
  /**
   * Not 0 where BFD has lost a node, by VTEP index: its session was Up and is no longer. Nodes without a
   * session, those whose session never came up, those that have withdrawn (AdminDown) and are still heard,
   * and all of them before this node knows its peers, have 0.
   */
  readonly down: Uint8Array;

  /** `memory`: PEER_LIVENESS_BYTES, zeroed. */
  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(PEER_LIVENESS_BYTES)) {
    this.changes = new Int32Array(memory, 0, 1);
    this.up = new Uint8Array(memory, HEAD, THIS_NODE + 1);
    this.down = new Uint8Array(memory, HEAD + THIS_NODE + 1, THIS_NODE);
  }
}
