/** What is failed over, and what is wanted of it. */

import { selectByKey } from "../arguments.js";
import type { Launcher } from "../command.js";
import type { Bed, Fault } from "./Bed.js";
import { KeepalivedBed } from "./KeepalivedBed.js";
import { PodwireBed, type Profile } from "./PodwireBed.js";

export interface Variant {
  key: string;
  title: string;
  /** BFD's profile; null for the peer. */
  profile: Profile | null;
  /** VRRP's advertisement interval, of the peer. */
  advertSeconds: number;
  /** How long is asked after a fault: longer than the outage. */
  afterMs: number;
}

export const VARIANTS: readonly Variant[] = [
  { key: "default", title: "podwire 100 ms × 3", profile: "default", advertSeconds: 0, afterMs: 1_500 },
  { key: "fast", title: "podwire 10 ms × 3", profile: "fast", advertSeconds: 0, afterMs: 1_000 },
  { key: "keepalived", title: "keepalived, 1 s", profile: null, advertSeconds: 1, afterMs: 6_000 },
  { key: "keepalived-fast", title: "keepalived, 10 ms", profile: null, advertSeconds: 0.01, afterMs: 1_000 },
];

/** The variants with these keys. Throws on one that is not there. */
export function selectVariants(keys: readonly string[]): Variant[] {
  return selectByKey("variant", VARIANTS, keys);
}

/** Longest median gap that is wanted, in milliseconds; null where nothing is. */
export function wantedGapMs(variant: Variant, fault: Fault): number | null {
  if (variant.profile === null) return null;
  if (fault === "drain") return 20;
  return variant.profile === "fast" ? 60 : 400;
}

/** Makes the bed of a variant; @param index number of the set, @param program the agent's main.js */
export function makeBed(launcher: Launcher, variant: Variant, index: number, program: string): Bed {
  return variant.profile === null
    ? new KeepalivedBed(launcher, index, variant.advertSeconds)
    : new PodwireBed(launcher, program, index, variant.profile);
}
