/** Command line of `npm run bench -- net`. */

import { parseArgs } from "node:util";
import { list, positive } from "../arguments.js";
import type { Measure } from "../testbed/measures.js";
import { LAN_KINDS, type LanKind } from "../testbed/topology.js";
import { MEASURES, selectMeasures } from "./measures.js";
import { BASE_KEY, DEFAULT_VARIANTS, selectVariants, VARIANT_KEYS, type Variant } from "./variants.js";

export interface NetOptions {
  repetitions: number;
  /** Length of each run; whole seconds (iperf3). */
  seconds: number;
  measures: Measure[];
  variants: Variant[];
  lans: LanKind[];
  /** File for the raw figures, null for none. */
  json: string | null;
}

export const NET_HELP = `npm run bench -- net [options]

  --reps N          repetitions (default 5)
  --seconds S       length of each run, whole seconds (default 2)
  --quick           one repetition of one second
  --tests a,b       ${MEASURES.map((measure) => measure.key).join(",")} (default all)
  --variants a,b    ${VARIANT_KEYS.join(",")} (default ${DEFAULT_VARIANTS.join(",")}; ${BASE_KEY} is always measured)
  --threads 1,2     podwire with one thread, two, or each (default 1)
  --metrics off,on  podwire without metrics, with metrics that are read each second, or each (default off)
  --lan a,b         ${LAN_KINDS.join(",")} (default both)
  --json FILE       write the raw figures to FILE
  --target vagrant  across machines instead; --target vagrant --help lists the options

Needs root and iproute2, iperf3, iputils-ping, wrk, nginx, ethtool and tcpdump.`;

/** Reads the options. Throws an Error for what is not one. */
export function parseNetOptions(args: readonly string[]): NetOptions | "help" {
  const { values } = parseArgs({
    args: [...args],
    options: {
      reps: { type: "string" },
      seconds: { type: "string" },
      quick: { type: "boolean", default: false },
      tests: { type: "string" },
      variants: { type: "string" },
      threads: { type: "string", default: "1" },
      metrics: { type: "string", default: "off" },
      lan: { type: "string", default: LAN_KINDS.join(",") },
      json: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return "help";
  const keys = list(values.variants ?? DEFAULT_VARIANTS.join(","));
  const threads = list(values.threads).map((count) => {
    if (count !== "1" && count !== "2") throw new Error("--threads takes 1, 2 or 1,2");
    return Number(count) as 1 | 2;
  });
  const metrics = list(values.metrics).map((state) => {
    if (state !== "off" && state !== "on") throw new Error("--metrics takes off, on or off,on");
    return state;
  });
  return {
    repetitions: positive("reps", values.reps ?? (values.quick ? "1" : "5")),
    seconds: positive("seconds", values.seconds ?? (values.quick ? "1" : "2")),
    measures: values.tests === undefined ? [...MEASURES] : selectMeasures(list(values.tests)),
    variants: selectVariants(keys.includes(BASE_KEY) ? keys : [BASE_KEY, ...keys], threads, metrics),
    lans: list(values.lan).map((kind) => {
      const known = LAN_KINDS.find((candidate) => candidate === kind);
      if (known === undefined) throw new Error(`unknown LAN ${kind}; there are ${LAN_KINDS.join(", ")}`);
      return known;
    }),
    json: values.json ?? null,
  };
}
