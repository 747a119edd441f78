/**
 * Runs the programs of the pods that the API assigns to the lab's nodes, until podwire does so
 * itself: what a kubelet and a container runtime are elsewhere. Order for a pod:
 *
 *   1. namespace   made, so that the agent finds it when it has given the pod its address
 *   2. program     started, that which the image stands for
 *   3. status      Running and Ready, once the program listens and the agent has attached the pod
 *
 * and back: program ended, namespace removed, then the Pod (so that another one of the same name
 * finds no trace of it). A program that ends by itself is not started again. Must not know agents.
 */
import { rmSync } from "node:fs";
import { EventRecorder } from "../kube/EventRecorder.js";
import { Informer } from "../kube/Informer.js";
import type { KubeApi } from "../kube/KubeApi.js";
import { isConflict, isNotFound } from "../kube/KubeError.js";
import { PODS } from "../kube/resources.js";
import type { Pod } from "../kube/types.js";
import { WorkQueue } from "../kube/WorkQueue.js";
import { makePodNamespace, processesInside, removeNamespaces } from "./namespaces.js";
import { podNamespace, podPaths } from "./plan.js";
import { writePods } from "./podRecords.js";
import { type ProgramState, podStatus, refusal } from "./podStatus.js";
import { endAll, isAlive, type ProcessId } from "./processes.js";
import { isAttached, isListening, lastWords, nameProgram, startProgram } from "./programs.js";
import { applicationOf, IMAGES, type LabPod, labelOf, NODES } from "./walkthrough.js";

/** How often a program that starts is looked at, and one that runs. */
const STARTING_MS = 40;
const RUNNING_MS = 1000;
const CONCURRENCY = 8;
const DEFAULT_GRACE_SECONDS = 30;

interface Running {
  pod: LabPod;
  uid: string;
  id: ProcessId;
  program: ProgramState;
}

export class PodRunner {
  private readonly running = new Map<string, Running>();
  private readonly pods: Informer<Pod>;
  private readonly queue: WorkQueue;
  private readonly events: EventRecorder;

  constructor(
    private readonly api: KubeApi,
    private readonly rootless: boolean,
    private readonly say: (line: string) => void,
  ) {
    const onError = (error: unknown) => say(String(error));
    this.events = new EventRecorder(api, { component: "podwire-lab", onError });
    this.queue = new WorkQueue({
      process: (key) => this.settle(key),
      concurrency: CONCURRENCY,
      backoff: { first: 100, most: 3000 },
      onError: (key, error) => say(`${key}: ${String(error)}`),
    });
    this.pods = new Informer<Pod>(api, PODS, { backoff: { first: 100, most: 1000 }, onError });
    const look = ({ metadata: { namespace, name } }: Pod) => this.queue.add(`${namespace}/${name}`);
    this.pods.addHandler({ added: look, updated: look, deleted: look });
  }

  start(): void {
    this.pods.start();
  }

  private async settle(key: string): Promise<void> {
    const [namespace = "", name = ""] = key.split("/");
    const pod = this.pods.get(name, namespace);
    let running = this.running.get(key);
    if (running !== undefined && (pod === undefined || pod.metadata.uid !== running.uid || isLeaving(pod))) {
      await this.end(running, pod?.metadata.deletionGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS);
      this.running.delete(key);
      this.record();
      running = undefined;
    }
    if (pod === undefined || !NODES.some((node) => node.name === pod.spec?.nodeName)) return;
    if (isLeaving(pod)) return this.confirmEnd(pod);
    if (pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed") return;
    const why = refusal(pod, (image) => applicationOf(image) !== null);
    if (why !== null) return this.report(pod, { state: "refused", message: why });
    if (running === undefined) {
      running = await this.begin(pod);
      this.running.set(key, running);
      this.record();
    }
    await this.look(pod, running);
    this.queue.addAfter(key, running.program.state === "starting" ? STARTING_MS : RUNNING_MS);
  }

  /** Steps 1 and 2. */
  private async begin(pod: Pod): Promise<Running> {
    const { namespace = "", name = "", uid = "" } = pod.metadata;
    const application = applicationOf(pod.spec!.containers[0]!.image ?? "")!;
    const node = pod.spec!.nodeName!;
    const { l4Port } = IMAGES[application];
    const label = labelOf(application, node);
    const labPod = { namespace, name, label, application, l4Port, address: pod.status?.podIP ?? "", node };
    const netns = podNamespace(labPod);
    await removeNamespaces([netns]).catch(() => {}); // Of an attempt that failed half-way.
    await makePodNamespace(netns);
    const id = startProgram(labPod, this.rootless);
    return { pod: labPod, uid, id, program: { state: "starting" } };
  }

  /** Step 3. */
  private async look(pod: Pod, running: Running): Promise<void> {
    const { id, program } = running;
    const address = pod.status?.podIP ?? "";
    if (running.pod.address !== address) {
      running.pod.address = address;
      this.record();
    }
    if (program.state === "starting" || program.state === "ready") {
      const startedAt = program.state === "ready" ? program.startedAt : now();
      if (!isAlive(id)) {
        running.program = { state: "ended", startedAt, finishedAt: now() };
        this.say(`${podKey(running.pod)}: the program ended\n${lastWords(running.pod)}`);
      } else if (program.state === "starting" && address !== "" && isServing(running)) {
        await nameProgram(running.pod);
        running.program = { state: "ready", startedAt };
        const { name } = pod.spec!.containers[0]!;
        this.events.record(PODS, pod, "Normal", "Started", `Started container ${name}`);
      }
    }
    if (running.program.state !== "starting") await this.report(pod, running.program);
  }

  /** Writes the status where it says something else. */
  private async report(pod: Pod, program: ProgramState): Promise<void> {
    const { namespace = "", name = "", uid } = pod.metadata;
    const status = podStatus(pod, program, now());
    const told = (value: Pod["status"]) =>
      JSON.stringify([
        value?.phase,
        value?.containerStatuses?.map(({ state }) => state),
        // Of a node that was away the controllers say that its pods are not ready.
        value?.conditions?.find(({ type }) => type === "Ready")?.status,
      ]);
    if (told(status) === told(pod.status)) return;
    try {
      await this.api.patch(PODS, name, namespace, "strategic", { metadata: { uid }, status }, "status");
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
  }

  private async end({ pod, id }: Running, graceSeconds: number): Promise<void> {
    const netns = podNamespace(pod);
    await endAll([id], graceSeconds * 1000);
    await endAll(await processesInside([netns]), 0);
    await removeNamespaces([netns]);
    rmSync(podPaths(pod).directory, { recursive: true, force: true });
  }

  /** The Pod may go: nothing of it runs any more. */
  private async confirmEnd({ metadata: { namespace = "", name = "", uid = "" } }: Pod): Promise<void> {
    try {
      await this.api.delete(PODS, name, namespace, { gracePeriodSeconds: 0, uid });
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
  }

  private record(): void {
    writePods(
      [...this.running.values()].map(({ pod, id }) => {
        const { namespace, name, node, application, address } = pod;
        return { namespace, name, node, application, address, ...id };
      }),
    );
  }
}

function podKey({ namespace, name }: LabPod): string {
  return `${namespace}/${name}`;
}

/** Whether other pods get an answer. */
function isServing({ id, pod }: Running): boolean {
  return isListening(id, pod.l4Port) && isAttached(id);
}

function isLeaving({ metadata }: Pod): boolean {
  return metadata.deletionTimestamp !== undefined;
}

/** As Kubernetes writes times. */
function now(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, "Z");
}
