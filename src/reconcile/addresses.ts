/** The addresses that the node has, as what is desired of its host depends on them. */
import { GSO_DEVICE, NODE_DEVICE } from "../desired/host.js";
import type { NodeAddress } from "../desired/routing.js";
import type { HostView } from "./readOnly.js";

/** The node's addresses that desiredHost takes for its own: those on other links than ours. */
export function nodeAddresses(addresses: readonly NodeAddress[]): NodeAddress[] {
  return addresses
    .filter(({ link }) => link !== NODE_DEVICE && link !== GSO_DEVICE)
    .map(({ address, link }) => ({ address, link }));
}

/** The addresses in the agent's namespace, with the link that each is on and its MTU. */
export function readAddresses(host: HostView): Promise<(NodeAddress & { mtu: number })[]> {
  return host.within("", async (namespace) => {
    const links = new Map((await namespace.links()).map((link) => [link.index, link]));
    return (await namespace.addresses()).flatMap(({ address, index }) => {
      const link = links.get(index);
      return link === undefined ? [] : [{ address, link: link.name, mtu: link.mtu }];
    });
  });
}
