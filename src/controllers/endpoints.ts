/**
 * Service → EndpointSlices and Endpoints, from the pods that its selector finds. Pure.
 *
 * 1. an Endpoint for each pod that has an address and has not ended
 * 2. groups with equal ports (a named target port may differ from pod to pod)
 * 3. each group fills the slices it has, then new ones; slices left empty go
 * 4. the older Endpoints object says the same with fewer words
 *
 * Services without a selector keep the slices that somebody made by hand.
 */
import type { OwnerReference } from "../kube/KubeApi.js";
import { ENDPOINTS, ENDPOINTSLICES, SERVICES } from "../kube/resources.js";
import type { Endpoint, EndpointSlice, Endpoints, Node, Pod, Service, ServicePort } from "../kube/types.js";
import { type Action, type Outcome, outcome } from "./actions.js";
import { canonicalJson, controllerReference, sameJson } from "./meta.js";
import { isFinished, isReady, isTerminating } from "./pods.js";

export const SERVICE_NAME = "kubernetes.io/service-name";
export const MANAGED_BY = "endpointslice.kubernetes.io/managed-by";
export const MANAGER = "endpointslice-controller.k8s.io";
const HEADLESS = "service.kubernetes.io/headless";
const OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity";
const ZONE = "topology.kubernetes.io/zone";
const PER_SLICE = 100;
const PER_ENDPOINTS = 1000;

export interface EndpointsState {
  service: Service;
  /** Pods that the selector finds. */
  pods: Iterable<Pod>;
  node(name: string): Node | undefined;
  /** Slices with the Service's label that we manage. */
  slices: readonly EndpointSlice[];
  endpoints: Endpoints | undefined;
}

type Ports = NonNullable<EndpointSlice["ports"]>;
interface Group {
  ports: Ports;
  /** By pod. */
  endpoints: Map<string, Endpoint>;
}

export function hasSelector({ spec }: Service): boolean {
  return spec?.type !== "ExternalName" && Object.keys(spec?.selector ?? {}).length > 0;
}

export function reconcileEndpoints(state: EndpointsState): Outcome {
  if (!hasSelector(state.service) || isTerminating(state.service)) return outcome([]);
  return outcome([...sliceActions(state), ...endpointsActions(state)]);
}

// ---- EndpointSlices -------------------------------------------------------------------------

function sliceActions({ service, pods, node, slices }: EndpointsState): Action[] {
  const actions: Action[] = [];
  const groups = new Map<string, Group>();
  for (const pod of pods) {
    const address = addressOf(pod);
    if (address === undefined) continue;
    const runsOn = pod.spec?.nodeName ? node(pod.spec.nodeName) : undefined;
    if (pod.spec?.nodeName && !runsOn && !service.spec?.publishNotReadyAddresses) continue;
    const ports = portsFor(service, pod);
    const id = canonicalJson(ports);
    let group = groups.get(id);
    if (!group) {
      group = { ports, endpoints: new Map() };
      groups.set(id, group);
    }
    group.endpoints.set(pod.metadata.uid!, endpointOf(service, pod, address, runsOn));
  }
  const spare: EndpointSlice[] = [];
  const fill = new Map<EndpointSlice, { group: Group; kept: Endpoint[] }>();
  for (const slice of slices) {
    if (isTerminating(slice)) continue;
    const group = groups.get(canonicalJson(sortedPorts(slice.ports ?? [])));
    const kept: Endpoint[] = [];
    for (const endpoint of slice.endpoints ?? []) {
      const id = endpoint.targetRef?.uid;
      const wanted = id === undefined ? undefined : group?.endpoints.get(id);
      if (!wanted) continue;
      kept.push(wanted);
      group!.endpoints.delete(id!);
    }
    if (group) {
      // Room is given away below, when every slice has said what it keeps.
      fill.set(slice, { group, kept });
    } else spare.push(slice);
  }
  let left = 0;
  for (const [slice, { group, kept }] of fill) {
    for (const [id, endpoint] of group.endpoints) {
      if (kept.length >= PER_SLICE) break;
      kept.push(endpoint);
      group.endpoints.delete(id);
    }
    if (kept.length === 0) spare.push(slice);
    else {
      left++;
      const changed = withContent(service, slice, group.ports, kept);
      if (!sameJson(changed, slice))
        actions.push({ verb: "update", resource: ENDPOINTSLICES, object: changed });
    }
  }
  for (const { ports, endpoints } of groups.values()) {
    const rest = [...endpoints.values()];
    for (let at = 0; at < rest.length; at += PER_SLICE) {
      left++;
      const content = rest.slice(at, at + PER_SLICE);
      const reused = spare.pop();
      if (reused)
        actions.push({
          verb: "update",
          resource: ENDPOINTSLICES,
          object: withContent(service, reused, ports, content),
        });
      else
        actions.push({
          verb: "create",
          resource: ENDPOINTSLICES,
          object: withContent(service, newSlice(service), ports, content),
        });
    }
  }
  // A Service without endpoints has one empty slice, so that everybody sees that there are none.
  if (left === 0) {
    const empty = spare.pop();
    const wanted = withContent(service, empty ?? newSlice(service), [], []);
    if (!empty) actions.push({ verb: "create", resource: ENDPOINTSLICES, object: wanted });
    else if (!sameSlice(wanted, empty))
      actions.push({ verb: "update", resource: ENDPOINTSLICES, object: wanted });
  }
  for (const slice of spare) actions.push({ verb: "delete", resource: ENDPOINTSLICES, object: slice });
  return actions;
}

function newSlice(service: Service): EndpointSlice {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      generateName: `${service.metadata.name}-`,
      namespace: service.metadata.namespace!,
      ownerReferences: [controllerReference(service, SERVICES) as OwnerReference],
    },
    addressType: "IPv4",
    endpoints: [],
    ports: [],
  };
}

function withContent(
  service: Service,
  slice: EndpointSlice,
  ports: Ports,
  endpoints: Endpoint[],
): EndpointSlice {
  const labels: Record<string, string> = {
    ...service.metadata.labels,
    [SERVICE_NAME]: service.metadata.name!,
    [MANAGED_BY]: MANAGER,
  };
  if (service.spec?.clusterIP === "None") labels[HEADLESS] = "";
  return { ...slice, metadata: { ...slice.metadata, labels }, endpoints, ports };
}

/** Equal in what is ours; a server may leave out empty lists. */
function sameSlice(a: EndpointSlice, b: EndpointSlice): boolean {
  const facts = ({ metadata, endpoints, ports }: EndpointSlice) => [
    metadata.labels ?? {},
    endpoints ?? [],
    sortedPorts(ports ?? []),
  ];
  return sameJson(facts(a), facts(b));
}

function endpointOf(service: Service, pod: Pod, address: string, node: Node | undefined): Endpoint {
  const serving = isReady(pod);
  const terminating = isTerminating(pod);
  const ready = service.spec?.publishNotReadyAddresses === true || (serving && !terminating);
  const zone = node?.metadata.labels?.[ZONE];
  const { hostname, subdomain, nodeName } = pod.spec ?? { containers: [] };
  const close = service.spec?.trafficDistribution;
  const hints = {
    ...(zone &&
      (close === "PreferClose" || close === "PreferSameZone" || close === "PreferSameNode") && {
        forZones: [{ name: zone }],
      }),
    ...(nodeName && close === "PreferSameNode" && { forNodes: [{ name: nodeName }] }),
  };
  return {
    addresses: [address],
    conditions: { ready, serving, terminating },
    ...(hostname && subdomain === service.metadata.name && { hostname }),
    targetRef: targetOf(pod),
    ...(nodeName && { nodeName }),
    ...(zone && { zone }),
    ...(ready && Object.keys(hints).length > 0 && { hints }),
  } as Endpoint;
}

function targetOf(pod: Pod) {
  return {
    kind: "Pod",
    namespace: pod.metadata.namespace!,
    name: pod.metadata.name!,
    uid: pod.metadata.uid!,
  };
}

/** The pod's IPv4 address; none when it has ended or has none yet. */
function addressOf(pod: Pod): string | undefined {
  if (isFinished(pod)) return undefined;
  const all = [...(pod.status?.podIPs ?? []).map(({ ip }) => ip), pod.status?.podIP];
  return all.find((ip) => ip !== undefined && ip !== "" && !ip.includes(":"));
}

function portsFor(service: Service, pod: Pod): Ports {
  return sortedPorts(
    (service.spec?.ports ?? []).flatMap((port) => {
      const number = targetPort(port, pod);
      if (number === undefined) return [];
      return [
        {
          name: port.name ?? "",
          protocol: port.protocol ?? "TCP",
          port: number,
          ...(port.appProtocol && { appProtocol: port.appProtocol }),
        },
      ];
    }),
  );
}

function sortedPorts(ports: Ports): Ports {
  return [...ports].sort((a, b) => (canonicalJson(a) < canonicalJson(b) ? -1 : 1));
}

/** The number behind a target port; undefined when the pod has no port of that name. */
export function targetPort(port: ServicePort, pod: Pod): number | undefined {
  const target = port.targetPort as number | string | undefined;
  if (target === undefined || target === 0 || target === "") return port.port;
  if (typeof target === "number") return target;
  const protocol = port.protocol ?? "TCP";
  for (const container of pod.spec?.containers ?? [])
    for (const own of container.ports ?? [])
      if (own.name === target && (own.protocol ?? "TCP") === protocol) return own.containerPort;
  return undefined;
}

// ---- Endpoints ------------------------------------------------------------------------------

type Subset = NonNullable<Endpoints["subsets"]>[number];

function endpointsActions({ service, pods, node, endpoints }: EndpointsState): Action[] {
  const tolerant = service.spec?.publishNotReadyAddresses === true;
  const subsets = new Map<string, Subset>();
  let count = 0;
  let truncated = false;
  const inOrder = [...pods].sort((a, b) => (a.metadata.name! < b.metadata.name! ? -1 : 1));
  for (const pod of inOrder) {
    const ip = addressOf(pod);
    if (ip === undefined || (isTerminating(pod) && !tolerant)) continue;
    if (pod.spec?.nodeName && !node(pod.spec.nodeName) && !tolerant) continue;
    if (count === PER_ENDPOINTS) {
      truncated = true;
      break;
    }
    count++;
    const ports = portsFor(service, pod).map(({ name, ...port }) => ({ ...(name && { name }), ...port }));
    if (ports.length === 0 && (service.spec?.ports ?? []).length > 0) continue;
    const id = canonicalJson(ports);
    let subset = subsets.get(id);
    if (!subset) {
      subset = ports.length > 0 ? { ports: ports as NonNullable<Subset["ports"]> } : {};
      subsets.set(id, subset);
    }
    const { hostname, subdomain, nodeName } = pod.spec ?? { containers: [] };
    const address = {
      ip,
      ...(hostname && subdomain === service.metadata.name && { hostname }),
      ...(nodeName && { nodeName }),
      targetRef: targetOf(pod),
    };
    const list = tolerant || isReady(pod) ? "addresses" : "notReadyAddresses";
    subset[list] = [...(subset[list] ?? []), address];
  }
  const labels: Record<string, string> = {
    ...service.metadata.labels,
    "endpoints.kubernetes.io/managed-by": "endpoint-controller",
  };
  if (service.spec?.clusterIP === "None") labels[HEADLESS] = "";
  const { [OVER_CAPACITY]: _gone, ...annotations } = endpoints?.metadata.annotations ?? {};
  if (truncated) annotations[OVER_CAPACITY] = "truncated";
  const { annotations: _old, ...metadata } = endpoints?.metadata ?? {
    name: service.metadata.name!,
    namespace: service.metadata.namespace!,
  };
  const list = [...subsets.values()];
  const wanted: Endpoints = {
    apiVersion: "v1",
    kind: "Endpoints",
    metadata: {
      ...metadata,
      labels,
      ...(Object.keys(annotations).length > 0 && { annotations }),
    },
    ...(list.length > 0 && { subsets: list }),
  };
  if (!endpoints) return [{ verb: "create", resource: ENDPOINTS, object: wanted }];
  const same =
    sameJson(endpoints.subsets ?? [], list) &&
    sameJson(endpoints.metadata.labels ?? {}, labels) &&
    sameJson(endpoints.metadata.annotations ?? {}, annotations);
  return same ? [] : [{ verb: "update", resource: ENDPOINTS, object: wanted }];
}
