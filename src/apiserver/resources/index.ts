/** Every kind that the API server knows, in the order of discovery. */
import type { ResourceDefinition } from "../resource.js";
import { configMaps, secrets, serviceAccounts } from "./configuration.js";
import { controllerRevisions } from "./controllerRevision.js";
import { daemonSets } from "./daemonSet.js";
import { deployments, replicaSets } from "./deployment.js";
import { endpointSlices, endpoints } from "./endpoints.js";
import { events } from "./event.js";
import { eventsV1 } from "./eventsV1.js";
import { ipamBlocks, ipPools } from "./ipam.js";
import { leases } from "./lease.js";
import { ipAddressPools, l2Advertisements } from "./metallb.js";
import { namespaces } from "./namespace.js";
import { nodes } from "./node.js";
import { pods } from "./pod.js";
import {
  localSubjectAccessReviews,
  selfSubjectAccessReviews,
  selfSubjectReviews,
  selfSubjectRulesReviews,
  subjectAccessReviews,
} from "./reviews.js";
import { services } from "./service.js";

export const RESOURCES: readonly ResourceDefinition[] = [
  configMaps,
  endpoints,
  events,
  namespaces,
  nodes,
  pods,
  secrets,
  serviceAccounts,
  services,
  controllerRevisions,
  daemonSets,
  deployments,
  replicaSets,
  selfSubjectReviews,
  localSubjectAccessReviews,
  selfSubjectAccessReviews,
  selfSubjectRulesReviews,
  subjectAccessReviews,
  leases,
  endpointSlices,
  eventsV1,
  ipAddressPools,
  l2Advertisements,
  ipamBlocks,
  ipPools,
];

/** The definition of a kind; undefined for one that is not served. */
export function findResource(group: string, plural: string): ResourceDefinition | undefined {
  return RESOURCES.find((resource) => resource.group === group && resource.plural === plural);
}
