/**
 * The flow table as people ask for it: queries checked, numbers of Services turned into names and
 * back. Reads shared memory; removing is left to the dataplane.
 */
import { z } from "zod";
import type { Services } from "../desired/services.js";
import { formatIpv4, parseCidr, parseIpv4 } from "../model/ipv4.js";
import type { NodeFlowRecords } from "../model/NodeTables.js";
import type { FlowKey, FlowReader, FlowRecord } from "../tables/FlowReader.js";
import { type FlowFilter, flowTests } from "../tables/flowFilter.js";
import { FLOW_STATES, FLOW_WORDS, STATE_FREE, STATE_NAMES } from "../tables/flowLayout.js";
import { base64Of } from "./nodeTables.js";

const ADDRESS = z
  .string()
  .refine((text) => parseCidr(text.includes("/") ? text : `${text}/32`) !== null, "is no address or prefix");
const PORT = z.number().int().min(0).max(65535);

const schema = z.strictObject({
  /** IPv4 protocol number. */
  protocol: z.number().int().min(0).max(255).optional(),
  /** Name of a state; UNREPLIED and REPLIED are those of several protocols. */
  state: z.string().optional(),
  /** The client, and what it asked for. An address or a prefix. */
  source: ADDRESS.optional(),
  sourcePort: PORT.optional(),
  destination: ADDRESS.optional(),
  destinationPort: PORT.optional(),
  /** Where replies come from, and where they go. */
  replySource: ADDRESS.optional(),
  replySourcePort: PORT.optional(),
  replyDestination: z.ipv4().optional(),
  replyDestinationPort: PORT.optional(),
  /** namespace/name. */
  service: z.string().optional(),
  /** Underlay address of the VTEP that the flow came through. */
  ingress: z.ipv4().optional(),
});

const recordsSchema = z.strictObject({ addresses: z.array(z.ipv4()).optional() });

/** Raw records that are handed out at once. */
const MOST_RECORDS = 65_536;

/** Which flows are meant; what is absent matches all. */
export type FlowQuery = z.infer<typeof schema>;

/** One direction of a flow. */
export interface FlowViewKey {
  source: string;
  destination: string;
  /** ICMP echo: the identifier, on the side of the one who asks. */
  sourcePort: number;
  destinationPort: number;
  tag: number;
}

/** A flow in words. */
export interface FlowView {
  protocol: string;
  protocolNumber: number;
  state: string;
  /** Seconds until it ends if no packet comes, and since it began. */
  timeout: number;
  age: number;
  /** When it began, by the node's monotonic clock: milliseconds modulo 2^32, as int32. */
  began: number;
  unreplied: boolean;
  original: FlowViewKey;
  reply: FlowViewKey;
  /** namespace/name:port; "" where it has none, or one that is gone. */
  service: string;
  /** Underlay address of the VTEP that it came through, "" for none. */
  ingress: string;
  flags: string[];
}

export interface FlowStats {
  flows: number;
  capacity: number;
  /** Of the flows, those behind a port of the node. */
  egress: number;
  counters: ReturnType<FlowReader["counters"]>;
}

export class FlowReport {
  /** @param now milliseconds of the clock that the dataplane goes by, modulo 2^32 */
  constructor(
    private readonly reader: FlowReader,
    private readonly services: Services,
    private readonly now: () => number = monotonicMs,
  ) {}

  /** The flows that a query means. Throws where the query is none. */
  *list(query: unknown): Generator<FlowView> {
    const now = this.now();
    // Filters of one query do not overlap.
    for (const filter of this.filters(query))
      for (const flow of this.reader.list(filter, now)) yield this.view(flow, now);
  }

  /** The records of flows that any of these addresses is in, raw; of all flows where there is none. */
  records(query: unknown): NodeFlowRecords {
    const { addresses = [] } = checked(recordsSchema, query);
    const wanted = addresses.length === 0 ? null : new Set(addresses.map((text) => parseIpv4(text)!));
    const { words, truncated } = this.reader.copy(wanted, MOST_RECORDS);
    return {
      nowMs: this.now(),
      recordWords: FLOW_WORDS,
      records: base64Of(words.buffer),
      affinities: base64Of(this.reader.affinities(wanted, MOST_RECORDS).buffer),
      truncated,
    };
  }

  /** The same as tests for the dataplane. */
  tests(query: unknown): Int32Array[] {
    return this.filters(query).map(flowTests);
  }

  /** How many flows match a filter. */
  count(filter: FlowFilter): number {
    return this.reader.count(filter);
  }

  get capacity(): number {
    return this.reader.capacity;
  }

  get size(): number {
    return this.reader.size;
  }

  counters(): ReturnType<FlowReader["counters"]> {
    return this.reader.counters();
  }

  private filters(raw: unknown): FlowFilter[] {
    const { service, state, source, destination, replySource, ...query } = checked(schema, raw);
    const base: FlowFilter = {
      protocol: query.protocol,
      ...prefixed("source", source),
      sourcePort: query.sourcePort,
      ...prefixed("destination", destination),
      destinationPort: query.destinationPort,
      ...prefixed("backendAddress", replySource),
      backendPort: query.replySourcePort,
      replyDestination: addressOf(query.replyDestination),
      replyPort: query.replyDestinationPort,
      ingress: addressOf(query.ingress),
    };
    return this.serviceIds(service).flatMap((id) =>
      statesOf(state).map((number) => ({ ...base, service: id, state: number })),
    );
  }

  private serviceIds(service: string | undefined): (number | undefined)[] {
    if (service === undefined) return [undefined];
    const [name = "", namespace = "default"] = service.split("/").reverse();
    const ids = this.services.idsOf(namespace, name);
    if (ids.length === 0) throw new Error(`there is no service ${namespace}/${name}`);
    return ids;
  }

  private view(flow: FlowRecord, now: number): FlowView {
    return {
      protocol: flow.protocolName,
      protocolNumber: flow.protocol,
      state: flow.stateName,
      timeout: Math.ceil(flow.remainingMs / 1000),
      age: Math.floor(flow.ageMs / 1000),
      began: (now - flow.ageMs) | 0,
      unreplied: flow.unreplied,
      original: viewOf(flow.original),
      reply: viewOf(flow.reply),
      service: flow.service === 0 ? "" : (this.services.nameOf(flow.service) ?? ""),
      ingress: flow.ingress === 0 ? "" : formatIpv4(flow.ingress),
      flags: flow.flags,
    };
  }
}

/** A query of the schema's. Throws where it is none. */
function checked<T>(wanted: z.ZodType<T>, raw: unknown): T {
  const parsed = wanted.safeParse(raw);
  if (parsed.success) return parsed.data;
  const [{ path, message } = { path: [], message: "" }] = parsed.error.issues;
  throw new Error([path.join("."), message].filter((part) => part !== "").join(": "));
}

/** CLOCK_MONOTONIC, as native code reads it, in milliseconds modulo 2^32. */
function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n) | 0;
}

function viewOf(key: FlowKey): FlowViewKey {
  return { ...key, source: formatIpv4(key.source), destination: formatIpv4(key.destination) };
}

function statesOf(name: string | undefined): (number | undefined)[] {
  if (name === undefined) return [undefined];
  const wanted = name.toUpperCase();
  const found = Array.from({ length: FLOW_STATES }, (_, state) => state).filter(
    (state) => state !== STATE_FREE && STATE_NAMES[state] === wanted,
  );
  if (found.length > 0) return found;
  const names = [...new Set(STATE_NAMES.filter((_, state) => state !== STATE_FREE))];
  throw new Error(`there is no state ${name}; states are ${names.join(", ")}`);
}

function prefixed(field: "source" | "destination" | "backendAddress", text: string | undefined): FlowFilter {
  if (text === undefined) return {};
  const { address, length } = parseCidr(text.includes("/") ? text : `${text}/32`)!;
  return { [field]: address, [`${field}Length`]: length };
}

function addressOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : parseIpv4(text)!;
}
