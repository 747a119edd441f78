/** Counts what goes by in a pcapng stream: packets, and those that its statistics say were lost. */
import { BLOCK_PACKET, BLOCK_STATISTICS, ISB_LOST } from "./pcapng.js";

/** Block type, its length, and an option's header: what has to be seen of a block besides options. */
const HEAD = 8;
/** Of a statistics block: interface and time. */
const STATISTICS_BODY = 12;

export class Tally {
  packets = 0;
  lost = 0;
  /** Statistics came: the stream was not cut off. */
  complete = false;
  #rest: Buffer = Buffer.alloc(0);

  /** Takes the next bytes of the stream, wherever blocks begin and end. */
  take(bytes: Uint8Array): void {
    let data = this.#rest.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#rest, bytes]);
    while (data.length >= HEAD) {
      const length = data.readUInt32LE(4);
      if (data.length < length) break;
      this.#block(data.subarray(0, length));
      data = data.subarray(length);
    }
    this.#rest = data;
  }

  #block(block: Buffer): void {
    const type = block.readUInt32LE(0);
    if (type === BLOCK_PACKET) this.packets++;
    if (type !== BLOCK_STATISTICS) return;
    this.complete = true;
    for (let at = HEAD + STATISTICS_BODY; at + 4 <= block.length - 4; ) {
      const length = block.readUInt16LE(at + 2);
      if (block.readUInt16LE(at) === ISB_LOST) this.lost += Number(block.readBigUInt64LE(at + 4));
      at += 4 + ((length + 3) & ~3);
    }
  }
}
