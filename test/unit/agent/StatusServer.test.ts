import { mkdtempSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ask, StatusServer } from "../../../src/agent/StatusServer.js";

let base: string;
let path: string;
let server: StatusServer;
beforeEach(async () => {
  base = mkdtempSync(join(tmpdir(), "podwire-sock-"));
  path = join(base, "s");
  server = new StatusServer({
    status: () => ({ node: "n" }),
    tables: () => null,
    counters: () => {
      throw new Error("no worker");
    },
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
  expect(await ask(path, "counters")).toEqual({ error: "no worker" });
  expect(await ask(path, "toString" as never)).toEqual({ error: "unknown request: toString" });
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
