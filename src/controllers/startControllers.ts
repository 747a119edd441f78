/**
 * Wires the controllers: informers → views → work queues → reconcile cores → Runner. Each controller is
 * a name, what wakes which key, and how a key's state is gathered; every decision is in a core.
 */
import { type Clock, SYSTEM_CLOCK } from "../kube/Clock.js";
import { EventRecorder } from "../kube/EventRecorder.js";
import { Informer } from "../kube/Informer.js";
import type { KubeApi, KubeObject, OwnerReference, ResourceRef } from "../kube/KubeApi.js";
import { isConflict, isNotFound } from "../kube/KubeError.js";
import * as resources from "../kube/resources.js";
import { RESOURCES } from "../kube/resources.js";
import type {
  ControllerRevision,
  DaemonSet,
  Deployment,
  EndpointSlice,
  Endpoints,
  Lease,
  Namespace,
  Node,
  Pod,
  ReplicaSet,
  Service,
} from "../kube/types.js";
import { WorkQueue } from "../kube/WorkQueue.js";
import { type LoadBalancer, startLoadBalancer } from "../vip/startLoadBalancer.js";
import type { Action, Outcome } from "./actions.js";
import { reconcileDaemonSet } from "./daemonSet.js";
import { reconcileDeployment } from "./deployment.js";
import { hasSelector, MANAGED_BY, MANAGER, reconcileEndpoints, SERVICE_NAME } from "./endpoints.js";
import { collect, type Item } from "./garbage.js";
import { KUBERNETES, reconcileKubernetesService } from "./kubernetesService.js";
import { controllerOf, keyOf } from "./meta.js";
import { needsEmptying, reconcileNamespace, SYSTEM_NAMESPACES, systemNamespace } from "./namespaces.js";
import { reconcileEviction, reconcileNode, reconcileOrphanedPod } from "./nodeLifecycle.js";
import { needsPlacement, placementActions, placePod } from "./placement.js";
import { isFinished, isTerminating } from "./pods.js";
import { Runner } from "./Runner.js";
import { reconcileReplicaSet } from "./replicaSet.js";
import type { ServiceAllocator } from "./ServiceAllocator.js";
import { type Indices, View } from "./View.js";

export interface ControllerOptions {
  /** ClusterIP of the `kubernetes` Service; ServiceAllocator.apiAddress. */
  apiClusterIP: string;
  /** Where API servers listen. */
  apiServers: readonly { address: string; port: number }[];
  /** Checks the allocations against the store, now and then. `services` reads the store itself, not a copy. */
  repair?: { allocator: ServiceAllocator; services: () => Iterable<Service>; everyMs?: number };
  random?: () => number;
  onError?: (controller: string, key: string, error: unknown) => void;
}

export interface ControllerManager {
  /** Resolves when every informer that decisions rest on has its first list. */
  ready: Promise<void>;
  /** Resolves when no controller has anything to do now, and their Events are written. */
  idle(): Promise<void>;
  /** Load-balancer addresses that Services have and that are left, by pool. */
  poolUsage(): { pool: string; assigned: number; available: number }[];
  stop(): Promise<void>;
}

const REPAIR_MS = 180_000;
const ADDRESS_REPAIR = "ipallocator-repair-controller";
const PORT_REPAIR = "portallocator-repair-controller";
const UNSCHEDULABLE_RETRY_MS = 60_000;
/** A pod of a node that has just gone is left alone for this long: the node may be registering anew. */
const ORPHAN_QUARANTINE_MS = 40_000;
const SYSTEM_KEY = "system";

const podIndices: Indices<Pod> = {
  owner: (pod) => [controllerOf(pod)?.uid ?? ""],
  orphans: (pod) => (controllerOf(pod) ? [] : [pod.metadata.namespace!]),
  node: (pod) => (pod.spec?.nodeName ? [pod.spec.nodeName] : []),
  namespace: (pod) => [pod.metadata.namespace!],
  waiting: (pod) => (needsPlacement(pod) ? ["yes"] : []),
};

/** Starts all controllers of the embedded API. Only one set of them may run at a time. */
export function startControllers(
  kube: KubeApi,
  options: ControllerOptions,
  clock: Clock = SYSTEM_CLOCK,
): ControllerManager {
  const manager = new Manager(kube, options, clock);
  manager.start();
  return manager;
}

class Manager implements ControllerManager {
  readonly ready: Promise<void>;
  readonly #informers: Informer<KubeObject>[] = [];
  readonly #views = new Map<string, View<KubeObject>>();
  readonly #queues: WorkQueue[] = [];
  readonly #recorders = new Map<string, EventRecorder>();
  readonly #random: () => number;
  readonly #loadBalancer: LoadBalancer;
  #stopped = false;
  #cancelRepair = () => {};

  readonly #pods: View<Pod>;
  readonly #nodes: View<Node>;
  readonly #services: View<Service>;
  readonly #slices: View<EndpointSlice>;
  readonly #endpoints: View<Endpoints>;
  readonly #revisions: View<ControllerRevision>;
  readonly #daemonSets: View<DaemonSet>;
  readonly #replicaSets: View<ReplicaSet>;
  readonly #deployments: View<Deployment>;
  readonly #namespaces: View<Namespace>;
  readonly #leases: View<Lease>;

  constructor(
    private readonly kube: KubeApi,
    private readonly options: ControllerOptions,
    private readonly clock: Clock,
  ) {
    this.#random = options.random ?? Math.random;
    this.#pods = this.#watch(resources.PODS, podIndices);
    this.#nodes = this.#watch(resources.NODES);
    this.#services = this.#watch(resources.SERVICES, { namespace: ({ metadata }) => [metadata.namespace!] });
    this.#slices = this.#watch(resources.ENDPOINTSLICES, {
      service: ({ metadata }) => [`${metadata.namespace}/${metadata.labels?.[SERVICE_NAME] ?? ""}`],
    });
    this.#endpoints = this.#watch(resources.ENDPOINTS);
    this.#revisions = this.#watch(resources.CONTROLLERREVISIONS, {
      namespace: ({ metadata }) => [metadata.namespace!],
    });
    this.#daemonSets = this.#watch(resources.DAEMONSETS, {
      namespace: ({ metadata }) => [metadata.namespace!],
    });
    this.#replicaSets = this.#watch(resources.REPLICASETS, {
      namespace: ({ metadata }) => [metadata.namespace!],
    });
    this.#deployments = this.#watch(resources.DEPLOYMENTS, {
      namespace: ({ metadata }) => [metadata.namespace!],
    });
    this.#namespaces = this.#watch(resources.NAMESPACES);
    this.#leases = this.#watch(resources.LEASES);
    this.ready = Promise.all(this.#informers.map(({ synced }) => synced)).then(() => undefined);
    // The rest may have owners too; a server without one of these kinds holds nobody up.
    for (const resource of RESOURCES)
      if (resource !== resources.EVENTS && !this.#views.has(resource.plural)) this.#watch(resource);
    this.#loadBalancer = startLoadBalancer(kube, {
      clock,
      random: this.#random,
      onError: (key, error) => options.onError?.("load-balancer", key, error),
    });
  }

  start(): void {
    for (const informer of this.#informers) informer.start();
    this.#repair();
    void this.ready.then(() => {
      if (this.#stopped) return;
      this.#namespaceController();
      this.#kubernetesController();
      this.#deploymentController();
      this.#replicaSetController();
      this.#daemonSetController();
      this.#placementController();
      this.#endpointsController();
      this.#nodeController();
      this.#evictionController();
      this.#orphanController();
      this.#garbageController();
    });
  }

  async idle(): Promise<void> {
    await this.ready;
    // A turn of one controller wakes others by way of the watch.
    for (let quiet = 0; quiet < 3; ) {
      const queues = [...this.#queues, this.#loadBalancer];
      quiet = queues.every(({ size }) => size === 0) ? quiet + 1 : 0;
      await Promise.all(queues.map((queue) => queue.idle()));
      await Promise.all([...this.#recorders.values()].map((recorder) => recorder.flush()));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  poolUsage(): { pool: string; assigned: number; available: number }[] {
    return this.#loadBalancer.usage();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelRepair();
    await Promise.all([...this.#queues, this.#loadBalancer].map((each) => each.stop()));
    await Promise.all(this.#informers.map((informer) => informer.stop()));
    await Promise.all([...this.#recorders.values()].map((recorder) => recorder.flush()));
  }

  // ---- machinery ----------------------------------------------------------------------------

  #watch<T extends KubeObject>(resource: ResourceRef, indices: Indices<T> = {}): View<T> {
    const informer = new Informer<T>(this.kube, resource, {
      clock: this.clock,
      random: this.#random,
      onError: (error) => this.options.onError?.("informer", resource.plural, error),
    });
    const view = new View<T>(resource, informer, indices);
    this.#informers.push(informer as unknown as Informer<KubeObject>);
    this.#views.set(resource.plural, view as unknown as View<KubeObject>);
    return view;
  }

  /** A queue whose keys' outcomes are carried out. `component` reports the events. */
  #controller(
    name: string,
    component: string,
    reconcile: (key: string) => Outcome | Promise<Outcome>,
  ): WorkQueue {
    const runner = new Runner({
      kube: this.kube,
      clock: this.clock,
      events: this.#recorder(component),
      view: ({ plural }) => this.#views.get(plural),
      random: this.#random,
    });
    const queue = new WorkQueue({
      clock: this.clock,
      random: this.#random,
      process: async (key) => {
        const { actions, againAfterMs } = await reconcile(key);
        await runner.run(actions);
        if (againAfterMs !== undefined) queue.addAfter(key, againAfterMs);
      },
      onError: (key, error) => {
        // The usual race with another writer; the next turn sees its change.
        if (!isConflict(error)) this.options.onError?.(name, key, error);
      },
    });
    this.#queues.push(queue);
    return queue;
  }

  #recorder(component: string): EventRecorder {
    const known = this.#recorders.get(component);
    if (known) return known;
    const onError = (error: unknown) => this.options.onError?.("events", component, error);
    const recorder = new EventRecorder(this.kube, { component, clock: this.clock, onError });
    this.#recorders.set(component, recorder);
    return recorder;
  }

  #now(): number {
    return this.clock.date().getTime();
  }

  /** Pods that a controller may claim: its own, and those without one. */
  #claimable(owner: KubeObject): Pod[] {
    return [
      ...this.#pods.by("owner", owner.metadata.uid!),
      ...this.#pods.by("orphans", owner.metadata.namespace!),
    ];
  }

  // ---- workloads ----------------------------------------------------------------------------

  #daemonSetController(): void {
    const queue = this.#controller("daemonset", "daemonset-controller", (key) => {
      const daemonSet = this.#daemonSets.get(key);
      if (!daemonSet) return NOTHING;
      return reconcileDaemonSet({
        daemonSet,
        pods: this.#claimable(daemonSet),
        revisions: this.#revisions.by("namespace", daemonSet.metadata.namespace!),
        nodes: this.#nodes.list(),
        now: this.#now(),
      });
    });
    this.#daemonSets.onChange((now, before) => queue.add(keyOf((now ?? before)!)));
    this.#wakeOwner(queue, this.#pods, this.#daemonSets, "DaemonSet");
    this.#wakeOwner(queue, this.#revisions, this.#daemonSets, "DaemonSet");
    this.#nodes.onChange((now, before) => {
      if (now && before && !nodeMatters(now, before)) return;
      for (const daemonSet of this.#daemonSets.list()) queue.add(keyOf(daemonSet));
    });
  }

  #replicaSetController(): void {
    const queue = this.#controller("replicaset", "replicaset-controller", (key) => {
      const replicaSet = this.#replicaSets.get(key);
      if (!replicaSet) return NOTHING;
      return reconcileReplicaSet({ replicaSet, pods: this.#claimable(replicaSet), now: this.#now() });
    });
    this.#replicaSets.onChange((now, before) => queue.add(keyOf((now ?? before)!)));
    this.#wakeOwner(queue, this.#pods, this.#replicaSets, "ReplicaSet");
  }

  #deploymentController(): void {
    const queue = this.#controller("deployment", "deployment-controller", (key) => {
      const deployment = this.#deployments.get(key);
      if (!deployment) return NOTHING;
      return reconcileDeployment({
        deployment,
        replicaSets: this.#replicaSets.by("namespace", deployment.metadata.namespace!),
        podsOf: (replicaSet) => this.#pods.by("owner", replicaSet.metadata.uid!),
        now: this.#now(),
      });
    });
    this.#deployments.onChange((now, before) => queue.add(keyOf((now ?? before)!)));
    this.#wakeOwner(queue, this.#replicaSets, this.#deployments, "Deployment");
    // Recreate waits for the old pods' end.
    this.#pods.onChange((now, before) => {
      if (now && !isFinished(now)) return;
      const owner = controllerOf((now ?? before)!);
      const replicaSet =
        owner && this.#replicaSets.get(`${(now ?? before)!.metadata.namespace}/${owner.name}`);
      const deployment = replicaSet && controllerOf(replicaSet);
      if (deployment) queue.add(`${replicaSet.metadata.namespace}/${deployment.name}`);
    });
  }

  /** A change of an owned object wakes its owner; one without an owner all that might adopt it. */
  #wakeOwner<T extends KubeObject, O extends KubeObject>(
    queue: WorkQueue,
    owned: View<T>,
    owners: View<O>,
    kind: string,
  ): void {
    owned.onChange((now, before) => {
      const references = [now, before].map((object) => object && controllerOf(object));
      for (const reference of references)
        if (reference?.kind === kind) queue.add(`${(now ?? before)!.metadata.namespace}/${reference.name}`);
      if (now && !controllerOf(now))
        for (const owner of owners.by("namespace", now.metadata.namespace!)) queue.add(keyOf(owner));
    });
  }

  // ---- placement ----------------------------------------------------------------------------

  #placementController(): void {
    const queue = this.#controller("placement", "default-scheduler", (key) => {
      const pod = this.#pods.get(key);
      if (!pod || !needsPlacement(pod)) return NOTHING;
      const pods = this.#pods;
      // Asked only of the nodes that the pod may go to.
      const loads = this.#nodes.list().map((node) => ({
        node,
        get pods() {
          return pods.by("node", node.metadata.name!).filter((other) => !isFinished(other));
        },
      }));
      const now = this.#now();
      const placement = placePod(pod, loads);
      const actions = placementActions(pod, placement, now);
      return "node" in placement ? { actions } : { actions, againAfterMs: UNSCHEDULABLE_RETRY_MS };
    });
    const retry = (): void => {
      for (const pod of this.#pods.by("waiting", "yes")) queue.add(keyOf(pod));
    };
    this.#pods.onChange((now, before) => {
      if (now && needsPlacement(now)) {
        // Its own status is ours to write: no reason to look again.
        if (!before || !needsPlacement(before) || before.metadata.uid !== now.metadata.uid)
          queue.add(keyOf(now));
      } else if (before?.spec?.nodeName && (!now || (isFinished(now) && !isFinished(before)))) retry();
    });
    this.#nodes.onChange((now, before) => {
      if (now && (!before || nodeMatters(now, before))) retry();
    });
  }

  // ---- services -----------------------------------------------------------------------------

  #endpointsController(): void {
    const queue = this.#controller("endpoints", "endpoint-slice-controller", (key) => {
      const service = this.#services.get(key);
      const endpoints = this.#endpoints.get(key);
      if (!service) {
        // Slices go with their owner; Endpoints have none. Some are leader locks of old clients.
        if (!endpoints || endpoints.metadata.annotations?.["control-plane.alpha.kubernetes.io/leader"])
          return NOTHING;
        if (isTerminating(endpoints)) return NOTHING;
        return { actions: [{ verb: "delete", resource: resources.ENDPOINTS, object: endpoints }] };
      }
      const selector = Object.entries(service.spec?.selector ?? {});
      return reconcileEndpoints({
        service,
        pods: hasSelector(service)
          ? this.#pods
              .by("namespace", service.metadata.namespace!)
              .filter(({ metadata }) =>
                selector.every(([label, value]) => metadata.labels?.[label] === value),
              )
          : [],
        node: (name) => this.#nodes.get(name),
        slices: this.#slices
          .by("service", key)
          .filter(({ metadata }) => metadata.labels?.[MANAGED_BY] === MANAGER),
        endpoints,
      });
    });
    this.#services.onChange((now, before) => queue.add(keyOf((now ?? before)!)));
    this.#endpoints.onChange((now, before) => queue.add(keyOf((now ?? before)!)));
    this.#slices.onChange((now, before) => {
      for (const slice of [now, before]) {
        const name = slice?.metadata.labels?.[SERVICE_NAME];
        if (name) queue.add(`${slice!.metadata.namespace}/${name}`);
      }
    });
    const wakeFor = (pod: Pod): void => {
      for (const service of this.#services.by("namespace", pod.metadata.namespace!)) {
        if (!hasSelector(service)) continue;
        const selector = Object.entries(service.spec!.selector!);
        if (selector.every(([label, value]) => pod.metadata.labels?.[label] === value))
          queue.add(keyOf(service));
      }
    };
    this.#pods.onChange((now, before) => {
      if (now) wakeFor(now);
      if (before) wakeFor(before);
    });
    this.#nodes.onChange((now, before) => {
      const zone = (node: Node | undefined) => node?.metadata.labels?.["topology.kubernetes.io/zone"];
      if (now && before && zone(now) === zone(before)) return;
      for (const pod of this.#pods.by("node", (now ?? before)!.metadata.name!)) wakeFor(pod);
    });
  }

  #kubernetesController(): void {
    const key = `${KUBERNETES.namespace}/${KUBERNETES.name}`;
    const queue = this.#controller("kubernetes", "apiserver", () =>
      this.#namespaces.get("default")
        ? reconcileKubernetesService({
            clusterIP: this.options.apiClusterIP,
            servers: this.options.apiServers,
            service: this.#services.get(key),
            endpoints: this.#endpoints.get(key),
            slice: this.#slices.get(key),
          })
        : NOTHING,
    );
    queue.add(key);
    this.#namespaces.onChange((now) => {
      if (now?.metadata.name === "default") queue.add(key);
    });
    for (const view of [this.#services, this.#endpoints, this.#slices] as unknown as View<KubeObject>[])
      view.onChange((now, before) => {
        if (keyOf((now ?? before)!) === key) queue.add(key);
      });
  }

  #repair(): void {
    const { repair } = this.options;
    if (!repair) return;
    const { allocator, services, everyMs = REPAIR_MS } = repair;
    let known = new Set<string>();
    const round = (): void => {
      const all = [...services()];
      const texts = new Set<string>();
      for (const { service: key, reason, message } of allocator.rebuild(all)) {
        const about = all.find((each) => keyOf(each) === key)!;
        const component = reason.startsWith("Port") ? PORT_REPAIR : ADDRESS_REPAIR;
        this.#recorder(component).record(resources.SERVICES, about, "Warning", reason, message);
        const text = `${key}: ${message}`;
        texts.add(text);
        if (!known.has(text)) this.options.onError?.("repair", key, new Error(text));
      }
      known = texts;
      this.#cancelRepair = this.clock.after(everyMs, round);
    };
    round();
  }

  // ---- namespaces ---------------------------------------------------------------------------

  #namespaceController(): void {
    const queue = this.#controller("namespace", "namespace-controller", async (key) => {
      if (key === SYSTEM_KEY) return this.#systemNamespaces();
      const namespace = this.#namespaces.get(key);
      if (!namespace || !needsEmptying(namespace)) return NOTHING;
      // Asked of the server, not of the views: it must really be empty.
      const content = [];
      for (const resource of emptyingOrder())
        content.push({ resource, objects: await this.#listIn(resource, key) });
      return reconcileNamespace({ namespace, content });
    });
    queue.add(SYSTEM_KEY);
    this.#namespaces.onChange((now, before) => {
      if (now && needsEmptying(now)) queue.add(now.metadata.name!);
      else if (!now && (SYSTEM_NAMESPACES as readonly string[]).includes(before!.metadata.name!))
        queue.add(SYSTEM_KEY);
    });
  }

  #systemNamespaces(): Outcome {
    const actions = SYSTEM_NAMESPACES.filter((name) => !this.#namespaces.get(name)).map(
      (name): Action => ({ verb: "create", resource: resources.NAMESPACES, object: systemNamespace(name) }),
    );
    return { actions };
  }

  async #listIn(resource: ResourceRef, namespace: string): Promise<KubeObject[]> {
    try {
      return (await this.kube.list(resource, { namespace })).items;
    } catch (error) {
      // A kind that this cluster does not know.
      if (isNotFound(error)) return [];
      throw error;
    }
  }

  // ---- nodes --------------------------------------------------------------------------------

  #nodeController(): void {
    /** When the Lease, or else the heartbeat in the status, last changed, by our clock. */
    const signs = new Map<string, { text: string; at: number }>();
    const queue = this.#controller("node", "node-controller", (key) => {
      const node = this.#nodes.get(key);
      if (!node) {
        signs.delete(key);
        return NOTHING;
      }
      const text = signOfLife(node, this.#leases.get(`kube-node-lease/${key}`));
      let sign = signs.get(key);
      const registered: Action[] = sign
        ? []
        : [nodeEvent(node, "RegisteredNode", "Registered Node {} in Controller")];
      if (!sign || sign.text !== text) {
        sign = { text, at: this.clock.now() };
        signs.set(key, sign);
      }
      const result = reconcileNode({
        node,
        pods: this.#pods.by("node", key),
        silentMs: this.clock.now() - sign.at,
        now: this.#now(),
      });
      return { ...result, actions: [...registered, ...result.actions] };
    });
    this.#nodes.onChange((now, before) => queue.add((now ?? before)!.metadata.name!));
    this.#leases.onChange((now) => {
      if (now?.metadata.namespace === "kube-node-lease") queue.add(now.metadata.name!);
    });
  }

  #evictionController(): void {
    const queue = this.#controller("eviction", "taint-eviction-controller", (key) => {
      const pod = this.#pods.get(key);
      if (!pod?.spec?.nodeName) return NOTHING;
      return reconcileEviction(pod, this.#nodes.get(pod.spec.nodeName), this.#now());
    });
    const tainted = (node: Node | undefined): boolean =>
      node?.spec?.taints?.some(({ effect }) => effect === "NoExecute") === true;
    this.#nodes.onChange((now) => {
      if (tainted(now)) for (const pod of this.#pods.by("node", now!.metadata.name!)) queue.add(keyOf(pod));
    });
    this.#pods.onChange((now, before) => {
      if (!now?.spec?.nodeName || before?.spec?.nodeName === now.spec.nodeName) return;
      if (tainted(this.#nodes.get(now.spec.nodeName))) queue.add(keyOf(now));
    });
  }

  #orphanController(): void {
    const queue = this.#controller("podgc", "pod-garbage-collector", async (key) => {
      const pod = this.#pods.get(key);
      if (!pod) return NOTHING;
      const name = pod.spec?.nodeName;
      let node = name ? this.#nodes.get(name) : undefined;
      // The view may be behind: ask before pods are deleted for good.
      if (name && !node) node = await this.#fetch<Node>(resources.NODES, name);
      return reconcileOrphanedPod(pod, node);
    });
    this.#nodes.onChange((now, before) => {
      const name = (now ?? before)!.metadata.name!;
      for (const pod of this.#pods.by("node", name))
        if (!now) queue.addAfter(keyOf(pod), isTerminating(pod) ? 0 : ORPHAN_QUARANTINE_MS);
        else if (isTerminating(pod)) queue.add(keyOf(pod));
    });
    this.#pods.onChange((now) => {
      if (!now) return;
      const node = now.spec?.nodeName;
      if (node && !this.#nodes.get(node))
        queue.addAfter(keyOf(now), isTerminating(now) ? 0 : ORPHAN_QUARANTINE_MS);
      else if (isTerminating(now)) queue.add(keyOf(now));
    });
  }

  async #fetch<T extends KubeObject>(
    resource: ResourceRef,
    name: string,
    namespace?: string,
  ): Promise<T | undefined> {
    try {
      return await this.kube.get<T>(resource, name, namespace);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  // ---- garbage ------------------------------------------------------------------------------

  #garbageController(): void {
    /** Objects by uid, and by the uids of their owners. Keys are "PLURAL NAMESPACE/NAME". */
    const byUid = new Map<string, string>();
    const byOwner = new Map<string, Set<string>>();
    const itemOf = (id: string): Item | undefined => {
      const [plural, key] = id.split(" ");
      const view = this.#views.get(plural!)!;
      const object = view.get(key!);
      return object && { resource: view.resource, object };
    };
    const dependentsOf = (uid: string): Item[] =>
      [...(byOwner.get(uid) ?? [])].flatMap((id) => itemOf(id) ?? []);
    const queue = this.#controller("garbage", "garbage-collector", async (id) => {
      const item = itemOf(id);
      if (!item) return NOTHING;
      const { object } = item;
      const owners = [];
      for (const reference of object.metadata.ownerReferences ?? [])
        owners.push({ reference, state: await this.#ownerState(reference, object, byUid, itemOf) });
      return collect({ ...item, owners, dependents: dependentsOf(object.metadata.uid!) });
    });
    for (const [plural, view] of this.#views)
      view.onChange((now, before) => {
        const last = (now ?? before)!;
        const id = `${plural} ${keyOf(last)}`;
        for (const { uid } of before?.metadata.ownerReferences ?? []) {
          const set = byOwner.get(uid);
          set?.delete(id);
          if (set?.size === 0) byOwner.delete(uid);
          // An owner that waits for its dependents counts them again.
          const owner = byUid.get(uid);
          if (owner && isWaiting(itemOf(owner)?.object)) queue.add(owner);
        }
        if (before && before.metadata.uid !== now?.metadata.uid) byUid.delete(before.metadata.uid!);
        if (now) {
          byUid.set(now.metadata.uid!, id);
          for (const { uid } of now.metadata.ownerReferences ?? []) {
            const set = byOwner.get(uid);
            if (set) set.add(id);
            else byOwner.set(uid, new Set([id]));
          }
          if (isWaiting(now)) queue.add(id);
          if (now.metadata.ownerReferences && !sameOwners(now, before)) queue.add(id);
        }
        if (!now || isWaiting(now))
          for (const dependent of byOwner.get(last.metadata.uid!) ?? []) queue.add(dependent);
      });
  }

  async #ownerState(
    reference: OwnerReference,
    dependent: KubeObject,
    byUid: Map<string, string>,
    itemOf: (id: string) => Item | undefined,
  ): Promise<"solid" | "absent" | "waiting" | "unknown"> {
    const known = byUid.get(reference.uid);
    let owner = known === undefined ? undefined : itemOf(known)?.object;
    if (owner?.metadata.uid !== reference.uid) {
      const group = reference.apiVersion.includes("/") ? reference.apiVersion.split("/")[0] : "";
      const resource = RESOURCES.find((each) => each.kind === reference.kind && each.group === group);
      if (!resource) return "unknown";
      // Absence decides over a deletion: only the server knows.
      const namespace = resource.namespaced ? dependent.metadata.namespace : undefined;
      owner = await this.#fetch(resource, reference.name, namespace);
      if (owner?.metadata.uid !== reference.uid) return "absent";
    }
    return isTerminating(owner) && owner.metadata.finalizers?.includes("foregroundDeletion")
      ? "waiting"
      : "solid";
  }
}

const NOTHING: Outcome = { actions: [] };

/** Whether placement could come out differently. */
function nodeMatters(now: Node, before: Node): boolean {
  const facts = ({ metadata, spec, status }: Node) =>
    JSON.stringify([metadata.uid, metadata.labels, spec?.taints, spec?.unschedulable, status?.allocatable]);
  return facts(now) !== facts(before);
}

function nodeEvent(node: Node, reason: string, message: string): Action {
  const name = node.metadata.name!;
  const text = `Node ${name} event: ${message.replace("{}", name)}`;
  return { verb: "event", event: { about: node, type: "Normal", reason, message: text } };
}

/** Changes with every heartbeat. */
function signOfLife(node: Node, lease: Lease | undefined): string {
  const heartbeat = node.status?.conditions?.find(({ type }) => type === "Ready")?.lastHeartbeatTime;
  return `${node.metadata.uid} ${lease?.spec?.renewTime ?? ""} ${heartbeat ?? ""}`;
}

function isWaiting(object: KubeObject | undefined): boolean {
  const finalizers = object?.metadata.finalizers ?? [];
  return (
    object !== undefined &&
    isTerminating(object) &&
    (finalizers.includes("foregroundDeletion") || finalizers.includes("orphan"))
  );
}

function sameOwners(a: KubeObject, b: KubeObject | undefined): boolean {
  return JSON.stringify(a.metadata.ownerReferences) === JSON.stringify(b?.metadata.ownerReferences);
}

/** What makes others goes first, what tells of it last. */
function emptyingOrder(): ResourceRef[] {
  const first: ResourceRef[] = [
    resources.DEPLOYMENTS,
    resources.DAEMONSETS,
    resources.REPLICASETS,
    resources.SERVICES,
    resources.PODS,
  ];
  const last: ResourceRef[] = [resources.EVENTS];
  const rest = RESOURCES.filter((each) => each.namespaced && !first.includes(each) && !last.includes(each));
  return [...first, ...rest, ...last];
}
