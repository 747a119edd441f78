/**
 * Holds the node's UDP NodePorts. Fragments carry no port, miss the rule that leads to podwire0, and
 * are put together by the node's own kernel; a raw socket hears the result (desired/heard). Where
 * nobody is bound to the port the kernel would also answer that it is unreachable, and a connected
 * client would give up: so somebody is. Nothing is ever read: what the small buffer cannot hold, the
 * kernel drops.
 */
import { type Host, OWN_NETNS } from "../host/Host.js";
import { HostError } from "../host/HostError.js";
import type { Log } from "../reconcile/Log.js";

/** Bytes wanted of the receive buffer; the kernel makes it its least. */
const RECEIVE_BUFFER = 1;

export class UdpPortHolder {
  /** Descriptors by "ADDRESS:PORT". */
  private readonly held = new Map<string, number>();
  /** Those that somebody else has: said once, tried at every pass. */
  private readonly refused = new Set<string>();

  constructor(
    private readonly host: Pick<Host, "openUdp" | "close">,
    private readonly log: Log,
  ) {}

  /** Holds these ports at these addresses (dotted decimal), and no others. Never throws. */
  sync(addresses: readonly string[], ports: readonly number[]): void {
    const wanted = new Set<string>();
    for (const address of addresses)
      for (const port of ports) {
        wanted.add(`${address}:${port}`);
        this.hold(address, port);
      }
    for (const [key, fd] of this.held) {
      if (wanted.has(key)) continue;
      this.host.close(fd);
      this.held.delete(key);
    }
    for (const key of this.refused) if (!wanted.has(key)) this.refused.delete(key);
  }

  /** Lets go of all. */
  close(): void {
    this.sync([], []);
  }

  private hold(address: string, port: number): void {
    const key = `${address}:${port}`;
    if (this.held.has(key)) return;
    const options = { netns: OWN_NETNS, address, port, gro: false, sendBuffer: 0 };
    try {
      this.held.set(key, this.host.openUdp({ ...options, receiveBuffer: RECEIVE_BUFFER }));
      this.refused.delete(key);
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
      if (this.refused.has(key)) return;
      this.refused.add(key);
      // A program of the node's own has it: then the kernel does not call it unreachable either.
      this.log.warn({ err: error }, `UDP NodePort ${key} is not held`);
    }
  }
}
