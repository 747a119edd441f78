/**
 * Answers the controller's question whether somebody on the LAN has an address, by annotations of this
 * node's Node (model/addressProbe). Each is probed once for an id; the answer stands for as long as the
 * question does. Must not know how an address is probed.
 */
import { type BackoffOptions, type Clock, SYSTEM_CLOCK } from "../kube/Clock.js";
import type { KubeApi } from "../kube/KubeApi.js";
import { isNotFound } from "../kube/KubeError.js";
import { NODES } from "../kube/resources.js";
import type { Node } from "../kube/types.js";
import { WorkQueue } from "../kube/WorkQueue.js";
import {
  PROBE_REQUEST,
  PROBE_RESULT,
  type ProbeResults,
  readProbeRequests,
  readProbeResults,
} from "../model/addressProbe.js";
import { parseIpv4 } from "../model/ipv4.js";

/**
 * Asks the LAN (RFC 5227) whether somebody has an address (int32). Resolves to the MAC of who has it, or ""
 * for nobody. Rejects where it cannot be asked.
 */
export type ProbeAddress = (address: number) => Promise<string>;

/** Addresses that are probed at a time. */
const CONCURRENCY = 16;
/** Where the LAN cannot be asked, it is tried again for as long as the question stands. */
const RETRY: BackoffOptions = { first: 500, most: 2_000 };
/** Key of the write in its queue. */
const WRITE = "write";

export interface AddressProbesOptions {
  api: KubeApi;
  /** Name of this node. */
  node: string;
  probe: ProbeAddress;
  clock?: Clock;
  random?: () => number;
  onError?: (error: unknown) => void;
}

interface Question {
  id: string;
  /** MAC or ""; null until it is known. */
  mac: string | null;
}

export class AddressProbes {
  /** By address, in dotted decimal. */
  private readonly questions = new Map<string, Question>();
  private readonly probing: WorkQueue;
  private readonly writing: WorkQueue;
  private written = "";

  constructor(private readonly options: AddressProbesOptions) {
    const { clock = SYSTEM_CLOCK, random = Math.random } = options;
    const onError = (_: string, error: unknown) => options.onError?.(error);
    const common = { clock, random, backoff: RETRY, onError };
    const process = (key: string) => this.probe(key);
    this.probing = new WorkQueue({ ...common, concurrency: CONCURRENCY, process });
    this.writing = new WorkQueue({ ...common, process: () => this.write() });
  }

  /** This node's Node, as it is now. */
  take({ metadata }: Node): void {
    const asked = readProbeRequests(metadata.annotations?.[PROBE_REQUEST]);
    this.written = metadata.annotations?.[PROBE_RESULT] ?? "";
    const answered = readProbeResults(this.written);
    for (const address of this.questions.keys())
      if (!Object.hasOwn(asked, address)) this.questions.delete(address);
    for (const [address, id] of Object.entries(asked)) {
      if (this.questions.get(address)?.id === id || parseIpv4(address) === null) continue;
      // An agent of before may have answered it.
      const mac = answered[address]?.id === id ? answered[address].mac : null;
      this.questions.set(address, { id, mac });
      if (mac === null) this.probing.add(`${address} ${id}`);
    }
    if (this.written !== this.answers()) this.writing.add(WRITE);
  }

  async stop(): Promise<void> {
    await Promise.all([this.probing.stop(), this.writing.stop()]);
  }

  private async probe(key: string): Promise<void> {
    const [address = "", id = ""] = key.split(" ");
    const question = () => {
      const found = this.questions.get(address);
      return found?.id === id ? found : undefined;
    };
    if (question() === undefined) return;
    const mac = await this.options.probe(parseIpv4(address)!);
    const asked = question();
    if (asked === undefined) return;
    asked.mac = mac;
    this.writing.add(WRITE);
  }

  /** The annotation's value; "" for none. */
  private answers(): string {
    const results: ProbeResults = {};
    for (const [address, { id, mac }] of this.questions) if (mac !== null) results[address] = { id, mac };
    return Object.keys(results).length === 0 ? "" : JSON.stringify(results);
  }

  private async write(): Promise<void> {
    const value = this.answers();
    if (value === this.written) return;
    const { api, node } = this.options;
    const metadata = { annotations: { [PROBE_RESULT]: value === "" ? null : value } };
    try {
      await api.patch<Node>(NODES, node, undefined, "merge", { metadata });
      this.written = value;
    } catch (error) {
      // Nobody asks a Node that is gone.
      if (!isNotFound(error)) throw error;
    }
  }
}
