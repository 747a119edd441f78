/** What holds for the metadata of every kind, and for label selectors. */
import type { KubeObject } from "../../kube/KubeApi.js";
import type { FieldError } from "../resource.js";
import { duplicate, forbidden, invalid, required, tooLong, Verbatim } from "./fieldErrors.js";
import { items, type Loose, sameJson } from "./loose.js";
import { isDnsLabel, isLabelValue, isQualifiedName, type NameCheck } from "./names.js";

const ANNOTATIONS_LIMIT = 262_144;
const STANDARD_FINALIZERS = ["kubernetes", "orphan", "foregroundDeletion"];

export function validateLabels(labels: Loose, field: string): FieldError[] {
  const faults: FieldError[] = [];
  for (const [key, value] of Object.entries<string>(labels ?? {})) {
    for (const message of isQualifiedName(key)) faults.push(invalid(field, key, message));
    for (const message of isLabelValue(value)) faults.push(invalid(field, value, message));
  }
  return faults;
}

export function validateAnnotations(annotations: Loose, field: string): FieldError[] {
  const faults: FieldError[] = [];
  let size = 0;
  for (const [key, value] of Object.entries<string>(annotations ?? {})) {
    for (const message of isQualifiedName(key.toLowerCase())) faults.push(invalid(field, key, message));
    size += Buffer.byteLength(key) + Buffer.byteLength(value);
  }
  if (size > ANNOTATIONS_LIMIT) faults.push(tooLong(field, ANNOTATIONS_LIMIT));
  return faults;
}

function validateOwners(owners: Loose, field: string): FieldError[] {
  const faults: FieldError[] = [];
  const controllers: Loose[] = [];
  items(owners).forEach((owner, i) => {
    const at = `${field}[${i}]`;
    if (!owner.apiVersion) faults.push(invalid(`${at}.apiVersion`, "", "version must not be empty"));
    for (const part of ["kind", "name", "uid"]) {
      if (!owner[part]) faults.push(invalid(`${at}.${part}`, "", `${part} must not be empty`));
    }
    if (owner.controller) controllers.push(owner);
  });
  if (controllers.length > 1) {
    faults.push(
      invalid(
        field,
        new Verbatim("[]v1.OwnerReference"),
        `Only one reference can have Controller set to true. Found "true" in references for ${controllers[0].kind}/${controllers[0].name} and ${controllers[1].kind}/${controllers[1].name}`,
      ),
    );
  }
  return faults;
}

/** Metadata on create and on update; `name` checks the kind's names. */
export function validateMetadata(
  object: KubeObject,
  old: KubeObject | undefined,
  namespaced: boolean,
  name: NameCheck,
): FieldError[] {
  const meta = object.metadata;
  const faults: FieldError[] = [];
  if (old === undefined) {
    if (!meta.name && !meta.generateName) {
      faults.push(required("metadata.name", "name or generateName is required"));
    } else if (meta.name) {
      for (const message of name(meta.name)) faults.push(invalid("metadata.name", meta.name, message));
    }
    if (namespaced && !meta.namespace) faults.push(required("metadata.namespace"));
    else if (namespaced) {
      for (const message of isDnsLabel(meta.namespace!)) {
        faults.push(invalid("metadata.namespace", meta.namespace, message));
      }
    } else if (meta.namespace) {
      faults.push(forbidden("metadata.namespace", "not allowed on this type"));
    }
  } else {
    for (const part of ["name", "namespace", "uid", "creationTimestamp"] as const) {
      if ((meta[part] ?? "") !== (old.metadata[part] ?? "")) {
        faults.push(invalid(`metadata.${part}`, meta[part] ?? "", "field is immutable"));
      }
    }
    const added = items(meta.finalizers).filter((entry) => !items(old.metadata.finalizers).includes(entry));
    if (old.metadata.deletionTimestamp && added.length > 0) {
      faults.push(
        forbidden(
          "metadata.finalizers",
          `no new finalizers can be added if the object is being deleted, found new finalizers []string{${added.map((entry) => JSON.stringify(entry)).join(", ")}}`,
        ),
      );
    }
  }
  faults.push(...validateLabels(meta.labels, "metadata.labels"));
  faults.push(...validateAnnotations(meta.annotations, "metadata.annotations"));
  faults.push(...validateOwners(meta.ownerReferences, "metadata.ownerReferences"));
  items(meta.finalizers).forEach((finalizer, i) => {
    const at = `metadata.finalizers[${i}]`;
    for (const message of isQualifiedName(finalizer)) faults.push(invalid(at, finalizer, message));
    if (!finalizer.includes("/") && !STANDARD_FINALIZERS.includes(finalizer)) {
      faults.push(
        invalid(at, finalizer, "name is neither a standard finalizer name nor is it fully qualified"),
      );
    }
  });
  return faults;
}

/** A LabelSelector (matchLabels, matchExpressions). */
export function validateLabelSelector(selector: Loose, field: string): FieldError[] {
  const faults = validateLabels(selector?.matchLabels, `${field}.matchLabels`);
  items(selector?.matchExpressions).forEach((expression, i) => {
    const at = `${field}.matchExpressions[${i}]`;
    const values = items(expression.values);
    if (expression.operator === "In" || expression.operator === "NotIn") {
      if (values.length === 0) {
        faults.push(required(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'"));
      }
    } else if (expression.operator === "Exists" || expression.operator === "DoesNotExist") {
      if (values.length > 0) {
        faults.push(
          forbidden(`${at}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
        );
      }
    } else {
      faults.push(invalid(`${at}.operator`, expression.operator ?? "", "not a valid selector operator"));
    }
    for (const message of isQualifiedName(expression.key ?? "")) {
      faults.push(invalid(`${at}.key`, expression.key ?? "", message));
    }
    values.forEach((value, j) => {
      for (const message of isLabelValue(value)) faults.push(invalid(`${at}.values[${j}]`, value, message));
    });
  });
  return faults;
}

/** Whether labels satisfy a LabelSelector; an empty one selects everything. */
export function selectorMatches(selector: Loose, labels: Loose): boolean {
  const have: Record<string, string> = labels ?? {};
  for (const [key, value] of Object.entries(selector?.matchLabels ?? {})) {
    if (have[key] !== value) return false;
  }
  for (const { key, operator, values } of items(selector?.matchExpressions)) {
    const present = Object.hasOwn(have, key);
    const listed = present && items(values).includes(have[key]);
    if (operator === "In" && !listed) return false;
    if (operator === "NotIn" && listed) return false;
    if (operator === "Exists" && !present) return false;
    if (operator === "DoesNotExist" && present) return false;
  }
  return true;
}

function goMap(map: Loose): string {
  if (!map) return "map[string]string(nil)";
  const keys = Object.keys(map).sort();
  return `map[string]string{${keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(map[key])}`).join(", ")}}`;
}

/** A LabelSelector as Go prints it in an error. */
export function goLabelSelector(selector: Loose): Verbatim {
  const expressions = items(selector?.matchExpressions).map((e) => {
    const values = e.values
      ? `[]string{${e.values.map((v: string) => JSON.stringify(v)).join(", ")}}`
      : "[]string(nil)";
    return `v1.LabelSelectorRequirement{Key:${JSON.stringify(e.key ?? "")}, Operator:${JSON.stringify(e.operator ?? "")}, Values:${values}}`;
  });
  const list =
    expressions.length === 0
      ? "[]v1.LabelSelectorRequirement(nil)"
      : `[]v1.LabelSelectorRequirement{${expressions.join(", ")}}`;
  return new Verbatim(
    `v1.LabelSelector{MatchLabels:${goMap(selector?.matchLabels)}, MatchExpressions:${list}}`,
  );
}

/** "field is immutable" where a field differs. */
export function validateImmutable(field: string, value: unknown, old: unknown): FieldError[] {
  return sameJson(value, old) ? [] : [invalid(field, value ?? "", "field is immutable")];
}

/** Names that occur twice in a list; `report` gets value and index. */
export function validateUnique(
  list: Loose[],
  key: (item: Loose) => string,
  field: (index: number) => string,
): FieldError[] {
  const seen = new Set<string>();
  const faults: FieldError[] = [];
  list.forEach((item, i) => {
    const value = key(item);
    if (value === "") return;
    if (seen.has(value)) faults.push(duplicate(field(i), value));
    seen.add(value);
  });
  return faults;
}

export { goMap };
