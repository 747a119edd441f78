/**
 * What the agent tells about itself under /podwire/ of the pod port, read-only, as JSON:
 *
 *   GET /podwire/status                       what `podwire status` shows
 *   GET /podwire/counters                     frames and drops by reason
 *   GET /podwire/tables                       model/NodeTables
 *   GET /podwire/announcement                 what `podwire announce status` shows
 *   GET /podwire/flows?FILTER…&limit          {"flows": […], "more": bool}; filters as in FlowQuery
 *   GET /podwire/records?address…             model/NodeFlowRecords of flows with any of the addresses
 */
import type { NodeFlowRecords, NodeTables } from "../../model/NodeTables.js";
import type { FlowQuery, FlowView } from "../flowReport.js";
import { HttpRefusal } from "./refusals.js";

/** The agent, as far as it tells about itself. Each throws an Error with a message for whoever asks. */
export interface NodeState {
  status(): unknown;
  counters(): unknown;
  nodeTables(): Promise<NodeTables>;
  announcementStatus(): Promise<unknown>;
  listFlows(query: FlowQuery): Iterable<FlowView>;
  flowRecords(query: { addresses?: string[] }): NodeFlowRecords;
}

const TOPICS = ["status", "counters", "tables", "announcement", "flows", "records"] as const;
export type StateTopic = (typeof TOPICS)[number];

/** Flows in an answer, where the request does not say how many, and at most. */
const DEFAULT_LIMIT = 10_000;
const MOST_FLOWS = 100_000;
/** Of FlowQuery, the fields that are numbers. */
const NUMBERS: readonly string[] = [
  "protocol",
  "sourcePort",
  "destinationPort",
  "replySourcePort",
  "replyDestinationPort",
] satisfies (keyof FlowQuery)[];

/** Whether something is told under this name. */
export function isTopic(name: string): name is StateTopic {
  return (TOPICS as readonly string[]).includes(name);
}

/** The answer to a request, perhaps a promise of it. Throws an HttpRefusal where it is asked wrongly. */
export function answerOf(state: NodeState, topic: StateTopic, query: URLSearchParams): unknown {
  switch (topic) {
    case "status":
      return state.status();
    case "counters":
      return state.counters();
    case "tables":
      return state.nodeTables();
    case "announcement":
      return state.announcementStatus();
    case "flows":
      return refused(() => flowsOf(state, query));
    case "records":
      return refused(() => state.flowRecords({ addresses: query.getAll("address") }));
  }
}

function flowsOf(state: NodeState, query: URLSearchParams): { flows: FlowView[]; more: boolean } {
  const limit = Math.min(numberOf("limit", query.get("limit") ?? String(DEFAULT_LIMIT)), MOST_FLOWS);
  const wanted: Record<string, string | number> = {};
  for (const [name, text] of query)
    if (name !== "limit") wanted[name] = NUMBERS.includes(name) ? numberOf(name, text) : text;
  const flows: FlowView[] = [];
  for (const flow of state.listFlows(wanted)) {
    if (flows.length === limit) return { flows, more: true };
    flows.push(flow);
  }
  return { flows, more: false };
}

function numberOf(name: string, text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new HttpRefusal(400, `${name}: "${text}" must be a whole number`);
}

/** What is wrong with a query is the asker's matter. */
function refused<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof HttpRefusal ? error : new HttpRefusal(400, (error as Error).message);
  }
}
