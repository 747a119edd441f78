/**
 * Keeps this node's Node object as it should be: labels, the overlay's annotations, addresses,
 * capacity, conditions. Where a kubelet has registered the node, that owns the rest, and only the
 * annotations and the NetworkUnavailable condition are ours.
 *
 * Like a kubelet, it registers when it starts, not when somebody deletes the Node while it runs.
 */
import { vtepMac } from "../desired/mac.js";
import type { KubeApi, OwnerReference } from "../kube/KubeApi.js";
import { isAlreadyExists, isNotFound } from "../kube/KubeError.js";
import { NODES } from "../kube/resources.js";
import type { Node, NodeCondition } from "../kube/types.js";
import { ADDRESS_PROBE } from "../model/addressProbe.js";
import {
  LAN_INTERFACE,
  LAN_MAC,
  REGISTERED,
  TUNNEL_ADDRESS,
  UNDERLAY_ADDRESS,
  VTEP_MAC,
  VXLAN_PORT,
} from "../model/annotations.js";
import type { Machine } from "./machine.js";

export interface NodeDescription {
  node: string;
  underlayAddress: string;
  vxlanPort: number;
  labels: Record<string, string>;
  machine: Machine;
  /** Version of podwire. */
  version: string;
  /** Highest number of pods. */
  pods: number;
  /** A kubelet makes the Node, and keeps it: it is waited for, and never ours. */
  kubelet?: boolean | undefined;
  /** TCP port on which the node serves pods' logs and commands; undefined where it does not. */
  podPort?: number | undefined;
}

/** The interface on which the agent announces load-balancer addresses. */
export interface LanInterface {
  name: string;
  /** aa:bb:cc:dd:ee:ff. */
  mac: string;
}

export class NodeRegistration {
  private tunnelAddress: string | null = null;
  /** Null: there is none. Undefined: not known yet, and what the Node says stands. */
  private lan: LanInterface | null | undefined;
  private forwarding = false;
  private last: Node | null = null;

  constructor(
    private readonly api: KubeApi,
    private readonly description: NodeDescription,
    private readonly now: () => Date = () => new Date(),
  ) {}

  /** Whether the Node is ours, and no kubelet's. Known after register(). */
  get owned(): boolean {
    return this.last !== null && this.owns(this.last);
  }

  /** Reference for what shall go with the Node. */
  get owner(): OwnerReference | undefined {
    const uid = this.last?.metadata.uid;
    return uid === undefined ? undefined : { apiVersion: "v1", kind: "Node", name: this.name, uid };
  }

  /** The Node as it was seen last; null before register(). */
  get node(): Node | null {
    return this.last;
  }

  /** Makes the Node, or brings the one that is there up to date. May be repeated. */
  async register(): Promise<Node> {
    this.last = (await this.read()) ?? (await this.create());
    return this.refresh(this.last);
  }

  /** The node forwards, and answers on its socket: the next refresh reports it Ready. */
  setForwarding(): void {
    this.forwarding = true;
  }

  /** The LAN interface, null for none: in the Node with the next refresh. */
  setLan(lan: LanInterface | null): void {
    this.lan = lan;
  }

  /** The tunnel address is known: makes it so. */
  async announce(tunnelAddress: string): Promise<void> {
    this.tunnelAddress = tunnelAddress;
    await this.register();
  }

  /**
   * Corrects what differs from what it should be in `node`, and reports the conditions anew if
   * `heartbeat`.
   */
  async refresh(node: Node, heartbeat = true): Promise<Node> {
    this.last = node;
    const metadata = this.missing(node);
    if (metadata !== null)
      this.last = await this.api.patch<Node>(NODES, this.name, undefined, "merge", { metadata });
    const status = this.status(this.last);
    if (heartbeat || differs(status, this.last.status ?? {}))
      this.last = await this.api.patch<Node>(NODES, this.name, undefined, "strategic", { status }, "status");
    return this.last;
  }

  private get name(): string {
    return this.description.node;
  }

  private owns({ metadata }: Node): boolean {
    return !this.description.kubelet && metadata.annotations?.[REGISTERED] === "true";
  }

  /** Null where it is to be made. */
  private async read(): Promise<Node | null> {
    try {
      return await this.api.get<Node>(NODES, this.name);
    } catch (error) {
      if (isNotFound(error) && !this.description.kubelet) return null;
      throw error;
    }
  }

  private async create(): Promise<Node> {
    const node: Node = {
      metadata: {
        name: this.name,
        labels: this.labels(),
        annotations: { ...this.annotations(), [REGISTERED]: "true" },
      },
      spec: {},
    };
    node.status = this.status(node);
    try {
      return await this.api.create<Node>(NODES, node);
    } catch (error) {
      // The answer to an earlier attempt was lost.
      if (isAlreadyExists(error)) return this.api.get<Node>(NODES, this.name);
      throw error;
    }
  }

  private labels(): Record<string, string> {
    const { architecture } = this.description.machine;
    return {
      "kubernetes.io/hostname": this.name,
      "kubernetes.io/os": "linux",
      "kubernetes.io/arch": architecture,
      "beta.kubernetes.io/os": "linux",
      "beta.kubernetes.io/arch": architecture,
      ...this.description.labels,
    };
  }

  private annotations(): Record<string, string> {
    const { underlayAddress, vxlanPort } = this.description;
    return {
      [VTEP_MAC]: vtepMac(this.name),
      [UNDERLAY_ADDRESS]: underlayAddress,
      [VXLAN_PORT]: String(vxlanPort),
      ...(this.tunnelAddress === null ? {} : { [TUNNEL_ADDRESS]: this.tunnelAddress }),
      ...(this.lan === undefined
        ? {}
        : {
            [LAN_INTERFACE]: this.lan?.name ?? "",
            [LAN_MAC]: this.lan?.mac ?? "",
            [ADDRESS_PROBE]: String(this.lan !== null),
          }),
    };
  }

  /** What metadata lacks, as a merge patch; null for nothing. */
  private missing(node: Node): object | null {
    const { metadata } = node;
    const lacking = (wanted: Record<string, string>, have: Record<string, string> = {}) =>
      Object.fromEntries(Object.entries(wanted).filter(([key, value]) => have[key] !== value));
    const annotations = lacking(this.annotations(), metadata.annotations);
    const labels = this.owns(node) ? lacking(this.labels(), metadata.labels) : {};
    if (Object.keys(annotations).length + Object.keys(labels).length === 0) return null;
    return { annotations, labels };
  }

  private status(node: Node): NonNullable<Node["status"]> {
    const up = this.tunnelAddress !== null;
    const network = condition(
      "NetworkUnavailable",
      up ? "False" : "True",
      up ? "PodwireIsUp" : "NoBlock",
      up ? "podwire is running on this node" : "the node has no pod address block yet",
    );
    // Until this agent forwards, what an earlier one said stands: a restart is no outage.
    const standing = (wanted: NodeCondition): NodeCondition =>
      (this.forwarding ? undefined : node.status?.conditions?.find(({ type }) => type === wanted.type)) ??
      wanted;
    if (!this.owns(node)) return { conditions: this.dated(node, [standing(network)]) };
    const { underlayAddress, machine, version, pods, podPort } = this.description;
    const runs = up && this.forwarding;
    const ready = condition(
      "Ready",
      runs ? "True" : "False",
      runs ? "AgentReady" : "AgentStarting",
      runs
        ? "podwire agent is posting ready status"
        : `podwire agent ${up ? "does not forward yet" : "has no pod address block yet"}`,
    );
    const amounts = {
      cpu: String(machine.cpus),
      memory: `${machine.memoryKib}Ki`,
      pods: String(pods),
    };
    return {
      addresses: [
        { type: "InternalIP", address: underlayAddress },
        { type: "Hostname", address: this.name },
      ],
      capacity: amounts,
      allocatable: amounts,
      conditions: this.dated(node, [network, ready].map(standing)),
      ...(podPort === undefined ? {} : { daemonEndpoints: { kubeletEndpoint: { Port: podPort } } }),
      nodeInfo: {
        architecture: machine.architecture,
        bootID: machine.bootId,
        containerRuntimeVersion: `podwire://${version}`,
        kernelVersion: machine.kernelVersion,
        kubeProxyVersion: "",
        kubeletVersion: `podwire-${version}`,
        machineID: machine.machineId,
        operatingSystem: "linux",
        osImage: machine.osImage,
        systemUUID: machine.systemUuid,
      },
    };
  }

  /** With times: of this report, and of the last change as the Node has it. */
  private dated(node: Node, conditions: NodeCondition[]): NodeCondition[] {
    const now = this.now()
      .toISOString()
      .replace(/\.\d+Z$/, "Z");
    return conditions.map((each) => {
      const old = node.status?.conditions?.find(({ type }) => type === each.type);
      const since = old?.status === each.status ? old.lastTransitionTime : undefined;
      return { ...each, lastHeartbeatTime: now, lastTransitionTime: since ?? now };
    });
  }
}

function condition(type: string, status: string, reason: string, message: string): NodeCondition {
  return { type, status, reason, message };
}

/** Whether the wanted status says something else than the present one; times do not count. */
function differs(wanted: NonNullable<Node["status"]>, present: NonNullable<Node["status"]>): boolean {
  const { conditions = [], ...rest } = wanted;
  const have = present as Record<string, unknown>;
  if (Object.entries(rest).some(([key, value]) => !sameValue(value, have[key]))) return true;
  return conditions.some(({ type, status, reason }) => {
    const old = present.conditions?.find((each) => each.type === type);
    return old?.status !== status || old.reason !== reason;
  });
}

/** Equal as JSON, whatever the order of keys. */
function sameValue(a: unknown, b: unknown): boolean {
  const text = (value: unknown) =>
    JSON.stringify(value, (_, each: unknown) =>
      typeof each === "object" && each !== null && !Array.isArray(each)
        ? Object.fromEntries(Object.entries(each).sort(([x], [y]) => (x < y ? -1 : 1)))
        : each,
    );
  return text(a) === text(b);
}
