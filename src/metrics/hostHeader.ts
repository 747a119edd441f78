/**
 * Whether a request was meant for us. A web page of somebody else can have its name resolve to
 * 127.0.0.1 and then read what is served there, with the visitor's browser (DNS rebinding); the browser
 * says so in the Host header. An address in it, "localhost" or our own name is no page's name.
 */
import { isIP } from "node:net";

/** Whether a Host header names an address, "localhost" or one of `names` (lower case). */
export function isOwnHost(header: string | undefined, names: readonly string[]): boolean {
  const [, bracketed, plain] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d{1,5})?$/.exec(header ?? "") ?? [];
  if (bracketed !== undefined) return isIP(bracketed) === 6;
  const name = (plain ?? "").toLowerCase();
  return isIP(name) === 4 || name === "localhost" || names.includes(name);
}
