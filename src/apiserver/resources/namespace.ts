/** v1 Namespace. */
import type { ResourceDefinition } from "../resource.js";
import { AGE_COLUMN, column, defineResource, NAME_COLUMN } from "./define.js";
import { age } from "./format.js";
import { items } from "./loose.js";
import { isDnsLabel } from "./names.js";

export const namespaces: ResourceDefinition = defineResource({
  group: "",
  version: "v1",
  kind: "Namespace",
  plural: "namespaces",
  shortNames: ["ns"],
  namespaced: false,
  status: true,
  name: isDnsLabel,
  defaults(namespace) {
    namespace.metadata.labels ??= {};
    if (namespace.metadata.name) {
      namespace.metadata.labels["kubernetes.io/metadata.name"] = namespace.metadata.name;
    }
  },
  prepareCreate(namespace) {
    namespace.spec ??= {};
    // Deletion empties the namespace first; its controller then takes this away.
    if (!items(namespace.spec.finalizers).includes("kubernetes")) {
      namespace.spec.finalizers = [...items(namespace.spec.finalizers), "kubernetes"];
    }
    namespace.status = { phase: "Active" };
  },
  prepareUpdate(namespace, old) {
    namespace.spec = { ...namespace.spec, finalizers: old.spec?.finalizers };
  },
  selectable: (namespace) => ({ "status.phase": namespace.status?.phase ?? "" }),
  columns: [NAME_COLUMN, column("Status", "The status of the namespace"), AGE_COLUMN],
  row: (namespace, now) => [namespace.metadata.name, namespace.status?.phase ?? "", age(namespace, now)],
});
