/**
 * Whether a request was meant for us. A web page of somebody else can have its name resolve to
 * 127.0.0.1 and then read what is served there, with the visitor's browser (DNS rebinding); the browser
 * says so in the Host header. An address in it or "localhost" is no page's name.
 */
import { isIP } from "node:net";

/** Whether a Host header names an address or "localhost", with or without a port. */
export function isOwnHost(header: string | undefined): boolean {
  const [, bracketed, plain] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d{1,5})?$/.exec(header ?? "") ?? [];
  if (bracketed !== undefined) return isIP(bracketed) === 6;
  return isIP(plain ?? "") === 4 || plain?.toLowerCase() === "localhost";
}
