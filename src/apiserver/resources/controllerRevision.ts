/** apps/v1 ControllerRevision: a snapshot of a controller's template, by which `kubectl rollout undo` goes back. */
import type { FieldError, ResourceDefinition } from "../resource.js";
import { AGE_COLUMN, column, defineResource, NAME_COLUMN } from "./define.js";
import { invalid, required } from "./fieldErrors.js";
import { age } from "./format.js";
import { items, type Loose, sameJson } from "./loose.js";

export const controllerRevisions: ResourceDefinition = defineResource({
  group: "apps",
  version: "v1",
  kind: "ControllerRevision",
  plural: "controllerrevisions",
  namespaced: true,
  validate(revision, old) {
    const faults: FieldError[] = [];
    if (revision.revision < 0)
      faults.push(invalid("revision", revision.revision, "must be greater than or equal to 0"));
    if (!revision.data) faults.push(required("data", "data is mandatory"));
    if (old !== undefined && !sameJson(revision.data, old.data))
      faults.push(invalid("data", revision.data, "field is immutable"));
    return faults;
  },
  columns: [
    NAME_COLUMN,
    column("Controller", "Controller of the object"),
    column("Revision", "Revision indicates the revision of the state represented by Data."),
    AGE_COLUMN,
  ],
  row: (revision, now) => [
    revision.metadata.name,
    controllerOf(revision),
    revision.revision ?? 0,
    age(revision, now),
  ],
});

/** "daemonset.apps/nginx" */
function controllerOf(revision: Loose): string {
  const owner = items(revision.metadata.ownerReferences).find(({ controller }) => controller === true);
  if (owner === undefined) return "<none>";
  const [group, version] = owner.apiVersion.split("/");
  return `${owner.kind.toLowerCase()}${version === undefined ? "" : `.${group}`}/${owner.name}`;
}
