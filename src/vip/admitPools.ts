/**
 * MetalLB's validation webhooks as an admission of the embedded API server: an IPAddressPool or
 * L2Advertisement that would make the configuration faulty is refused, with MetalLB's words. Changes
 * nothing.
 */
import type { KubeObject } from "../kube/KubeApi.js";
import { KubeError } from "../kube/KubeError.js";
import { IPADDRESSPOOLS, L2ADVERTISEMENTS } from "../kube/resources.js";
import type { IPAddressPool, L2Advertisement, Node } from "../kube/types.js";
import { METALLB_NAMESPACE } from "../model/metallb.js";
import { ConfigurationError } from "./addressRange.js";
import { checkAdvertisement, poolsOf } from "./pools.js";

/** What it reads of the server's request. */
export interface PoolRequest {
  operation: "CREATE" | "UPDATE" | "DELETE";
  definition: { group: string; plural: string };
  subresource: string;
  object: KubeObject | undefined;
  view: { list(group: string, plural: string): KubeObject[] };
}

/** Throws a KubeError (Forbidden) for what MetalLB would not admit. */
export function admitPools(request: PoolRequest): void {
  const { definition, subresource, object } = request;
  if (definition.group !== IPADDRESSPOOLS.group || subresource !== "" || !object) return;
  // Whoever deletes it may have to take a finalizer off, whatever it says.
  if (object.metadata.deletionTimestamp) return;
  try {
    if (request.operation === "CREATE" && object.metadata.namespace !== METALLB_NAMESPACE)
      throw new ConfigurationError(`resource must be created in ${METALLB_NAMESPACE} namespace`);
    if (definition.plural === IPADDRESSPOOLS.plural) checkPool(object as IPAddressPool, request.view);
    else if (definition.plural === L2ADVERTISEMENTS.plural) checkAdvertisement(object as L2Advertisement);
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    const webhook = `${definition.plural.slice(0, -1)}validationwebhook.metallb.io`;
    throw KubeError.of(
      "Forbidden",
      `admission webhook ${JSON.stringify(webhook)} denied the request: ${error.message}`,
    );
  }
}

function checkPool(pool: IPAddressPool, view: PoolRequest["view"]): void {
  const { group, plural } = IPADDRESSPOOLS;
  const others = view
    .list(group, plural)
    .filter(({ metadata }) => metadata.namespace === METALLB_NAMESPACE)
    .filter(({ metadata }) => metadata.name !== pool.metadata.name);
  // The new one last, so that it is the one at fault.
  poolsOf(
    [...others, pool] as IPAddressPool[],
    view.list("", "namespaces"),
    view.list("", "nodes") as Node[],
  );
}
