/**
 * In place of the dataplane: opens a node's podwire0 after its agent has ended, notes what the
 * kernel routes into it, and answers or hands back as a test says. A frame that is handed back keeps
 * its virtio-net header, so that partial checksums and large segments stay what they are.
 */
import { closeSync, readSync, writeSync } from "node:fs";
import { native } from "../../src/binding/index.js";
import { dotted, get16, get32 } from "./frames.js";

const VNET_HEADER = 10;
const ETHERNET = 14;
const TUN_F = 0x0f;

/** A packet that the kernel routed into the device. */
export interface Routed {
  protocol: "tcp" | "udp" | "sctp" | "other";
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
  /** From the IP header on. */
  packet: Buffer;
}

/** An answer: a packet from its IP header on, "back" for the packet itself, null for none. */
export type Answer = (routed: Routed) => Uint8Array | "back" | null;

export class StandIn {
  readonly seen: Routed[] = [];
  private readonly fd: number;
  private readonly timer: NodeJS.Timeout;
  private readonly frame = Buffer.alloc(70_000);

  /**
   * @param netns path of the node's namespace
   * @param mac of podwire0
   */
  constructor(
    netns: string,
    private readonly mac: Uint8Array,
    private answer: Answer,
  ) {
    this.fd = native.openTap({
      netns,
      name: "podwire0",
      multiQueue: false,
      vnetHeader: VNET_HEADER,
      offloads: TUN_F,
      optionalOffloads: [],
      persist: true,
      mode: "attach",
    }).fd;
    this.timer = setInterval(() => this.drain(), 1);
  }

  /** What came for a destination port, in order. */
  to(port: number): Routed[] {
    return this.seen.filter(({ destinationPort }) => destinationPort === port);
  }

  /** Writes a packet, from its IP header on, as the dataplane would. */
  write(packet: Uint8Array, vnetHeader: Uint8Array = new Uint8Array(VNET_HEADER)): void {
    const ethernet = Buffer.concat([this.mac, Buffer.alloc(6, 0xee), Buffer.from([0x08, 0x00])]);
    writeSync(this.fd, Buffer.concat([vnetHeader, ethernet, packet]));
  }

  close(): void {
    clearInterval(this.timer);
    closeSync(this.fd);
  }

  private drain(): void {
    for (;;) {
      let length: number;
      try {
        length = readSync(this.fd, this.frame);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EAGAIN") return;
        throw error;
      }
      this.take(Buffer.from(this.frame.subarray(0, length)));
    }
  }

  private take(frame: Buffer): void {
    const packet = frame.subarray(VNET_HEADER + ETHERNET);
    if (get16(frame, VNET_HEADER + 12) !== 0x0800) return;
    const ports = (packet[0]! & 15) * 4;
    const routed: Routed = {
      protocol: ({ 6: "tcp", 17: "udp", 132: "sctp" } as const)[packet[9]!] ?? "other",
      source: dotted(get32(packet, 12)),
      destination: dotted(get32(packet, 16)),
      sourcePort: get16(packet, ports),
      destinationPort: get16(packet, ports + 2),
      packet,
    };
    this.seen.push(routed);
    const answer = this.answer(routed);
    if (answer === "back") this.write(packet, frame.subarray(0, VNET_HEADER));
    else if (answer !== null) this.write(answer);
  }
}
