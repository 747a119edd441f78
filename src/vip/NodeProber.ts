/**
 * Asks agents whether somebody on their LAN has an address, by the annotations of model/addressProbe.
 * One node after the other, by name, until one answers; where no agent offers it, or none answers in
 * time, nothing is known. Must not know what the address is for.
 */
import { type Clock, SYSTEM_CLOCK } from "../kube/Clock.js";
import { Informer } from "../kube/Informer.js";
import type { KubeApi } from "../kube/KubeApi.js";
import { NODES } from "../kube/resources.js";
import type { Node } from "../kube/types.js";
import { ADDRESS_PROBE, PROBE_REQUEST, PROBE_RESULT, readProbeResults } from "../model/addressProbe.js";

/** What is known of an address: nobody has it, a device with this MAC has, or nothing. */
export type ProbeResult = { state: "free" } | { state: "taken"; mac: string } | { state: "unknown" };

/** Finds out whether a device on the LAN has an address (dotted decimal). Does not reject. */
export interface AddressProber {
  probe(address: string): Promise<ProbeResult>;
}

/** RFC 5227 takes up to 7 s: one second at most, three probes up to two seconds apart, two to wait. */
const ANSWER_MS = 8_000;
/** So many nodes are asked before the address is used without an answer. */
const MOST_ASKED = 2;

export interface NodeProberOptions {
  clock?: Clock;
  random?: () => number;
  answerMs?: number;
  onError?: (error: unknown) => void;
}

interface Question {
  node: string;
  address: string;
  id: string;
  /** Ends the question: with the MAC, "" for nobody, or null where no answer came. */
  end: (mac: string | null) => void;
}

export class NodeProber implements AddressProber {
  readonly #nodes: Informer<Node>;
  readonly #questions = new Set<Question>();
  readonly #clock: Clock;
  readonly #random: () => number;
  /** Last write of a node's questions, which the next one waits for. */
  readonly #writes = new Map<string, Promise<void>>();
  #next = 0;
  #isStopped = false;
  #reportStopped = () => {};
  readonly #stopped = new Promise<void>((resolve) => {
    this.#reportStopped = resolve;
  });

  constructor(
    private readonly kube: KubeApi,
    private readonly options: NodeProberOptions = {},
  ) {
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#random = options.random ?? Math.random;
    this.#nodes = new Informer<Node>(kube, NODES, {
      clock: this.#clock,
      random: this.#random,
      transform: ({ metadata, status }) => {
        const ready = (status?.conditions ?? []).filter(({ type }) => type === "Ready");
        return { metadata, status: { conditions: ready } };
      },
      onError: (error) => options.onError?.(error),
    });
    this.#nodes.addHandler({
      added: (node) => this.#hear(node),
      updated: (node) => this.#hear(node),
      deleted: ({ metadata }) => this.#endAll(({ node }) => node === metadata.name),
    });
  }

  start(): void {
    this.#nodes.start();
  }

  /** Ends all questions, without an answer. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#reportStopped();
    this.#endAll(() => true);
    await this.#nodes.stop();
    await Promise.all(this.#writes.values());
  }

  async probe(address: string): Promise<ProbeResult> {
    await Promise.race([this.#nodes.synced, this.#stopped]);
    for (const node of this.#able().slice(0, MOST_ASKED)) {
      if (this.#isStopped) break;
      const mac = await this.#ask(node, address);
      if (mac !== null) return mac === "" ? { state: "free" } : { state: "taken", mac };
    }
    return { state: "unknown" };
  }

  /** Names of the nodes that can be asked. */
  #able(): string[] {
    return this.#nodes
      .list()
      .filter(({ metadata }) => metadata.annotations?.[ADDRESS_PROBE] === "true")
      .filter(({ status }) => status?.conditions?.some(({ status: ready }) => ready === "True"))
      .map(({ metadata }) => metadata.name!)
      .sort();
  }

  #ask(node: string, address: string): Promise<string | null> {
    // Ids of another controller's questions must not be taken for ours.
    const id = `${Math.floor(this.#random() * 2 ** 32).toString(16)}-${++this.#next}`;
    return new Promise((resolve) => {
      const cancel = this.#clock.after(this.options.answerMs ?? ANSWER_MS, () => question.end(null));
      const question: Question = {
        node,
        address,
        id,
        end: (mac) => {
          if (!this.#questions.delete(question)) return;
          cancel();
          this.#write(node);
          resolve(mac);
        },
      };
      this.#questions.add(question);
      this.#write(node);
    });
  }

  #hear({ metadata }: Node): void {
    const results = readProbeResults(metadata.annotations?.[PROBE_RESULT]);
    for (const question of [...this.#questions]) {
      const result = question.node === metadata.name ? results[question.address] : undefined;
      if (result?.id === question.id) question.end(result.mac);
    }
  }

  #endAll(which: (question: Question) => boolean): void {
    for (const question of [...this.#questions].filter(which)) question.end(null);
  }

  /** Writes the questions that a node has now; one write at a time. */
  #write(node: string): void {
    const write = (this.#writes.get(node) ?? Promise.resolve()).then(async () => {
      const asked = [...this.#questions].filter((each) => each.node === node);
      const value =
        asked.length === 0 ? null : JSON.stringify(Object.fromEntries(asked.map((q) => [q.address, q.id])));
      const patch = { metadata: { annotations: { [PROBE_REQUEST]: value } } };
      try {
        await this.kube.patch<Node>(NODES, node, undefined, "merge", patch);
      } catch (error) {
        this.options.onError?.(error);
      }
      if (this.#writes.get(node) === write) this.#writes.delete(node);
    });
    this.#writes.set(node, write);
  }
}
