/** An agent that tells about itself, without an agent: tables of k8s-master, and flows that are given. */
import { FlowReport } from "../../src/agent/flowReport.js";
import { base64Of } from "../../src/agent/nodeTables.js";
import type { NodeState } from "../../src/agent/podPort/nodeState.js";
import { Services } from "../../src/desired/services.js";
import { NODE_TABLES_VERSION } from "../../src/model/NodeTables.js";
import { FlowReader } from "../../src/tables/FlowReader.js";
import type { FlowTable } from "../../src/tables/FlowTable.js";
import { buildTableImage } from "../../src/tables/TableImage.js";
import { tableInput } from "./dataplane.js";
import { newTable } from "./flows.js";

export function fakeNodeState(flows: FlowTable = newTable(64)): NodeState {
  const services = new Services({ node: "n1", externalIpRanges: [] });
  const report = new FlowReport(new FlowReader(flows.words.buffer), services, () => 0);
  return {
    status: () => ({ node: "n1" }),
    counters: () => ({ received: 7 }),
    announcementStatus: async () => ({ addresses: [] }),
    nodeTables: async () => ({
      version: NODE_TABLES_VERSION,
      node: "n1",
      image: base64Of(buildTableImage(tableInput())),
      services: "",
      pods: [],
      vteps: [],
      liveness: { up: [], down: [] },
      servicePorts: [],
      host: null,
      announced: [],
    }),
    listFlows: (query) => report.list(query),
    flowRecords: (query) => report.records(query),
  };
}
