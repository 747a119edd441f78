/** Names of chains as kube-proxy makes them: hashes of the Service port's name. Pure. */

import { createHash } from "node:crypto";
import type { BenchService, ServicePort } from "./services.js";

/** Mark of packets to masquerade, kube-proxy's default. */
export const MASQUERADE_MARK = "0x4000";

/** One port of a Service, which is what kube-proxy makes rules for. */
export interface PortRules {
  service: BenchService;
  port: ServicePort;
  /** namespace/name:port, as in comments. */
  title: string;
  /** Lower case, as in rules. */
  protocol: string;
}

/** All ports, in the Services' order. */
export function portsOf(services: readonly BenchService[]): PortRules[] {
  return services.flatMap((service) =>
    service.ports.map((port) => {
      const protocol = port.protocol.toLowerCase();
      return { service, port, title: `${service.name}:${protocol}${port.port}`, protocol };
    }),
  );
}

/** The first `length` characters of the base32 text of the SHA-256 of `text`. */
export function chainHash(text: string, length: number): string {
  const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const digest = createHash("sha256").update(text).digest();
  let hash = "";
  for (let i = 0; i < length; i++) {
    const bit = i * 5;
    const pair = (digest[bit >> 3] << 8) | digest[(bit >> 3) + 1];
    hash += ALPHABET[(pair >> (11 - (bit & 7))) & 31];
  }
  return hash;
}
