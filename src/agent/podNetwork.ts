/** What the runtime wants to know of pods' networks. */
import { readFileSync } from "node:fs";
import type { Host } from "../host/Host.js";
import { parseIpv4 } from "../model/ipv4.js";

/** Whether a pod's namespace has its interface, address and default route: containers may start. */
export async function isAttached(host: Host, netns: string, address: string): Promise<boolean> {
  if (host.netnsIdentity(netns) === null) return false;
  return host.within(netns, async (view) => {
    const link = await view.link("eth0");
    if (!link?.up) return false;
    const addresses = await view.addresses(link.index);
    const routes = await view.routes();
    return (
      addresses.some((each) => each.address === parseIpv4(address)) &&
      routes.some(({ index, destination }) => index === link.index && destination.length === 0)
    );
  });
}

/** The node's resolver for its pods: without servers on loopback, which a pod does not reach. */
export function podResolvConf(file = "/etc/resolv.conf"): string {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return "";
  }
  const kept = text.split("\n").filter((line) => !/^\s*nameserver\s+(127\.|::1)/.test(line));
  return `${kept.join("\n").trimEnd()}\n`;
}
