/**
 * Captures on request, one at a time: checks what is asked for, has the dataplane write into rings, and
 * reads them until somebody says stop. A capture that nobody reads loses packets and says so; it never
 * holds up the dataplane.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { newCaptureBuffer } from "../capture/CaptureRing.js";
import { CaptureStream } from "../capture/CaptureStream.js";
import type { CaptureNames } from "../capture/comment.js";
import { both, compileFilter, ofPod } from "../capture/filter.js";
import { MIN_SNAP_LENGTH, POINT_NAMES, POINTS, type PointName } from "../capture/layout.js";
import { parseIpv4 } from "../model/ipv4.js";
import type { WorkerControl } from "../worker/control.js";
import type { ByteStream } from "./StatusServer.js";

/** tcpdump's default. */
const SNAP_LENGTH = 262_144;
const MEGABYTE = 1 << 20;
/** How long nobody looks when there was nothing. */
const IDLE_MS = 10;
/** Bytes that are handed on at once. */
const PIECE = 256 * 1024;

const schema = z.strictObject({
  points: z.array(z.enum(POINT_NAMES as [PointName, ...PointName[]])).min(1),
  /** capture/filter. */
  filter: z.string().optional(),
  /** namespace/name; default namespace where there is none. */
  pod: z.string().optional(),
  /** Packets; 0: no limit. */
  count: z.number().int().min(0).optional(),
  /** Seconds. */
  duration: z.number().positive().max(86_400).optional(),
  snapLength: z.number().int().min(MIN_SNAP_LENGTH).max(SNAP_LENGTH).optional(),
  /** MiB of each thread's ring: a power of two. */
  buffer: z
    .number()
    .int()
    .min(1)
    .max(1024)
    .refine((size) => (size & (size - 1)) === 0, "is no power of two")
    .optional(),
});

/** What to capture. */
export type CaptureRequest = z.infer<typeof schema>;

/** A TAP that may be captured from. */
export interface CapturePort {
  /** namespace/name of a pod; podwire0. */
  name: string;
  port: number;
  /** "" where it is no pod's. */
  address: string;
}

/** What is said before the first byte. */
export interface CaptureHead {
  points: PointName[];
  node: string;
}

export interface CapturesParts {
  node: string;
  os: string;
  application: string;
  worker: () => WorkerControl;
  threads: number;
  /** The TAPs that there are now. */
  ports: () => CapturePort[];
  /** Node of the VTEP with an index, "" for none. */
  vtepName: (index: number) => string;
  /** namespace/name:port of the service port with a number, "" for none. */
  serviceName: (id: number) => string;
}

export class Captures {
  private current: { since: Date; abort: AbortController } | null = null;

  constructor(private readonly parts: CapturesParts) {}

  /** Begins one. Throws where it is asked wrongly, or another one is under way. */
  async start(raw: unknown): Promise<ByteStream<CaptureHead>> {
    const request = checked(raw);
    const { node, worker, threads, ports } = this.parts;
    if (this.current !== null)
      throw new Error(
        `another capture is under way, since ${this.current.since.toISOString()}: one at a time`,
      );
    const { points: pointNames, pod, count = 0, snapLength = SNAP_LENGTH, buffer = 16 } = request;
    const target = pod === undefined ? null : this.podOf(pod);
    const written = compileFilter(request.filter ?? "");
    const filter = target === null ? written : both(ofPod(target.port, parseIpv4(target.address)!), written);
    const points = pointNames.reduce((bits, name) => bits | POINTS[name], 0);
    const buffers = Array.from({ length: threads }, () => newCaptureBuffer(buffer * MEGABYTE));
    const used = worker();
    const innerPort = target?.port ?? -1;
    const names = new Names(this.parts);
    const stream = new CaptureStream({
      ...this.parts,
      buffers,
      points,
      ports: ports()
        .map(({ port }) => port)
        .filter((port) => innerPort < 0 || port === innerPort),
      snapLength,
      filter: [...(pod === undefined ? [] : [`pod ${pod}`]), request.filter ?? ""]
        .filter((part) => part !== "")
        .join(" and "),
      count,
      names,
      clockOffsetNs: () => used.clockOffsetNs(),
    });
    const abort = new AbortController();
    this.current = { since: new Date(), abort };
    try {
      await used.startCapture({ buffers, points, snapLength, filter, innerPort });
    } catch (error) {
      this.current = null;
      throw error;
    }
    const timer =
      request.duration === undefined ? null : setTimeout(() => abort.abort(), request.duration * 1000);
    return {
      head: { points: pointNames, node },
      bytes: this.read(stream, names, used, abort.signal, timer),
      stop: () => abort.abort(),
    };
  }

  /** The dataplane has ended, or is about to: what was captured until then is all. */
  stop(): void {
    this.current?.abort.abort();
  }

  private async *read(
    stream: CaptureStream,
    names: Names,
    worker: WorkerControl,
    signal: AbortSignal,
    timer: NodeJS.Timeout | null,
  ): AsyncGenerator<Uint8Array> {
    // One that has ended writes nothing either.
    const halt = () => worker.stopCapture().catch(() => {});
    try {
      yield stream.begin();
      while (!signal.aborted && !stream.full) {
        names.refresh();
        const piece = stream.take(PIECE);
        if (piece !== null) yield piece;
        else await sleep(IDLE_MS, undefined, { signal }).catch(() => {});
      }
      await halt();
      for (let piece = stream.take(PIECE); piece !== null; piece = stream.take(PIECE)) yield piece;
      yield stream.end();
    } finally {
      if (timer !== null) clearTimeout(timer);
      await halt();
      this.current = null;
    }
  }

  private podOf(name: string): CapturePort {
    const full = name.includes("/") ? name : `default/${name}`;
    const found = this.parts.ports().find((each) => each.name === full && each.address !== "");
    if (found === undefined) throw new Error(`there is no pod ${full} on this node`);
    return found;
  }
}

/** Names as of the last refresh: they are asked for with every packet. */
class Names implements CaptureNames {
  private ports = new Map<number, string>();

  constructor(private readonly parts: CapturesParts) {
    this.refresh();
  }

  refresh(): void {
    this.ports = new Map(this.parts.ports().map(({ port, name }) => [port, name]));
  }

  port(port: number): string {
    return this.ports.get(port) ?? "";
  }

  vtep(index: number): string {
    return this.parts.vtepName(index);
  }

  service(id: number): string {
    return this.parts.serviceName(id);
  }
}

function checked(raw: unknown): CaptureRequest {
  const parsed = schema.safeParse(raw);
  if (parsed.success) return parsed.data;
  const [{ path, message }] = parsed.error.issues;
  throw new Error([path.join("."), message].filter((part) => part !== "").join(": "));
}
