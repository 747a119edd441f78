/** What the agents of a simulated cluster would tell of it, as it is at this moment. */
import { base64Of } from "../../src/agent/nodeTables.js";
import type { NodeSource } from "../../src/explain/trace/TraceCluster.js";
import { NODE_TABLES_VERSION, type NodeTables } from "../../src/model/NodeTables.js";
import { FlowReader } from "../../src/tables/FlowReader.js";
import { FLOW_WORDS } from "../../src/tables/flowLayout.js";
import { frontendsOf, snapshotServices } from "../../src/tables/serviceSnapshot.js";
import { buildTableImage } from "../../src/tables/TableImage.js";
import { THIS_NODE } from "../../src/tables/VipTable.js";
import { OTHER_POD_PORT, POD_PORT, tableInput } from "./dataplane.js";
import { dotted } from "./frames.js";
import {
  KERNEL_NODE,
  NODE_NAMES,
  NODES,
  type NodeName,
  type SimulatedCluster,
} from "./model/SimulatedCluster.js";

/** A copy of everything that a trace asks of a node. */
export function sourceOf(cluster: SimulatedCluster, name: NodeName): NodeSource {
  const { services, test } = cluster.nodes[name];
  const own = NODES[name];
  const others = NODE_NAMES.filter((other) => other !== name);
  const peers = [...others.map((other) => NODES[other]), KERNEL_NODE];
  const image = buildTableImage(tableInput({ self: own, peers, kernelPeers: [KERNEL_NODE], egress: true }));
  const compiled = services.compile().image;
  const ids = [...new Set(frontendsOf(compiled).map(({ service }) => service))];
  const tables: NodeTables = {
    version: NODE_TABLES_VERSION,
    node: name,
    image: base64Of(image),
    services: base64Of(snapshotServices(compiled).buffer),
    pods: [
      { name: `default/${name}1`, address: own.pod, port: POD_PORT, interface: "eth0" },
      { name: `default/${name}2`, address: own.otherPod, port: OTHER_POD_PORT, interface: "eth0" },
    ],
    vteps: [...others, "k" as const].map((other) => {
      const { underlay, tunnel, vtepMac, block } = other === "k" ? KERNEL_NODE : NODES[other];
      return { node: other, address: underlay, tunnelAddress: tunnel, mac: vtepMac, blocks: [`${block}/26`] };
    }),
    liveness: livenessOf(cluster, name),
    servicePorts: ids.flatMap((id) => {
      const info = services.info(id);
      if (info === undefined) return [];
      const { name: port, protocol, l4Port } = info.port;
      return [{ id, service: info.service, port, protocol, l4Port, endpoints: [] }];
    }),
    host: {
      nodePortAddresses: [own.underlay],
      localhostNodePorts: true,
      nodePorts: { first: 30_000, last: 32_767 },
      egressPorts: { first: 61_000, last: 65_534 },
      egress: true,
      ranges: ["10.152.183.0/24"],
      vips: services.virtualAddresses().map(dotted),
      addresses: [own.underlay],
    },
    announced: [],
  };
  const reader = new FlowReader(test.flows.words.buffer);
  const { words } = reader.copy(null, 1 << 20);
  const nowMs = Math.floor(test.io.nowUs / 1000) | 0;
  const answer = {
    nowMs,
    recordWords: FLOW_WORDS,
    records: base64Of(words.buffer),
    affinities: base64Of(reader.affinities(null, 1 << 20).buffer),
    truncated: false,
  };
  const egressPorts = test.breather.dataplane.egressPorts.state();
  return { tables, flows: async () => answer, egressPorts };
}

function livenessOf(cluster: SimulatedCluster, name: NodeName): NodeTables["liveness"] {
  const { test, peers } = cluster.nodes[name];
  const { up, down } = test.breather.dataplane.liveness;
  return {
    up: [...(up[THIS_NODE] === 0 ? [] : [name]), ...peers.filter((_, vtep) => up[vtep] !== 0)],
    down: peers.filter((_, vtep) => down[vtep] !== 0),
  };
}

/** All three nodes, as they are now. */
export function sourcesOf(cluster: SimulatedCluster): NodeSource[] {
  return NODE_NAMES.map((name) => sourceOf(cluster, name));
}
