/** v1 Node. */
import type { FieldError, ResourceDefinition } from "../resource.js";
import { AGE_COLUMN, column, defineResource, NAME_COLUMN, wide } from "./define.js";
import { duplicate, forbidden, invalid, notSupported, required, Verbatim } from "./fieldErrors.js";
import { age } from "./format.js";
import { items, type Loose } from "./loose.js";
import { isCidr, isLabelValue, isQualifiedName } from "./names.js";

const ROLE_PREFIX = "node-role.kubernetes.io/";
const EFFECTS = ["NoExecute", "NoSchedule", "PreferNoSchedule"];

export const nodes: ResourceDefinition = defineResource({
  group: "",
  version: "v1",
  kind: "Node",
  plural: "nodes",
  shortNames: ["no"],
  namespaced: false,
  status: true,
  // Nodes create themselves, status and all.
  statusOnCreate: true,
  defaults(node) {
    node.spec ??= {};
    node.status ??= {};
    if (node.spec.podCIDR && !node.spec.podCIDRs) node.spec.podCIDRs = [node.spec.podCIDR];
  },
  validate(node, old) {
    const faults = validateTaints(node.spec?.taints, "spec.taints");
    items(node.spec?.podCIDRs).forEach((cidr, i) => {
      for (const message of isCidr(cidr)) faults.push(invalid(`spec.podCIDRs[${i}]`, cidr, message));
    });
    items(node.status?.addresses).forEach((address, i, all) => {
      const first = all.findIndex((a) => a.type === address.type && a.address === address.address);
      if (first !== i) {
        const shown = `core.NodeAddress{Type:${JSON.stringify(address.type)}, Address:${JSON.stringify(address.address)}}`;
        faults.push(duplicate(`status.addresses[${i}]`, new Verbatim(shown)));
      }
    });
    if (old?.spec?.podCIDR && old.spec.podCIDR !== node.spec?.podCIDR) {
      faults.push(forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'));
    }
    if (old?.spec?.providerID && old.spec.providerID !== node.spec?.providerID) {
      faults.push(
        forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid'),
      );
    }
    return faults;
  },
  selectable: (node) => ({ "spec.unschedulable": String(node.spec?.unschedulable ?? false) }),
  columns: [
    NAME_COLUMN,
    column("Status", "The status of the node"),
    column("Roles", "The roles of the node"),
    AGE_COLUMN,
    column("Version", "Kubelet Version reported by the node."),
    wide("Internal-IP", "List of addresses reachable to the node."),
    wide("External-IP", "List of addresses reachable to the node."),
    wide("OS-Image", "OS Image reported by the node from /etc/os-release."),
    wide("Kernel-Version", "Kernel Version reported by the node from 'uname -r'."),
    wide("Container-Runtime", "ContainerRuntime Version reported by the node."),
  ],
  row(node, now) {
    const info = node.status?.nodeInfo ?? {};
    return [
      node.metadata.name,
      status(node),
      roles(node.metadata.labels),
      age(node, now),
      info.kubeletVersion ?? "",
      addressOf(node, "InternalIP"),
      addressOf(node, "ExternalIP"),
      info.osImage || "<unknown>",
      info.kernelVersion || "<unknown>",
      info.containerRuntimeVersion || "<unknown>",
    ];
  },
});

function status(node: Loose): string {
  const ready = items(node.status?.conditions).find((condition) => condition.type === "Ready");
  const words = [ready === undefined ? "Unknown" : ready.status === "True" ? "Ready" : "NotReady"];
  if (node.spec?.unschedulable) words.push("SchedulingDisabled");
  return words.join(",");
}

function roles(labels: Loose): string {
  const found = new Set<string>();
  for (const [key, value] of Object.entries<string>(labels ?? {})) {
    if (key.startsWith(ROLE_PREFIX) && key.length > ROLE_PREFIX.length) {
      found.add(key.slice(ROLE_PREFIX.length));
    } else if (key === "kubernetes.io/role" && value !== "") found.add(value);
  }
  return found.size === 0 ? "<none>" : [...found].sort().join(",");
}

function addressOf(node: Loose, type: string): string {
  return items(node.status?.addresses).find((address) => address.type === type)?.address ?? "<none>";
}

function validateTaints(taints: Loose, field: string): FieldError[] {
  const faults: FieldError[] = [];
  const seen = new Set<string>();
  items(taints).forEach((taint, i) => {
    const at = `${field}[${i}]`;
    for (const message of isQualifiedName(taint.key ?? "")) {
      faults.push(invalid(`${at}.key`, taint.key ?? "", message));
    }
    for (const message of isLabelValue(taint.value ?? "")) {
      faults.push(invalid(`${at}.value`, taint.value, message));
    }
    if (!taint.effect) faults.push(required(`${at}.effect`));
    else if (!EFFECTS.includes(taint.effect)) {
      faults.push(
        notSupported(`${at}.effect`, taint.effect, ["NoSchedule", "PreferNoSchedule", "NoExecute"]),
      );
    }
    const key = `${taint.key}:${taint.effect}`;
    if (seen.has(key)) {
      const shown = `core.Taint{Key:${JSON.stringify(taint.key)}, Value:${JSON.stringify(taint.value ?? "")}, Effect:${JSON.stringify(taint.effect)}, TimeAdded:<nil>}`;
      faults.push({
        ...duplicate(at, new Verbatim(shown)),
        detail: `Duplicate value: ${shown}: taints must be unique by key and effect pair`,
      });
    }
    seen.add(key);
  });
  return faults;
}
