/** What DaemonSets, Deployments and ReplicaSets have in common: a selector and a template of pods. */
import type { FieldError, TableColumn } from "../resource.js";
import { wide } from "./define.js";
import { forbidden, invalid, notSupported, required, Verbatim } from "./fieldErrors.js";
import { containerCells, formatLabelSelector } from "./format.js";
import { type Loose, sameJson } from "./loose.js";
import {
  goLabelSelector,
  goMap,
  selectorMatches,
  validateAnnotations,
  validateLabelSelector,
  validateLabels,
} from "./metadata.js";
import { defaultPodSpec, validatePodSpec } from "./podSpec.js";

export const TEMPLATE_COLUMNS: TableColumn[] = [
  wide("Containers", "Names of each container in the template."),
  wide("Images", "Images referenced by each container in the template."),
  wide("Selector", "A label query over pods that are managed by this object."),
];

/** Cells of TEMPLATE_COLUMNS. */
export function templateCells(workload: Loose): string[] {
  return [...containerCells(workload.spec?.template?.spec), formatLabelSelector(workload.spec?.selector)];
}

export function defaultTemplate(spec: Loose): void {
  spec.template ??= {};
  spec.template.spec ??= {};
  defaultPodSpec(spec.template.spec);
}

/** Selector, template and the match between them. `kindWord`: as the messages say it ("daemonset"). */
export function validateSelectorAndTemplate(
  spec: Loose,
  old: Loose | undefined,
  kindWord: string,
): FieldError[] {
  const faults: FieldError[] = [];
  const labels = spec.template.metadata?.labels;
  if (!spec.selector) faults.push(required("spec.selector"));
  else {
    faults.push(...validateLabelSelector(spec.selector, "spec.selector"));
    if (isEmptySelector(spec.selector)) {
      faults.push(
        invalid("spec.selector", goLabelSelector(spec.selector), `empty selector is invalid for ${kindWord}`),
      );
    } else if (!selectorMatches(spec.selector, labels)) {
      faults.push(
        invalid(
          "spec.template.metadata.labels",
          new Verbatim(goMap(labels)),
          "`selector` does not match template `labels`",
        ),
      );
    }
  }
  faults.push(...validateLabels(labels, "spec.template.labels"));
  faults.push(...validateAnnotations(spec.template.metadata?.annotations, "spec.template.annotations"));
  faults.push(...validatePodSpec(spec.template.spec, "spec.template.spec"));
  const policy = spec.template.spec.restartPolicy;
  if (policy && policy !== "Always") {
    faults.push(notSupported("spec.template.spec.restartPolicy", policy, ["Always"]));
  }
  if (spec.template.spec.activeDeadlineSeconds) {
    faults.push(
      forbidden(
        "spec.template.spec.activeDeadlineSeconds",
        `activeDeadlineSeconds in ${kindWord === "daemonset" ? "DaemonSet" : "ReplicaSet"} is not Supported`,
      ),
    );
  }
  faults.push(...validateCount(spec.minReadySeconds, "spec.minReadySeconds"));
  faults.push(...validateCount(spec.revisionHistoryLimit, "spec.revisionHistoryLimit"));
  if (old !== undefined && !sameSelector(spec.selector, old.selector)) {
    faults.push(invalid("spec.selector", goLabelSelector(spec.selector), "field is immutable"));
  }
  return faults;
}

export function validateCount(value: Loose, field: string): FieldError[] {
  return value < 0 ? [invalid(field, value, "must be greater than or equal to 0")] : [];
}

function isEmptySelector(selector: Loose): boolean {
  return Object.keys(selector.matchLabels ?? {}).length + (selector.matchExpressions ?? []).length === 0;
}

function sameSelector(a: Loose, b: Loose): boolean {
  return sameJson({ ...a }, { ...b });
}

/** 2 or "25%": -1 where it is neither. */
export function amountOf(value: number | string | undefined): number {
  if (typeof value === "number") return value;
  const match = /^(\d+)%$/.exec(value ?? "");
  return match === null ? -1 : Number(match[1]);
}

/** A count or a percentage, as in maxSurge. */
export function validateAmount(value: number | string | undefined, field: string): FieldError[] {
  if (value === undefined || value === null) return [];
  if (typeof value === "number") return validateCount(value, field);
  return amountOf(value) >= 0
    ? []
    : [
        invalid(
          field,
          value,
          "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ),
      ];
}
