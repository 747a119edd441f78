/**
 * What a Service's fields become before validation: clusterIP and clusterIPs agree, a client that
 * replaces an object without the allocated values keeps them, and a change of type drops what the new
 * type cannot have. In place; doing it twice changes nothing more.
 */
import type { Service } from "../kube/types.js";
import { needsHealthCheck, specOf } from "./ServiceAllocator.js";

export function prepareService(service: Service, old: Service | undefined): void {
  normalizeClusterIPs(service, old);
  if (!old) return;
  keepAllocated(service, old);
  dropForType(service, old);
}

const hasClusterIP = ({ spec }: Service): boolean => spec?.type !== "ExternalName";
const hasNodePorts = ({ spec }: Service): boolean =>
  spec?.type === "NodePort" || spec?.type === "LoadBalancer";

/** clusterIPs[0] is clusterIP; the one that the client changed wins. */
function normalizeClusterIPs(service: Service, old: Service | undefined): void {
  const spec = specOf(service);
  if (!old) {
    if (spec.clusterIP && !spec.clusterIPs?.length) spec.clusterIPs = [spec.clusterIP];
    return;
  }
  const before = specOf(old);
  if (!spec.clusterIP && before.clusterIP) {
    // The clusterIP was cleared: so are the addresses, unless those were changed too.
    if (sameList(spec.clusterIPs, before.clusterIPs)) delete spec.clusterIPs;
  } else if (spec.clusterIP !== before.clusterIP && sameList(spec.clusterIPs, before.clusterIPs)) {
    spec.clusterIPs = [spec.clusterIP!];
  } else if (spec.clusterIP && !spec.clusterIPs?.length) spec.clusterIPs = [spec.clusterIP];
}

function keepAllocated(service: Service, old: Service): void {
  const spec = specOf(service);
  const before = specOf(old);
  if (hasClusterIP(service) && hasClusterIP(old)) {
    if (!spec.clusterIP && before.clusterIP) spec.clusterIP = before.clusterIP;
    if (!spec.clusterIPs?.length && before.clusterIPs && spec.clusterIP === before.clusterIP)
      spec.clusterIPs = [...before.clusterIPs];
    if (!spec.ipFamilies && before.ipFamilies) spec.ipFamilies = [...before.ipFamilies];
  }
  if (hasNodePorts(service) && hasNodePorts(old)) {
    // Values that the client left out come back by protocol and port, unless another port took them.
    const used = new Set((spec.ports ?? []).map((port) => `${port.protocol ?? "TCP"}/${port.nodePort ?? 0}`));
    for (const port of spec.ports ?? []) {
      if (port.nodePort) continue;
      const protocol = port.protocol ?? "TCP";
      const match = (before.ports ?? []).find(
        (other) => other.port === port.port && (other.protocol ?? "TCP") === protocol,
      );
      if (!match?.nodePort || used.has(`${protocol}/${match.nodePort}`)) continue;
      port.nodePort = match.nodePort;
      used.add(`${protocol}/${match.nodePort}`);
    }
  }
  if (
    needsHealthCheck(service) &&
    needsHealthCheck(old) &&
    !spec.healthCheckNodePort &&
    before.healthCheckNodePort
  )
    spec.healthCheckNodePort = before.healthCheckNodePort;
}

/** A field that the client left as it was goes when the new type cannot have it; one that it set is validation's. */
function dropForType(service: Service, old: Service): void {
  const spec = specOf(service);
  const before = specOf(old);
  if (hasClusterIP(old) && !hasClusterIP(service) && spec.clusterIP === before.clusterIP) {
    delete spec.clusterIP;
    delete spec.clusterIPs;
    delete spec.ipFamilies;
    delete spec.ipFamilyPolicy;
  }
  const portsOf = (s: Service): number[] => (s.spec?.ports ?? []).map(({ nodePort }) => nodePort ?? 0);
  if (hasNodePorts(old) && !hasNodePorts(service) && sameList(portsOf(service), portsOf(old)))
    for (const port of spec.ports ?? []) delete port.nodePort;
  if (
    needsHealthCheck(old) &&
    !needsHealthCheck(service) &&
    spec.healthCheckNodePort === before.healthCheckNodePort
  )
    delete spec.healthCheckNodePort;
  if (before.type === "LoadBalancer" && spec.type !== "LoadBalancer") {
    if (spec.allocateLoadBalancerNodePorts === before.allocateLoadBalancerNodePorts)
      delete spec.allocateLoadBalancerNodePorts;
    if (spec.loadBalancerClass === before.loadBalancerClass) delete spec.loadBalancerClass;
  }
  const external = (s: Service): boolean => hasNodePorts(s) || (s.spec?.externalIPs?.length ?? 0) > 0;
  if (external(old) && !external(service) && spec.externalTrafficPolicy === before.externalTrafficPolicy)
    delete spec.externalTrafficPolicy;
}

function sameList<T>(a: readonly T[] | undefined, b: readonly T[] | undefined): boolean {
  const left = a ?? [];
  const right = b ?? [];
  return left.length === right.length && left.every((value, index) => value === right[index]);
}
