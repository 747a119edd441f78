/**
 * Keeps the client certificate of a node's kubeconfig good, as kubelet's rotation does: when 70 to 90 % of
 * its lifetime is over (spread, so that nodes do not come together), a new key and certificate replace it in
 * the file. KubeClient reads that anew within a minute. Certificates that do not stand in the file itself, or
 * are no node's, are somebody else's business.
 */
import { X509Certificate } from "node:crypto";
import { type Clock, SYSTEM_CLOCK } from "./Clock.js";
import { renew } from "./join.js";
import { isNotFound } from "./KubeError.js";
import { type InlineCertificate, inlineCertificate, replaceInlineCertificate } from "./kubeconfig.js";

const CHECK_MS = 3_600_000;
const RETRY_MS = 60_000;
const EARLIEST = 0.7;
const SPREAD = 0.2;
const NODE_SUBJECT = /^CN=system:node:(.+)$/m;

export interface CertificateRenewalOptions {
  clock?: Clock;
  /** From 0 to 1. */
  random?: () => number;
  onRenewed?: (goodUntil: Date) => void;
  /** A renewal failed and is tried again; the time until which the present certificate is good. */
  onError?: (error: unknown, goodUntil: Date) => void;
}

export class CertificateRenewal {
  private readonly clock: Clock;
  private readonly share: number;
  private cancel = () => {};
  private stopped = false;
  private working: Promise<void> = Promise.resolve();

  constructor(
    private readonly file: string,
    private readonly options: CertificateRenewalOptions = {},
  ) {
    this.clock = options.clock ?? SYSTEM_CLOCK;
    this.share = EARLIEST + SPREAD * (options.random ?? Math.random)();
  }

  /** Looks at once, and then every hour. */
  start(): this {
    this.next();
    return this;
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.cancel();
    await this.working;
  }

  private next(): void {
    this.working = this.check().then((waitMs) => {
      if (!this.stopped && waitMs !== null) this.cancel = this.clock.after(waitMs, () => this.next());
    });
  }

  /** Renews where it is time; how long until the next look, null for never. */
  private async check(): Promise<number | null> {
    let goodUntil = new Date(0);
    try {
      const now = inlineCertificate(this.file);
      const node = now === null ? undefined : nodeOf(now);
      if (now === null || node === undefined) return null;
      const { validFrom, validTo } = new X509Certificate(now.certificate);
      goodUntil = new Date(validTo);
      const from = Date.parse(validFrom);
      const due = from + this.share * (goodUntil.getTime() - from);
      const left = due - this.clock.date().getTime();
      if (left > 0) return Math.min(left, CHECK_MS);
      const { certificate, key } = await renew(now, node);
      replaceInlineCertificate(this.file, certificate, key);
      this.options.onRenewed?.(new Date(new X509Certificate(certificate).validTo));
      return CHECK_MS;
    } catch (error) {
      this.options.onError?.(error, goodUntil);
      return isNotFound(error) ? null : RETRY_MS;
    }
  }
}

function nodeOf({ certificate }: InlineCertificate): string | undefined {
  return NODE_SUBJECT.exec(new X509Certificate(certificate).subject)?.[1];
}
