/** What is compared, and over which ways. */

import type { AgentConfig } from "../../src/model/AgentConfig.js";
import { selectByKey } from "../arguments.js";

/** How Services are translated in one set. */
export interface Variant {
  key: string;
  title: string;
  translator: "iptables" | "nftables" | "podwire";
  /** Settings of the agents (podwire only). */
  dataplane: Partial<AgentConfig["dataplane"]>;
}

export const VARIANTS: readonly Variant[] = [
  { key: "iptables", title: "vxlan + iptables", translator: "iptables", dataplane: {} },
  { key: "nftables", title: "vxlan + nftables", translator: "nftables", dataplane: {} },
  {
    key: "portable",
    title: "podwire portable",
    translator: "podwire",
    dataplane: { tunnelGso: "off", uso: "auto" },
  },
  {
    key: "tunnel",
    title: "podwire tunnel GSO",
    translator: "podwire",
    dataplane: { tunnelGso: "on", uso: "auto" },
  },
];

/** Variants by key. Throws for an unknown one. */
export function selectVariants(keys: readonly string[]): Variant[] {
  return selectByKey("variant", VARIANTS, keys);
}

/** A way from a client to the servers. */
export type Way = "clusterIP" | "nodePort" | "pod";

export const WAY_TITLES: Readonly<Record<Way, string>> = {
  clusterIP: "pod → ClusterIP",
  nodePort: "pc → NodePort",
  pod: "pod → pod",
};

/** Ways measured in a variant: what a ClusterIP costs is asked of podwire only. */
export function waysOf(variant: Variant): Way[] {
  return variant.translator === "podwire" ? ["clusterIP", "nodePort", "pod"] : ["clusterIP", "nodePort"];
}

/** Key of the figures of one way through one variant. */
export function seriesKey(variant: Variant, way: Way): string {
  return `${variant.key}/${way}`;
}
