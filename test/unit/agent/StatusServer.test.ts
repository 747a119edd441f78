import { mkdtempSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ask, askAll, openStream, StatusServer } from "../../../src/agent/StatusServer.js";

let base: string;
let path: string;
let server: StatusServer;
beforeEach(async () => {
  base = mkdtempSync(join(tmpdir(), "podwire-sock-"));
  path = join(base, "s");
  server = new StatusServer({
    status: () => ({ node: "n" }),
    tables: () => null,
    nodeTables: () => null,
    flowRecords: () => null,
    announcement: () => null,
    counters: () => {
      throw new Error("no worker");
    },
    flows: ({ count }) => numbers(Number(count)),
    services: () => null,
    vteps: () => null,
    flowStats: () => null,
    capture: () => ({ head: { of: "bytes" }, bytes: cut(), stop: () => {} }),
    flushFlows: async ({ protocol }) => ({ removed: protocol }),
  });
  await server.listen(path);
});
afterEach(async () => {
  await server.close();
  rmSync(base, { recursive: true });
});

test("answers a request", async () => {
  expect(await ask(path, "status")).toEqual({ node: "n" });
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("tells what went wrong", async () => {
  await expect(ask(path, "counters")).rejects.toThrow("no worker");
  await expect(ask(path, "toString" as never)).rejects.toThrow("unknown request: toString");
});

test("hands on what stands beside the topic, and waits for the answer", async () => {
  expect(await ask(path, "flushFlows", { protocol: 17 })).toEqual({ removed: 17 });
});

test("a stream whose source fails ends there, with the connection", async () => {
  const { head, bytes } = await openStream(path, "capture");
  expect(head).toEqual({ of: "bytes" });
  const pieces: Buffer[] = [];
  for await (const piece of bytes) pieces.push(piece);
  expect(Buffer.concat(pieces).toString("latin1")).toBe("first");
});

async function* cut(): AsyncGenerator<Uint8Array> {
  yield Buffer.from("first");
  throw new Error("gone");
}

/** Objects 0 … count - 1; the hundred-thousandth is none. */
function* numbers(count: number): Generator<{ n: number }> {
  for (let n = 0; n < count; n++) {
    if (n === 100_000) throw new Error("too many");
    yield { n };
  }
}

async function take(count: number, most = count): Promise<number> {
  let seen = 0;
  for await (const { n } of askAll<{ n: number }>(path, "flows", { count })) {
    expect(n).toBe(seen++);
    if (seen === most) break;
  }
  return seen;
}

test("a list comes whole, and others are answered meanwhile", async () => {
  const list = take(90_000);
  expect(await ask(path, "status")).toEqual({ node: "n" });
  expect(await list).toBe(90_000);
  expect(await take(0)).toBe(0);
});

test("who stops reading a list holds up nobody", async () => {
  expect(await take(90_000, 10)).toBe(10);
  expect(await ask(path, "status")).toEqual({ node: "n" });
});

test("what goes wrong within a list is told at its end", async () => {
  await expect(take(100_001)).rejects.toThrow("too many");
});

test("several requests on one connection, in pieces; garbage and floods do no harm", async () => {
  const lines = await new Promise<string>((resolve, reject) => {
    const socket = connect(path);
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk) => {
      text += chunk;
    });
    socket.on("end", () => resolve(text)).on("error", reject);
    socket.write('{"get":"sta');
    socket.write('tus"}\nnonsense\n');
    socket.end('{"get":"status"}\n');
  });
  expect(
    lines
      .trim()
      .split("\n")
      .map((line) => Object.keys(JSON.parse(line))[0]),
  ).toEqual(["node", "error", "node"]);
  await new Promise<void>((resolve) => {
    const flood = connect(path);
    flood.on("error", () => {}).on("close", () => resolve());
    flood.write("x".repeat(100_000));
  });
  expect(await ask(path, "status")).toEqual({ node: "n" });
});

test("asking where nobody listens", async () => {
  await expect(ask(join(base, "none"), "status")).rejects.toMatchObject({ code: "ENOENT" });
});
