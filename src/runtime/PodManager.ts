/**
 * Runs the pods that are bound to this node: what a kubelet does. One turn for a pod looks at what
 * the API wants and at what the engine has, takes the next steps, and writes the status:
 *
 *   wanted     sandbox → address attached → init containers, one after another → containers started,
 *              restarted with back-off or for a new image, probed
 *   ended      all containers ended for good: namespaces go, logs stay
 *   leaving    preStop, stop signal, grace period, SIGKILL; sandbox removed; then the Pod
 *   gone       no such Pod any more: ended and removed
 *
 * Everything that has to survive is the engine's; a new manager goes on where the last one was.
 */
import type * as core from "kubernetes-types/core/v1.js";
import { type Clock, SYSTEM_CLOCK } from "../kube/Clock.js";
import { EventRecorder } from "../kube/EventRecorder.js";
import { Informer } from "../kube/Informer.js";
import type { KubeApi } from "../kube/KubeApi.js";
import { isConflict, isNotFound } from "../kube/KubeError.js";
import { CONFIGMAPS, PODS, SECRETS } from "../kube/resources.js";
import type { ConfigMap, Pod, Secret } from "../kube/types.js";
import { WorkQueue } from "../kube/WorkQueue.js";
import { Backoffs } from "./Backoffs.js";
import type { ContainerEngine, ContainerState, SandboxState } from "./ContainerEngine.js";
import { StartError } from "./ContainerEngine.js";
import { runHook } from "./hooks.js";
import { findImage, type ImageTable } from "./images.js";
import { type ProbeKind, Prober } from "./Prober.js";
import {
  ConfigProblem,
  type Container,
  containerSpec,
  containersOf,
  hostnameOf,
  type Lookup,
  refusalOf,
} from "./podSpec.js";
import { type ContainerView, defaultWaiting, type PodStatus, podStatus, type Waiting } from "./podStatus.js";
import { type ProbeTarget, runProbe } from "./probe.js";

const CONCURRENCY = 8;
const ATTACH_MS = 100;
/** How often a container that is to end is looked at, and how long after SIGKILL. */
const LOOK_MS = 20;
const KILL_MS = 10_000;
const RETRY_MS = 1_000;
const DEFAULT_GRACE_SECONDS = 30;
/** What a program gets between the stop signal and SIGKILL in any case, however long preStop took. */
const LEAST_GRACE_MS = 2_000;
/** A pod that is gone from the API may not be asked how long it wants. */
const ORPHAN_GRACE_SECONDS = 2;
/** An image without an entry is ErrImagePull for so long, then ImagePullBackOff. */
const IMAGE_ERROR_MS = 10_000;
/** What did not work for reasons of ours is tried again. */
const CONFIG_RETRY_MS = 10_000;

export interface PodManagerOptions {
  api: KubeApi;
  engine: ContainerEngine;
  node: string;
  nodeAddress: string;
  /** Path of a pod's network namespace. */
  netnsOf: (pod: Pod) => string;
  /** Whether the namespace has the pod's interface and address: what a CNI ADD would have done. */
  attached: (netns: string, address: string) => Promise<boolean>;
  /** The table as it is now. */
  images: () => ImageTable;
  /** The file that an image without an entry belongs into. */
  imageFile: string;
  /** Content of a pod's /etc/resolv.conf. */
  resolvConf: () => string;
  onError: (error: unknown, pod?: string) => void;
  clock?: Clock;
  random?: () => number;
}

/** What is known of a pod beyond the engine's and the API's state. */
interface Work {
  uid: string;
  namespace: string;
  name: string;
  waiting: Map<string, Waiting>;
  probers: Map<string, { attempt: number; prober: Prober }>;
  /** Containers whose postStart hook runs. */
  hooked: Set<string>;
  /** Containers that end because their image has changed: they start again whatever the policy says. */
  replaced: Set<string>;
  /** Ends that are under way, by container. */
  stopping: Map<string, Promise<void>>;
  /** When the pod has to have ended, on the monotonic clock. */
  deadline: number;
  /** Resolves then. */
  late: Promise<void>;
  /** Says that the pod has to end within so many seconds; only ever sooner than it had to. */
  hurry: (seconds: number) => void;
  /** The pod's end, while it is under way. */
  leaving: Promise<void> | null;
  /** As it was last written. */
  status: PodStatus | null;
  /** Last written status, as JSON. */
  written: string;
  address: string;
  /** Images without an entry, by container: since when, and when that was last an Event. */
  imageErrors: Map<string, { since: number; told: number }>;
  refused: string;
}

export class PodManager {
  readonly pods: Informer<Pod>;
  private readonly queue: WorkQueue;
  private readonly events: EventRecorder;
  private readonly clock: Clock;
  private readonly backoffs: Backoffs;
  private readonly work = new Map<string, Work>();
  private readonly engine: ContainerEngine;
  private readonly api: KubeApi;
  private stopped = false;

  constructor(private readonly options: PodManagerOptions) {
    const { api, engine, node, onError, clock = SYSTEM_CLOCK, random = Math.random } = options;
    this.api = api;
    this.engine = engine;
    this.clock = clock;
    this.backoffs = new Backoffs();
    this.events = new EventRecorder(api, { component: "podwire-agent", host: node, clock, onError });
    this.queue = new WorkQueue({
      process: (uid) => this.sync(uid),
      concurrency: CONCURRENCY,
      backoff: { first: 100, most: 10_000 },
      clock,
      random,
      onError: (uid, error) => onError(error, this.nameOf(uid)),
    });
    this.pods = new Informer<Pod>(api, PODS, {
      fieldSelector: `spec.nodeName=${node}`,
      indices: { uid: ({ metadata }) => [metadata.uid ?? ""] },
      backoff: { first: 100, most: 3_000 },
      clock,
      random,
      onError,
    });
    const look = ({ metadata }: Pod) => this.queue.add(metadata.uid ?? "");
    this.pods.addHandler({
      added: look,
      updated: (pod, old) => {
        // A second deletion may shorten the grace period.
        const grace = ({ metadata }: Pod) => metadata.deletionGracePeriodSeconds ?? Number.POSITIVE_INFINITY;
        if (old.metadata.deletionTimestamp !== undefined && grace(pod) < grace(old))
          this.work.get(pod.metadata.uid ?? "")?.hurry(grace(pod));
        look(pod);
      },
      deleted: (pod) => {
        this.work.get(pod.metadata.uid ?? "")?.hurry(ORPHAN_GRACE_SECONDS);
        look(pod);
      },
    });
  }

  /** Takes up what runs, then what the API says. */
  async start(): Promise<void> {
    await this.engine.start((uid) => this.queue.add(uid));
    this.pods.start();
    // What runs without a Pod is only known once all Pods are.
    void this.pods.synced.then(() => {
      for (const { spec } of this.engine.sandboxes()) this.queue.add(spec.uid);
    });
  }

  /** Lets go; pods run on. */
  async stop(): Promise<void> {
    this.stopped = true;
    await this.pods.stop();
    for (const { probers } of this.work.values()) for (const { prober } of probers.values()) prober.stop();
    await this.queue.stop();
    await this.events.flush();
    this.engine.stop();
  }

  private nameOf(uid: string): string {
    const { namespace, name } = this.work.get(uid) ?? {};
    return name === undefined ? uid : `${namespace}/${name}`;
  }

  // ---- a turn -------------------------------------------------------------------------------

  private async sync(uid: string): Promise<void> {
    const pod = this.pods.byIndex("uid", uid)[0];
    const sandbox = this.engine.sandbox(uid);
    if (pod === undefined) {
      if (!this.pods.isSynced || (sandbox === null && !this.work.has(uid))) return;
      const orphan = this.workOf({ metadata: { uid } });
      return this.depart(orphan, async () => {
        await this.end(orphan, null, ORPHAN_GRACE_SECONDS);
        if (!this.stopped) this.forget(uid);
      });
    }
    const work = this.workOf(pod);
    if (pod.metadata.deletionTimestamp !== undefined) return this.depart(work, () => this.leave(pod, work));
    if (work.leaving !== null) return;
    const { phase } = pod.status ?? {};
    if (phase === "Succeeded" || phase === "Failed") return this.depart(work, () => this.close(uid, work));
    const why = refusalOf(pod);
    if (why !== null) return this.refuse(pod, work, why);
    // Nothing is left to run: the status says so, and nothing is made for it.
    if (this.isOver(pod, uid)) return this.report(pod, work);
    if (!(await this.prepare(pod, work))) {
      await this.report(pod, work);
      this.queue.addAfter(uid, ATTACH_MS);
      return;
    }
    if (await this.initialize(pod, work))
      for (const container of pod.spec?.containers ?? [])
        await this.advance(pod, work, container, (last) => restarts(pod, last));
    await this.report(pod, work);
  }

  /** Whether every container has ended for good. */
  private isOver(pod: Pod, uid: string): boolean {
    const { containers = [] } = pod.spec ?? {};
    return containers.every(({ name }) => {
      const last = this.lastOf(uid, name);
      return last?.end && !restarts(pod, last) && !this.work.get(uid)?.replaced.has(name);
    });
  }

  private workOf({ metadata }: Pod): Work {
    const { uid = "", namespace = "", name = "" } = metadata;
    const known = this.work.get(uid);
    if (known !== undefined) return known;
    let resolve = () => {};
    const late = new Promise<void>((settle) => {
      resolve = settle;
    });
    const made: Work = {
      leaving: null,
      deadline: Number.POSITIVE_INFINITY,
      late,
      hurry: (seconds) => {
        const deadline = this.clock.now() + seconds * 1000;
        if (deadline >= made.deadline) return;
        made.deadline = deadline;
        this.clock.after(seconds * 1000, resolve);
      },
      status: null,
      uid,
      namespace,
      name,
      waiting: new Map(),
      probers: new Map(),
      hooked: new Set(),
      replaced: new Set(),
      stopping: new Map(),
      written: "",
      address: "",
      imageErrors: new Map(),
      refused: "",
    };
    this.work.set(uid, made);
    return made;
  }

  /** The sandbox, with the pod's address in it. Whether containers may start. */
  private async prepare(pod: Pod, work: Work): Promise<boolean> {
    const { uid, namespace, name } = work;
    const { node, netnsOf, resolvConf, attached } = this.options;
    const netns = netnsOf(pod);
    const sandbox = this.engine.sandbox(uid);
    if (sandbox !== null && !sandbox.alive && anyRuns(sandbox)) {
      // Whatever runs has lost the pod's network with it. Other pods do not wait for its end.
      void this.endContainers(pod, work, graceOf(pod));
      work.address = "";
      return false;
    }
    if (sandbox === null || !sandbox.alive) {
      if (sandbox !== null && sandbox.containers.length > 0)
        this.event(pod, "Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
      work.address = "";
      await this.engine.createSandbox({
        uid,
        namespace,
        name,
        node,
        netns,
        hostname: hostnameOf(pod),
        resolvConf: resolvConf(),
        createdAt: this.now(),
      });
    }
    const address = pod.status?.podIP ?? "";
    if (address === "") return false;
    if (work.address === address) return true;
    // Those that run go on, whatever becomes of their interface.
    if (sandbox?.alive && anyRuns(sandbox)) work.address = address;
    else if (await attached(netns, address)) work.address = address;
    else return false;
    this.engine.setAddress(uid, address);
    return true;
  }

  /**
   * Init containers, one after another, each until it succeeds. Whether all have. Once a container of
   * the pod's was started they are not looked at any more; in a new sandbox they run again.
   */
  private async initialize(pod: Pod, work: Work): Promise<boolean> {
    const { initContainers = [], containers = [] } = pod.spec ?? {};
    if (initContainers.length === 0) return true;
    const sandbox = this.engine.sandbox(work.uid);
    const since = sandbox?.spec.createdAt ?? 0;
    const isOfNow = (state: ContainerState | null) =>
      state !== null && (state.end?.finishedAt ?? state.startedAt) >= since;
    if (containers.some(({ name }) => isOfNow(this.lastOf(work.uid, name)))) return true;
    for (const container of initContainers) {
      const last = this.lastOf(work.uid, container.name);
      if (last?.end?.exitCode === 0 && isOfNow(last)) {
        work.waiting.delete(container.name);
        continue;
      }
      const again = (state: ContainerState) => !isOfNow(state) || pod.spec?.restartPolicy !== "Never";
      await this.advance(pod, work, container, again);
      return false;
    }
    return true;
  }

  /**
   * Starts a container that should run and does not; looks after one that runs.
   *
   * @param again whether one that has ended is started again
   */
  private async advance(
    pod: Pod,
    work: Work,
    container: Container,
    again: (last: ContainerState) => boolean,
  ): Promise<void> {
    const { uid } = work;
    const { name, image = "" } = container;
    const last = this.lastOf(uid, name);
    if (last?.running) {
      if (last.imageName !== image && !work.stopping.has(name)) {
        work.replaced.add(name);
        const message = `Container ${name} definition changed, will be restarted`;
        void this.stopContainer(pod, work, last, graceOf(pod), message);
      }
      if (work.hooked.has(name)) return;
      work.waiting.delete(name);
      this.watch(pod, work, container, last);
      return;
    }
    work.probers.get(name)?.prober.stop();
    work.probers.delete(name);
    if (work.stopping.has(name)) return;
    if (last?.end && !work.replaced.has(name)) {
      if (!again(last)) {
        work.waiting.delete(name);
        return;
      }
      const wait = this.backoffs.remaining(`${uid}/${name}`, last.end.finishedAt, this.now());
      if (wait !== null) return this.backOff(pod, work, container, wait);
    }
    await this.launch(pod, work, container, last);
  }

  private backOff(
    pod: Pod,
    work: Work,
    container: Container,
    wait: { delayMs: number; leftMs: number },
  ): void {
    const { name } = container;
    const full = `${work.name}_${work.namespace}(${work.uid})`;
    const told = work.waiting.get(name)?.reason;
    const message = `back-off ${duration(wait.delayMs)} restarting failed container=${name} pod=${full}`;
    work.waiting.set(name, { reason: "CrashLoopBackOff", message });
    if (told !== "CrashLoopBackOff")
      this.event(pod, "Warning", "BackOff", `Back-off restarting failed container ${name} in pod ${full}`);
    this.queue.addAfter(work.uid, wait.leftMs);
  }

  private async launch(
    pod: Pod,
    work: Work,
    container: Container,
    last: ContainerState | null,
  ): Promise<void> {
    const { name, image = "" } = container;
    const { images, imageFile, node, nodeAddress } = this.options;
    const entry = findImage(images(), image);
    if (entry === null) return this.imageMissing(pod, work, container, imageFile);
    work.imageErrors.delete(name);
    try {
      const spec = await containerSpec(container, entry, last === null ? 0 : last.attempt + 1, {
        pod,
        node,
        nodeAddress,
        podIP: work.address,
        lookup: this.lookup,
        volume: (volume, files) => this.engine.volume(work.uid, volume, files),
      });
      this.event(pod, "Normal", "Pulled", `Container image "${image}" already present on machine`);
      if (last?.end) this.backoffs.next(`${work.uid}/${name}`, last.end.finishedAt, this.now());
      await this.engine.startContainer(spec);
      work.waiting.delete(name);
      work.replaced.delete(name);
      this.event(pod, "Normal", "Created", `Created container: ${name}`);
      this.event(pod, "Normal", "Started", `Started container ${name}`);
      const state = this.lastOf(work.uid, name)!;
      if (container.lifecycle?.postStart === undefined) this.watch(pod, work, container, state);
      else this.postStart(pod, work, container, state, container.lifecycle.postStart);
    } catch (error) {
      const { message } = error as Error;
      if (error instanceof ConfigProblem) {
        work.waiting.set(name, { reason: "CreateContainerConfigError", message });
        this.queue.addAfter(work.uid, CONFIG_RETRY_MS);
      } else if (error instanceof StartError) {
        work.waiting.set(name, { reason: "RunContainerError", message });
        // It counts as an end, and is tried again after the back-off.
        this.queue.add(work.uid);
      } else throw error;
      this.event(pod, "Warning", "Failed", `Error: ${message}`);
    }
  }

  private imageMissing(pod: Pod, work: Work, container: Container, file: string): void {
    const { name, image = "" } = container;
    const now = this.clock.now();
    const known = work.imageErrors.get(name);
    const entry = known ?? { since: now, told: now };
    work.imageErrors.set(name, entry);
    const cause = `no program is known for image "${image}": add an entry for it under "images" in ${file} on node ${this.options.node}`;
    if (now - entry.since < IMAGE_ERROR_MS)
      work.waiting.set(name, { reason: "ErrImagePull", message: cause });
    else {
      const message = `Back-off pulling image "${image}": ErrImagePull: ${cause}`;
      work.waiting.set(name, { reason: "ImagePullBackOff", message });
    }
    if (known === undefined) {
      this.event(pod, "Warning", "Failed", `Failed to pull image "${image}": ${cause}`);
      this.event(pod, "Warning", "Failed", "Error: ErrImagePull");
    } else if (now - entry.told >= IMAGE_ERROR_MS) {
      entry.told = now;
      this.event(pod, "Normal", "BackOff", `Back-off pulling image "${image}"`);
    }
    // The table may have an entry by then.
    this.queue.addAfter(work.uid, IMAGE_ERROR_MS);
  }

  /** A kubelet takes a container for created, and probes it, when its hook has succeeded. */
  private postStart(
    pod: Pod,
    work: Work,
    container: Container,
    state: ContainerState,
    hook: core.LifecycleHandler,
  ): void {
    const { name } = container;
    const abort = new AbortController();
    void work.late.then(() => abort.abort());
    work.waiting.set(name, { reason: defaultWaiting(pod) });
    work.hooked.add(name);
    void runHook(hook, this.targetOf(work, container, state), abort.signal, this.clock).then((problem) => {
      work.hooked.delete(name);
      this.queue.add(work.uid);
      if (problem === null || this.stopped || !this.runs(state)) return;
      this.event(pod, "Warning", "FailedPostStartHook", `PostStartHook failed: ${problem}`);
      void this.stopContainer(pod, work, state, graceOf(pod), "FailedPostStartHook");
    });
  }

  // ---- probes -------------------------------------------------------------------------------

  /** Where probes and hooks of an instance go. */
  private targetOf(work: Work, container: Container, state: ContainerState): ProbeTarget {
    return {
      podIP: work.address,
      ports: container.ports ?? [],
      exec: (options, signal) => this.engine.exec(state, options, signal),
    };
  }

  private watch(pod: Pod, work: Work, container: Container, state: ContainerState): void {
    const known = work.probers.get(container.name);
    if (known?.attempt === state.attempt) return;
    known?.prober.stop();
    const { uid, attempt } = state;
    const id = { uid, container: container.name, attempt };
    const { startupProbe, readinessProbe, livenessProbe } = container;
    const target = this.targetOf(work, container, state);
    const prober = new Prober({
      probes: {
        ...(startupProbe === undefined ? {} : { startup: startupProbe }),
        ...(readinessProbe === undefined ? {} : { readiness: readinessProbe }),
        ...(livenessProbe === undefined ? {} : { liveness: livenessProbe }),
      },
      startedAt: state.startedAt,
      memory: state.memory,
      run: (probe) => runProbe(probe, target),
      clock: this.clock,
      changed: (memory) => {
        this.engine.remember(id, memory);
        this.queue.add(uid);
      },
      failed: (kind, message) => {
        const title = kind.charAt(0).toUpperCase() + kind.slice(1);
        this.event(pod, "Warning", "Unhealthy", `${title} probe failed: ${message.trim()}`);
      },
      unhealthy: (kind) => {
        const message = `Container ${container.name} failed ${kind} probe, will be restarted`;
        void this.stopContainer(pod, work, state, graceOf(pod, container, kind), message);
      },
    });
    work.probers.set(container.name, { attempt, prober });
  }

  // ---- ends ---------------------------------------------------------------------------------

  /**
   * preStop, the stop signal, and SIGKILL when the time is over. Settles when the container has
   * ended, or nothing more can be done.
   */
  private stopContainer(
    pod: Pod | null,
    work: Work,
    state: ContainerState,
    graceSeconds: number,
    message: string,
  ): Promise<void> {
    const known = work.stopping.get(state.container);
    if (known !== undefined) return known;
    if (pod !== null) this.event(pod, "Normal", "Killing", message);
    const ending = this.stopInTime(pod, work, state, graceSeconds).finally(() => {
      work.stopping.delete(state.container);
      this.queue.add(work.uid);
    });
    work.stopping.set(state.container, ending);
    return ending;
  }

  private async stopInTime(
    pod: Pod | null,
    work: Work,
    state: ContainerState,
    graceSeconds: number,
  ): Promise<void> {
    const deadline = this.clock.now() + graceSeconds * 1000;
    const container = pod?.spec?.containers.find(({ name }) => name === state.container);
    const hook = container?.lifecycle?.preStop;
    if (hook !== undefined && graceSeconds > 0) {
      const abort = new AbortController();
      const cancel = this.clock.after(graceSeconds * 1000, () => abort.abort());
      void work.late.then(() => abort.abort());
      const target = this.targetOf(work, container!, state);
      const problem = await runHook(hook, target, abort.signal, this.clock);
      cancel();
      if (this.stopped) return;
      if (problem !== null)
        this.event(pod!, "Warning", "FailedPreStopHook", `PreStopHook failed: ${problem}`);
    }
    if (this.runs(state)) this.engine.signal(state, state.stopSignal);
    const least = this.clock.now() + LEAST_GRACE_MS;
    const late = () => this.clock.now() >= Math.max(least, Math.min(deadline, work.deadline));
    while (this.runs(state) && !late() && !this.stopped) await this.pause(LOOK_MS);
    // Another agent takes it up from here.
    if (this.stopped) return;
    if (this.runs(state)) this.engine.signal(state, "SIGKILL");
    const given = this.clock.now() + KILL_MS;
    while (this.runs(state) && this.clock.now() < given && !this.stopped) await this.pause(LOOK_MS);
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.clock.after(ms, resolve));
  }

  private runs({ uid, container, attempt }: ContainerState): boolean {
    const found = this.engine
      .sandbox(uid)
      ?.containers.find((each) => each.container === container && each.attempt === attempt);
    return found?.running === true;
  }

  /** Ends all that runs in a pod. */
  private async endContainers(pod: Pod | null, work: Work, graceSeconds: number): Promise<void> {
    for (const { prober } of work.probers.values()) prober.stop();
    work.probers.clear();
    const running = this.engine.sandbox(work.uid)?.containers.filter((each) => each.running) ?? [];
    await Promise.all(
      running.map((each) =>
        this.stopContainer(pod, work, each, graceSeconds, `Stopping container ${each.container}`),
      ),
    );
  }

  /** Ends all that runs in a pod, and removes it. */
  private async end(work: Work, pod: Pod | null, graceSeconds: number): Promise<void> {
    // An end that is under way already may have longer.
    work.hurry(graceSeconds);
    await this.endContainers(pod, work, graceSeconds);
    if (this.stopped) return;
    if (pod !== null) await this.report(pod, work, true);
    await this.engine.removeSandbox(work.uid);
  }

  /** A Pod that is being deleted: ends it, and lets it go. */
  private async leave(pod: Pod, work: Work): Promise<void> {
    const { uid, namespace, name } = work;
    await this.end(work, pod, pod.metadata.deletionGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS);
    if (this.stopped) return;
    try {
      await this.api.delete(PODS, name, namespace, { gracePeriodSeconds: 0, uid });
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
    this.forget(uid);
  }

  /** Ends a pod beside the queue: a grace period must not hold up other pods. */
  private depart(work: Work, ending: () => Promise<void>): void {
    work.leaving ??= ending()
      .catch((error: unknown) => {
        if (this.stopped) return;
        this.options.onError(error, this.nameOf(work.uid));
        this.queue.addAfter(work.uid, RETRY_MS);
      })
      .finally(() => {
        work.leaving = null;
      });
  }

  /** A pod that has ended for good: its address goes back, its logs stay. */
  private async close(uid: string, work: Work): Promise<void> {
    await this.endContainers(null, work, DEFAULT_GRACE_SECONDS);
    if (!this.stopped) await this.engine.closeSandbox(uid);
  }

  private forget(uid: string): void {
    const work = this.work.get(uid);
    for (const { prober } of work?.probers.values() ?? []) prober.stop();
    this.work.delete(uid);
    this.backoffs.forget(uid);
  }

  // ---- what is told -------------------------------------------------------------------------

  private async refuse(pod: Pod, work: Work, why: string): Promise<void> {
    for (const { name } of containersOf(pod))
      work.waiting.set(name, { reason: "CreateContainerConfigError", message: why });
    if (work.refused !== why) this.event(pod, "Warning", "Failed", `Error: ${why}`);
    work.refused = why;
    await this.report(pod, work);
  }

  /** @param over whether the pod is being deleted, and nothing of it runs any more */
  private async report(pod: Pod, work: Work, over = false): Promise<void> {
    const { uid, name, namespace } = work;
    const sandbox = this.engine.sandbox(uid);
    const again: Waiting = { reason: defaultWaiting(pod) };
    const view = (container: Container): ContainerView => {
      const own = sandbox?.containers.filter((each) => each.container === container.name) ?? [];
      const last = own.at(-1) ?? null;
      return {
        name: container.name,
        image: container.image ?? "",
        last,
        before: own.at(-2) ?? null,
        waiting:
          work.waiting.get(container.name) ?? (last?.end && work.replaced.has(container.name) ? again : null),
      };
    };
    const { initContainers = [], containers = [] } = pod.spec ?? {};
    const views = { init: initContainers.map(view), containers: containers.map(view) };
    // What was written last may be newer than what the watch has told.
    const current = work.status === null ? pod : { ...pod, status: { ...pod.status, ...work.status } };
    const network = sandbox?.alive === true && work.address !== "";
    const status = podStatus(current, views, { network, over }, this.clock.date());
    const text = JSON.stringify({ ...status, startTime: "", conditions: withoutTimes(status) });
    if (text === work.written) return;
    try {
      await this.api.patch(PODS, name, namespace, "strategic", { metadata: { uid }, status }, "status");
      work.written = text;
      work.status = status;
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
  }

  private event(pod: Pod, type: "Normal" | "Warning", reason: string, message: string): void {
    this.events.record(PODS, pod, type, reason, message);
  }

  private now(): number {
    return this.clock.date().getTime();
  }

  private lastOf(uid: string, container: string): ContainerState | null {
    return (
      this.engine
        .sandbox(uid)
        ?.containers.filter((each) => each.container === container)
        .at(-1) ?? null
    );
  }

  private readonly lookup: Lookup = async (kind, namespace, name) => {
    try {
      if (kind === "secret") {
        const { data = {}, stringData = {} } = await this.api.get<Secret>(SECRETS, name, namespace);
        return { ...data, ...encoded(stringData) };
      }
      const { data = {}, binaryData = {} } = await this.api.get<ConfigMap>(CONFIGMAPS, name, namespace);
      return { ...encoded(data), ...binaryData };
    } catch (error) {
      if (isNotFound(error)) return null;
      throw new ConfigProblem(`${kind} "${name}": ${(error as Error).message}`);
    }
  };
}

function encoded(data: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString("base64")]),
  );
}

function anyRuns({ containers }: SandboxState): boolean {
  return containers.some(({ running }) => running);
}

/** Whether a container that has ended is started again. */
function restarts({ spec }: Pod, { end }: ContainerState): boolean {
  const policy = spec?.restartPolicy ?? "Always";
  return policy === "Always" || (policy === "OnFailure" && end?.exitCode !== 0);
}

/** What a container gets to end in, as its probe or else its pod says. */
function graceOf(pod: Pod, container?: Container, kind?: ProbeKind): number {
  const probe = kind === "startup" ? container?.startupProbe : container?.livenessProbe;
  return (
    (kind === undefined ? undefined : probe?.terminationGracePeriodSeconds) ??
    pod.spec?.terminationGracePeriodSeconds ??
    DEFAULT_GRACE_SECONDS
  );
}

function withoutTimes({ conditions = [] }: { conditions?: core.PodCondition[] }): object[] {
  return conditions.map(({ type, status, reason, message }) => ({
    type,
    status,
    reason: reason ?? undefined,
    message: message ?? undefined,
  }));
}

/** As Go prints a duration: 10s, 1m20s, 5m0s. */
export function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}
