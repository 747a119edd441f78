/** What native/ offers. Types only: the loader is index.ts, the memory layout packet/layout.ts. */

/** How to open a TAP device (Linux tun/tap, Documentation/networking/tuntap.rst). */
export interface TapOptions {
  /** Path of the network namespace in which the device lives; "" is the thread's own. */
  netns: string;
  /** Device name, 1-15 bytes. */
  name: string;
  /** IFF_MULTI_QUEUE. Must equal the flag with which an existing device was made (else EINVAL). */
  multiQueue: boolean;
  /** Length of the virtio-net header: 10, or 24 with tunnel GSO. */
  vnetHeader: number;
  /** TUN_F_* bits that must be accepted. */
  offloads: number;
  /** TUN_F_* bits to try one after another on top of `offloads`; refused ones are left out. */
  optionalOffloads: number[];
  /** TUNSETPERSIST: the device outlives its descriptor. */
  persist: boolean;
  /** create: fail with EEXIST where the name is taken; attach: fail with ENODEV where it is not; either. */
  mode: "create" | "attach" | "either";
}

export interface TapHandle {
  fd: number;
  ifindex: number;
  /** False where an existing (persistent) device was attached. */
  created: boolean;
  /** TUN_F_* bits in force. */
  offloads: number;
}

export interface UdpOptions {
  netns: string;
  /** IPv4 address in dotted decimal to bind to. */
  address: string;
  port: number;
  /** UDP_GRO: receive trains of equal-sized datagrams as one. */
  gro: boolean;
  /** Wanted socket buffer sizes in bytes; SO_*BUFFORCE where allowed, else SO_*BUF. */
  receiveBuffer: number;
  sendBuffer: number;
}

/** A socket for BFD control packets (RFC 5881 §4, §5). */
export interface BfdOptions {
  netns: string;
  /** IPv4 address in dotted decimal to bind to. */
  address: string;
  /** 3784 to receive on; 49152-65535 to send from. */
  port: number;
}

/** A netlink socket that reports what becomes of one interface (wire/rtnetlink). */
export interface LinkEventsOptions {
  netns: string;
  ifindex: number;
}

export interface PacketOptions {
  netns: string;
  /** Interface to bind to. */
  ifname: string;
  /** EtherType to receive (0x0806 ARP, 0x0003 all). */
  protocol: number;
  /** Classic BPF program as [code, jt, jf, k] quadruples; empty for none. */
  filter: number[];
}

export interface RawOptions {
  netns: string;
  /** IPv4 protocol number. */
  protocol: number;
  /** Classic BPF over the packet, IP header first: [code, jt, jf, k] quadruples; empty for none. */
  filter: number[];
  /** Wanted receive buffer in bytes; SO_RCVBUFFORCE where allowed, else SO_RCVBUF. */
  receiveBuffer: number;
}

/** One epoll set over a worker's descriptors, with fused transmit and receive. */
export interface NativeIo {
  /**
   * Adds descriptor `fd` as port `port`, to send on and, with `receive`, to receive from. The
   * descriptor stays the caller's to close after removePort.
   */
  addPort(port: number, kind: number, fd: number, receive: boolean): void;
  /** Stops polling and sending on a port. Unknown ports are ignored. */
  removePort(port: number): void;
  /** Sets the IPv4 address (big-endian number, int32) and UDP port of a peer. */
  setPeer(peer: number, address: number, port: number): void;
  /**
   * Sends `messages` messages of the plan. Returns how many failed (MSG_ERRNO tells why). STATUS_FAILED
   * and STATUS_SENT_US are set.
   */
  execute(messages: number): number;
  /**
   * execute(messages), if there are any, then waits: spins with sched_yield for `spinUs`, then blocks for up to
   * `timeoutMs` (0: not at all, -1: for ever); then reads only what is ready. Returns the number
   * of receive descriptors. STATUS_* are set.
   */
  breathe(messages: number, timeoutMs: number, spinUs: number): number;
  /** Frees the epoll set. Further calls throw. Ports' descriptors are not closed. */
  close(): void;
}

export interface Native {
  /** The constants of native/layout.h by name, for the test that compares them. */
  readonly layout: Readonly<Record<string, number>>;
  /** Name of the checksum routine in use: "avx512", "avx2" or "plain". */
  readonly checksumKernel: string;
  /** The checksum routines that this processor can run, best first. */
  readonly checksumKernels: readonly string[];
  /** Zeroed anonymous memory with MADV_HUGEPAGE, 2 MiB aligned, freed with the ArrayBuffer. */
  createArena(bytes: number): ArrayBuffer;
  /**
   * A file as memory (mmap(2), MAP_SHARED): made with mode 0600 and zeroes where it is not there, with
   * all its blocks allocated. Every call maps it anew. EINVAL where the file has another size. Do not
   * make the file shorter while somebody has it mapped.
   */
  mapFile(path: string, bytes: number): ArrayBuffer;
  /** CLOCK_REALTIME less CLOCK_MONOTONIC, in nanoseconds, as of now (clock_gettime(2)). */
  clockOffset(): bigint;
  /** Io over an arena of packet/layout.ts's ARENA; `wakeFd` from openEvent. Keeps the arena alive. */
  createIo(arena: ArrayBuffer, wakeFd: number): NativeIo;
  openTap(options: TapOptions): TapHandle;
  setTapPersist(fd: number, persist: boolean): void;
  openUdp(options: UdpOptions): number;
  /** Sends with TTL 255 and class network control; drops what arrives with another TTL. */
  openBfd(options: BfdOptions): number;
  openPacket(options: PacketOptions): number;
  /** A raw socket: what the kernel delivers to the node, whole packets (raw(7)). */
  openRaw(options: RawOptions): number;
  /** Its first message is the state of the interface as it was opened. Port kind: PORT_NETLINK. */
  openLinkEvents(options: LinkEventsOptions): number;
  /** Classic BPF in the place of a socket's filter of before: [code, jt, jf, k] quadruples, 1 to 4096. */
  setFilter(fd: number, filter: number[]): void;
  /** eventfd(2), non-blocking. */
  openEvent(): number;
  /** Adds one to an event descriptor: wakes the worker that polls it. Any thread may call it. */
  signalEvent(fd: number): void;
  close(fd: number): void;
  /**
   * Runs `fn` with the calling thread in the network namespace at `path`, and returns its result.
   * `fn` must be synchronous. Comes back to the former namespace whatever happens; the process is
   * aborted where that fails, since a thread in a wrong namespace must not go on.
   */
  withNetns<T>(path: string, fn: () => T): T;
  /**
   * RFC 1071 sum of `length` bytes at `offset`, folded to 16 bits, not complemented, big-endian.
   * `kernel` names another routine of checksumKernels (for tests).
   */
  checksum(buffer: ArrayBuffer, offset: number, length: number, initial: number, kernel?: string): number;
  /** The plain reference of `checksum`. */
  checksumPlain(buffer: ArrayBuffer, offset: number, length: number, initial: number): number;
}
