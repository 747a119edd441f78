/**
 * Keeps the pod port open: gets its certificate, listens, renews. What fails is tried again, so that an agent
 * may start before the API server does, or before another program leaves the port.
 */
import { X509Certificate } from "node:crypto";
import { backoff, type Clock, SYSTEM_CLOCK, sleep } from "../../kube/Clock.js";
import type { ServingTls } from "../../kube/servingCertificate.js";
import type { Log } from "../../reconcile/Log.js";
import type { PodAccess } from "../../runtime/PodAccess.js";
import type { ExecTimes } from "./ExecConnection.js";
import type { NodeState } from "./nodeState.js";
import { PodServer } from "./PodServer.js";

const RETRY = { first: 500, most: 30_000 };
/** A timer of Node's ends after 24 days. */
const LONGEST_WAIT_MS = 24 * 3600_000;

export interface PodPortOptions {
  /** The node's own. */
  address: string;
  /** 0: any free one. */
  port: number;
  /** A new certificate; asked at start, and again when two thirds of the last one's time are over. */
  tls: () => Promise<ServingTls>;
  access: PodAccess;
  state: NodeState;
  log: Log;
  clock?: Clock;
  times?: ExecTimes;
}

export interface PodPort {
  /** The port, when it is open. Never settles where close() comes first. */
  readonly opened: Promise<number>;
  /** Ends every session and closes the port. */
  close(): Promise<void>;
}

/** Opens the pod port, now or as soon as that can be. Never throws. */
export function startPodPort(options: PodPortOptions): PodPort {
  const { clock = SYSTEM_CLOCK, log, address } = options;
  const stopped = new AbortController();
  let open: (port: number) => void;
  const opened = new Promise<number>((resolve) => {
    open = resolve;
  });

  /** Until it works, or close(). */
  const persist = async <T>(what: string, work: () => Promise<T>): Promise<T | undefined> => {
    for (let failures = 1; !stopped.signal.aborted; failures++) {
      try {
        return await work();
      } catch (error) {
        log.warn({ address, port: options.port, error: String(error) }, `pod port: no ${what}; trying again`);
        await sleep(clock, backoff(failures, RETRY, Math.random), stopped.signal);
      }
    }
    return undefined;
  };

  const run = async (): Promise<void> => {
    let tls = await persist("certificate", options.tls);
    if (tls === undefined) return;
    const server = new PodServer({ ...options, tls });
    try {
      const port = await persist("listening", () => server.listen(address, options.port));
      if (port === undefined) return;
      log.info({ address, port }, "pod port open");
      open(port);
      while (!stopped.signal.aborted) {
        const wait = renewalIn(tls, clock.date().getTime());
        await sleep(clock, Math.min(wait, LONGEST_WAIT_MS), stopped.signal);
        if (wait > LONGEST_WAIT_MS || stopped.signal.aborted) continue;
        tls = (await persist("certificate", options.tls)) ?? tls;
        server.renew(tls);
      }
    } finally {
      await server.close();
    }
  };

  const running = run();
  return {
    opened,
    close: async () => {
      stopped.abort();
      await running;
    },
  };
}

/** Milliseconds until two thirds of a certificate's time are over. */
function renewalIn({ certificate }: ServingTls, now: number): number {
  const { validFrom, validTo } = new X509Certificate(certificate);
  const from = Date.parse(validFrom);
  return Math.max(0, from + ((Date.parse(validTo) - from) * 2) / 3 - now);
}
