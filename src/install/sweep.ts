/**
 * Removes from the node's own network namespace what can only be an agent's, where no record says
 * what there is: TAP devices with our alias, and rules that look up our table.
 */
import { SERVICE_HOST_DEFAULTS } from "../agent/serviceHost.js";
import { ALIAS_PREFIX } from "../desired/host.js";
import { SERVICE_TABLE } from "../desired/routing.js";
import type { Host } from "../host/Host.js";
import { formatPortRange } from "../model/portRanges.js";
import { type RoutingRecord, restoreRouting } from "../reconcile/routing.js";

/** Sweeps; returns what was removed and brought back, in words. Throws a HostError. */
export async function sweep(host: Host): Promise<string[]> {
  const done: string[] = [];
  const rules = await host.within("", (namespace) => namespace.rules());
  if (rules.some(({ table }) => table === SERVICE_TABLE)) {
    // What the sysctls were before is not known: they stay as they are.
    let record: RoutingRecord | null = {
      localRules: [0],
      sysctls: {},
      reservedPorts: [SERVICE_HOST_DEFAULTS.nodePorts, SERVICE_HOST_DEFAULTS.egressPorts]
        .map(formatPortRange)
        .join(","),
    };
    const restored = await restoreRouting(host, {
      routing: () => record,
      writeRouting: (next) => {
        record = next;
      },
    });
    done.push(...restored.map((change) => `restored ${change}`));
    done.push(
      "what tcp_early_demux, udp_early_demux and forwarding were before is not recorded: left as they are",
    );
  }
  await host.within("", async (namespace) => {
    for (const link of await namespace.links()) {
      if (link.kind !== "tun" || !link.alias.startsWith(ALIAS_PREFIX)) continue;
      await namespace.deleteLink(link);
      done.push(`removed ${link.name}`);
    }
  });
  return done;
}
