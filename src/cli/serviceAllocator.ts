/**
 * The controllers' ServiceAllocator as the API server calls it; `owners` is the same one, for the
 * controllers' repair loop.
 */
import type { Allocator } from "../apiserver/verbs/Hooks.js";
import { ServiceAllocator } from "../controllers/ServiceAllocator.js";
import { prepareService } from "../controllers/serviceFields.js";
import type { KubeObject } from "../kube/KubeApi.js";
import type { Service } from "../kube/types.js";

export function serviceAllocator(serviceRange: string): {
  allocator: Allocator;
  owners: ServiceAllocator;
  apiAddress: string;
} {
  const owners = new ServiceAllocator({ serviceRange });
  const service = (object: KubeObject) => object as Service;
  const optional = (object: KubeObject | undefined) => object as Service | undefined;
  const allocator: Allocator = {
    group: "",
    plural: "services",
    prepare: (object, old) => prepareService(service(object), optional(old)),
    allocate: (object, old) => owners.allocate(service(object), optional(old)),
    revert: (object, old) => owners.revert(service(object), optional(old)),
    committed: (object, old) => owners.committed(service(object), service(old)),
    release: (object) => owners.release(service(object)),
    rebuild: (objects) => void owners.rebuild(objects.map(service)),
  };
  return { allocator, owners, apiAddress: owners.apiAddress };
}
