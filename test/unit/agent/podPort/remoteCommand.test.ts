/** The remote command protocol, message by message. */
import { describe, expect, test } from "vitest";
import { parseRequest } from "../../../../src/agent/podPort/query.js";
import {
  chooseProtocol,
  encodeMessage,
  MessageError,
  type Protocol,
  parseMessage,
  statusOfResult,
} from "../../../../src/agent/podPort/remoteCommand.js";

const V5 = "v5.channel.k8s.io";
const V4 = "v4.channel.k8s.io";

describe("messages", () => {
  const cases: [string, Protocol, number[] | string, object][] = [
    ["stdin", V5, [0, 104, 105], { kind: "stdin", data: Buffer.from("hi") }],
    ["the end of stdin", V5, [255, 0], { kind: "endOfStdin" }],
    ["the end of an output", V5, [255, 1], { kind: "nothing" }],
    ["an empty message", V5, [], { kind: "nothing" }],
    ["a window size", V4, '\x04{"Width":132,"Height":43}', { kind: "resize", columns: 132, rows: 43 }],
    ["a window without size", V4, '\x04{"Width":0,"Height":0}', { kind: "nothing" }],
  ];
  test.each(cases)("%s", (_, protocol, bytes, wanted) =>
    expect(parseMessage(protocol, Buffer.from(bytes as string), true)).toEqual(wanted),
  );

  const bad: [string, Protocol, number[] | string, boolean, number][] = [
    ["text", V5, "\x00hi", false, 1003],
    ["an output's channel", V5, [1, 1], true, 1002],
    ["the error channel", V4, [3], true, 1002],
    ["an unknown channel", V5, [9], true, 1002],
    ["v5's end in v4", V4, [255, 0], true, 1002],
    ["an end of nothing", V5, [255], true, 1007],
    ["a size that is no JSON", V5, "\x04{", true, 1007],
    ["a size that is null", V5, "\x04null", true, 1007],
    ["a size of another kind", V5, '\x04{"Width":"80","Height":24}', true, 1007],
    ["a size too large", V5, '\x04{"Width":65536,"Height":24}', true, 1007],
    ["a size below zero", V5, '\x04{"Width":-1,"Height":24}', true, 1007],
  ];
  test.each(bad)("%s is refused", (_, protocol, bytes, binary, code) => {
    const refused = () => parseMessage(protocol, Buffer.from(bytes as string), binary);
    expect(refused).toThrow(MessageError);
    expect(refused).toThrow(expect.objectContaining({ code }));
  });

  test("are encoded with their channel first", () => {
    expect([...encodeMessage(1, Buffer.from([7, 8]))]).toEqual([1, 7, 8]);
    expect([...encodeMessage(3, "")]).toEqual([3]);
  });

  test("the best protocol is chosen", () => {
    expect(chooseProtocol(`${V4}, ${V5}`)).toBe(V5);
    expect(chooseProtocol(`v3.channel.k8s.io,${V4}`)).toBe(V4);
    expect(chooseProtocol("channel.k8s.io")).toBeUndefined();
    expect(chooseProtocol(undefined)).toBeUndefined();
  });
});

describe("the Status at the end", () => {
  test("of success", () => expect(statusOfResult({ code: 0 })).toMatchObject({ status: "Success" }));

  test("of an exit code", () =>
    expect(statusOfResult({ code: 3 })).toEqual({
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Failure",
      reason: "NonZeroExitCode",
      message: "command terminated with exit code 3",
      details: { causes: [{ reason: "ExitCode", message: "3" }] },
    }));

  test("of a command that could not be run", () =>
    expect(statusOfResult({ code: 127, message: 'exec: "foo": not found' })).toMatchObject({
      reason: "InternalError",
      message: 'Internal error occurred: error executing command in container: exec: "foo": not found',
    }));
});

describe("requests", () => {
  const read = (url: string) => parseRequest(url, 100_000);

  test("for a log", () => {
    const { options } = read(
      "/containerLogs/ns/p/c?follow=true&tailLines=0&limitBytes=9&sinceSeconds=10",
    ) as {
      options: object;
    };
    expect(options).toEqual({
      follow: true,
      previous: false,
      timestamps: false,
      tailLines: 0,
      limitBytes: 9,
      sinceMs: 90_000,
    });
    expect(read("/containerLogs/ns/p/c?sinceTime=1970-01-01T00:00:07Z")).toMatchObject({
      container: { namespace: "ns", pod: "p", container: "c" },
      options: { sinceMs: 7000 },
    });
  });

  test("for a command; a terminal has no stderr", () => {
    expect(read("/exec/ns/p/c?command=a&command=b%20c&input=1&output=1&error=1&tty=1")).toEqual({
      kind: "exec",
      container: { namespace: "ns", pod: "p", container: "c" },
      options: { command: ["a", "b c"], stdin: true, stdout: true, stderr: false, tty: true },
    });
  });

  test.each([
    ["/", 404],
    ["/containerLogs/ns/p", 404],
    ["/exec/ns/p/c/d?command=a&output=1", 404],
    ["/run/ns/p/c", 404],
    ["/exec/ns/p/%ff?command=a&output=1", 400],
    ["/exec/ns/p/c?output=1", 400],
    ["/exec/ns/p/c?command=a", 400],
    ["/containerLogs/ns/p/c?tailLines=-1", 400],
    ["/containerLogs/ns/p/c?tailLines=x", 400],
    ["/containerLogs/ns/p/c?limitBytes=0", 400],
    ["/containerLogs/ns/p/c?sinceTime=yesterday", 400],
    ["/containerLogs/ns/p/c?sinceTime=1970-01-01T00:00:07Z&sinceSeconds=1", 400],
  ])("%s is refused with %i", (url, code) =>
    expect(() => read(url)).toThrow(expect.objectContaining({ code })),
  );
});
