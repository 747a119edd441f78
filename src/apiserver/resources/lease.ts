/** coordination.k8s.io/v1 Lease. */
import type { FieldError, ResourceDefinition } from "../resource.js";
import { AGE_COLUMN, column, defineResource, NAME_COLUMN } from "./define.js";
import { invalid } from "./fieldErrors.js";
import { age } from "./format.js";

export const leases: ResourceDefinition = defineResource({
  group: "coordination.k8s.io",
  version: "v1",
  kind: "Lease",
  plural: "leases",
  namespaced: true,
  validate(lease) {
    const faults: FieldError[] = [];
    const { leaseDurationSeconds, leaseTransitions } = lease.spec ?? {};
    if (leaseDurationSeconds <= 0) {
      faults.push(invalid("spec.leaseDurationSeconds", leaseDurationSeconds, "must be greater than 0"));
    }
    if (leaseTransitions < 0) {
      faults.push(invalid("spec.leaseTransitions", leaseTransitions, "must be greater than or equal to 0"));
    }
    return faults;
  },
  columns: [
    NAME_COLUMN,
    column("Holder", "holderIdentity contains the identity of the holder of a current lease."),
    AGE_COLUMN,
  ],
  row: (lease, now) => [lease.metadata.name, lease.spec?.holderIdentity ?? "", age(lease, now)],
});
