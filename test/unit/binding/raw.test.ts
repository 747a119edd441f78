/** Raw sockets hear what the kernel gives to the node, but what came by the interface that a filter leaves out. */
import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { native } from "../../../src/binding/index.js";
import { heardElsewhere, ICMP, icmpFilter } from "../../../src/desired/heard.js";
import * as L from "../../../src/packet/layout.js";
import { Bench, Namespace, noNamespaces } from "./support.js";

const reason = noNamespaces();
if (reason) console.warn(`raw socket tests skipped: ${reason}`);

describe.skipIf(reason !== "")("raw socket", () => {
  let ns: Namespace;
  let bench: Bench;
  beforeEach(() => {
    ns = new Namespace();
    bench = new Bench();
  });
  afterEach(() => {
    bench.close();
    ns.remove();
  });

  test.each([
    ["what came by another interface", 1, [1]],
    ["not what came by its own", 0, []],
  ])("hears %s", (_, further, heard) => {
    const [, lo] = /^(\d+): lo:/.exec(ns.ip("-o", "link", "show", "lo"))!;
    const everything = icmpFilter({ first: 1, last: 65_535 });
    for (const [port, filter] of [heardElsewhere(everything, Number(lo) + further), everything].entries()) {
      const options = { netns: ns.path, protocol: ICMP, filter, receiveBuffer: 0 };
      bench.io.addPort(port + 1, L.PORT_RAW, bench.own(native.openRaw(options)), true);
    }
    // Nobody listens: port unreachable, by lo.
    execFileSync("ip", ["netns", "exec", ns.name, "bash", "-c", "echo who > /dev/udp/127.0.0.1/9"]);
    const received = bench.collect(1 + heard.length);
    expect(received.map(({ port }) => port).sort()).toEqual([...heard, 2]);
    for (const { bytes } of received) expect([bytes[9], bytes[20], bytes[21]]).toEqual([ICMP, 3, 3]);
    expect(bench.breathe(0)).toEqual([]);
  });
});
