import { describe, expect, it } from "vitest";
import { both, compileFilter, ofPod } from "../../../src/capture/filter.js";
import { matchesFilter, NO_PROTOCOL } from "../../../src/capture/filterProgram.js";
import { address } from "../../support/frames.js";

const [ICMP, TCP, UDP] = [1, 6, 17];
const [IP, ARP] = [0x0800, 0x0806];

type Shape = [source: string, destination: string, ports: [number, number], protocol: number];

function matches(program: Int32Array, shapes: Shape[], type = IP, port = 2): boolean {
  const words = shapes.flatMap(([source, destination, [from, to], protocol]) => [
    address(source),
    address(destination),
    (from << 16) | to,
    protocol,
  ]);
  return matchesFilter(program, Int32Array.from([...words, 0, 0, 0, 0]), shapes.length, type, port);
}

const SYN: Shape = ["10.1.0.2", "10.152.183.10", [40_000, 80], TCP];
const TRANSLATED: Shape = ["10.1.0.2", "10.1.7.9", [40_000, 8080], TCP];
const DNS: Shape = ["10.1.0.2", "10.1.0.9", [53_000, 53], UDP];
const PING: Shape = ["10.1.0.2", "10.1.0.9", [1, 8], ICMP];

describe("filter", () => {
  it.each<[string, Shape, boolean]>([
    ["", SYN, true],
    ["host 10.1.0.2", SYN, true],
    ["10.1.0.2", SYN, true],
    ["src 10.1.0.2", SYN, true],
    ["dst host 10.1.0.2", SYN, false],
    ["net 10.152.0.0/16", SYN, true],
    ["src net 10.152.0.0/16", SYN, false],
    ["net 0.0.0.0/0", SYN, true],
    ["port 80", SYN, true],
    ["src port 80", SYN, false],
    ["dst port 80", SYN, true],
    ["tcp port 80", SYN, true],
    ["udp port 80", SYN, false],
    ["udp dst port 53", DNS, true],
    ["portrange 79-81", SYN, true],
    ["tcp src portrange 0-39999", SYN, false],
    ["tcp", SYN, true],
    ["udp", SYN, false],
    ["proto 6", SYN, true],
    ["ip", SYN, true],
    ["arp", SYN, false],
    ["not tcp", SYN, false],
    ["!udp", SYN, true],
    ["tcp and port 80", SYN, true],
    ["tcp && ! port 80", SYN, false],
    ["udp or port 80", SYN, true],
    // Equal weight, from the left, as in pcap-filter(7): (tcp or udp) and udp.
    ["tcp or udp and udp", SYN, false],
    ["tcp or (udp and udp)", SYN, true],
    ["not (udp or port 81)", SYN, true],
    ["icmp and host 10.1.0.9", PING, true],
    // What stands for the ports of an echo is no port.
    ["port 8", PING, false],
  ])("%s", (text, shape, expected) => {
    expect(matches(compileFilter(text), [shape])).toBe(expected);
  });

  it("a primitive holds if it holds for any shape of a packet", () => {
    for (const text of ["host 10.152.183.10", "host 10.1.7.9", "port 80 and port 8080"])
      expect(matches(compileFilter(text), [SYN, TRANSLATED])).toBe(true);
    expect(matches(compileFilter("not port 80"), [SYN, TRANSLATED])).toBe(false);
    const outer: Shape = ["192.168.2.30", "192.168.2.31", [0, 0], NO_PROTOCOL];
    expect(matches(compileFilter("host 192.168.2.31 and tcp"), [SYN, outer])).toBe(true);
    expect(matches(compileFilter("udp"), [SYN, outer])).toBe(false);
  });

  it("arp, and what has no shape at all", () => {
    const ask: Shape = ["10.1.0.2", "169.254.1.1", [0, 0], NO_PROTOCOL];
    expect(matches(compileFilter("arp and host 169.254.1.1"), [ask], ARP)).toBe(true);
    expect(matches(compileFilter("host 10.1.0.2"), [], 0x86dd)).toBe(false);
    expect(matches(compileFilter("not ip"), [], 0x86dd)).toBe(true);
  });

  it("a pod's packets are those of its TAP, whatever their source, and those that have its address", () => {
    const program = both(ofPod(7, address("10.1.7.9")), compileFilter("tcp or udp"));
    expect(matches(program, [TRANSLATED], IP, 2)).toBe(true);
    expect(matches(program, [DNS], IP, 2)).toBe(false);
    expect(matches(program, [DNS], IP, 7)).toBe(true);
    expect(matches(program, [PING], IP, 7)).toBe(false);
    expect(both(ofPod(7, 1), compileFilter(""))).toEqual(ofPod(7, 1));
  });

  it.each([
    ["hots 10.1.0.2", 'an address, host, net, port, or a protocol expected, not "hots"'],
    ["host", "an address, host, net, port, or a protocol expected, not the end"],
    ["host 10.1.0.256", '"10.1.0.256"'],
    ["tcp port 80 81", 'and, or, or the end expected, not "81"'],
    ["port 65536", 'a number up to 65535 expected, not "65536"'],
    ["port http", '"http"'],
    ["portrange 9-8", '"9-8"'],
    ["net 10.1.0.0", '"10.1.0.0"'],
    ["net 10.1.0.1/16", '"10.1.0.1/16" has bits set behind its prefix'],
    ["(tcp", ") expected, not the end"],
    ["tcp)", '")"'],
    ["icmp port 8", '"port"'],
    ["tcp src 10.1.0.2", 'port or portrange expected, not "10.1.0.2"'],
    ["tcp &", '"&"'],
    ["and tcp", '"and"'],
    ["toString", '"toString"'],
    [`${"(tcp and ".repeat(40)}tcp${")".repeat(40)}`, "nested too deeply"],
    ["x".repeat(3000), "more than 2048 characters"],
  ])("refuses %.40s", (text, message) => {
    expect(() => compileFilter(text)).toThrow(message);
  });
});
