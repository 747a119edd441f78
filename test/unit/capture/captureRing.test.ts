import { expect, it } from "vitest";
import { newCaptureBuffer, RingReader, RingWriter } from "../../../src/capture/CaptureRing.js";
import {
  MIN_CAPACITY,
  RECORD_BYTES,
  RECORD_LENGTH,
  RECORD_WORDS,
  WORD_HEAD,
  WORD_TAIL,
} from "../../../src/capture/layout.js";
import { Random } from "../../support/random.js";

function ends(): { writer: RingWriter; reader: RingReader } {
  const buffer = newCaptureBuffer(MIN_CAPACITY);
  return { writer: new RingWriter(buffer), reader: new RingReader(buffer) };
}

/** Writes a record whose packet is `length` bytes of `value`. False where the ring is full. */
function write(writer: RingWriter, length: number, value: number): boolean {
  const record = writer.reserve(length);
  if (record < 0) return false;
  writer.words[record + RECORD_LENGTH] = value;
  for (let n = 0; n < length; n++) writer.view.setUint8((record + RECORD_WORDS) * 4 + n, value);
  return true;
}

it("shows records when they are committed, together", () => {
  const { writer, reader } = ends();
  write(writer, 10, 1);
  write(writer, 0, 2);
  expect(reader.peek()).toBe(-1);
  writer.rewind();
  const seen: number[] = [];
  for (let record = writer.walk(); record >= 0; record = writer.walk())
    seen.push(writer.words[record + RECORD_LENGTH]);
  expect(seen).toEqual([1, 2]);
  writer.commit();
  writer.rewind();
  expect(writer.walk()).toBe(-1);
  const first = reader.peek();
  expect(reader.peek()).toBe(first);
  expect([...reader.data(first)]).toEqual(new Array(10).fill(1));
  expect(first % 2).toBe(0);
  reader.release(first);
  const second = reader.peek();
  expect(reader.data(second)).toHaveLength(0);
  reader.release(second);
  expect(reader.peek()).toBe(-1);
});

it("is full until the reader has gone on", () => {
  const { writer, reader } = ends();
  let kept = 0;
  while (write(writer, 1500, kept & 0xff)) kept++;
  const each = (RECORD_WORDS * 4 + 1500 + 7) & ~7;
  expect(kept).toBe(Math.floor(MIN_CAPACITY / each));
  writer.commit();
  expect(write(writer, 1500, 0)).toBe(false);
  reader.release(reader.peek());
  // One record's room is at the start, and the end is too short.
  expect(write(writer, 1500, 77)).toBe(true);
  expect(write(writer, 1500, 78)).toBe(false);
  writer.commit();
  let last = -1;
  for (let record = reader.peek(); record >= 0; record = reader.peek()) {
    last = reader.words[record + RECORD_LENGTH];
    reader.release(record);
    kept--;
  }
  expect(kept).toBe(0);
  expect(last).toBe(77);
});

it("passes on what is written, over many rounds and past 2^32 bytes", () => {
  const buffer = newCaptureBuffer(MIN_CAPACITY);
  const words = new Int32Array(buffer);
  // As if all but 8 MiB of the way had been gone.
  words[WORD_HEAD] = words[WORD_TAIL] = -(8 << 20);
  const writer = new RingWriter(buffer);
  const reader = new RingReader(buffer);
  const random = new Random(7);
  let written = 0;
  let read = 0;
  let committed = 0;
  const total = 5_000;
  while (read < total) {
    const burst = random.below(40);
    for (let n = 0; n < burst && written < total; n++)
      if (write(writer, random.below(9000), written & 0xff)) written++;
    if (random.oneIn(2)) {
      let walked = 0;
      for (writer.rewind(); writer.walk() >= 0; ) walked++;
      expect(walked).toBe(written - committed);
      committed = written;
      writer.commit();
    }
    const most = random.below(60);
    for (let n = 0; n < most; n++) {
      const record = reader.peek();
      if (record < 0) break;
      const data = reader.data(record);
      if (data.some((byte) => byte !== (read & 0xff))) throw new Error(`record ${read}`);
      expect(words[record + RECORD_BYTES] & 7).toBe(0);
      reader.release(record);
      read++;
    }
  }
  expect(words[WORD_HEAD]).toBe(words[WORD_TAIL]);
  expect(words[WORD_HEAD]).toBeGreaterThan(0);
});

it("takes powers of two only", () => {
  expect(() => newCaptureBuffer(3 << 20)).toThrow(RangeError);
  expect(() => newCaptureBuffer(1 << 19)).toThrow(RangeError);
});
