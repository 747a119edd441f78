/**
 * Messages that the worker itself puts into the plan, beside the frames of the batch. They carry no
 * frame in the accounts: one that cannot be sent counts as a lost reply.
 */
import { MSG_FRAMES } from "../packet/layout.js";
import type { TxPlan } from "../packet/TxPlan.js";

/** Where messages are planned. */
export interface Planner {
  readonly view: DataView;
  readonly plan: TxPlan;
  /** Makes room in the plan, sending what it holds where there is none. */
  reserve(messages: number, pieces: number, slots: number): void;
}

/** Offset of a scratch slot (SCRATCH_BYTES) for a message of one piece, which `planMessage` is to follow. */
export function planSlot(planner: Planner): number {
  planner.reserve(1, 1, 1);
  return planner.plan.slot();
}

/** Plans to send `length` bytes at `start` on a port; `peer`: to which destination, for datagrams. */
export function planMessage(
  planner: Planner,
  port: number,
  peer: number,
  start: number,
  length: number,
): void {
  const m = planner.plan.message(port, peer, start, length, 0);
  planner.plan.msg[m + MSG_FRAMES] = 0;
}
