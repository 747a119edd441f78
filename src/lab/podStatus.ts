/**
 * Owns what the lab writes into a Pod's status, in a kubelet's words. Pure. Addresses are left out:
 * those are the agent's to write.
 */
import type { ContainerStatus, Pod, PodCondition } from "../kube/types.js";

/** How a pod's program is. */
export type ProgramState =
  | { state: "refused"; message: string }
  | { state: "starting" }
  | { state: "ready"; startedAt: string }
  | { state: "ended"; startedAt: string; finishedAt: string };

/** Why the lab runs no program in a pod; null where it does. */
export function refusal(pod: Pod, knows: (image: string) => boolean): string | null {
  const { containers = [], hostNetwork } = pod.spec ?? {};
  if (hostNetwork) return "the lab runs no pods with the host's network";
  if (containers.length !== 1) return "the lab runs one container in a pod";
  const image = containers[0]!.image ?? "";
  return knows(image) ? null : `the lab has no program for the image "${image}"`;
}

/** The status of a pod, but for its addresses; `now` is for conditions that change. */
export function podStatus(pod: Pod, program: ProgramState, now: string): NonNullable<Pod["status"]> {
  const ready = program.state === "ready";
  const runs = program.state === "ready" || program.state === "ended";
  const unready = ready
    ? {}
    : {
        reason: "ContainersNotReady",
        message: `containers with unready status: [${(pod.spec?.containers ?? []).map(({ name }) => name).join(" ")}]`,
      };
  const conditions: PodCondition[] = [
    { type: "PodReadyToStartContainers", status: program.state === "refused" ? "False" : "True" },
    { type: "Initialized", status: "True" },
    { type: "Ready", status: ready ? "True" : "False", ...unready },
    { type: "ContainersReady", status: ready ? "True" : "False", ...unready },
  ];
  return {
    phase: runs ? "Running" : "Pending",
    startTime: pod.status?.startTime ?? now,
    conditions: conditions.map((each) => {
      const old = pod.status?.conditions?.find(({ type }) => type === each.type);
      const since = old?.status === each.status ? old.lastTransitionTime : undefined;
      return { ...each, lastTransitionTime: since ?? now };
    }),
    containerStatuses: (pod.spec?.containers ?? []).map(({ name, image = "" }): ContainerStatus => {
      return {
        name,
        image,
        imageID: "",
        ready,
        started: ready,
        restartCount: 0,
        state: containerState(program),
        lastState: {},
      };
    }),
  };
}

function containerState(program: ProgramState): NonNullable<ContainerStatus["state"]> {
  switch (program.state) {
    case "refused":
      return { waiting: { reason: "ErrImagePull", message: program.message } };
    case "starting":
      return { waiting: { reason: "ContainerCreating" } };
    case "ready":
      return { running: { startedAt: program.startedAt } };
    case "ended": {
      const { startedAt, finishedAt } = program;
      // What a kubelet says where it does not know how a container ended.
      const unknown = { exitCode: 137, reason: "ContainerStatusUnknown" };
      return { terminated: { ...unknown, startedAt, finishedAt } };
    }
  }
}
