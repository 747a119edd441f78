/**
 * `npm run bench -- control`: what a change costs the control side, without packets, kernel and
 * network: objects in, table image out, in one process. Absolute figures against the limits that
 * the design sets.
 */

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type BlockObject, type NodeObject, Overlay } from "../../src/desired/nodes.js";
import { LocalPods, type PodObject } from "../../src/desired/pods.js";
import { FakeHost } from "../../src/host/FakeHost.js";
import { Informer } from "../../src/kube/Informer.js";
import type { KubeApi } from "../../src/kube/KubeApi.js";
import { PODS } from "../../src/kube/resources.js";
import type { Pod } from "../../src/kube/types.js";
import type { AgentConfig } from "../../src/model/AgentConfig.js";
import { parseIpv4 } from "../../src/model/ipv4.js";
import { type HostRecord, Reconciler } from "../../src/reconcile/Reconciler.js";
import { buildTableImage } from "../../src/tables/TableImage.js";
import type { WorkerControl } from "../../src/worker/control.js";
import { agentBase } from "../../test/support/agentBase.js";
import { describeMachine, formatMachine } from "../machine.js";
import { median } from "../stats.js";
import { formatNumber, renderTable } from "../table.js";
import {
  block,
  type ClusterTexts,
  clusterTexts,
  node,
  nodeName,
  pod,
  tunnelAddress,
  underlayAddress,
} from "./cluster.js";
import { measureServices, type ServiceFigures } from "./services.js";

const HELP = `npm run bench -- control [options]

  --nodes N        nodes (default 1000)
  --pods N         pods on each node (default 30)
  --services N     services of 10 endpoints, and a hundredth as many of 1,000 (default 10000)
  --repeat N       repetitions of the compile from scratch; ten times as many of each change (default 5)
  --json FILE      write the figures to FILE`;

const EXIT_USAGE = 2;
const EXIT_MISSED = 1;

/** Limits in milliseconds. */
const FROM_SCRATCH = 2000;
const ONE_CHANGE = 10;
const ONE_ENDPOINT = 5;

interface Figure {
  name: string;
  milliseconds: number[];
  limit: number | null;
}

/** Runs it. `root` is the checkout. Returns the process's exit code: 1 where a limit was missed. */
export async function runControl(args: readonly string[], root: string): Promise<number> {
  let nodes: number;
  let pods: number;
  let services: number;
  let repeat: number;
  let json: string | undefined;
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        nodes: { type: "string", default: "1000" },
        pods: { type: "string", default: "30" },
        services: { type: "string", default: "10000" },
        repeat: { type: "string", default: "5" },
        json: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (values.help) {
      console.log(HELP);
      return 0;
    }
    [nodes, pods, services, repeat] = [values.nodes, values.pods, values.services, values.repeat].map(
      Number,
    ) as [number, number, number, number];
    json = values.json;
    for (const [name, value, most] of [
      ["nodes", nodes, 8000],
      ["pods", pods, 60],
      ["services", services, 100_000],
      ["repeat", repeat, 1000],
    ] as const)
      if (!Number.isInteger(value) || value < 2 || value > most)
        throw new Error(`--${name} takes a whole number from 2 to ${most}`);
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${HELP}`);
    return EXIT_USAGE;
  }
  const machine = describeMachine(root, {});
  console.log(`${formatMachine(machine)}\n`);
  const figures = await measure(clusterTexts(nodes, pods), nodes, pods, repeat);
  console.log(`## control: ${nodes} nodes, ${nodes * pods} pods, ${pods} of them on this node\n`);
  printFigures(figures);
  const large = Math.ceil(services / 100);
  const measured = measureServices(nodes, services, large, repeat);
  const { used, reserved, heap } = measured.memory;
  console.log(`\n## services: ${services} of 10 endpoints and ${large} of 1,000\n`);
  printFigures(serviceFigures(measured));
  console.log(
    `\nmemory: ${mebibytes(used)} MiB of shared tables in use (${mebibytes(reserved)} reserved), ${mebibytes(heap)} MiB of heap for what they are compiled from`,
  );
  figures.push(...serviceFigures(measured));
  if (json !== undefined)
    writeFileSync(
      json,
      `${JSON.stringify({ machine, nodes, pods, services, figures, memory: measured.memory }, null, 2)}\n`,
    );
  const missed = figures.filter(({ milliseconds, limit }) => limit !== null && median(milliseconds) > limit);
  for (const { name } of missed) console.log(`\nmissed: ${name}`);
  return missed.length === 0 ? 0 : EXIT_MISSED;
}

function printFigures(figures: Figure[]): void {
  console.log(
    renderTable({
      head: ["", "median, ms", "spread", "limit, ms"],
      rows: figures.map(({ name, milliseconds, limit }) => [
        name,
        formatNumber(median(milliseconds), 2),
        `${formatNumber(Math.min(...milliseconds), 2)}–${formatNumber(Math.max(...milliseconds), 2)}`,
        limit === null ? "–" : String(limit),
      ]),
    }),
  );
}

function serviceFigures({ compile, smallChange, largeChange, service }: ServiceFigures): Figure[] {
  return [
    { name: "from scratch: objects to service table", milliseconds: compile, limit: FROM_SCRATCH },
    { name: "one endpoint of 10 goes or comes", milliseconds: smallChange, limit: ONE_ENDPOINT },
    { name: "one endpoint of 1,000 goes or comes", milliseconds: largeChange, limit: ONE_ENDPOINT },
    { name: "one service goes or comes", milliseconds: service, limit: ONE_ENDPOINT },
  ];
}

function mebibytes(bytes: number): string {
  return formatNumber(bytes / 2 ** 20, 1);
}

/** Everything that is measured of nodes and pods, in the order of the table. */
export async function measure(
  texts: ClusterTexts,
  nodes: number,
  pods: number,
  repeat: number,
): Promise<Figure[]> {
  const scratch: number[] = [];
  const copies: number[] = [];
  for (let i = 0; i < repeat; i++) {
    copies.push(await timed(() => copyPods(texts)));
    scratch.push(
      await timed(async () => {
        const bench = new Bench(pods);
        bench.load(texts);
        await bench.start();
        await bench.stop();
      }),
    );
  }
  const bench = new Bench(pods);
  bench.load(texts);
  await bench.start();
  const each = async (change: (i: number) => boolean) => {
    const times: number[] = [];
    for (let i = 0; i < repeat * 10; i++) {
      const before = bench.images;
      let effective = false;
      times.push(
        await timed(async () => {
          effective = change(i);
          if (effective) await bench.apply();
        }),
      );
      if (effective && bench.images === before) throw new Error("a change did not reach the tables");
    }
    return times;
  };
  const spare = pods + 1;
  const figures: Figure[] = [
    {
      name: "from scratch: JSON to table image, devices included",
      milliseconds: scratch,
      limit: FROM_SCRATCH,
    },
    { name: "copy of all pods, by node (controllers)", milliseconds: copies, limit: FROM_SCRATCH },
    {
      name: "one pod of this node comes or goes",
      milliseconds: await each((i) => bench.togglePod(pod(0, spare) as PodObject, i % 2 === 0)),
      limit: ONE_CHANGE,
    },
    {
      name: "one node's underlay address changes",
      milliseconds: await each((i) =>
        bench.overlay.setNode(node(1, underlayAddress(i % 2 === 0 ? nodes + 1 : 1)) as NodeObject),
      ),
      limit: ONE_CHANGE,
    },
    {
      name: "one node goes or comes",
      milliseconds: await each((i) =>
        i % 2 === 0 ? bench.overlay.removeNode(nodeName(1)) : bench.overlay.setNode(node(1) as NodeObject),
      ),
      limit: ONE_CHANGE,
    },
    {
      name: "a pod elsewhere gets an address: no new tables",
      milliseconds: await each((i) => bench.overlay.setBlock(block(2, pods + (i % 2)) as BlockObject)),
      limit: ONE_CHANGE,
    },
  ];
  await bench.stop();
  return figures;
}

/** What a worker that does nothing has counted. */
const NOTHING = { packets: 0, bytes: 0 };
const NO_LOOP = { boundsUs: [], counts: [0], sumUs: 0 };

/** Overlay, pods and reconciler of node 0, over a host and a worker that are not there. */
class Bench {
  readonly overlay = new Overlay({ node: nodeName(0), underlayAddress: underlayAddress(0), vxlanPort: 4789 });
  images = 0;
  private readonly pods = new LocalPods("/run/netns/{namespace}.{name}", 1000);
  private readonly host = new FakeHost();
  private readonly reconciler: Reconciler;

  constructor(private readonly podsPerNode: number) {
    const own = this.host.namespaces.get("")!;
    const eth0 = own.addLink("eth0", { up: true });
    own.addressTable.push({ index: eth0.index, address: parseIpv4(underlayAddress(0))!, length: 16 });
    const worker: WorkerControl = {
      attachPort: async () => {},
      detachPort: async () => {},
      publish: async () => {},
      ping: async () => {},
      publishServices: async () => {},
      flushFlows: async () => 0,
      drain: async () => {},
      announcement: async () => ({ carrier: true, drained: false, settled: true, vips: [], sessions: [] }),
      counters: () => ({ received: 0, forwarded: 0, answered: 0, dropped: {}, other: {}, loop: NO_LOOP }),
      vtepTraffic: () => ({ received: NOTHING, sent: NOTHING }),
      serviceTraffic: () => ({ requests: NOTHING, replies: NOTHING }),
      startCapture: async () => {},
      stopCapture: async () => {},
      clockOffsetNs: () => 0n,
      stop: async () => {},
    };
    let devices: ReturnType<HostRecord["devices"]> = [];
    this.reconciler = new Reconciler({
      host: this.host,
      worker,
      buildImage: (input) => {
        this.images++;
        return buildTableImage(input);
      },
      record: {
        devices: () => devices,
        write: (next) => {
          devices = next;
        },
        routing: () => null,
        // serviceHost is null: nothing is changed.
        writeRouting: () => {},
      },
      // A device may be opened again at once.
      now: () => this.images * 10_000,
    });
  }

  load(texts: ClusterTexts): void {
    this.overlay.setPool({ metadata: { name: "default" }, spec: { cidr: "10.0.0.0/8" } });
    for (const each of JSON.parse(texts.nodes) as NodeObject[]) this.overlay.setNode(each);
    for (const each of JSON.parse(texts.blocks) as BlockObject[]) this.overlay.setBlock(each);
    for (const each of JSON.parse(texts.ownPods) as PodObject[]) this.pods.set(each);
    for (let i = 1; i <= this.podsPerNode + 1; i++) {
      const { metadata } = pod(0, i) as PodObject;
      this.host.addNamespace(`/run/netns/default.${metadata.name}`);
    }
  }

  togglePod(object: PodObject, there: boolean): boolean {
    return there ? this.pods.set(object) : this.pods.remove(object);
  }

  start(): Promise<void> {
    return this.reconciler.start(this.config());
  }

  apply(): Promise<void> {
    return this.reconciler.reconfigure(this.config(), "changed");
  }

  async stop(): Promise<void> {
    await this.reconciler.halt();
    this.reconciler.close();
  }

  private config(): AgentConfig {
    const { podPool, blocks, vteps } = this.overlay.compile();
    const base = agentBase(nodeName(0), underlayAddress(0));
    return {
      ...base,
      podPool,
      blocks,
      tunnelAddress: tunnelAddress(0),
      vteps,
      pods: this.pods.compile(podPool).pods,
      announce: null,
      services: [],
      dataplane: { ...base.dataplane, tunnelGso: "off" },
    };
  }
}

/** What a controller keeps of all pods: a list, taken over into an informer with an index. */
async function copyPods(texts: ClusterTexts): Promise<void> {
  const api = {
    list: async () => ({ items: JSON.parse(texts.pods) as Pod[], resourceVersion: "1" }),
    watch: (_: unknown, __: unknown, ___: unknown, signal: AbortSignal) =>
      new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true })),
  } as unknown as KubeApi;
  const copy = new Informer<Pod>(api, PODS, { indices: { node: ({ spec }) => [spec?.nodeName ?? ""] } });
  copy.start();
  await copy.synced;
  if (copy.byIndex("node", nodeName(0)).length === 0) throw new Error("the copy is empty");
  await copy.stop();
}

async function timed(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
