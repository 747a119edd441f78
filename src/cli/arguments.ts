/** What options take: parsers for commander, each of which says what it wants instead. */
import { isIP, isIPv4 } from "node:net";
import { InvalidArgumentError } from "commander";

/** A whole number in decimal digits; both bounds are in. */
export function wholeNumber(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`Want a whole number ${range(least, most)}.`);
  };
}

/** A number of seconds, fractions too; both bounds are in. */
export function seconds(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = /^\d+(\.\d+)?$|^\.\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`Want a number of seconds ${range(least, most)}.`);
  };
}

/** Seconds between two looks. */
export const interval = seconds(0.1, 3600);

/** A port to listen on; 0: any free one. */
export const listeningPort = wholeNumber(0, 65_535);

/** A TCP or UDP port. */
export const l4Port = wholeNumber(1, 65_535);

/** An IPv4 or IPv6 address. */
export function ipAddress(text: string): string {
  if (isIP(text) !== 0) return text;
  throw new InvalidArgumentError("Want an IP address.");
}

/** An IPv4 address in dotted decimal. */
export function ipv4Address(text: string): string {
  if (isIPv4(text)) return text;
  throw new InvalidArgumentError("Want an IPv4 address.");
}

/** ADDRESS:PORT, IPv4. */
export function ipv4AndPort(text: string): string {
  const [address, port, ...rest] = text.split(":");
  if (isIPv4(address!) && /^\d{1,5}$/.test(port ?? "") && Number(port) <= 65_535 && rest.length === 0)
    return text;
  throw new InvalidArgumentError("Want IPv4-ADDRESS:PORT.");
}

function range(least: number, most: number): string {
  return most === Number.MAX_SAFE_INTEGER ? `from ${least} on` : `from ${least} to ${most}`;
}
