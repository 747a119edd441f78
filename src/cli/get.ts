/** `podwire get`: what the agent on this node has counted and tracks, as tables or JSON, once or watched. */
import { setTimeout as sleep } from "node:timers/promises";
import { Command, Option } from "commander";
import { askAll } from "../agent/StatusServer.js";
import { directoryOptions, withAgent, write } from "./agentSocket.js";
import { interval } from "./arguments.js";
import { type FilterOptions, filtered, queryOf } from "./conntrack.js";
import { DROPS, type DropView, dropViews, FLOWS, SERVICES, type View, VTEPS } from "./getViews.js";
import { table } from "./table.js";

export interface GetOptions extends FilterOptions {
  output?: "json" | "wide";
  watch?: true;
  interval: number;
}

/** Rows are aligned, and written, so many at a time: a flow table has hundreds of thousands. */
const CHUNK = 1000;

/** The subcommand. */
export function getCommand(): Command {
  const get = new Command("get").description(
    "List what the agent on this node tracks and has counted. Counts are totals since the agent's dataplane started.",
  );
  const add = <T>(
    command: Command,
    what: string,
    view: View<T>,
    read: (socket: string, options: GetOptions) => AsyncIterable<T>,
  ) =>
    get.addCommand(
      listed(command)
        .description(what)
        .action((options: GetOptions) =>
          withAgent(options, (socket) => show(view, () => read(socket, options), options)),
        ),
    );
  add(filtered("flows"), "flows that are tracked, those of a filter or all", FLOWS, (socket, options) =>
    askAll(socket, "flows", queryOf(options)),
  );
  add(plain("services"), "service ports, with the traffic that this node translates", SERVICES, (socket) =>
    askAll(socket, "services"),
  );
  add(plain("vteps"), "the other nodes, with the traffic between", VTEPS, (socket) =>
    askAll(socket, "vteps"),
  );
  add(plain("drops"), "why frames were dropped", DROPS, drops);
  return get;
}

function plain(name: string): Command {
  return directoryOptions(new Command(name));
}

function listed(command: Command): Command {
  return command
    .addOption(
      new Option("-o, --output <format>", "json: an object a line; wide: more columns").choices([
        "json",
        "wide",
      ]),
    )
    .option("-w, --watch", "go on, and print what changes")
    .option("--interval <seconds>", "between two looks, with --watch", interval, 1);
}

async function* drops(socket: string): AsyncGenerator<DropView> {
  for await (const counters of askAll<Parameters<typeof dropViews>[0]>(socket, "counters"))
    yield* dropViews(counters);
}

/** Lists once, then, if watched, what is new or different at each look. */
async function show<T>(
  view: View<T>,
  read: () => AsyncIterable<T>,
  { output, watch, interval }: GetOptions,
): Promise<void> {
  let known = new Map<string, string>();
  for (let first = true; ; first = false) {
    const now = new Map<string, string>();
    const changed: T[] = [];
    for await (const item of read()) {
      if (watch) {
        const key = view.key(item);
        const text = JSON.stringify(item);
        now.set(key, text);
        if (known.get(key) === text) continue;
      }
      changed.push(item);
      if (changed.length === CHUNK) await write(lines(view, changed.splice(0), output, first));
    }
    if (changed.length > 0 || first) await write(lines(view, changed, output, first));
    if (!watch) return;
    known = now;
    await sleep(interval * 1000);
  }
}

/** Items as they are printed; the table's head is there at the first look. */
export function lines<T>(
  view: View<T>,
  items: readonly T[],
  output: GetOptions["output"],
  first: boolean,
): string {
  if (output === "json") return items.map((item) => `${JSON.stringify(item)}\n`).join("");
  const columns = output === "wide" ? view.head.length + view.wide.length : view.head.length;
  const head = [...view.head, ...view.wide].slice(0, columns);
  const rows = items.map((item) => view.row(item).slice(0, columns));
  const text = table(head, rows);
  return (first ? text : text.slice(1)).map((line) => `${line}\n`).join("");
}
