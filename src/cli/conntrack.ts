/** `podwire conntrack`: the flows that the agent on this node tracks, in the manner of conntrack(8). */
import { Command, Option } from "commander";
import type { FlowQuery, FlowStats, FlowView, FlowViewKey } from "../agent/flowReport.js";
import { type DirectoryOptions, directoryOptions, withAgent, write } from "./agentSocket.js";

/** Options of `filtered`. */
export interface FilterOptions extends DirectoryOptions {
  proto?: string;
  state?: string;
  origSrc?: string;
  origDst?: string;
  origPortSrc?: string;
  origPortDst?: string;
  replySrc?: string;
  replyDst?: string;
  replyPortSrc?: string;
  replyPortDst?: string;
  service?: string;
  ingress?: string;
}

interface Options extends FilterOptions {
  output?: "json" | "wide";
  json?: true;
}

const PROTOCOLS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, sctp: 132 };
const ICMP = 1;
/** Lines are written in pieces of this length. */
const PIECE = 65_536;

/** The subcommand. */
export function conntrackCommand(): Command {
  return new Command("conntrack")
    .description("Show, count and remove the flows that the agent on this node tracks.")
    .addCommand(
      filtered("list")
        .description("list flows, those of a filter or all, in the manner of `conntrack -L`")
        .addOption(
          new Option(
            "-o, --output <format>",
            "json: an object a line; wide: with age, flags and tags too",
          ).choices(["json", "wide"]),
        )
        .action((options: Options) => run(options, list)),
    )
    .addCommand(
      filtered("flush")
        .description(
          "remove flows, those of a filter or all. A TCP connection to a Service that goes on is taken up again only\n" +
            "where its backend is still the one that it would get.",
        )
        .action((options: Options) => run(options, flush)),
    )
    .addCommand(
      directoryOptions(new Command("stats"))
        .description("show how full the table is, and what became of flows")
        .option("--json", "print JSON")
        .action((options: Options) => run(options, stats)),
    );
}

/** A command with conntrack's options for a filter, and ours. */
export function filtered(name: string): Command {
  return directoryOptions(new Command(name))
    .option("-p, --proto <name>", "tcp, udp, icmp, sctp, or a number")
    .option("-s, --orig-src <address[/length]>", "client")
    .option("-d, --orig-dst <address[/length]>", "what the client asked for")
    .option("--sport, --orig-port-src <port>", "client's port")
    .option("--dport, --orig-port-dst <port>", "port that the client asked for")
    .option("-r, --reply-src <address[/length]>", "where replies come from: the backend")
    .option("-q, --reply-dst <address>", "where replies go")
    .option("--reply-port-src <port>", "the backend's port")
    .option("--reply-port-dst <port>", "port that replies go to")
    .option("--state <name>", "ESTABLISHED, SYN_SENT, …")
    .option("--service <namespace/name>", "flows of a Service")
    .option("--ingress <address>", "flows that came through the VTEP with this underlay address");
}

/** Runs a subcommand's work on the agent's socket. */
function run(options: Options, work: (socket: string, options: Options) => Promise<void>): Promise<void> {
  return withAgent(options, (socket) => work(socket, options));
}

async function list(socket: string, options: Options): Promise<void> {
  const { askAll } = await import("../agent/StatusServer.js");
  const format =
    options.output === "json" ? JSON.stringify : (flow: FlowView) => line(flow, options.output === "wide");
  let text = "";
  for await (const flow of askAll<FlowView>(socket, "flows", queryOf(options))) {
    text += `${format(flow)}\n`;
    if (text.length < PIECE) continue;
    await write(text);
    text = "";
  }
  await write(text);
}

async function flush(socket: string, options: Options): Promise<void> {
  const { ask } = await import("../agent/StatusServer.js");
  const { removed } = await ask<{ removed: number }>(socket, "flushFlows", queryOf(options));
  process.stdout.write(`${removed} ${removed === 1 ? "flow" : "flows"} removed\n`);
}

async function stats(socket: string, options: Options): Promise<void> {
  const { ask } = await import("../agent/StatusServer.js");
  const answer = await ask<FlowStats>(socket, "flowStats");
  if (options.json) {
    process.stdout.write(`${JSON.stringify(answer, null, 2)}\n`);
    return;
  }
  const { flows, capacity, egress, counters } = answer;
  const rows: [string, number][] = [
    ["flows", flows],
    ["capacity", capacity],
    ["egress", egress],
    ...Object.entries(counters),
  ];
  for (const [name, value] of rows) process.stdout.write(`${name.padEnd(18)}${value}\n`);
}

// ---- filter -----------------------------------------------------------------------------------

/** What the options of `filtered` ask for. Throws on a number that is none. */
export function queryOf(options: FilterOptions): FlowQuery {
  const { proto, origSrc, origDst, replySrc, replyDst, state, service, ingress } = options;
  return {
    protocol:
      proto === undefined ? undefined : (PROTOCOLS[proto.toLowerCase()] ?? number("--proto", proto, 255)),
    state,
    source: origSrc,
    sourcePort: port("--sport", options.origPortSrc),
    destination: origDst,
    destinationPort: port("--dport", options.origPortDst),
    replySource: replySrc,
    replySourcePort: port("--reply-port-src", options.replyPortSrc),
    replyDestination: replyDst,
    replyDestinationPort: port("--reply-port-dst", options.replyPortDst),
    service,
    ingress,
  };
}

function port(option: string, text: string | undefined): number | undefined {
  return text === undefined ? undefined : number(option, text, 65_535);
}

function number(option: string, text: string, max: number): number {
  const value = Number(text);
  if (text !== "" && Number.isInteger(value) && value >= 0 && value <= max) return value;
  throw new Error(`${option}: "${text}" is no number up to ${max}`);
}

// ---- output -----------------------------------------------------------------------------------

/** As `conntrack -L` writes it: protocol, seconds left, state, both directions, what is special. */
export function line(flow: FlowView, wide: boolean): string {
  const { protocol, protocolNumber, timeout, state, unreplied, original, reply, service, ingress } = flow;
  const stateful = protocol === "tcp" || protocol === "sctp";
  const parts = [
    `${protocol.padEnd(8)} ${protocolNumber} ${timeout}`,
    ...(stateful ? [state] : []),
    direction(protocolNumber, original, false),
    ...(unreplied ? ["[UNREPLIED]"] : []),
    direction(protocolNumber, reply, true),
    ...(service === "" ? [] : [`service=${service}`]),
    ...(ingress === "" ? [] : [`ingress=${ingress}`]),
  ];
  if (wide) {
    const tag = (name: string, value: number) => (value === 0 ? [] : [`${name}=0x${value.toString(16)}`]);
    parts.push(`age=${flow.age}`, ...tag("tag", original.tag), ...tag("reply-tag", reply.tag));
    if (!stateful) parts.push(`state=${state}`);
    if (flow.flags.length > 0) parts.push(`flags=${flow.flags.join(",")}`);
  }
  return parts.join(" ");
}

/** An echo's identifier stands where the asker's port would. */
function direction(protocol: number, key: FlowViewKey, reply: boolean): string {
  const { source, destination, sourcePort, destinationPort } = key;
  const addresses = `src=${source} dst=${destination}`;
  if (protocol !== ICMP) return `${addresses} sport=${sourcePort} dport=${destinationPort}`;
  return `${addresses} type=${reply ? 0 : 8} code=0 id=${reply ? destinationPort : sourcePort}`;
}
