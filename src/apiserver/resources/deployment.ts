/** apps/v1 Deployment and ReplicaSet. */
import type { FieldError, ResourceDefinition } from "../resource.js";
import { AGE_COLUMN, column, defineResource, NAME_COLUMN } from "./define.js";
import { forbidden, invalid, notSupported } from "./fieldErrors.js";
import { age } from "./format.js";
import { type Loose, setDefault } from "./loose.js";
import {
  amountOf,
  defaultTemplate,
  TEMPLATE_COLUMNS,
  templateCells,
  validateAmount,
  validateCount,
  validateSelectorAndTemplate,
} from "./workload.js";

const SCALE = {
  specReplicas: ".spec.replicas",
  statusReplicas: ".status.replicas",
  selector: ".status.selector",
};

export const deployments: ResourceDefinition = defineResource({
  group: "apps",
  version: "v1",
  kind: "Deployment",
  plural: "deployments",
  shortNames: ["deploy"],
  categories: ["all"],
  namespaced: true,
  status: true,
  scale: SCALE,
  generationOf: ["spec"],
  // They are copied to the ReplicaSets: a change is one that the controller must see.
  generationOfAnnotations: true,
  defaults(deployment) {
    deployment.spec ??= {};
    const spec = deployment.spec;
    defaultTemplate(spec);
    spec.replicas ??= 1;
    spec.strategy ??= {};
    setDefault(spec.strategy, "type", "RollingUpdate");
    if (spec.strategy.type === "RollingUpdate") {
      spec.strategy.rollingUpdate ??= {};
      spec.strategy.rollingUpdate.maxUnavailable ??= "25%";
      spec.strategy.rollingUpdate.maxSurge ??= "25%";
    }
    spec.revisionHistoryLimit ??= 10;
    spec.progressDeadlineSeconds ??= 600;
  },
  prepareCreate(deployment) {
    deployment.status = {};
  },
  validate: (deployment, old) => [
    ...validateCount(deployment.spec.replicas, "spec.replicas"),
    ...validateSelectorAndTemplate(deployment.spec, old?.spec, "deployment"),
    ...validateStrategy(deployment.spec.strategy),
    ...validateDeadline(deployment.spec),
  ],
  columns: [
    NAME_COLUMN,
    column("Ready", "Number of the pod with ready state"),
    column("Up-to-date", "Total number of non-terminated pods with the desired template.", "integer"),
    column("Available", "Total number of available pods targeted by this deployment.", "integer"),
    AGE_COLUMN,
    ...TEMPLATE_COLUMNS,
  ],
  row(deployment, now) {
    const status = deployment.status ?? {};
    return [
      deployment.metadata.name,
      `${status.readyReplicas ?? 0}/${deployment.spec?.replicas ?? 0}`,
      status.updatedReplicas ?? 0,
      status.availableReplicas ?? 0,
      age(deployment, now),
      ...templateCells(deployment),
    ];
  },
});

export const replicaSets: ResourceDefinition = defineResource({
  group: "apps",
  version: "v1",
  kind: "ReplicaSet",
  plural: "replicasets",
  shortNames: ["rs"],
  categories: ["all"],
  namespaced: true,
  status: true,
  scale: SCALE,
  generationOf: ["spec"],
  defaults(replicaSet) {
    replicaSet.spec ??= {};
    defaultTemplate(replicaSet.spec);
    replicaSet.spec.replicas ??= 1;
  },
  prepareCreate(replicaSet) {
    replicaSet.status = { replicas: 0 };
  },
  validate: (replicaSet, old) => [
    ...validateCount(replicaSet.spec.replicas, "spec.replicas"),
    ...validateSelectorAndTemplate(replicaSet.spec, old?.spec, "deployment"),
  ],
  selectable: (replicaSet) => ({ "status.replicas": String(replicaSet.status?.replicas ?? 0) }),
  columns: [
    NAME_COLUMN,
    column("Desired", "Replicas is the number of desired pods.", "integer"),
    column("Current", "Replicas is the most recently observed number of non-terminating pods.", "integer"),
    column("Ready", "The number of non-terminating pods with a Ready Condition.", "integer"),
    AGE_COLUMN,
    ...TEMPLATE_COLUMNS,
  ],
  row: (replicaSet, now) => [
    replicaSet.metadata.name,
    replicaSet.spec?.replicas ?? 0,
    replicaSet.status?.replicas ?? 0,
    replicaSet.status?.readyReplicas ?? 0,
    age(replicaSet, now),
    ...templateCells(replicaSet),
  ],
});

function validateStrategy(strategy: Loose): FieldError[] {
  const field = "spec.strategy";
  if (strategy.type === "Recreate") {
    return strategy.rollingUpdate
      ? [forbidden(`${field}.rollingUpdate`, "may not be specified when strategy `type` is 'Recreate'")]
      : [];
  }
  if (strategy.type !== "RollingUpdate") {
    return [notSupported(`${field}.type`, strategy.type, ["Recreate", "RollingUpdate"])];
  }
  const { maxUnavailable, maxSurge } = strategy.rollingUpdate;
  const faults = [
    ...validateAmount(maxUnavailable, `${field}.rollingUpdate.maxUnavailable`),
    ...validateAmount(maxSurge, `${field}.rollingUpdate.maxSurge`),
  ];
  if (amountOf(maxUnavailable) === 0 && amountOf(maxSurge) === 0) {
    faults.push(
      invalid(`${field}.rollingUpdate.maxUnavailable`, maxUnavailable, "may not be 0 when `maxSurge` is 0"),
    );
  }
  if (typeof maxUnavailable === "string" && amountOf(maxUnavailable) > 100) {
    faults.push(
      invalid(`${field}.rollingUpdate.maxUnavailable`, maxUnavailable, "must not be greater than 100%"),
    );
  }
  return faults;
}

function validateDeadline(spec: Loose): FieldError[] {
  const deadline = spec.progressDeadlineSeconds;
  const faults = validateCount(deadline, "spec.progressDeadlineSeconds");
  if (deadline <= (spec.minReadySeconds ?? 0)) {
    faults.push(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"));
  }
  return faults;
}
