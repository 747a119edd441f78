/** The addresses that the node has, as what is desired of its host depends on them. */
import { GSO_DEVICE, NODE_DEVICE } from "../desired/host.js";
import type { LanInterface } from "../desired/lan.js";
import type { NodeAddress } from "../desired/routing.js";
import type { HostView } from "./readOnly.js";

/** The node's addresses that desiredHost takes for its own: those on other links than ours. */
export function nodeAddresses(addresses: readonly NodeAddress[]): NodeAddress[] {
  return addresses
    .filter(({ link }) => link !== NODE_DEVICE && link !== GSO_DEVICE)
    .map(({ address, link }) => ({ address, link }));
}

/** An address, and the link that it is on. */
export interface FoundAddress extends NodeAddress {
  index: number;
  mac: string;
  mtu: number;
}

/** The addresses in the agent's namespace. */
export function readAddresses(host: HostView): Promise<FoundAddress[]> {
  return host.within("", async (namespace) => {
    const links = new Map((await namespace.links()).map((link) => [link.index, link]));
    return (await namespace.addresses()).flatMap(({ address, index }) => {
      const link = links.get(index);
      return link === undefined ? [] : [{ address, link: link.name, index, mac: link.mac, mtu: link.mtu }];
    });
  });
}

/** The LAN interface: `name`, or where that is null the one that has `address` (int32); null without one. */
export async function readLan(
  host: HostView,
  found: readonly FoundAddress[],
  name: string | null,
  address: number | null,
): Promise<LanInterface | null> {
  if (name === null) {
    const holder = found.find((each) => each.address === address);
    return holder === undefined ? null : { name: holder.link, index: holder.index, mac: holder.mac };
  }
  const link = await host.within("", (namespace) => namespace.link(name));
  return link === null ? null : { name, index: link.index, mac: link.mac };
}
