/** What an agent is told of its node, where a test has no node. */
import type { AgentConfig } from "../../src/model/AgentConfig.js";

/** A dataplane with a small flow table. */
const DATAPLANE: AgentConfig["dataplane"] = {
  tunnelGso: "auto",
  uso: "auto",
  threads: 1,
  spinMicroseconds: 50,
  cpuLatency: "auto",
  maxFlows: 1024,
};

/** The part of a config that no cluster says: that of `node`, whose address on the LAN is `address`. */
export function agentBase(node: string, address: string, stateDir = "/nowhere") {
  const underlay = { address, port: 4789, vni: 4096, mtu: null };
  return { node, stateDir, underlay, serviceHost: null, metrics: null, dataplane: DATAPLANE };
}
