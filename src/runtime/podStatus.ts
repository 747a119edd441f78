/**
 * A pod's status in a kubelet's words (pkg/kubelet/kubelet_pods.go, status/generate.go). Addresses are
 * left out: those are the agent's to write. Pure.
 */
import type { ContainerStatus, Pod, PodCondition } from "../kube/types.js";
import type { ContainerEnd, ContainerState } from "./ContainerEngine.js";

/** Why a container does not run. */
export interface Waiting {
  reason:
    | "ContainerCreating"
    | "PodInitializing"
    | "ErrImagePull"
    | "ImagePullBackOff"
    | "CrashLoopBackOff"
    | "RunContainerError"
    | "CreateContainerConfigError";
  message?: string;
}

export interface ContainerView {
  name: string;
  image: string;
  /** Its last instance and the one before, where there are. */
  last: ContainerState | null;
  before: ContainerState | null;
  /** Set where none runs and one is to. */
  waiting: Waiting | null;
}

export type PodStatus = NonNullable<Pod["status"]>;

/** As Kubernetes writes times. */
export function timestamp(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/, "Z");
}

/** A pod's containers, in the order of its spec. */
export interface PodViews {
  init: ContainerView[];
  containers: ContainerView[];
}

export interface PodCircumstances {
  /** Whether the pod has its network. */
  network: boolean;
  /** Whether it is being deleted, and nothing of it runs any more. */
  over: boolean;
}

/** The status of a pod, but for its addresses. */
export function podStatus(
  pod: Pod,
  { init, containers }: PodViews,
  { network, over }: PodCircumstances,
  now: Date,
): PodStatus {
  const phase = phaseOf(pod, { init, containers }, over);
  const reason = defaultWaiting(pod);
  const statuses = containers.map((each) => containerStatus(each, reason));
  const initStatuses = init.map((each) => initContainerStatus(each, reason));
  const ready = readiness(phase, statuses);
  const conditions = [
    { type: "PodReadyToStartContainers", status: network ? "True" : "False" },
    { type: "Initialized", ...initialized(phase, initStatuses) },
    { type: "Ready", ...ready },
    { type: "ContainersReady", ...ready },
  ] as PodCondition[];
  return {
    phase,
    startTime: pod.status?.startTime ?? timestamp(now),
    conditions: conditions.map((each) => {
      const old = pod.status?.conditions?.find(({ type }) => type === each.type);
      const since = old?.status === each.status ? old.lastTransitionTime : undefined;
      // A merge keeps what is not named.
      const cleared = { reason: null, message: null } as unknown as Partial<PodCondition>;
      return { ...(old === undefined ? {} : cleared), ...each, lastTransitionTime: since ?? timestamp(now) };
    }),
    containerStatuses: statuses,
    ...(init.length === 0 ? {} : { initContainerStatuses: initStatuses }),
  };
}

/** What a container says that has not been started and has no trouble. */
export function defaultWaiting(pod: Pod): "PodInitializing" | "ContainerCreating" {
  return (pod.spec?.initContainers ?? []).length > 0 ? "PodInitializing" : "ContainerCreating";
}

function readiness(phase: string, statuses: ContainerStatus[]): Partial<PodCondition> {
  if (phase === "Succeeded") return { status: "False", reason: "PodCompleted" };
  if (phase === "Failed") return { status: "False", reason: "PodFailed" };
  const unready = statuses.filter(({ ready }) => !ready).map(({ name }) => name);
  if (unready.length === 0) return { status: "True" };
  const message = `containers with unready status: [${unready.join(" ")}]`;
  return { status: "False", reason: "ContainersNotReady", message };
}

function initialized(phase: string, statuses: ContainerStatus[]): Partial<PodCondition> {
  if (phase === "Succeeded") return { status: "True", reason: "PodCompleted" };
  const incomplete = statuses.filter(({ ready }) => !ready).map(({ name }) => name);
  if (incomplete.length === 0) return { status: "True" };
  const message = `containers with incomplete status: [${incomplete.join(" ")}]`;
  return { status: "False", reason: "ContainersNotInitialized", message };
}

/** kubelet's getPhase. `over`: the pod is being deleted, and nothing of it runs any more. */
export function phaseOf(pod: Pod, { init, containers }: PodViews, over = false): string {
  const restart = pod.spec?.restartPolicy ?? "Always";
  const failed = init.some(({ last }) => last?.end && last.end.exitCode !== 0);
  if (failed && restart === "Never") return "Failed";
  const began = containers.some(({ last }) => last !== null);
  if (!began && (failed || init.some(({ last }) => !last?.end))) return "Pending";
  if (containers.some(({ last }) => last === null)) return "Pending";
  // One that waits will run again.
  if (containers.some(({ last, waiting }) => last?.running || waiting !== null)) return "Running";
  if (restart === "Always" && !over) return "Running";
  if (containers.every(({ last }) => last?.end?.exitCode === 0)) return "Succeeded";
  return restart === "Never" || over ? "Failed" : "Running";
}

/** An init container is ready when it has succeeded. */
function initContainerStatus(view: ContainerView, reason: Waiting["reason"]): ContainerStatus {
  const status = containerStatus(view, reason);
  return { ...status, ready: status.state?.terminated?.exitCode === 0 };
}

function containerStatus(
  { name, image, last, before, waiting }: ContainerView,
  reason: Waiting["reason"],
): ContainerStatus {
  const running = last?.running === true;
  // While it waits for a restart, what ended is the last state.
  const previous = waiting !== null ? last : before;
  const restartCount = last === null ? 0 : last.attempt;
  return {
    name,
    image,
    imageID: last === null ? "" : `podwire://${last.imageName}`,
    ...(last === null ? {} : { containerID: last.containerId }),
    ready: running && last.memory.ready,
    started: running && last.memory.started,
    restartCount,
    state: stateOf(last, waiting ?? (last === null ? { reason } : null)),
    lastState: previous?.end ? { terminated: terminated(previous, previous.end) } : {},
  };
}

function stateOf(
  last: ContainerState | null,
  waiting: Waiting | null,
): NonNullable<ContainerStatus["state"]> {
  if (waiting !== null) return { waiting: { ...waiting } };
  if (last === null) return {};
  if (last.end !== null) return { terminated: terminated(last, last.end) };
  return { running: { startedAt: timestamp(new Date(last.startedAt)) } };
}

function terminated({ containerId, startedAt }: ContainerState, end: ContainerEnd) {
  return {
    containerID: containerId,
    exitCode: end.exitCode,
    reason: end.reason,
    ...(end.message === "" ? {} : { message: end.message }),
    // A kubelet writes the epoch where there was no start.
    startedAt: timestamp(new Date(startedAt)),
    finishedAt: timestamp(new Date(end.finishedAt)),
  };
}
