/** Schemas of the custom kinds: ours (podwire.dev) and MetalLB's (metallb.io). Written by hand. */
import { SCHEMA_REF, type Schema } from "./schema.js";

const META = "io.k8s.apimachinery.pkg.apis.meta.v1";

const text = (description: string): Schema => ({ description, type: "string" });
const flag = (description: string): Schema => ({ description, type: "boolean" });
const whole = (description: string): Schema => ({ description, type: "integer", format: "int64" });
const list = (description: string, items: Schema): Schema => ({ description, type: "array", items });
const ref = (name: string, description: string): Schema => ({
  description,
  allOf: [{ $ref: SCHEMA_REF + name }],
});
const object = (
  description: string,
  properties: Record<string, Schema>,
  required: string[] = [],
): Schema => ({
  description,
  type: "object",
  ...(required.length > 0 ? { required } : {}),
  properties,
});

const TEXT: Schema = { type: "string" };
const SELECTOR: Schema = { allOf: [{ $ref: `${SCHEMA_REF}${META}.LabelSelector` }] };

/** A kind and its list. */
function kind(
  prefix: string,
  group: string,
  version: string,
  name: string,
  description: string,
  fields: Record<string, Schema>,
): Record<string, Schema> {
  const typeFields = {
    apiVersion: text("APIVersion defines the versioned schema of this representation of an object."),
    kind: text("Kind is a string value representing the REST resource this object represents."),
  };
  const full = `${prefix}.${version}.${name}`;
  const gvk = (kindName: string) => ({
    "x-kubernetes-group-version-kind": [{ group, kind: kindName, version }],
  });
  return {
    [full]: {
      ...object(description, {
        ...typeFields,
        metadata: ref(`${META}.ObjectMeta`, "Standard object's metadata."),
        ...fields,
      }),
      ...gvk(name),
    },
    [`${full}List`]: {
      ...object(
        `${name}List is a list of ${name}`,
        {
          ...typeFields,
          items: list(`List of ${name}s.`, { allOf: [{ $ref: SCHEMA_REF + full }] }),
          metadata: ref(`${META}.ListMeta`, "Standard list metadata."),
        },
        ["items"],
      ),
      ...gvk(`${name}List`),
    },
  };
}

const IP_POOL = object(
  "What the pool gives out, and to whom.",
  {
    cidr: text("The range that pods get their addresses from, for example 10.1.0.0/16. Cannot be changed."),
    blockSize: whole(
      "Prefix length of the blocks that nodes claim: 20 to 32 (IPv4, default 26) or 116 to 128 (IPv6, default 122). Cannot be changed.",
    ),
    nodeSelector: ref(
      `${META}.LabelSelector`,
      "The nodes that take addresses from this pool. Absent or empty: all.",
    ),
    disabled: flag("No new addresses are given out; existing ones stay."),
    reservedRanges: list(
      "CIDRs and FIRST-LAST ranges that are not given out by themselves; they may be asked for by name.",
      TEXT,
    ),
    strictAffinity: flag("No node borrows from another node's block."),
  },
  ["cidr"],
);

const ALLOCATION = object(
  "An address that was given out.",
  {
    ordinal: whole("Position of the address in the block; the first has 0."),
    handle: text("Who may release it: the pod's uid, or tunnel-NODE."),
    sequence: whole("Tells this allocation from an earlier or later one of the same address."),
    attributes: object("Whose it is.", {
      pod: text("Name of the pod."),
      namespace: text("Namespace of the pod."),
      uid: text("Uid of the pod."),
      node: text("The node that asked."),
      timestamp: text("When; RFC 3339."),
    }),
  },
  ["ordinal", "handle"],
);

const IPAM_BLOCK = object(
  "The block's affinity to a node, and its addresses.",
  {
    cidr: text("The addresses of the block. Cannot be changed."),
    node: text("The node that the block belongs to."),
    affinityState: {
      ...text("pending: claimed; confirmed: in use; pendingDeletion: to go once it is empty."),
      enum: ["confirmed", "pending", "pendingDeletion"],
    },
    strictAffinity: flag("No other node borrows from this block."),
    pinned: flag("Made by hand, and not to be collected."),
    claimedAt: text("When the node claimed it; RFC 3339."),
    sequence: whole("The highest sequence given out."),
    allocations: list("Addresses that were given out.", ALLOCATION),
    unallocated: list("Positions of free addresses in the order in which they go out.", {
      type: "integer",
      format: "int64",
    }),
  },
  ["cidr", "node"],
);

const IP_ADDRESS_POOL = object(
  "IPAddressPoolSpec defines the desired state of IPAddressPool.",
  {
    addresses: list(
      "A list of IP address ranges over which MetalLB has authority. Each range can be either a CIDR prefix, or an explicit start-end range of IPs.",
      TEXT,
    ),
    autoAssign: flag("AutoAssign flag used to prevent MetalLB from automatic allocation for a pool."),
    avoidBuggyIPs: flag("AvoidBuggyIPs prevents addresses ending with .0 and .255 to be used by a pool."),
    serviceAllocation: object("AllocateTo makes ip pool allocation to specific namespace and/or service.", {
      priority: whole("Priority given for ip pool while ip allocation on a service."),
      namespaces: list("Namespaces that can use this pool.", TEXT),
      namespaceSelectors: list("Selectors of namespaces that can use this pool.", SELECTOR),
      serviceSelectors: list("Selectors of services that can use this pool.", SELECTOR),
    }),
  },
  ["addresses"],
);

const L2_ADVERTISEMENT = object("L2AdvertisementSpec defines the desired state of L2Advertisement.", {
  ipAddressPools: list("The list of IPAddressPools to advertise via this advertisement, by name.", TEXT),
  ipAddressPoolSelectors: list("A selector for the IPAddressPools to advertise.", SELECTOR),
  nodeSelectors: list("NodeSelectors limit the nodes to announce as next hops.", SELECTOR),
  serviceSelectors: list("ServiceSelectors limit the services whose addresses are announced.", SELECTOR),
  interfaces: list("A list of interfaces to announce from. Absent: all.", TEXT),
});

const EMPTY_STATUS: Schema = {
  type: "object",
  description: "The observed state.",
  "x-kubernetes-preserve-unknown-fields": true,
};

export const CUSTOM_SCHEMAS: Record<string, Schema> = {
  ...kind("dev.podwire", "podwire.dev", "v1alpha1", "IPPool", "A range that pods get their addresses from.", {
    spec: IP_POOL,
  }),
  ...kind(
    "dev.podwire",
    "podwire.dev",
    "v1alpha1",
    "IPAMBlock",
    "A block of addresses that belongs to a node.",
    {
      spec: IPAM_BLOCK,
    },
  ),
  ...kind(
    "io.metallb",
    "metallb.io",
    "v1beta1",
    "IPAddressPool",
    "IPAddressPool represents a pool of IP addresses that can be allocated to LoadBalancer services.",
    { spec: IP_ADDRESS_POOL, status: EMPTY_STATUS },
  ),
  ...kind(
    "io.metallb",
    "metallb.io",
    "v1beta1",
    "L2Advertisement",
    "L2Advertisement allows to advertise the LoadBalancer IPs provided by the selected pools via L2.",
    { spec: L2_ADVERTISEMENT, status: EMPTY_STATUS },
  ),
};
