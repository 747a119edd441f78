import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { JoinTokens } from "../../../../src/apiserver/auth/JoinTokens.js";
import { temporaryDirectory } from "../../../support/apiserver.js";

let directory: ReturnType<typeof temporaryDirectory>;
let now: number;
let tokens: JoinTokens;

beforeEach(() => {
  directory = temporaryDirectory();
  now = Date.parse("2024-01-01T00:00:00Z");
  tokens = new JoinTokens(directory.path, () => now);
});
afterEach(() => directory.remove());

const files = () => readdirSync(join(directory.path, "tokens"));

test("a token is good until it expires or is deleted", () => {
  const token = tokens.create(60, "lab");
  const id = token.split(".")[0]!;
  expect(tokens.verify(token)).toBe(id);
  expect(tokens.verify(`${id}.0000000000000000`)).toBeUndefined();
  expect(tokens.verify("x")).toBeUndefined();
  expect(tokens.list()).toMatchObject([{ id, description: "lab", expires: "2024-01-01T00:01:00.000Z" }]);
  expect(statSync(join(directory.path, "tokens", files()[0]!)).mode & 0o777).toBe(0o600);
  now += 60_000;
  expect(tokens.verify(token)).toBeUndefined();
  expect(tokens.list()).toEqual([]);
  expect(tokens.delete(token)).toBe(false);

  const other = tokens.create(60);
  expect(files()).toHaveLength(1);
  expect(tokens.delete(other)).toBe(true);
  expect(tokens.verify(other)).toBeUndefined();
  expect(tokens.list()).toEqual([]);
});

test("two that make tokens at once take nothing from each other", () => {
  tokens.create(60);
  // What another process does between this one's look at what there is and its write.
  let second = "";
  let looks = 0;
  const meanwhile = new JoinTokens(directory.path, () => {
    if (++looks === 2) second = tokens.create(60);
    return now;
  });
  const first = meanwhile.create(60);
  expect(tokens.verify(first)).toBeDefined();
  expect(tokens.verify(second)).toBeDefined();
  expect(tokens.list()).toHaveLength(3);
});
