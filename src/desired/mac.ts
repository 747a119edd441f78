/** MAC addresses: which one a device gets, and their two forms. Pure. */
import { createHash } from "node:crypto";
import type { Mac } from "../tables/TableInput.js";

/** MAC of every neighbour that a pod or the node sees behind its TAP: the gateway's. */
export const GATEWAY_MAC = "ee:ee:ee:ee:ee:ee";

/** MAC of the tunnel GSO device; locally administered, never on a wire. */
export const GSO_MAC = "02:71:00:00:00:01";

/**
 * MAC of a node's VTEP: "f" (0x66, locally administered, unicast) and the first five bytes of
 * SHA-1 of the node's name. Every node can compute every other's, as Calico's nodes do.
 */
export function vtepMac(node: string): string {
  const digest = createHash("sha1").update(node, "utf8").digest();
  return formatBytes([0x66, ...digest.subarray(0, 5)]);
}

/** MAC of a pod's interface: 02:70 (locally administered, unicast) and the pod's address (int32). */
export function podMac(address: number): string {
  return formatBytes([
    0x02,
    0x70,
    address >>> 24,
    (address >>> 16) & 255,
    (address >>> 8) & 255,
    address & 255,
  ]);
}

/** Parses aa:bb:cc:dd:ee:ff; null where the text is no MAC address. */
export function parseMac(text: string): Mac | null {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return null;
  const digits = text.replaceAll(":", "");
  return { hi: Number.parseInt(digits.slice(0, 4), 16), lo: Number.parseInt(digits.slice(4), 16) | 0 };
}

/** Whether a text is the MAC address of one interface: neither a group's nor all zeros. */
export function isUnicastMac(text: string): boolean {
  const mac = parseMac(text);
  return mac !== null && (mac.hi & 0x0100) === 0 && (mac.hi !== 0 || mac.lo !== 0);
}

/** The tables' form of a MAC that was validated before; throws a RangeError where it was not. */
export function macOf(text: string): Mac {
  const mac = parseMac(text);
  if (mac === null) throw new RangeError(`no MAC address: ${text}`);
  return mac;
}

/** aa:bb:cc:dd:ee:ff. */
export function formatMac({ hi, lo }: Mac): string {
  return formatBytes([hi >>> 8, hi & 255, lo >>> 24, (lo >>> 16) & 255, (lo >>> 8) & 255, lo & 255]);
}

function formatBytes(bytes: number[]): string {
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}
