/** Speaks to station.py: single packets from anywhere in a test's network, and where they are seen. */
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { support } from "./announceBed.js";
import { hex, toHex } from "./frames.js";
import { type TestNet, waitFor } from "./netns.js";
import { python } from "./traffic.js";

/** Begins what the station tells of (station.py's MARK). */
export const MARK = hex("70775472");

/** A packet that was seen. */
export interface Sighting {
  /** Name of a machine or pod. */
  at: string;
  /** frame: came in by its device; program: its programs get it, from the IPv4 header on; tunnel: a VXLAN frame came in. */
  how: "frame" | "program" | "tunnel";
  bytes: Uint8Array;
}

/** How long somebody has to answer ARP. */
const ARP_SECONDS = 3;
const NOBODY_SECONDS = 0.3;

interface Answer {
  done: number;
  error: string | null;
  mac?: string;
}

export class Station {
  /** In the order in which they were seen. */
  readonly seen: Sighting[] = [];
  #next = 1;
  #text = "";
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #wake: () => void = () => {};

  private constructor(private readonly socket: Socket) {
    socket.setEncoding("utf8").on("data", (text: string) => this.take(text));
    // Its process has ended: whoever waits for something runs into his deadline.
    socket.on("error", () => {});
  }

  /** Starts the program; cleanup() of the net ends it. Of the port's resets it does not tell. */
  static async start(net: TestNet, ignoredPort: number): Promise<Station> {
    const path = join(net.directory(), "station.sock");
    const process = net.spawn("", python(), [support("station.py"), path, String(ignoredPort)]);
    await waitFor(() => process.stdout.includes("ready\n"), { what: `the station ${process.stderr}` });
    const socket = connect(path);
    net.onCleanup(() => socket.destroy());
    return new Station(socket);
  }

  /** Sees and sends at a device; returns its MAC. */
  async open(at: string, netns: string, device: string): Promise<string> {
    return (await this.ask({ do: "open", at, netns, device })).mac!;
  }

  /** Sees what the programs of a node get and what comes to a UDP port of its device; sends as a program. */
  async openNode(at: string, netns: string, device: string, port: number): Promise<void> {
    await this.ask({ do: "node", at, netns, device, port });
  }

  /** A program of a node has a UDP port, and says nothing. */
  async listen(at: string, port: number): Promise<void> {
    await this.ask({ do: "listen", at, port });
  }

  async close(at: string): Promise<void> {
    await this.ask({ do: "close", at });
  }

  async sendFrame(at: string, frame: Uint8Array): Promise<void> {
    await this.ask({ do: "frame", at, hex: toHex(frame) });
  }

  /** From the IPv4 header on, by the node's routes. */
  async sendPacket(at: string, packet: Uint8Array): Promise<void> {
    await this.ask({ do: "packet", at, hex: toHex(packet) });
  }

  /** A datagram of an ordinary socket: the node's kernel chooses the source address. */
  async sendDatagram(at: string, fromPort: number, to: [string, number], payload: Uint8Array): Promise<void> {
    await this.ask({ do: "udp", at, from: ["0.0.0.0", fromPort], to, hex: toHex(payload) });
  }

  /** The MAC of who answers ARP, "" where nobody does. `expected`: somebody should. */
  async whoHas(at: string, sender: string, target: string, expected: boolean): Promise<string> {
    const seconds = expected ? ARP_SECONDS : NOBODY_SECONDS;
    return (await this.ask({ do: "arp", at, sender, target, seconds })).mac!;
  }

  /** Resolves with the next sighting, or after some milliseconds. */
  async anotherOrLater(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = () => {};
  }

  private async ask(request: object): Promise<Answer> {
    const id = this.#next++;
    const answer = await new Promise<Answer>((resolve) => {
      this.#waiting.set(id, resolve);
      this.socket.write(`${JSON.stringify({ id, ...request })}\n`);
    });
    if (answer.error !== null) throw new Error(`${JSON.stringify(request)}: ${answer.error}`);
    return answer;
  }

  private take(text: string): void {
    const lines = (this.#text + text).split("\n");
    this.#text = lines.pop()!;
    for (const line of lines) {
      const message = JSON.parse(line) as Answer | { at: string; how: Sighting["how"]; hex: string };
      if ("done" in message) {
        this.#waiting.get(message.done)?.(message);
        this.#waiting.delete(message.done);
      } else {
        this.seen.push({ at: message.at, how: message.how, bytes: hex(message.hex) });
        this.#wake();
      }
    }
  }
}
