/** The kinds of objects that podwire works with, and where each lives in the API. */
import type { ResourceRef } from "./KubeApi.js";

function ref(groupVersion: string, plural: string, kind: string, namespaced: boolean): ResourceRef {
  const [group, version] = groupVersion.includes("/") ? groupVersion.split("/") : ["", groupVersion];
  return { group: group!, version: version!, plural, kind, namespaced };
}

const PODWIRE_GROUP = "podwire.dev";
const METALLB_GROUP = "metallb.io";

export const NODES = ref("v1", "nodes", "Node", false);
export const PODS = ref("v1", "pods", "Pod", true);
export const SERVICES = ref("v1", "services", "Service", true);
export const NAMESPACES = ref("v1", "namespaces", "Namespace", false);
export const ENDPOINTS = ref("v1", "endpoints", "Endpoints", true);
export const EVENTS = ref("v1", "events", "Event", true);
export const CONFIGMAPS = ref("v1", "configmaps", "ConfigMap", true);
export const SECRETS = ref("v1", "secrets", "Secret", true);
export const ENDPOINTSLICES = ref("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", true);
export const CONTROLLERREVISIONS = ref("apps/v1", "controllerrevisions", "ControllerRevision", true);
export const DAEMONSETS = ref("apps/v1", "daemonsets", "DaemonSet", true);
export const DEPLOYMENTS = ref("apps/v1", "deployments", "Deployment", true);
export const REPLICASETS = ref("apps/v1", "replicasets", "ReplicaSet", true);
export const LEASES = ref("coordination.k8s.io/v1", "leases", "Lease", true);
export const IPPOOLS = ref("podwire.dev/v1alpha1", "ippools", "IPPool", false);
export const IPAMBLOCKS = ref("podwire.dev/v1alpha1", "ipamblocks", "IPAMBlock", false);
export const IPADDRESSPOOLS = ref("metallb.io/v1beta1", "ipaddresspools", "IPAddressPool", true);
export const L2ADVERTISEMENTS = ref("metallb.io/v1beta1", "l2advertisements", "L2Advertisement", true);

/** All of the above. */
export const RESOURCES: readonly ResourceRef[] = [
  NODES,
  PODS,
  SERVICES,
  NAMESPACES,
  ENDPOINTS,
  EVENTS,
  CONFIGMAPS,
  SECRETS,
  ENDPOINTSLICES,
  CONTROLLERREVISIONS,
  DAEMONSETS,
  DEPLOYMENTS,
  REPLICASETS,
  LEASES,
  IPPOOLS,
  IPAMBLOCKS,
  IPADDRESSPOOLS,
  L2ADVERTISEMENTS,
];

/** Whether an update may leave metadata.resourceVersion out: not of custom resources. */
export function allowsUnconditionalUpdate({ group }: { group: string }): boolean {
  return group !== PODWIRE_GROUP && group !== METALLB_GROUP;
}

/** Value of apiVersion: "v1", "apps/v1". */
export function apiVersionOf(resource: ResourceRef): string {
  return resource.group === "" ? resource.version : `${resource.group}/${resource.version}`;
}

/** "daemonsets.apps", "nodes": how Kubernetes names a resource in messages. */
export function qualifiedName(resource: ResourceRef): string {
  return resource.group === "" ? resource.plural : `${resource.plural}.${resource.group}`;
}

/** Path in the API: "/apis/apps/v1/namespaces/default/daemonsets/nginx/status". */
export function apiPath(
  resource: ResourceRef,
  namespace: string | undefined,
  name?: string,
  subresource?: string,
): string {
  const base = resource.group === "" ? "/api" : `/apis/${resource.group}`;
  const parts = [base, resource.version];
  if (resource.namespaced && namespace) parts.push("namespaces", encodeURIComponent(namespace));
  parts.push(resource.plural);
  if (name !== undefined) parts.push(encodeURIComponent(name));
  if (subresource) parts.push(subresource);
  return parts.join("/");
}
