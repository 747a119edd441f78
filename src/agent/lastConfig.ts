/** The last config that came from an API: kept for a start while no server answers. */
import { readFileSync } from "node:fs";
import type { AgentConfig } from "../model/AgentConfig.js";
import { StateDir, writeDurably } from "./StateDir.js";

const VERSION = 2;

/** Keeps a config in its state directory, which exists. */
export function saveConfig(config: AgentConfig): void {
  const { configFile } = new StateDir(config.stateDir);
  writeDurably(configFile, `${JSON.stringify({ version: VERSION, config })}\n`, 0o600);
}

/**
 * The config that was kept for this node; null where there is none, or where the node was another,
 * or had another underlay address, port or VNI.
 *
 * @param base what the command line says; it counts where it differs
 */
export function readLastConfig(
  base: Pick<AgentConfig, "node" | "stateDir" | "underlay" | "serviceHost" | "metrics" | "dataplane">,
): AgentConfig | null {
  try {
    const text = readFileSync(new StateDir(base.stateDir).configFile, "utf8");
    const { version, config } = JSON.parse(text) as { version: number; config: AgentConfig };
    if (version !== VERSION || config.node !== base.node) return null;
    const { address, port, vni } = config.underlay;
    const { underlay } = base;
    if (address !== underlay.address || port !== underlay.port || vni !== underlay.vni) return null;
    // The addresses of Services come from the API, the rest from the command line.
    const { vips = [], udpNodePorts = [], healthChecks = [] } = config.serviceHost ?? {};
    const serviceHost =
      base.serviceHost === null ? null : { ...base.serviceHost, vips, udpNodePorts, healthChecks };
    // The LAN hears of addresses when there are Services behind them, which only the API knows.
    return { ...config, ...base, serviceHost, announce: null };
  } catch {
    // None, or a damaged one: the API has it all.
    return null;
  }
}
