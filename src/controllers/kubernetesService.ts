/** The `kubernetes` Service: how pods find the API server. Its endpoints are the server's own. Pure. */
import { ENDPOINTS, ENDPOINTSLICES, SERVICES } from "../kube/resources.js";
import type { EndpointSlice, Endpoints, Service } from "../kube/types.js";
import { type Action, type Outcome, outcome } from "./actions.js";
import { SERVICE_NAME } from "./endpoints.js";
import { sameJson } from "./meta.js";

export interface KubernetesServiceState {
  /** First address of the service range. */
  clusterIP: string;
  /** Where API servers listen. */
  servers: readonly { address: string; port: number }[];
  service: Service | undefined;
  endpoints: Endpoints | undefined;
  slice: EndpointSlice | undefined;
}

export const KUBERNETES = { name: "kubernetes", namespace: "default" } as const;

export function reconcileKubernetesService(state: KubernetesServiceState): Outcome {
  const { clusterIP, servers, service, endpoints, slice } = state;
  const actions: Action[] = [];
  const target = servers[0]?.port ?? 6443;
  const ports = [{ name: "https", protocol: "TCP" as const, port: 443, targetPort: target }];
  if (!service)
    actions.push({
      verb: "create",
      resource: SERVICES,
      object: {
        apiVersion: "v1",
        kind: "Service",
        metadata: { ...KUBERNETES, labels: { component: "apiserver", provider: "kubernetes" } },
        spec: { type: "ClusterIP", clusterIP, clusterIPs: [clusterIP], sessionAffinity: "None", ports },
      } as Service,
    });
  else if (
    !sameJson(
      service.spec?.ports?.map(({ name, port, targetPort }) => ({ name, port, targetPort })),
      [{ name: "https", port: 443, targetPort: target }],
    )
  )
    actions.push({
      verb: "update",
      resource: SERVICES,
      object: { ...service, spec: { ...service.spec, ports } } as Service,
    });

  const endpointPorts = [{ name: "https", port: target, protocol: "TCP" }];
  const subsets =
    servers.length > 0
      ? [{ addresses: servers.map(({ address }) => ({ ip: address })), ports: endpointPorts }]
      : [];
  const wantedEndpoints = {
    apiVersion: "v1",
    kind: "Endpoints",
    ...endpoints,
    metadata: {
      ...KUBERNETES,
      labels: { "endpointslice.kubernetes.io/skip-mirror": "true" },
      ...endpoints?.metadata,
    },
    subsets,
  } as Endpoints;
  if (!endpoints) actions.push({ verb: "create", resource: ENDPOINTS, object: wantedEndpoints });
  else if (!sameJson(endpoints.subsets, subsets))
    actions.push({ verb: "update", resource: ENDPOINTS, object: wantedEndpoints });

  const content = {
    endpoints: servers.map(({ address }) => ({ addresses: [address], conditions: { ready: true } })),
    ports: endpointPorts,
  };
  const wantedSlice = {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    addressType: "IPv4",
    ...slice,
    metadata: { ...KUBERNETES, labels: { [SERVICE_NAME]: KUBERNETES.name }, ...slice?.metadata },
    ...content,
  } as EndpointSlice;
  if (!slice) actions.push({ verb: "create", resource: ENDPOINTSLICES, object: wantedSlice });
  else if (!sameJson({ endpoints: slice.endpoints, ports: slice.ports }, content))
    actions.push({ verb: "update", resource: ENDPOINTSLICES, object: wantedSlice });
  return outcome(actions);
}
