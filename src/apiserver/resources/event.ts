/** v1 Event. */
import type { FieldError, ResourceDefinition } from "../resource.js";
import { column, defineResource, NAME_COLUMN, wide } from "./define.js";
import { invalid } from "./fieldErrors.js";
import { since } from "./format.js";
import type { Loose } from "./loose.js";

export const events: ResourceDefinition = defineResource({
  group: "",
  version: "v1",
  kind: "Event",
  plural: "events",
  shortNames: ["ev"],
  namespaced: true,
  validate(event): FieldError[] {
    const about = event.involvedObject?.namespace ?? "";
    const own = event.metadata.namespace ?? "";
    // Objects without a namespace have their events in "default".
    const good = about === "" ? own === "default" || own === "kube-system" : about === own;
    return good ? [] : [invalid("involvedObject.namespace", about, "does not match event.namespace")];
  },
  selectable(event) {
    const object = event.involvedObject ?? {};
    return {
      "involvedObject.kind": object.kind ?? "",
      "involvedObject.namespace": object.namespace ?? "",
      "involvedObject.name": object.name ?? "",
      "involvedObject.uid": object.uid ?? "",
      "involvedObject.apiVersion": object.apiVersion ?? "",
      "involvedObject.resourceVersion": object.resourceVersion ?? "",
      "involvedObject.fieldPath": object.fieldPath ?? "",
      reason: event.reason ?? "",
      reportingComponent: event.reportingComponent ?? "",
      source: event.source?.component || event.reportingComponent || "",
      type: event.type ?? "",
    };
  },
  columns: [
    column("Last Seen", "The time at which the most recent occurrence of this event was recorded."),
    column("Type", "Type of this event (Normal, Warning), new types could be added in the future"),
    column("Reason", "The reason for the transition into the object's current status."),
    column("Object", "The object that this event is about."),
    wide("Subobject", "The part of the object that this event is about."),
    wide("Source", "The component reporting this event. Should be a short machine understandable string."),
    column("Message", "A human-readable description of the status of this operation."),
    wide("First Seen", "The time at which the event was first recorded."),
    wide("Count", "The number of times this event has occurred."),
    { ...NAME_COLUMN, priority: 1 },
  ],
  row(event, now) {
    const first = since(event.firstTimestamp || event.eventTime, now);
    const last = event.lastTimestamp ? since(event.lastTimestamp, now) : first;
    const object = event.involvedObject ?? {};
    const kind = (object.kind ?? "").toLowerCase();
    return [
      event.series ? since(event.series.lastObservedTime, now) : last,
      event.type ?? "",
      event.reason ?? "",
      object.name ? `${kind}/${object.name}` : kind,
      object.fieldPath ?? "",
      sourceOf(event),
      (event.message ?? "").trim(),
      first,
      event.series ? (event.series.count ?? 0) : event.count || 1,
      event.metadata.name,
    ];
  },
});

function sourceOf(event: Loose): string {
  const component = event.source?.component || event.reportingComponent || "";
  const host = event.source?.host || event.reportingInstance || "";
  return host === "" ? component : `${component}, ${host}`;
}
