/** Listening sockets as /proc/net/tcp and udp show them (proc(5)). Pure. */
import { formatIpv4 } from "../model/ipv4.js";

export interface Listener {
  protocol: "tcp" | "udp";
  /** Dotted decimal; 0.0.0.0 for every one, also of IPv6's. */
  address: string;
  l4Port: number;
  inode: number;
  /** Who holds it; null where it is the kernel's own, such as a vxlan device's, or not ours to see. */
  owner: SocketOwner | null;
}

export interface SocketOwner {
  pid: number;
  /** Command line, words separated by blanks. */
  command: string;
}

const TCP_LISTEN = "0A";

/**
 * The listening sockets in a text of /proc/net/{tcp,tcp6,udp,udp6}. Of udp all sockets count: they
 * have no state that says so. IPv6 ones listening on an address of their own are left out.
 */
export function parseSockets(text: string, protocol: Listener["protocol"]): Omit<Listener, "owner">[] {
  return text
    .trim()
    .split("\n")
    .slice(1)
    .flatMap((line) => {
      const fields = line.trim().split(/\s+/);
      const [, local = "", , state] = fields;
      if (protocol === "tcp" && state !== TCP_LISTEN) return [];
      const [hex = "", port = ""] = local.split(":");
      const address = addressOf(hex);
      if (address === null) return [];
      return [{ protocol, address, l4Port: Number.parseInt(port, 16), inode: Number(fields[9]) }];
    });
}

/** Words of the machine's byte order, which is the lower byte first wherever podwire runs. */
function addressOf(hex: string): string | null {
  if (/^0+$/.test(hex)) return "0.0.0.0";
  if (hex.length !== 8) return null;
  const bytes = Buffer.from(hex, "hex").reverse();
  return formatIpv4(bytes.readInt32BE(0));
}
