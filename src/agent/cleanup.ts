/**
 * Removes from the host what agents on a state directory made, after the last of them has ended,
 * by the record they kept. Devices take their addresses, neighbours, routes and sysctls along; rules
 * and other sysctls are brought back to what they were.
 */
import { type Host, OWN_NETNS } from "../host/Host.js";
import { inNamespace } from "../host/HostError.js";
import { type DevicePlace, deleteDevice } from "../reconcile/device.js";
import { restoreRouting } from "../reconcile/routing.js";
import { devicesIn, LockedError, readRecord, StateDir, StateError, StateRecord } from "./StateDir.js";

export interface CleanupReport {
  /** "podwire0", "eth0 in /run/netns/a". */
  removed: string[];
  /** Recorded, but not there any more. */
  gone: string[];
  /** Could not be removed; they stay in the record. */
  failed: { device: string; message: string }[];
  /** Rules and sysctls that were brought back, in words. */
  restored: string[];
}

/**
 * Removes every recorded device that is still there, then the state directory's files. May be
 * repeated. Throws a LockedError while an agent runs there, and a StateError where the agent ran in
 * another network namespace than this process; `force` goes on in both cases, in the latter with
 * the pods' devices alone. Throws a StateError where the record cannot be read.
 */
export async function cleanup(directory: string, host: Host, force: boolean): Promise<CleanupReport> {
  const stateDir = new StateDir(directory);
  const holder = stateDir.holder();
  if (holder !== 0 && !force) throw new LockedError(directory, holder);
  const recorded = readRecord(stateDir.recordFile);
  const netns = host.netnsIdentity(OWN_NETNS) ?? "";
  const reachable = devicesIn(recorded, netns);
  const elsewhere = recorded.routing !== null && recorded.netns !== netns;
  if ((elsewhere || reachable.length < recorded.devices.length) && !force)
    throw new StateError(
      `the agent of ${directory} ran in another network namespace (${recorded.netns}): run cleanup there, or, if that is gone, with --force`,
    );
  const unreachable = recorded.devices.filter((place) => !reachable.includes(place));
  const report: CleanupReport = { removed: [], gone: unreachable.map(describe), failed: [], restored: [] };
  // Before the devices go: what is captured should not be lost for longer than it must be.
  if (recorded.routing !== null && !elsewhere) {
    try {
      const record = new StateRecord(stateDir.recordFile, recorded.node, netns);
      report.restored = await restoreRouting(host, record);
    } catch (error) {
      report.failed.push({ device: "the node's routing", message: (error as Error).message });
    }
  }
  for (const place of reachable) {
    try {
      const removed = await deleteDevice(host, place);
      (removed ? report.removed : report.gone).push(describe(place));
    } catch (error) {
      report.failed.push({ device: describe(place), message: (error as Error).message });
    }
  }
  if (report.failed.length === 0) stateDir.remove();
  return report;
}

function describe({ netns, name }: DevicePlace): string {
  return `${name}${inNamespace(netns)}`;
}
