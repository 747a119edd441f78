/** metallb.io/v1beta1 IPAddressPool and L2Advertisement: MetalLB's own objects, with its columns. */
import type { FieldError, ResourceDefinition } from "../resource.js";
import { column, defineResource, NAME_COLUMN, wide } from "./define.js";
import { invalid, required } from "./fieldErrors.js";
import { isRange } from "./ipam.js";
import { items, type Loose } from "./loose.js";
import { validateLabelSelector } from "./metadata.js";

/** Lists are printed as JSON, as the tables of custom resources do. */
const json = (list: Loose): string => (list === undefined || list === null ? "" : JSON.stringify(list));

export const ipAddressPools: ResourceDefinition = defineResource({
  group: "metallb.io",
  version: "v1beta1",
  kind: "IPAddressPool",
  plural: "ipaddresspools",
  namespaced: true,
  status: true,
  generationOf: ["spec"],
  defaults(pool) {
    pool.spec ??= {};
    pool.spec.autoAssign ??= true;
    pool.spec.avoidBuggyIPs ??= false;
  },
  validate(pool) {
    const faults: FieldError[] = [];
    if (items(pool.spec.addresses).length === 0) faults.push(required("spec.addresses"));
    items(pool.spec.addresses).forEach((range, i) => {
      const messages = !/[/-]/.test(range) ? [`invalid CIDR "${range}"`] : isRange(range);
      for (const message of messages) faults.push(invalid(`spec.addresses[${i}]`, range, message));
    });
    const allocation = pool.spec.serviceAllocation;
    faults.push(
      ...validateSelectors(allocation?.namespaceSelectors, "spec.serviceAllocation.namespaceSelectors"),
    );
    faults.push(
      ...validateSelectors(allocation?.serviceSelectors, "spec.serviceAllocation.serviceSelectors"),
    );
    return faults;
  },
  columns: [
    NAME_COLUMN,
    column("Auto Assign", "AutoAssign flag used to prevent MetalLB from automatic allocation.", "boolean"),
    column(
      "Avoid Buggy IPs",
      "AvoidBuggyIPs prevents addresses ending with .0 and .255 to be used.",
      "boolean",
    ),
    column("Addresses", "A list of IP address ranges over which MetalLB has authority."),
  ],
  row: (pool) => [
    pool.metadata.name,
    pool.spec?.autoAssign ?? true,
    pool.spec?.avoidBuggyIPs ?? false,
    json(pool.spec?.addresses),
  ],
});

export const l2Advertisements: ResourceDefinition = defineResource({
  group: "metallb.io",
  version: "v1beta1",
  kind: "L2Advertisement",
  plural: "l2advertisements",
  namespaced: true,
  status: true,
  generationOf: ["spec"],
  defaults(advertisement) {
    advertisement.spec ??= {};
  },
  validate: ({ spec }) => [
    ...validateSelectors(spec.ipAddressPoolSelectors, "spec.ipAddressPoolSelectors"),
    ...validateSelectors(spec.nodeSelectors, "spec.nodeSelectors"),
    ...validateSelectors(spec.serviceSelectors, "spec.serviceSelectors"),
  ],
  columns: [
    NAME_COLUMN,
    column("IPAddressPools", "The list of IPAddressPools to advertise via this advertisement."),
    column("IPAddressPool Selectors", "A selector for the IPAddressPools which would get advertised."),
    column("Interfaces", "A list of interfaces to announce from."),
    {
      ...wide("Node Selectors", "NodeSelectors allows to limit the nodes to announce as next hops."),
      priority: 10,
    },
  ],
  row: ({ metadata, spec }) => [
    metadata.name,
    json(spec?.ipAddressPools),
    json(spec?.ipAddressPoolSelectors),
    json(spec?.interfaces),
    json(spec?.nodeSelectors),
  ],
});

function validateSelectors(selectors: Loose, field: string): FieldError[] {
  return items(selectors).flatMap((selector, i) => validateLabelSelector(selector, `${field}[${i}]`));
}
