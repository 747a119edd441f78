/** Command line of `npm run bench -- service`. */

import { parseArgs } from "node:util";
import { list, positive } from "../arguments.js";
import type { Measure } from "../testbed/measures.js";
import { applies, isRepeated, MEASURES, selectMeasures } from "./measures.js";
import { POSITIONS, type Position } from "./services.js";
import { selectVariants, VARIANTS, type Variant, waysOf } from "./variants.js";

/** Which of the two programs loads iptables' rules: they differ in what the kernel keeps. */
const IPTABLES_KINDS = ["nft", "legacy"] as const;
export type IptablesKind = (typeof IPTABLES_KINDS)[number];

export interface ServiceOptions {
  repetitions: number;
  /** Length of each run; whole seconds (iperf3). */
  seconds: number;
  /** Numbers of Services, one after another. */
  services: number[];
  measures: Measure[];
  variants: Variant[];
  position: Position;
  iptables: IptablesKind;
  /** File for the raw figures, null for none. */
  json: string | null;
}

const keysOf = (each: readonly { key: string }[]) => each.map(({ key }) => key).join(",");
const REPEATED = MEASURES.filter(isRepeated);
/** Addresses and names are made for so many. */
const MOST_SERVICES = 40_000;

export const SERVICE_HELP = `npm run bench -- service [options]

  --reps N          repetitions (default 3)
  --seconds S       length of each run, whole seconds (default 1)
  --quick           one repetition, 1 and 1000 services, no runs in a row
  --services a,b    numbers of Services (default 1,1000,10000)
  --measures a,b    ${keysOf(MEASURES)} (default all)
  --variants a,b    ${keysOf(VARIANTS)} (default all)
  --position P      the measured Services among the others: ${POSITIONS.join(", ")} (default last)
  --iptables KIND   iptables-nft or iptables-legacy: ${IPTABLES_KINDS.join(", ")} (default nft)
  --json FILE       write the raw figures to FILE

Needs root and iproute2, iptables, nftables, iperf3, iputils-ping, curl, wrk, nginx and redis.`;

/** Reads the options. Throws an Error for what is not one. */
export function parseServiceOptions(args: readonly string[]): ServiceOptions | "help" {
  const { values } = parseArgs({
    args: [...args],
    options: {
      reps: { type: "string" },
      seconds: { type: "string", default: "1" },
      quick: { type: "boolean", default: false },
      services: { type: "string" },
      measures: { type: "string" },
      variants: { type: "string", default: keysOf(VARIANTS) },
      position: { type: "string", default: "last" },
      iptables: { type: "string", default: "nft" },
      json: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return "help";
  const services = list(values.services ?? (values.quick ? "1,1000" : "1,1000,10000")).map((count) =>
    positive("services", count),
  );
  if (services.some((count) => count > MOST_SERVICES))
    throw new Error(`--services takes numbers up to ${MOST_SERVICES}`);
  return {
    repetitions: positive("reps", values.reps ?? (values.quick ? "1" : "3")),
    seconds: positive("seconds", values.seconds),
    services,
    measures: selectMeasures(list(values.measures ?? keysOf(values.quick ? REPEATED : MEASURES))),
    variants: selectVariants(list(values.variants)),
    position: oneOf("position", POSITIONS, values.position),
    iptables: oneOf("iptables", IPTABLES_KINDS, values.iptables),
    json: values.json ?? null,
  };
}

/** Seconds that a run takes, about. */
export function estimate({ variants, measures, seconds, services, repetitions }: ServiceOptions): number {
  /** Namespaces, agents, check and warm-up; seconds for each variant. */
  const PREPARE = 6;
  /** Both nodes' rules. */
  const LOAD_PER_SERVICE: Record<Variant["translator"], number> = {
    iptables: 0.008,
    nftables: 0.004,
    podwire: 0.0004,
  };
  const visits = variants.flatMap((variant) =>
    waysOf(variant).flatMap((way) => measures.filter((measure) => applies(measure, way))),
  );
  const tests = visits.reduce(
    (sum, measure) => sum + measure.estimate(seconds) * (isRepeated(measure) ? repetitions : 1),
    0,
  );
  const load = variants.reduce((sum, { translator }) => sum + LOAD_PER_SERVICE[translator], 0);
  return services.reduce((sum, count) => sum + variants.length * PREPARE + count * load + tests, 0);
}

function oneOf<T extends string>(name: string, known: readonly T[], text: string): T {
  const found = known.find((candidate) => candidate === text);
  if (found === undefined) throw new Error(`--${name} takes one of ${known.join(", ")}`);
  return found;
}
