/** Checksums: native over payload, and its plain reference; TypeScript over headers. */

import { native } from "../../src/binding/index.js";
import * as checksum from "../../src/wire/checksum.js";
import { blackHole, type MicroCase, type MicroSuite } from "./suite.js";

/** A header, a full segment, a GSO frame. */
const LENGTHS = [20, 1460, 64_000];
const REPEAT = 16;
/** Places to sum at, so that not all of them are in the innermost cache at the same line. */
const SPREAD = 64;

export function checksumSuite(): MicroSuite {
  const buffer = native.createArena(1 << 20);
  const bytes = new Uint8Array(buffer);
  for (let n = 0; n < bytes.length; n++) bytes[n] = (n * 31) & 255;
  const view = new DataView(buffer);
  const repeat = (name: string, each: (offset: number) => number): MicroCase => ({
    name,
    operations: REPEAT,
    run() {
      let sum = 0;
      for (let n = 0; n < REPEAT; n++) sum += each(n * SPREAD);
      blackHole.value = sum;
    },
  });
  return {
    title: "Checksum (RFC 1071)",
    unit: "sum",
    cumulative: false,
    cases: [
      ...LENGTHS.map((length) =>
        repeat(`native (${native.checksumKernel}), ${length} B`, (o) =>
          native.checksum(buffer, o, length, 0),
        ),
      ),
      ...LENGTHS.map((length) =>
        repeat(`native, plain, ${length} B`, (o) => native.checksumPlain(buffer, o, length, 0)),
      ),
      ...LENGTHS.slice(0, 2).map((length) =>
        repeat(`TypeScript, ${length} B`, (o) => checksum.fold(checksum.sum(view, o, length, 0))),
      ),
      repeat("update of one word (RFC 1624)", (o) => checksum.update(o, 0x4011, 0x3f11)),
    ],
  };
}
