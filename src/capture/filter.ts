/**
 * Filter expressions: a part of pcap-filter(7), compiled for the dataplane (filterProgram).
 *
 *   expression  factor { (and | or) factor }      `and`, `&&`; `or`, `||`: of equal weight, from the left
 *   factor      not factor | ( expression ) | primitive             `not`, `!`
 *   primitive   [src | dst] [host] ADDRESS
 *               [src | dst] net ADDRESS/LENGTH
 *               [tcp | udp | sctp] [src | dst] port NUMBER | portrange NUMBER-NUMBER
 *               ip | arp | tcp | udp | icmp | sctp | proto NUMBER
 *
 * A packet that is translated has several shapes, and a primitive holds if it holds for any of them:
 * `host 10.152.183.10` finds both sides of a Service's flow at every point.
 */
import { hasHostBits, maskOf, parseCidr, parseIpv4 } from "../model/ipv4.js";
import * as ethernet from "../wire/ethernet.js";
import * as ipv4 from "../wire/ipv4.js";
import {
  DESTINATION,
  EITHER,
  MAX_DEPTH,
  OP_AND,
  OP_NET,
  OP_NOT,
  OP_OR,
  OP_PORT,
  OP_PROTOCOL,
  OP_TAP,
  OP_TYPE,
  SOURCE,
  STRIDE,
} from "./filterProgram.js";

const MAX_TEXT = 2048;

/** What is wrong with an expression, and where. */
export class FilterError extends Error {
  override readonly name = "FilterError";
}

/**
 * Compiles an expression; "" takes everything. Throws a FilterError that names the word which is not
 * understood.
 */
export function compileFilter(text: string): Int32Array {
  if (text.length > MAX_TEXT) throw new FilterError(`filter: more than ${MAX_TEXT} characters`);
  const parser = new Parser(text.match(/[()!]|&&|\|\||[^\s()!&|]+|[&|]/g) ?? []);
  const program = parser.parse();
  if (depth(program) > MAX_DEPTH) throw new FilterError("filter: nested too deeply");
  return program;
}

/** What passes both programs. */
export function both(a: Int32Array, b: Int32Array): Int32Array {
  if (a.length === 0 || b.length === 0) return a.length === 0 ? b : a;
  return Int32Array.from([...a, ...b, OP_AND, 0, 0, 0]);
}

/** What comes by a TAP with a port number, or has an address (int32) in any shape. */
export function ofPod(port: number, address: number): Int32Array {
  return Int32Array.from([OP_TAP, port, 0, 0, OP_NET, EITHER, address, -1, OP_OR, 0, 0, 0]);
}

const PROTOCOLS: Readonly<Record<string, number>> = {
  icmp: ipv4.PROTOCOL_ICMP,
  tcp: ipv4.PROTOCOL_TCP,
  udp: ipv4.PROTOCOL_UDP,
  sctp: ipv4.PROTOCOL_SCTP,
};
const TYPES: Readonly<Record<string, number>> = { ip: ethernet.TYPE_IPV4, arp: ethernet.TYPE_ARP };
const AND = ["and", "&&"];
const OR = ["or", "||"];
const NOT = ["not", "!"];

class Parser {
  private readonly code: number[] = [];
  private at = 0;

  constructor(private readonly words: readonly string[]) {}

  parse(): Int32Array {
    if (this.words.length > 0) this.expression();
    if (this.at < this.words.length) throw this.unexpected("and, or, or the end");
    return Int32Array.from(this.code);
  }

  private expression(): void {
    this.factor();
    for (;;) {
      const op = this.take(AND) ? OP_AND : this.take(OR) ? OP_OR : -1;
      if (op < 0) return;
      this.factor();
      this.emit(op);
    }
  }

  private factor(): void {
    if (this.take(NOT)) {
      this.factor();
      this.emit(OP_NOT);
    } else if (this.take(["("])) {
      this.expression();
      if (!this.take([")"])) throw this.unexpected(")");
    } else this.primitive();
  }

  private primitive(): void {
    const protocol = this.peek();
    if (Object.hasOwn(TYPES, protocol)) {
      this.at++;
      this.emit(OP_TYPE, TYPES[protocol]);
      return;
    }
    if (this.take(["proto"])) {
      this.emit(OP_PROTOCOL, this.number(255));
      return;
    }
    const named = Object.hasOwn(PROTOCOLS, protocol);
    if (named) {
      this.at++;
      this.emit(OP_PROTOCOL, PROTOCOLS[protocol]);
      if (!["src", "dst", "port", "portrange"].includes(this.peek())) return;
      if (protocol === "icmp") throw this.unexpected("and, or, or the end");
    }
    const sides = this.take(["src"]) ? SOURCE : this.take(["dst"]) ? DESTINATION : EITHER;
    if (this.take(["port"])) {
      const port = this.number(65_535);
      this.emit(OP_PORT, sides, port, port);
    } else if (this.take(["portrange"])) {
      this.range(sides);
    } else if (named) {
      throw this.unexpected("port or portrange");
    } else if (this.take(["net"])) {
      this.net(sides);
    } else {
      this.take(["host"]);
      this.emit(OP_NET, sides, this.address(), -1);
    }
    if (named) this.emit(OP_AND);
  }

  private range(sides: number): void {
    const [low, high] = /^(\d+)-(\d+)$/.exec(this.peek())?.slice(1).map(Number) ?? [1, 0];
    if (low > high || high > 65_535) throw this.unexpected("a range of ports, as 8000-8080,");
    this.at++;
    this.emit(OP_PORT, sides, low, high);
  }

  private net(sides: number): void {
    const prefix = parseCidr(this.peek());
    if (prefix === null) throw this.unexpected("a prefix, as 10.1.0.0/16,");
    if (hasHostBits(prefix)) throw new FilterError(`filter: "${this.peek()}" has bits set behind its prefix`);
    this.at++;
    this.emit(OP_NET, sides, prefix.address, maskOf(prefix.length));
  }

  private address(): number {
    const address = parseIpv4(this.peek());
    if (address === null) throw this.unexpected("an address, host, net, port, or a protocol");
    this.at++;
    return address;
  }

  private number(most: number): number {
    const value = Number(this.peek());
    if (!/^\d+$/.test(this.peek()) || value > most) throw this.unexpected(`a number up to ${most}`);
    this.at++;
    return value;
  }

  private emit(op: number, a = 0, b = 0, c = 0): void {
    this.code.push(op, a, b, c);
  }

  private peek(): string {
    return this.words[this.at] ?? "";
  }

  private take(words: readonly string[]): boolean {
    if (!words.includes(this.peek())) return false;
    this.at++;
    return true;
  }

  private unexpected(wanted: string): FilterError {
    const found = this.at < this.words.length ? `"${this.peek()}"` : "the end";
    return new FilterError(`filter: ${wanted} expected, not ${found}`);
  }
}

/** Most results that wait at once. */
function depth(program: Int32Array): number {
  let now = 0;
  let most = 0;
  for (let p = 0; p < program.length; p += STRIDE) {
    if (program[p] === OP_AND || program[p] === OP_OR) now--;
    else if (program[p] !== OP_NOT) now++;
    most = Math.max(most, now);
  }
  return most;
}
