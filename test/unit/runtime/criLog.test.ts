import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseRecord, readLog } from "../../../src/runtime/criLog.js";
import { waitFor } from "../../support/netns.js";

let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "podwire-log-"));
  file = join(directory, "log");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const time = (second: number) => `2024-01-01T00:00:0${second}.000000001+00:00`;
const record = (second: number, text: string, tag = "F", stream = "stdout") =>
  `${time(second)} ${stream} ${tag} ${text}\n`;
const NONE = { follow: false, previous: false, timestamps: false };

async function read(options: object = {}): Promise<string> {
  let text = "";
  for await (const chunk of readLog(file, { ...NONE, ...options }, () => false, new AbortController().signal))
    text += chunk;
  return text;
}

test("a record's parts", () => {
  expect(parseRecord(Buffer.from("T stdout F a b  c"))).toEqual({
    time: "T",
    full: true,
    content: Buffer.from("a b  c"),
  });
  expect(parseRecord(Buffer.from("T stderr P x"))?.full).toBe(false);
  expect(parseRecord(Buffer.from("T stdout F "))?.content.length).toBe(0);
  for (const bad of ["", "T", "T stdout", "T stdout X y"])
    expect(parseRecord(Buffer.from(bad)), bad).toBeNull();
});

test("both streams, parts joined, times at line starts only", async () => {
  writeFileSync(file, record(1, "one", "P") + record(2, "-two") + record(3, "three", "F", "stderr"));
  expect(await read()).toBe("one-two\nthree\n");
  const told = (second: number) => time(second).replace("+00:00", "Z");
  expect(await read({ timestamps: true })).toBe(`${told(1)} one-two\n${told(3)} three\n`);
});

test("tail, since and limit, over a rotation", async () => {
  writeFileSync(`${file}.1`, record(1, "a") + record(2, "b"));
  writeFileSync(file, record(3, "c") + record(4, "d", "P") + record(5, "e"));
  expect(await read()).toBe("a\nb\nc\nde\n");
  expect(await read({ tailLines: 3 })).toBe("b\nc\nde\n");
  expect(await read({ tailLines: 0 })).toBe("");
  expect(await read({ tailLines: 99 })).toBe("a\nb\nc\nde\n");
  expect(await read({ sinceMs: Date.parse("2024-01-01T00:00:03Z") })).toBe("c\nde\n");
  expect(await read({ limitBytes: 5 })).toBe("a\nb\nc");
});

test("a tail has no more lines than asked for, though some are added while it is read", async () => {
  writeFileSync(file, record(1, "a") + record(2, "b") + record(3, "c"));
  let text = "";
  for await (const chunk of readLog(
    file,
    { ...NONE, tailLines: 2 },
    () => true,
    new AbortController().signal,
  )) {
    text += chunk;
    appendFileSync(file, record(4, "d"));
  }
  expect(text).toBe("b\nc\n");
});

test("without a file there is nothing", async () => expect(await read()).toBe(""));

test("a follower sees what is added, over rotations, until the container ends", async () => {
  writeFileSync(file, record(1, "first"));
  let running = true;
  let text = "";
  const done = (async () => {
    const options = { ...NONE, follow: true };
    for await (const chunk of readLog(file, options, () => running, new AbortController().signal))
      text += chunk;
  })();
  await waitFor(() => text === "first\n");
  appendFileSync(file, record(2, "sec").slice(0, -2));
  appendFileSync(file, "c\n");
  await waitFor(() => text === "first\nsec\n");
  appendFileSync(file, record(3, "before"));
  renameSync(file, `${file}.1`);
  writeFileSync(file, record(4, "after"));
  await waitFor(() => text === "first\nsec\nbefore\nafter\n");
  appendFileSync(file, record(5, "last"));
  running = false;
  await done;
  expect(text).toBe("first\nsec\nbefore\nafter\nlast\n");
});

test("a reader that is behind misses no file of two rotations, and no line that came before the new file", async () => {
  writeFileSync(file, record(1, "a"));
  const log = readLog(file, { ...NONE, follow: true }, () => true, AbortSignal.timeout(10_000));
  expect(String((await log.next()).value)).toBe("a\n");
  // Not read on meanwhile: the rest of the first file, a second one, a third one.
  appendFileSync(file, record(2, "b"));
  renameSync(file, `${file}.1`);
  appendFileSync(`${file}.1`, record(3, "c"));
  writeFileSync(file, record(4, "d"));
  renameSync(file, `${file}.1`);
  writeFileSync(file, record(5, "e"));
  let text = "";
  for await (const chunk of log) {
    text += chunk;
    if (text.endsWith("e\n")) break;
  }
  expect(text).toBe("b\nc\nd\ne\n");
});

test("between rename and reopening there is only what was put aside", async () => {
  writeFileSync(`${file}.1`, record(1, "a"));
  expect(await read()).toBe("a\n");
});

test("a tail that goes on", async () => {
  const many = Array.from({ length: 5000 }, (_, i) => record(1, String(i)));
  writeFileSync(file, many.join("") + record(2, "part", "P"));
  const options = { ...NONE, follow: true, tailLines: 2 };
  const log = readLog(file, options, () => true, AbortSignal.timeout(10_000));
  let text = "";
  for await (const chunk of log) {
    text += chunk;
    if (text.endsWith("part")) appendFileSync(file, record(3, "-rest"));
    if (text.endsWith("rest\n")) break;
  }
  expect(text).toBe("4998\n4999\npart-rest\n");
});

test("a follower ends when it is told to", async () => {
  writeFileSync(file, record(1, "first"));
  const abort = new AbortController();
  const log = readLog(file, { ...NONE, follow: true }, () => true, abort.signal);
  await log.next();
  const next = log.next();
  abort.abort();
  expect((await next).done).toBe(true);
});
