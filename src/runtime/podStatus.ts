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

/** The status of a pod, but for its addresses. */
export function podStatus(pod: Pod, containers: ContainerView[], sandbox: boolean, now: Date): PodStatus {
  const phase = phaseOf(pod, containers);
  const ended = phase === "Succeeded" || phase === "Failed";
  const statuses = containers.map(containerStatus);
  const unready = statuses.filter(({ ready }) => !ready).map(({ name }) => name);
  const ready: Partial<PodCondition> = ended
    ? { status: "False", reason: phase === "Succeeded" ? "PodCompleted" : "PodFailed" }
    : unready.length > 0
      ? {
          status: "False",
          reason: "ContainersNotReady",
          message: `containers with unready status: [${unready.join(" ")}]`,
        }
      : { status: "True" };
  const conditions = [
    { type: "PodReadyToStartContainers", status: sandbox ? "True" : "False" },
    { type: "Initialized", status: "True" },
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
  };
}

/** kubelet's getPhase. */
export function phaseOf(pod: Pod, containers: ContainerView[]): string {
  const restart = pod.spec?.restartPolicy ?? "Always";
  let waiting = 0;
  let running = 0;
  let stopped = 0;
  let succeeded = 0;
  for (const { last } of containers) {
    if (last === null) waiting++;
    else if (last.running) running++;
    else {
      stopped++;
      if (last.end?.exitCode === 0) succeeded++;
    }
  }
  if (waiting > 0) return "Pending";
  if (running > 0 || restart === "Always") return "Running";
  if (stopped === succeeded) return "Succeeded";
  return restart === "Never" ? "Failed" : "Running";
}

function containerStatus({ name, image, last, before, waiting }: ContainerView): ContainerStatus {
  const running = last?.running === true;
  // While it waits for a restart, what ended is the last state.
  const previous = waiting !== null ? last : before;
  const restartCount = last === null ? 0 : last.attempt;
  return {
    name,
    image,
    imageID: last === null ? "" : `podwire://${image}`,
    ...(last === null ? {} : { containerID: last.containerId }),
    ready: running && last.memory.ready,
    started: running && last.memory.started,
    restartCount,
    state: stateOf(last, waiting),
    lastState: previous?.end ? { terminated: terminated(previous, previous.end) } : {},
  };
}

function stateOf(
  last: ContainerState | null,
  waiting: Waiting | null,
): NonNullable<ContainerStatus["state"]> {
  if (waiting !== null) return { waiting: { ...waiting } };
  if (last === null) return { waiting: { reason: "ContainerCreating" } };
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
