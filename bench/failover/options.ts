/** Command line of `npm run bench -- failover`. */

import { parseArgs } from "node:util";
import { list, positive } from "../arguments.js";
import { FAULTS, type Fault } from "./Bed.js";
import type { Churn } from "./trial.js";
import { selectVariants, VARIANTS, type Variant } from "./variants.js";

const CHURNS: readonly Churn[] = ["stable", "changing"];

export interface FailoverOptions {
  repetitions: number;
  variants: Variant[];
  faults: Fault[];
  endpoints: Churn[];
  /** New connections in a row after each fault. */
  connections: number;
  /** File for the raw figures, null for none. */
  json: string | null;
}

const VARIANT_KEYS = VARIANTS.map(({ key }) => key).join(",");

export const FAILOVER_HELP = `npm run bench -- failover [options]

  --reps N          repetitions (default 5)
  --quick           one repetition, 200 connections in a row
  --variants a,b    ${VARIANT_KEYS} (default all)
  --faults a,b      ${FAULTS.join(",")} (default all)
  --endpoints a,b   ${CHURNS.join(",")}: whether endpoints come and go meanwhile (default both)
  --connections N   new connections in a row after each fault (default 1000)
  --json FILE       write the raw figures to FILE

Needs root and iproute2, curl, nginx, redis and keepalived.`;

/** Reads the options. Throws an Error for what is not one. */
export function parseFailoverOptions(args: readonly string[]): FailoverOptions | "help" {
  const { values } = parseArgs({
    args: [...args],
    options: {
      reps: { type: "string" },
      quick: { type: "boolean", default: false },
      variants: { type: "string", default: VARIANT_KEYS },
      faults: { type: "string", default: FAULTS.join(",") },
      endpoints: { type: "string", default: CHURNS.join(",") },
      connections: { type: "string" },
      json: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return "help";
  return {
    repetitions: positive("reps", values.reps ?? (values.quick ? "1" : "5")),
    variants: selectVariants(list(values.variants)),
    faults: list(values.faults).map((key) => oneOf("faults", FAULTS, key)),
    endpoints: list(values.endpoints).map((key) => oneOf("endpoints", CHURNS, key)),
    connections: positive("connections", values.connections ?? (values.quick ? "200" : "1000")),
    json: values.json ?? null,
  };
}

/** Seconds that a run takes, about. */
export function estimate({ variants, faults, endpoints, repetitions, connections }: FailoverOptions): number {
  const PREPARE = 6;
  /** Programs' starts, and the way back. */
  const AROUND = 5;
  const PER_CONNECTION = 0.002;
  return variants.reduce((sum, { profile, afterMs }) => {
    const trials = faults.length * (profile === null ? 1 : endpoints.length) * repetitions;
    return sum + PREPARE + trials * (AROUND + afterMs / 1000 + connections * PER_CONNECTION);
  }, 0);
}

function oneOf<T extends string>(name: string, known: readonly T[], text: string): T {
  const found = known.find((candidate) => candidate === text);
  if (found === undefined) throw new Error(`--${name} takes some of ${known.join(", ")}`);
  return found;
}
