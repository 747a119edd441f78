/** v1 Pod. */

import { parseQuantity } from "../../kube/quantity.js";
import type { FieldError, ResourceDefinition } from "../resource.js";
import { AGE_COLUMN, column, defineResource, NAME_COLUMN, wide } from "./define.js";
import { forbidden, invalid } from "./fieldErrors.js";
import { age, since } from "./format.js";
import { items, type Loose, sameJson, setDefault } from "./loose.js";
import { defaultPodSpec, validatePodSpec } from "./podSpec.js";

export const pods: ResourceDefinition = defineResource({
  group: "",
  version: "v1",
  kind: "Pod",
  plural: "pods",
  shortNames: ["po"],
  categories: ["all"],
  namespaced: true,
  status: true,
  defaults(pod) {
    pod.spec ??= {};
    defaultPodSpec(pod.spec);
    pod.spec.enableServiceLinks ??= true;
  },
  prepareCreate(pod) {
    pod.status = { phase: "Pending", qosClass: qosClass(pod.spec) };
    pod.spec.priority ??= 0;
    pod.spec.preemptionPolicy ??= "PreemptLowerPriority";
    tolerateForAWhile(pod.spec);
  },
  prepareUpdate(pod, old) {
    for (const field of ["priority", "preemptionPolicy"]) setDefault(pod.spec, field, old.spec?.[field]);
    if (old.spec?.tolerations) tolerateForAWhile(pod.spec);
  },
  validate(pod, old) {
    const faults = validatePodSpec(pod.spec, "spec");
    if (old !== undefined) faults.push(...validateChange(pod.spec, old.spec));
    return faults;
  },
  selectable: (pod) => ({
    "spec.nodeName": pod.spec?.nodeName ?? "",
    "spec.restartPolicy": pod.spec?.restartPolicy ?? "",
    "spec.schedulerName": pod.spec?.schedulerName ?? "",
    "spec.serviceAccountName": pod.spec?.serviceAccountName ?? "",
    "spec.hostNetwork": String(pod.spec?.hostNetwork ?? false),
    "status.phase": pod.status?.phase ?? "",
    "status.podIP": pod.status?.podIP ?? "",
    "status.nominatedNodeName": pod.status?.nominatedNodeName ?? "",
  }),
  columns: [
    NAME_COLUMN,
    column("Ready", "The aggregate readiness state of this pod for accepting traffic."),
    column("Status", "The aggregate status of the containers in this pod."),
    column(
      "Restarts",
      "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    AGE_COLUMN,
    wide("IP", "podIP address allocated to the pod. Empty if not yet allocated."),
    wide("Node", "NodeName indicates in which node this pod is scheduled."),
    wide(
      "Nominated Node",
      "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away.",
    ),
    wide("Readiness Gates", "If specified, all readiness gates will be evaluated for pod readiness."),
  ],
  row(pod, now) {
    const summary = summarize(pod, now);
    return [
      pod.metadata.name,
      summary.ready,
      summary.status,
      summary.restarts,
      age(pod, now),
      pod.status?.podIPs?.[0]?.ip || pod.status?.podIP || "<none>",
      pod.spec?.nodeName || "<none>",
      pod.status?.nominatedNodeName || "<none>",
      readinessGates(pod),
    ];
  },
  // A pod that runs nowhere, or has ended, needs no time to end.
  gracePeriod(pod) {
    const ended = pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
    if (!pod.spec?.nodeName || ended) return 0;
    return pod.spec.terminationGracePeriodSeconds ?? 30;
  },
});

/** A pod stays this long on a node that is not ready or cannot be reached, unless it says otherwise. */
const TOLERATION_SECONDS = 300;

/** Kubernetes' admission plugin DefaultTolerationSeconds. In place. */
function tolerateForAWhile(spec: Loose): void {
  for (const key of ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]) {
    const own = items(spec.tolerations).some(
      (each) => (each.key === key || !each.key) && (each.effect === "NoExecute" || !each.effect),
    );
    if (own) continue;
    spec.tolerations = [
      ...items(spec.tolerations),
      { key, operator: "Exists", effect: "NoExecute", tolerationSeconds: TOLERATION_SECONDS },
    ];
  }
}

/** BestEffort, Burstable or Guaranteed, by requests and limits of CPU and memory. */
function qosClass(spec: Loose): string {
  const total: Record<"requests" | "limits", Record<string, number>> = { requests: {}, limits: {} };
  let guaranteed = true;
  for (const container of [...items(spec.containers), ...items(spec.initContainers)]) {
    for (const part of ["requests", "limits"] as const) {
      for (const name of ["cpu", "memory"]) {
        const amount = parseQuantity(container.resources?.[part]?.[name] ?? 0);
        if (amount > 0) total[part][name] = (total[part][name] ?? 0) + amount;
        else if (part === "limits") guaranteed = false;
      }
    }
  }
  if (Object.keys(total.requests).length === 0 && Object.keys(total.limits).length === 0) return "BestEffort";
  return guaranteed && sameJson(total.requests, total.limits) ? "Guaranteed" : "Burstable";
}

const CHANGE_MESSAGE =
  "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/** A pod's spec hardly changes; the node's name may be set once (placement). */
function validateChange(spec: Loose, old: Loose): FieldError[] {
  const faults: FieldError[] = [];
  for (const list of ["containers", "initContainers"]) {
    if (items(spec[list]).length !== items(old[list]).length) {
      return [forbidden(`spec.${list}`, "pod updates may not add or remove containers")];
    }
  }
  const kept = items(old.tolerations).every((toleration) =>
    items(spec.tolerations).some((other) => sameJson(withoutSeconds(toleration), withoutSeconds(other))),
  );
  if (!kept) {
    faults.push(
      forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"),
    );
  }
  if (old.activeDeadlineSeconds && !spec.activeDeadlineSeconds) {
    faults.push(
      invalid("spec.activeDeadlineSeconds", null, "must not update from a positive integer to nil value"),
    );
  }
  const mutable = { tolerations: spec.tolerations, activeDeadlineSeconds: spec.activeDeadlineSeconds };
  const placed = old.nodeName ? {} : { nodeName: spec.nodeName };
  const images = (list: string) => {
    if (!old[list]) return {};
    return { [list]: items(old[list]).map((c, i) => ({ ...c, image: spec[list]?.[i]?.image })) };
  };
  const allowed = { ...old, ...mutable, ...placed, ...images("containers"), ...images("initContainers") };
  if (!sameJson(allowed, spec)) faults.push(forbidden("spec", CHANGE_MESSAGE));
  return faults;
}

function withoutSeconds(toleration: Loose): Loose {
  return { ...toleration, tolerationSeconds: undefined };
}

interface Summary {
  ready: string;
  status: string;
  restarts: string;
}

/**
 * READY, STATUS and RESTARTS. STATUS starts from the phase; a waiting or failed init container, else the
 * state of the first container that has something to say, replaces it; deletion comes last.
 */
function summarize(pod: Loose, now: Date): Summary {
  const status = pod.status ?? {};
  const sidecars = new Set<string>(
    items(pod.spec?.initContainers)
      .filter((container) => container.restartPolicy === "Always")
      .map((container) => container.name),
  );
  const total = items(pod.spec?.containers).length + sidecars.size;
  let text: string = status.reason || status.phase || "";
  for (const condition of items(status.conditions)) {
    if (condition.type === "PodScheduled" && condition.reason === "SchedulingGated") text = "SchedulingGated";
  }

  const all = new Restarts();
  const ofSidecars = new Restarts();
  let ready = 0;
  let initializing = false;
  const initStates = items(status.initContainerStatuses);
  for (let i = 0; i < initStates.length; i++) {
    const container = initStates[i];
    all.add(container);
    if (sidecars.has(container.name)) ofSidecars.add(container);
    const { terminated, waiting } = container.state ?? {};
    if (terminated && (terminated.exitCode ?? 0) === 0) continue;
    if (sidecars.has(container.name) && container.started) {
      if (container.ready) ready++;
      continue;
    }
    if (terminated) text = `Init:${endOf(terminated)}`;
    else if (waiting?.reason && waiting.reason !== "PodInitializing") text = `Init:${waiting.reason}`;
    else text = `Init:${i}/${items(pod.spec?.initContainers).length}`;
    initializing = true;
    break;
  }

  let restarts = all;
  if (!initializing || conditionIsTrue(status, "Initialized")) {
    restarts = ofSidecars;
    let running = false;
    for (const container of [...items(status.containerStatuses)].reverse()) {
      restarts.add(container);
      const { waiting, terminated, running: isRunning } = container.state ?? {};
      if (waiting?.reason) text = waiting.reason;
      else if (terminated) text = endOf(terminated);
      else if (container.ready && isRunning) {
        running = true;
        ready++;
      }
    }
    if (text === "Completed" && running) text = conditionIsTrue(status, "Ready") ? "Running" : "NotReady";
  }

  if (pod.metadata.deletionTimestamp) {
    if (status.reason === "NodeLost") text = "Unknown";
    else if (status.phase !== "Succeeded" && status.phase !== "Failed") text = "Terminating";
  }
  return { ready: `${ready}/${total}`, status: text, restarts: restarts.text(now) };
}

class Restarts {
  #count = 0;
  #last = "";

  add(container: Loose): void {
    this.#count += container.restartCount ?? 0;
    const finished = container.lastState?.terminated?.finishedAt ?? "";
    if (finished !== "" && (this.#last === "" || Date.parse(finished) > Date.parse(this.#last))) {
      this.#last = finished;
    }
  }

  text(now: Date): string {
    return this.#count === 0 || this.#last === ""
      ? String(this.#count)
      : `${this.#count} (${since(this.#last, now)} ago)`;
  }
}

function endOf(terminated: Loose): string {
  if (terminated.reason) return terminated.reason;
  return terminated.signal ? `Signal:${terminated.signal}` : `ExitCode:${terminated.exitCode ?? 0}`;
}

function conditionIsTrue(status: Loose, type: string): boolean {
  return items(status.conditions).some((c) => c.type === type && c.status === "True");
}

function readinessGates(pod: Loose): string {
  const gates = items(pod.spec?.readinessGates);
  if (gates.length === 0) return "<none>";
  const passed = gates.filter((gate) => conditionIsTrue(pod.status ?? {}, gate.conditionType)).length;
  return `${passed}/${gates.length}`;
}
