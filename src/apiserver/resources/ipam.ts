/** podwire.dev/v1alpha1 IPPool and IPAMBlock. */
import { isIPv4 } from "node:net";
import type { FieldError, ResourceDefinition } from "../resource.js";
import { AGE_COLUMN, column, defineResource, NAME_COLUMN, wide } from "./define.js";
import { invalid, notSupported, required } from "./fieldErrors.js";
import { age, formatLabelSelector } from "./format.js";
import { items, type Loose } from "./loose.js";
import { validateImmutable, validateLabelSelector } from "./metadata.js";
import { isAddress, isCidr, isDnsSubdomain } from "./names.js";

const STATES = ["confirmed", "pending", "pendingDeletion"];

export const ipPools: ResourceDefinition = defineResource({
  group: "podwire.dev",
  version: "v1alpha1",
  kind: "IPPool",
  plural: "ippools",
  shortNames: ["ipp"],
  categories: ["podwire"],
  namespaced: false,
  generationOf: ["spec"],
  defaults(pool) {
    pool.spec ??= {};
    if (pool.spec.cidr) pool.spec.blockSize ??= isIPv4(pool.spec.cidr.split("/")[0]) ? 26 : 122;
    pool.spec.disabled ??= false;
  },
  validate(pool, old) {
    const spec = pool.spec;
    const faults = validateNetwork(spec.cidr, "spec.cidr");
    if (faults.length === 0) {
      const length = Number(spec.cidr.split("/")[1]);
      // As Calico: at most 4096 addresses in a block.
      const [shortest, longest] = isIPv4(spec.cidr.split("/")[0]) ? [20, 32] : [116, 128];
      const least = length > shortest ? `the prefix length of the pool (${length})` : shortest;
      if (spec.blockSize < Math.max(length, shortest) || spec.blockSize > longest) {
        faults.push(
          invalid("spec.blockSize", spec.blockSize, `must be between ${least} and ${longest}, inclusive`),
        );
      }
    }
    items(spec.reservedRanges).forEach((range, i) => {
      for (const message of isRange(range)) faults.push(invalid(`spec.reservedRanges[${i}]`, range, message));
    });
    faults.push(...validateLabelSelector(spec.nodeSelector, "spec.nodeSelector"));
    if (old !== undefined) {
      // Blocks were cut out of the pool by these.
      faults.push(...validateImmutable("spec.cidr", spec.cidr, old.spec?.cidr));
      faults.push(...validateImmutable("spec.blockSize", spec.blockSize, old.spec?.blockSize));
    }
    return faults;
  },
  columns: [
    NAME_COLUMN,
    column("CIDR", "The range that pods get their addresses from."),
    column("Block Size", "Prefix length of the blocks that nodes claim.", "integer"),
    column("Disabled", "Whether no new addresses are given out.", "boolean"),
    wide("Strict", "Whether no node borrows from another node's block."),
    AGE_COLUMN,
    wide("Node Selector", "The nodes that take addresses from this pool."),
  ],
  row: (pool, now) => [
    pool.metadata.name,
    pool.spec?.cidr ?? "",
    pool.spec?.blockSize ?? 0,
    pool.spec?.disabled ?? false,
    String(pool.spec?.strictAffinity ?? false),
    age(pool, now),
    formatLabelSelector(pool.spec?.nodeSelector),
  ],
});

export const ipamBlocks: ResourceDefinition = defineResource({
  group: "podwire.dev",
  version: "v1alpha1",
  kind: "IPAMBlock",
  plural: "ipamblocks",
  shortNames: ["ipb"],
  categories: ["podwire"],
  namespaced: false,
  validate(block, old) {
    const spec = block.spec ?? {};
    const faults = validateNetwork(spec.cidr, "spec.cidr");
    if (!spec.node) faults.push(required("spec.node"));
    else
      for (const message of isDnsSubdomain(spec.node)) faults.push(invalid("spec.node", spec.node, message));
    if (spec.affinityState && !STATES.includes(spec.affinityState)) {
      faults.push(notSupported("spec.affinityState", spec.affinityState, STATES));
    }
    if (faults.length === 0) {
      if (block.metadata.name !== nameOf(spec.cidr)) {
        faults.push(
          invalid(
            "metadata.name",
            block.metadata.name ?? "",
            `must be "${nameOf(spec.cidr)}" for ${spec.cidr}`,
          ),
        );
      }
      faults.push(...validateAllocations(spec));
    }
    if (old !== undefined) faults.push(...validateImmutable("spec.cidr", spec.cidr, old.spec?.cidr));
    return faults;
  },
  selectable: (block) => ({ "spec.node": block.spec?.node ?? "" }),
  columns: [
    NAME_COLUMN,
    column("CIDR", "The addresses of the block."),
    column("Node", "The node that the block belongs to."),
    column("State", "State of the block's affinity to the node."),
    column("Used", "Addresses given out.", "integer"),
    wide("Pinned", "Whether it was made by hand, and is not collected."),
    AGE_COLUMN,
  ],
  row: (block, now) => [
    block.metadata.name,
    block.spec?.cidr ?? "",
    block.spec?.node ?? "",
    block.spec?.affinityState ?? "confirmed",
    items(block.spec?.allocations).length,
    String(block.spec?.pinned ?? false),
    age(block, now),
  ],
});

/** A block is named after its CIDR: 10.1.235.192/26 is 10-1-235-192-26. */
function nameOf(cidr: string): string {
  const name = cidr.toLowerCase().replaceAll(/[.:/]/g, "-");
  return name.startsWith("-") ? `0${name}` : name;
}

function validateNetwork(cidr: string | undefined, field: string): FieldError[] {
  return cidr ? isCidr(cidr).map((message) => invalid(field, cidr, message)) : [required(field)];
}

/** Two owners of one address are impossible by the form of the object itself. */
function validateAllocations(spec: Loose): FieldError[] {
  const faults: FieldError[] = [];
  const [address, length] = spec.cidr.split("/");
  const size = 2 ** ((isIPv4(address) ? 32 : 128) - Number(length));
  const seen = new Set<number>();
  const check = (ordinal: number, field: string) => {
    if (ordinal < 0 || ordinal >= size) {
      faults.push(invalid(field, ordinal, `must be between 0 and ${size - 1}, inclusive`));
    } else if (seen.has(ordinal)) {
      faults.push({ type: "FieldValueDuplicate", field, detail: `Duplicate value: ${ordinal}` });
    }
    seen.add(ordinal);
  };
  items(spec.allocations).forEach((allocation, i) => {
    check(allocation.ordinal, `spec.allocations[${i}].ordinal`);
    if (!allocation.handle) faults.push(required(`spec.allocations[${i}].handle`));
  });
  items(spec.unallocated).forEach((ordinal, i) => {
    check(ordinal, `spec.unallocated[${i}]`);
  });
  return faults;
}

/** CIDR or FIRST-LAST. */
export function isRange(text: string): string[] {
  if (text.includes("/")) return isCidr(text);
  const ends = text.split("-").map((end) => end.trim());
  const good = ends.length <= 2 && ends.every((end) => isAddress(end).length === 0);
  return good ? [] : ["must be a CIDR or a range FIRST-LAST"];
}
