/** Buffers for tests of wire/. */
import { hex } from "../../support/frames.js";

export function viewOf(text: string): DataView {
  return new DataView(hex(text).buffer as ArrayBuffer);
}

/** A buffer of 0xa5, so that bytes nobody wrote show. */
export function prefilled(length: number): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(length).fill(0xa5);
  return { bytes, view: new DataView(bytes.buffer) };
}
