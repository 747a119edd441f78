/**
 * Receiving from TAPs: a descriptor is one frame with its virtio-net header in front. The header
 * came from a pod's kernel and is untrusted: it is only copied into columns here, parse judges it.
 */
import type { Arena } from "../packet/Arena.js";
import type { Batch } from "../packet/Batch.js";
import { RX_LENGTH, RX_OFFSET, RX_PORT } from "../packet/layout.js";
import * as virtioNet from "../wire/virtioNet.js";

/** Adds the frame of the receive descriptor with base index `d` to the batch. */
export function receiveTap(arena: Arena, d: number, batch: Batch): void {
  const { rx, view } = arena;
  const start = rx[d + RX_OFFSET];
  const i = batch.push(start + virtioNet.HEADER, rx[d + RX_LENGTH] - virtioNet.HEADER, rx[d + RX_PORT]);
  if ((virtioNet.flags(view, start) & virtioNet.NEEDS_CSUM) !== 0) {
    batch.csumStart[i] = virtioNet.csumStart(view, start);
    batch.csumOffset[i] = virtioNet.csumOffset(view, start);
  }
  const type = virtioNet.gsoType(view, start) & ~virtioNet.GSO_ECN;
  if (type !== virtioNet.GSO_NONE) {
    batch.gsoType[i] = type;
    batch.gsoSize[i] = virtioNet.gsoSize(view, start);
  }
}
