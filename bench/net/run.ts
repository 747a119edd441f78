/**
 * `npm run bench -- net`: podwire beside the kernel's vxlan, in one run.
 *
 * For each kind of LAN: all variants are set up at once, warmed up, and what they put on the wire
 * is looked at. Then, for each repetition and each test, every variant is measured in turn, in
 * reverse order in every second repetition: whatever else the machine does hits all alike. Only
 * one variant carries traffic at any time; that idle agents take nothing is measured too.
 */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Launcher } from "../command.js";
import { describeMachine, formatMachine, type Machine } from "../machine.js";
import { formatDuration } from "../table.js";
import { accounted } from "../testbed/accounting.js";
import { type Measure, MeasureError, someTcp, someUdp } from "../testbed/measures.js";
import { emptyRecords, noteError, record } from "../testbed/records.js";
import { clearEarlierRuns, inSession, obstacle, sleep } from "../testbed/session.js";
import { TestbedError } from "../testbed/TestbedError.js";
import { type LanKind, workDirectory } from "../testbed/topology.js";
import { TARGETS } from "./measures.js";
import { NET_HELP, type NetOptions, parseNetOptions } from "./options.js";
import { formatLan, type LanResult, wireHolds } from "./report.js";
import { Testbed } from "./Testbed.js";
import { BASE_KEY, type Variant } from "./variants.js";
import { captureWire } from "./wire.js";

/** Programs, and the Debian packages that have them. */
const PROGRAMS: Record<string, string> = {
  ip: "iproute2",
  bridge: "iproute2",
  iperf3: "iperf3",
  ping: "iputils-ping",
  wrk: "wrk",
  nginx: "nginx",
  ethtool: "ethtool",
  tcpdump: "tcpdump",
};
const IDLE_SECONDS = 1;
/** Before each repetition, to see what else the machine does. */
const PAUSE_MS = 400;
const WARM_UP_SECONDS = 1;
/** Set-up, warm-up and the look at the wire, for each variant. */
const PREPARE_SECONDS = 6;

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** Runs the benchmark. `root` is the checkout. Returns the process's exit code. */
export async function runNet(args: readonly string[], root: string): Promise<number> {
  let parsed: NetOptions | "help";
  try {
    parsed = parseNetOptions(args);
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${NET_HELP}`);
    return EXIT_USAGE;
  }
  if (parsed === "help") {
    console.log(NET_HELP);
    return 0;
  }
  const options = parsed;
  const problem = obstacle("net", PROGRAMS);
  if (problem !== null) {
    console.error(problem);
    return EXIT_USAGE;
  }
  clearEarlierRuns();

  const machine = describeMachine(root, {
    iperf3: ["iperf3", "--version"],
    wrk: ["wrk", "--version"],
    nginx: ["nginx", "-v"],
    ping: ["ping", "-V"],
  });
  console.log(`${formatMachine(machine)}\n`);
  console.log(
    `${options.variants.length} variants, ${options.repetitions} repetitions of ${options.seconds} s: ` +
      `about ${formatDuration(estimate(options))}\n`,
  );
  const run = new NetRun(options, join(root, "dist", "cli", "main.js"));
  const results = await run.measureAll((result) => {
    console.log(`${formatLan(result, options.measures, options.variants)}\n`);
  });
  if (options.json !== null) writeJson(options.json, machine, options, results);
  return results.some(hasFailed) ? EXIT_FAILED : 0;
}

/** Something is not as it should be: the tables say what. */
function hasFailed(result: LanResult): boolean {
  return (
    result.errors.length > 0 ||
    Object.keys(result.failed).length > 0 ||
    (result.kind === "no-offload" && !Object.values(result.wire).every(wireHolds))
  );
}

/** The order of things, and the clearing up. */
class NetRun {
  private readonly options: NetOptions;
  private readonly agentProgram: string;
  private readonly launcher = new Launcher(workDirectory());
  private beds: Testbed[] = [];
  private sets = 0;

  constructor(options: NetOptions, agentProgram: string) {
    this.options = options;
    this.agentProgram = agentProgram;
  }

  /** Measures every kind of LAN in turn, and shows each. Leaves nothing behind, however it ends. */
  async measureAll(show: (result: LanResult) => void): Promise<LanResult[]> {
    const sets = () => this.beds.map((bed) => bed.set);
    return inSession(this.launcher, sets, async () => {
      const results: LanResult[] = [];
      for (const kind of this.options.lans) {
        const result = await this.measureLan(kind);
        show(result);
        results.push(result);
      }
      return results;
    });
  }

  private async measureLan(kind: LanKind): Promise<LanResult> {
    const result: LanResult = {
      kind,
      wire: {},
      idleCores: 0,
      otherCores: [],
      failed: {},
      memory: {},
      ...emptyRecords(),
    };
    for (const variant of this.options.variants) await this.bringUp(variant, kind, result);
    const beds = this.beds;
    await sleep(500);
    const pids = beds.flatMap((bed) => bed.agentPids());
    const { cpu: idle } = await accounted(pids, () => sleep(IDLE_SECONDS * 1000));
    result.idleCores = idle.processes / idle.seconds;
    for (const bed of beds) {
      result.values[bed.variant.key] = {};
      try {
        result.wire[bed.variant.key] = await this.warmUp(bed);
      } catch (error) {
        noteError(result, { repetition: 0, test: "warm-up", variant: bed.variant.key, error });
      }
    }
    for (let repetition = 0; repetition < this.options.repetitions; repetition++) {
      const order = repetition % 2 === 0 ? beds : [...beds].reverse();
      for (const bed of beds) bed.unpaced.clear();
      const { cpu: other } = await accounted(pids, () => sleep(PAUSE_MS));
      result.otherCores.push((other.machine - other.processes) / other.seconds);
      for (const measure of this.options.measures) {
        const shown: string[] = [];
        for (const bed of order) shown.push(await this.measureOne(bed, measure, repetition, result));
        const progress = `${kind} ${repetition + 1}/${this.options.repetitions} ${measure.key}`;
        console.error(`${progress.padEnd(26)} ${shown.join("  ")}`);
      }
    }
    for (const bed of beds) result.memory[bed.variant.key] = bed.agentMemory();
    console.error("");
    for (const bed of beds) await bed.down();
    this.beds = [];
    return result;
  }

  /** Sets one variant up. Without the kernel's there is nothing to compare with; others may fail. */
  private async bringUp(variant: Variant, kind: LanKind, result: LanResult): Promise<void> {
    const bed = new Testbed(this.launcher, variant, this.sets++, this.agentProgram);
    this.beds.push(bed);
    try {
      await bed.up(kind);
    } catch (error) {
      if (variant.key === BASE_KEY || !(error instanceof TestbedError)) throw error;
      console.error(`${variant.title} did not come up: ${error.message}`);
      result.failed[variant.key] = error.message;
      this.beds = this.beds.filter((other) => other !== bed);
      await bed.down();
    }
  }

  /** Gives the agents' code time to be compiled, and looks at the wire meanwhile. */
  private async warmUp(bed: Testbed) {
    const wire = await captureWire(this.launcher, bed.set, () =>
      someTcp(this.launcher, bed, WARM_UP_SECONDS),
    );
    if (bed.variant.overlay === "podwire") {
      await someTcp(this.launcher, bed, WARM_UP_SECONDS);
      await someUdp(this.launcher, bed, WARM_UP_SECONDS);
    }
    return wire;
  }

  /** One test of one variant. Records what came of it; returns a word for the progress line. */
  private measureOne(bed: Testbed, measure: Measure, repetition: number, result: LanResult): Promise<string> {
    return record(result, { series: bed.variant.key, measure, repetition }, () => {
      if (!bed.agentsAlive()) throw new MeasureError(`an agent ended\n${bed.agentLogs()}`);
      return measure.run({ launcher: this.launcher, path: bed, seconds: this.options.seconds });
    });
  }
}

/** Seconds that a run will take, about. */
function estimate(options: NetOptions): number {
  const visit = options.measures.reduce((sum, measure) => sum + measure.estimate(options.seconds), 0);
  return options.lans.length * options.variants.length * (PREPARE_SECONDS + options.repetitions * visit);
}

function writeJson(file: string, machine: Machine, options: NetOptions, results: LanResult[]): void {
  const { measures, variants, ...rest } = options;
  const written = {
    machine,
    options: {
      ...rest,
      tests: measures.map((measure) => measure.key),
      variants: variants.map((variant) => variant.key),
    },
    figures: measures.flatMap((measure) => measure.figures),
    targets: TARGETS,
    variants,
    lans: results,
  };
  writeFileSync(file, `${JSON.stringify(written, null, 2)}\n`);
}
