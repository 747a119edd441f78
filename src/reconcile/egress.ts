/** Reads what egress depends on: the node's routes and addresses. */
import { type EgressAddress, type EgressRoute, egressTable } from "../desired/egress.js";
import { GSO_DEVICE, NODE_DEVICE } from "../desired/host.js";
import { RT_TABLE_MAIN } from "../host/Host.js";
import { parseIpv4 } from "../model/ipv4.js";
import type { TableInput } from "../tables/TableInput.js";
import type { HostView } from "./readOnly.js";

/** The egress table that mirrors the main route table of the agent's namespace. */
export function readEgress(host: HostView): Promise<TableInput["egress"]> {
  return host.within("", async (namespace) => {
    const own = (await namespace.links()).filter(({ name }) => name === NODE_DEVICE || name === GSO_DEVICE);
    const addresses = (await namespace.addresses()).map(
      ({ index, address, length, secondary, scope }): EgressAddress => ({
        link: index,
        address,
        length,
        secondary: secondary === true,
        scope: scope ?? 0,
      }),
    );
    const routes = (await namespace.routes())
      .filter(({ table }) => table === RT_TABLE_MAIN)
      .map(
        ({ destination, index, gateway, source, priority }): EgressRoute => ({
          destination,
          link: index,
          gateway: gateway === null ? null : parseIpv4(gateway),
          source: source === null ? null : parseIpv4(source),
          metric: priority,
        }),
      );
    return egressTable(routes, addresses, new Set(own.map(({ index }) => index)));
  });
}
