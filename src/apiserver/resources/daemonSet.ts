/** apps/v1 DaemonSet. */
import type { FieldError, ResourceDefinition } from "../resource.js";
import { AGE_COLUMN, column, defineResource, NAME_COLUMN } from "./define.js";
import { notSupported, required } from "./fieldErrors.js";
import { age, formatLabels } from "./format.js";
import { type Loose, sameJson, setDefault } from "./loose.js";
import {
  amountOf,
  defaultTemplate,
  TEMPLATE_COLUMNS,
  templateCells,
  validateAmount,
  validateSelectorAndTemplate,
} from "./workload.js";

/** Counts changes of the template; kubectl and controllers of old read it. */
const TEMPLATE_GENERATION = "deprecated.daemonset.template.generation";

export const daemonSets: ResourceDefinition = defineResource({
  group: "apps",
  version: "v1",
  kind: "DaemonSet",
  plural: "daemonsets",
  shortNames: ["ds"],
  categories: ["all"],
  namespaced: true,
  status: true,
  generationOf: ["spec"],
  defaults(daemonSet) {
    daemonSet.spec ??= {};
    const spec = daemonSet.spec;
    defaultTemplate(spec);
    spec.updateStrategy ??= {};
    setDefault(spec.updateStrategy, "type", "RollingUpdate");
    if (spec.updateStrategy.type === "RollingUpdate") {
      spec.updateStrategy.rollingUpdate ??= {};
      spec.updateStrategy.rollingUpdate.maxUnavailable ??= 1;
      spec.updateStrategy.rollingUpdate.maxSurge ??= 0;
    }
    spec.revisionHistoryLimit ??= 10;
  },
  prepareCreate(daemonSet) {
    daemonSet.status = emptyStatus();
    setTemplateGeneration(daemonSet, 1);
  },
  prepareUpdate(daemonSet, old) {
    const before = Number(old.metadata.annotations?.[TEMPLATE_GENERATION] ?? 1);
    setTemplateGeneration(daemonSet, before + (sameJson(daemonSet.spec.template, old.spec.template) ? 0 : 1));
  },
  validate: (daemonSet, old) => [
    ...validateSelectorAndTemplate(daemonSet.spec, old?.spec, "daemonset"),
    ...validateStrategy(daemonSet.spec.updateStrategy),
  ],
  columns: [
    NAME_COLUMN,
    column("Desired", "The total number of nodes that should be running the daemon pod.", "integer"),
    column("Current", "The number of nodes that are running at least 1 daemon pod.", "integer"),
    column("Ready", "The number of nodes that should be running the daemon pod and are ready.", "integer"),
    column("Up-to-date", "The total number of nodes that are running updated daemon pod.", "integer"),
    column("Available", "The number of nodes that have the daemon pod available.", "integer"),
    column("Node Selector", "A selector which must be true for the pod to fit on a node."),
    AGE_COLUMN,
    ...TEMPLATE_COLUMNS,
  ],
  row(daemonSet, now) {
    const status = daemonSet.status ?? {};
    return [
      daemonSet.metadata.name,
      status.desiredNumberScheduled ?? 0,
      status.currentNumberScheduled ?? 0,
      status.numberReady ?? 0,
      status.updatedNumberScheduled ?? 0,
      status.numberAvailable ?? 0,
      formatLabels(daemonSet.spec?.template?.spec?.nodeSelector),
      age(daemonSet, now),
      ...templateCells(daemonSet),
    ];
  },
});

/** The counts that are always there, zero or not. */
function emptyStatus(): Loose {
  return { currentNumberScheduled: 0, numberMisscheduled: 0, desiredNumberScheduled: 0, numberReady: 0 };
}

function setTemplateGeneration(daemonSet: Loose, generation: number): void {
  daemonSet.metadata.annotations ??= {};
  daemonSet.metadata.annotations[TEMPLATE_GENERATION] = String(generation);
}

function validateStrategy(strategy: Loose): FieldError[] {
  const field = "spec.updateStrategy";
  if (strategy.type === "OnDelete") return [];
  if (strategy.type !== "RollingUpdate") {
    return [notSupported(`${field}.type`, strategy.type, ["RollingUpdate", "OnDelete"])];
  }
  const { maxUnavailable, maxSurge } = strategy.rollingUpdate;
  const faults = [
    ...validateAmount(maxUnavailable, `${field}.rollingUpdate.maxUnavailable`),
    ...validateAmount(maxSurge, `${field}.rollingUpdate.maxSurge`),
  ];
  if (amountOf(maxUnavailable) === 0 && amountOf(maxSurge) === 0) {
    faults.push(required(`${field}.rollingUpdate.maxUnavailable`, "cannot be 0 when maxSurge is 0"));
  }
  return faults;
}
