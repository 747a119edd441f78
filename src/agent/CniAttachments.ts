/**
 * The pods' interfaces that a container runtime has asked for by CNI: which sandbox has which address, in a
 * file of the state directory, so that the next agent knows. Gives addresses, has them taken over, and
 * answers when the interface is up. Must not know how a pod is attached.
 *
 * A pod may have two sandboxes for a while, an old one that is going and a new one: each has an address of
 * its own, and the newest is the pod's.
 */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { GATEWAY_ADDRESS } from "../desired/host.js";
import { podMac } from "../desired/mac.js";
import type { PodConfig } from "../model/AgentConfig.js";
import type { CniAdd, CniAttached, CniTarget } from "../model/cni.js";
import { parseIpv4 } from "../model/ipv4.js";
import type { Log } from "../reconcile/Log.js";
import { writeDurably } from "./StateDir.js";

const VERSION = 1;
/** An interface that does not come up within this time is refused; the runtime tries again. */
const UP_MS = 10_000;
const LOOK_MS = 20;

interface Attachment extends CniAdd {
  address: string;
}

export interface CniAttachmentsOptions {
  /** Where they are kept. */
  file: string;
  /** Most pods that the node can have. */
  limit: number;
  /** Gives and frees addresses by a handle; ipam's Allocator is one. */
  claimer: {
    assign(handle: string, attributes: { pod?: string; namespace?: string; uid?: string }): Promise<string>;
    release(handle: string): Promise<unknown>;
  };
  /** Identity of the namespace at a path; null where there is none. */
  netnsIdentity: (path: string) => string | null;
  log: Log;
}

/** The agent, once it runs. */
export interface CniBackend {
  /** Has what `pods` says now attached, and nothing else. Rejects while that cannot be. */
  apply(): Promise<void>;
  /** How the interface of the pod of that name is. */
  state(name: string): { up: boolean; message: string };
  /** MTU of pods' interfaces. */
  mtu(): number;
}

export class CniAttachments {
  /** By keyOf, in the order of their coming. */
  private readonly attachments = new Map<string, Attachment>();
  private backend: CniBackend | null = null;
  /** Ends of what is under way, by keyOf: calls about one attachment wait for one another. */
  private readonly turns = new Map<string, Promise<unknown>>();

  /** Reads the file. A damaged one counts as none: runtimes then delete what nobody knows. */
  constructor(private readonly options: CniAttachmentsOptions) {
    for (const each of readAttachments(options.file, options.log)) this.attachments.set(keyOf(each), each);
  }

  /** The agent runs: from now on calls are carried out. */
  serve(backend: CniBackend): void {
    this.backend = backend;
  }

  /** What is to be attached: of a pod with several sandboxes the newest. */
  pods(): PodConfig[] {
    const newest = new Map<string, Attachment>();
    for (const each of this.attachments.values()) newest.set(nameOf(each), each);
    return [...newest].map(([name, { netns, address, interface: device }]) => ({
      name,
      netns,
      address,
      interface: device,
    }));
  }

  /** CNI's ADD. May be repeated. Rejects with words for the runtime's log. */
  add(request: CniAdd): Promise<CniAttached> {
    return this.inTurn(request, async (backend) => {
      const { netns, pod, containerId, interface: device } = request;
      if (this.options.netnsIdentity(netns) === null) throw new Error(`${netns} is no network namespace`);
      const key = keyOf(request);
      const known = this.attachments.get(key);
      if (known !== undefined && known.netns !== netns)
        throw new Error(`${containerId} has its ${device} in ${known.netns} already`);
      if (known === undefined && this.attachments.size >= this.options.limit)
        throw new Error(`this node has ${this.options.limit} pods already`);
      const attributes = pod === null ? {} : { pod: pod.name, namespace: pod.namespace, uid: pod.uid };
      const address = known?.address ?? (await this.options.claimer.assign(handleOf(request), attributes));
      const attachment: Attachment = { containerId, interface: device, netns, pod, address };
      this.attachments.set(key, attachment);
      this.save();
      await backend.apply();
      await this.up(backend, nameOf(attachment));
      const mac = podMac(parseIpv4(address)!);
      const mtu = backend.mtu();
      return { containerId, interface: device, netns, address, gateway: GATEWAY_ADDRESS, mac, mtu };
    });
  }

  /** CNI's DEL: also of what is not there, and of what only IPAM still knows. */
  del(target: CniTarget): Promise<void> {
    return this.inTurn(target, (backend) => this.remove(target, backend));
  }

  /** CNI's CHECK. Rejects where the attachment is not there, or not up. */
  check(target: CniTarget): Promise<void> {
    return this.inTurn(target, async (backend) => {
      const attachment = this.attachments.get(keyOf(target));
      if (attachment === undefined)
        throw new Error(`${target.containerId} has no ${target.interface} of podwire's`);
      const { up, message } = backend.state(nameOf(attachment));
      if (!up) throw new Error(`${target.interface} of ${nameOf(attachment)} is not up: ${message}`);
    });
  }

  /** CNI's GC: removes all but these. */
  async gc(valid: readonly CniTarget[]): Promise<void> {
    const stay = new Set(valid.map(keyOf));
    const leaving = [...this.attachments].filter(([key]) => !stay.has(key));
    await Promise.all(leaving.map(([, each]) => this.del(each)));
  }

  /** Whether calls are carried out. Throws where not. */
  ready(): void {
    if (this.backend === null) throw new Error("the agent is starting");
  }

  private async remove(target: CniTarget, backend: CniBackend): Promise<void> {
    if (this.attachments.delete(keyOf(target))) this.save();
    // Before somebody else can have the address. Again where it failed at the first attempt.
    await backend.apply();
    await this.options.claimer.release(handleOf(target));
  }

  private async up(backend: CniBackend, name: string): Promise<void> {
    const deadline = performance.now() + UP_MS;
    for (;;) {
      const { up, message } = backend.state(name);
      if (up) return;
      if (performance.now() > deadline) throw new Error(`the interface of ${name} is not up: ${message}`);
      await sleep(LOOK_MS);
    }
  }

  private async inTurn<T>(target: CniTarget, work: (backend: CniBackend) => Promise<T>): Promise<T> {
    const key = keyOf(target);
    const turn = (this.turns.get(key) ?? Promise.resolve()).then(() => {
      const { backend } = this;
      if (backend === null) throw new Error("the agent is starting");
      return work(backend);
    });
    const ended = turn.catch(() => {});
    this.turns.set(key, ended);
    try {
      return await turn;
    } finally {
      if (this.turns.get(key) === ended) this.turns.delete(key);
    }
  }

  private save(): void {
    const list = [...this.attachments.values()];
    writeDurably(this.options.file, `${JSON.stringify({ version: VERSION, attachments: list })}\n`, 0o600);
  }
}

function keyOf({ containerId, interface: device }: CniTarget): string {
  return `${containerId}/${device}`;
}

/** Under which IPAM has the address. */
function handleOf({ containerId, interface: device }: CniTarget): string {
  return `cni.${containerId}.${device}`;
}

/** The pod's name as others know it; one that nobody named has its sandbox's. */
function nameOf({ pod, containerId }: CniAdd): string {
  return pod === null ? `cni/${containerId}` : `${pod.namespace}/${pod.name}`;
}

function readAttachments(file: string, log: Log): Attachment[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return [];
  }
  try {
    const { version, attachments } = JSON.parse(text) as { version: number; attachments: Attachment[] };
    if (version !== VERSION) throw new Error(`version ${version}, not ${VERSION}`);
    return attachments;
  } catch (error) {
    log.warn({ err: error }, `${file} is damaged: pods that are attached now have to be made anew`);
    return [];
  }
}
