/**
 * events.k8s.io/v1 Event: the same objects as v1's, with other names for some fields (Kubernetes'
 * pkg/apis/core and pkg/apis/events). They are kept as v1's; what is written by one is read by the other.
 */
import type { KubeObject } from "../../kube/KubeApi.js";
import type { FieldError, ResourceDefinition } from "../resource.js";
import { defineResource } from "./define.js";
import { events } from "./event.js";
import { invalid, required } from "./fieldErrors.js";
import { loose } from "./loose.js";

/** Field of v1 to field of events.k8s.io/v1. */
const RENAMED = {
  involvedObject: "regarding",
  message: "note",
  reportingComponent: "reportingController",
  source: "deprecatedSource",
  firstTimestamp: "deprecatedFirstTimestamp",
  lastTimestamp: "deprecatedLastTimestamp",
  count: "deprecatedCount",
} as const;
const DEPRECATED = [
  "deprecatedSource",
  "deprecatedFirstTimestamp",
  "deprecatedLastTimestamp",
  "deprecatedCount",
];
const MOST_INSTANCE = 128;
const MOST_REASON = 128;
const MOST_NOTE = 1024;

function renamed(object: KubeObject, apiVersion: string, names: Record<string, string>): KubeObject {
  const fields = Object.entries(object).map(([field, value]) => [names[field] ?? field, value]);
  return { ...(Object.fromEntries(fields) as KubeObject), apiVersion };
}

const BACK = Object.fromEntries(Object.entries(RENAMED).map(([core, own]) => [own, core]));

const toStored = (object: KubeObject): KubeObject => renamed(object, "v1", BACK);

const plain = defineResource({
  group: "events.k8s.io",
  version: "v1",
  kind: "Event",
  plural: "events",
  shortNames: ["ev"],
  namespaced: true,
  /** New Events say when, by whom and why, in the new fields only. */
  validate(event, old): FieldError[] {
    if (old !== undefined) return [];
    const faults: FieldError[] = [];
    if (!event.eventTime) faults.push(required("eventTime"));
    for (const field of ["reportingController", "reportingInstance", "action", "reason"])
      if (!event[field]) faults.push(required(field));
    const lengths = {
      reportingInstance: MOST_INSTANCE,
      action: MOST_REASON,
      reason: MOST_REASON,
      note: MOST_NOTE,
    };
    for (const [field, most] of Object.entries(lengths))
      if ((event[field] ?? "").length > most)
        faults.push(invalid(field, event[field], `can have at most ${most} characters`));
    if (event.type !== "Normal" && event.type !== "Warning")
      faults.push(invalid("type", event.type ?? "", `has invalid value: ${event.type ?? ""}`));
    for (const field of DEPRECATED)
      if (event[field] !== undefined) faults.push(invalid(field, event[field], "must be unset"));
    return faults;
  },
  selectable(event) {
    const { regarding = {} } = event;
    return {
      ...Object.fromEntries(
        ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"].map((field) => [
          `regarding.${field}`,
          regarding[field] ?? "",
        ]),
      ),
      reason: event.reason ?? "",
      reportingController: event.reportingController ?? "",
      type: event.type ?? "",
    };
  },
  columns: events.columns,
  row: (event, now) => events.row(toStored(event as KubeObject), now),
});

export const eventsV1: ResourceDefinition = {
  ...plain,
  stored: {
    definition: events,
    toStored,
    fromStored: (object) => renamed(loose(object), "events.k8s.io/v1", RENAMED),
  },
};
