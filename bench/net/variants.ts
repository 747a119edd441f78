/** What is compared: kernel vxlan, podwire in its send modes, and plain routing for reference. */

import type { AgentConfig } from "../../src/model/AgentConfig.js";

/** How one column of the tables comes about. */
export interface Variant {
  key: string;
  title: string;
  overlay: "vxlan" | "routing" | "podwire";
  /** Settings of the agents (podwire only). */
  dataplane: Partial<AgentConfig["dataplane"]>;
  /** Which of a figure's targets holds; null where none does. */
  target: "portable" | "tunnel" | null;
  /** The agents serve metrics, and somebody reads them each second (podwire only). */
  scraped: boolean;
  /** Key of the same without metrics, where that is measured too. */
  unscraped: string | null;
}

/** A variant before it is said whether its metrics are read. */
type Plain = Omit<Variant, "scraped" | "unscraped">;

/** The column that all ratios refer to. */
export const BASE_KEY = "kernel";

const VARIANTS: readonly Plain[] = [
  { key: BASE_KEY, title: "kernel vxlan", overlay: "vxlan", dataplane: {}, target: null },
  {
    key: "portable",
    title: "podwire portable",
    overlay: "podwire",
    dataplane: { tunnelGso: "off", uso: "auto" },
    target: "portable",
  },
  {
    key: "tunnel",
    title: "podwire tunnel GSO",
    overlay: "podwire",
    dataplane: { tunnelGso: "on", uso: "auto" },
    target: "tunnel",
  },
  {
    key: "5.15",
    title: "podwire as on 5.15",
    overlay: "podwire",
    dataplane: { tunnelGso: "off", uso: "off" },
    target: null,
  },
  { key: "routing", title: "no tunnel", overlay: "routing", dataplane: {}, target: null },
];

/** Keys that may be asked for, and those measured unless told otherwise. */
export const VARIANT_KEYS: readonly string[] = VARIANTS.map((variant) => variant.key);
export const DEFAULT_VARIANTS: readonly string[] = [BASE_KEY, "portable", "tunnel", "5.15"];

/**
 * The variants of `keys`, podwire's once for every number of threads and for metrics off and on, as far
 * as both are asked for. Throws for an unknown key.
 */
export function selectVariants(
  keys: readonly string[],
  threads: readonly (1 | 2)[],
  metrics: readonly ("off" | "on")[] = ["off"],
): Variant[] {
  return keys.flatMap((key) => {
    const variant = VARIANTS.find((candidate) => candidate.key === key);
    if (variant === undefined)
      throw new Error(`unknown variant ${key}; there are ${VARIANT_KEYS.join(", ")}`);
    if (variant.overlay !== "podwire") return [{ ...variant, scraped: false, unscraped: null }];
    return threads
      .map((count) => withThreads(variant, count))
      .flatMap((each) => metrics.map((state) => withMetrics(each, state === "on", metrics.includes("off"))));
  });
}

function withThreads(variant: Plain, threads: 1 | 2): Plain {
  const dataplane = { ...variant.dataplane, threads };
  if (threads === 1) return { ...variant, dataplane };
  return { ...variant, key: `${variant.key}-2t`, title: `${variant.title}, 2 threads`, dataplane };
}

function withMetrics(variant: Plain, scraped: boolean, paired: boolean): Variant {
  if (!scraped) return { ...variant, scraped, unscraped: null };
  return {
    ...variant,
    key: `${variant.key}-metrics`,
    title: `${variant.title}, metrics`,
    scraped,
    unscraped: paired ? variant.key : null,
  };
}
