/**
 * The sockets of announcement: ARP on the LAN interface, BFD in and out, and the interface's state.
 * Owns their descriptors and port numbers. Opens all or none: a node that hears half of it would own
 * addresses without knowing who else does.
 */
import { type LanPorts, type LanSpec, NO_LAN_PORTS } from "../desired/lan.js";
import type { Host } from "../host/Host.js";
import { HostError } from "../host/HostError.js";
import { MAX_PORTS, PORT_BFD, PORT_LINK, PORT_NETLINK } from "../packet/layout.js";
import type { WorkerControl } from "../worker/control.js";

/** Port numbers, in front of those of the raw sockets. */
const PORTS: LanPorts = { lan: MAX_PORTS - 3, bfd: MAX_PORTS - 4 };
const BFD_RECEIVE_PORT = MAX_PORTS - 5;
const LINK_PORT = MAX_PORTS - 6;
/** How many there are. */
export const LAN_PORTS = 4;

const ETH_P_ARP = 0x0806;
/** Destination of control packets, and the ports to send them from (RFC 5881 §4). */
const BFD_PORT = 3784;
const BFD_SOURCE_PORT = 49152;
/** Of these the first that nobody else has. */
const SOURCE_PORTS = 16;

interface Socket {
  port: number;
  kind: number;
  fd: number;
}

export class LanSockets {
  private spec: LanSpec | null = null;
  private sockets: Socket[] = [];
  private lost = false;

  constructor(
    private readonly host: Host,
    private readonly detach: (port: number) => Promise<void>,
  ) {}

  /** Port numbers to be named in tables. */
  get ports(): LanPorts {
    return this.sockets.length === 0 ? NO_LAN_PORTS : PORTS;
  }

  /** Opens, changes or closes what `spec` wants otherwise. Throws a HostError; nothing is open then. */
  async sync(spec: LanSpec | null, worker: WorkerControl): Promise<void> {
    if (!this.lost && placeOf(spec) === placeOf(this.spec)) {
      if (spec !== null) this.setFilter(spec);
      return;
    }
    await this.closeAll();
    if (spec === null) return;
    try {
      this.open(spec);
      await this.attach(worker);
      this.spec = spec;
    } catch (error) {
      await this.closeAll();
      throw error;
    }
  }

  /** Whether a port that failed is one of these; they are then opened anew by the next sync. */
  portFailed(port: number): boolean {
    const ours = this.sockets.some((socket) => socket.port === port);
    this.lost ||= ours;
    return ours;
  }

  /** Gives a worker all of them. */
  async attach(worker: WorkerControl): Promise<void> {
    for (const { port, kind, fd } of this.sockets) await worker.attachPort(port, kind, fd);
  }

  /** Closes the descriptors; no worker uses them any more. */
  close(): void {
    for (const { fd } of this.sockets) this.host.close(fd);
    this.sockets = [];
    this.spec = null;
    this.lost = false;
  }

  private async closeAll(): Promise<void> {
    for (const { port } of this.sockets) await this.detach(port);
    this.close();
  }

  private open({ interface: { name, index }, address, filter }: LanSpec): void {
    const netns = "";
    const add = (port: number, kind: number, fd: number) => this.sockets.push({ port, kind, fd });
    const { host } = this;
    add(LINK_PORT, PORT_NETLINK, host.openLinkEvents({ netns, ifindex: index }));
    add(BFD_RECEIVE_PORT, PORT_BFD, host.openBfd({ netns, address, port: BFD_PORT }));
    add(PORTS.bfd, PORT_BFD, this.openSender(address));
    add(PORTS.lan, PORT_LINK, host.openPacket({ netns, ifname: name, protocol: ETH_P_ARP, filter }));
  }

  private openSender(address: string): number {
    for (let n = 0; ; n++) {
      try {
        return this.host.openBfd({ netns: "", address, port: BFD_SOURCE_PORT + n });
      } catch (error) {
        const taken = error instanceof HostError && error.code === "EADDRINUSE";
        if (!taken || n + 1 === SOURCE_PORTS) throw error;
      }
    }
  }

  private setFilter(spec: LanSpec): void {
    if (JSON.stringify(spec.filter) === JSON.stringify(this.spec?.filter)) return;
    const socket = this.sockets.find(({ port }) => port === PORTS.lan)!;
    this.host.setFilter(socket.fd, spec.filter);
    this.spec = spec;
  }
}

/** What other sockets would be needed for. */
function placeOf(spec: LanSpec | null): string {
  if (spec === null) return "";
  const { name, index } = spec.interface;
  return JSON.stringify([name, index, spec.address]);
}
