/**
 * `npm run bench -- service`: Services through podwire beside those of kube-proxy-shaped rules.
 *
 * For each number of Services: all variants are set up, their Services loaded (timed, while nothing
 * else runs), checked and warmed up. Then, for each repetition and each test, every variant and every
 * way through it is measured in turn, in reverse order in every second repetition.
 */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Launcher } from "../command.js";
import { describeMachine, formatMachine, type Machine } from "../machine.js";
import { formatDuration, formatNumber } from "../table.js";
import { accounted } from "../testbed/accounting.js";
import { type Measure, MeasureError, someTcp, someUdp } from "../testbed/measures.js";
import { emptyRecords, noteError, record } from "../testbed/records.js";
import { clearEarlierRuns, inSession, obstacle, sleep } from "../testbed/session.js";
import { TestbedError } from "../testbed/TestbedError.js";
import { workDirectory } from "../testbed/topology.js";
import { checkSpread } from "./check.js";
import { applies, isRepeated } from "./measures.js";
import { estimate, parseServiceOptions, SERVICE_HELP, type ServiceOptions } from "./options.js";
import { formatLevel, type LevelResult } from "./report.js";
import { ServiceBed } from "./ServiceBed.js";
import { type BenchService, makeServices } from "./services.js";
import { seriesKey, type Variant, type Way, waysOf } from "./variants.js";

/** Programs, and the Debian packages that have them. */
const PROGRAMS: Record<string, string> = {
  ip: "iproute2",
  bridge: "iproute2",
  nft: "nftables",
  "iptables-nft-restore": "iptables",
  iperf3: "iperf3",
  ping: "iputils-ping",
  curl: "curl",
  wrk: "wrk",
  nginx: "nginx",
  "redis-server": "redis-server",
  "redis-benchmark": "redis-tools",
};
/** Before each repetition, to see what else the machine does. */
const PAUSE_MS = 400;
const WARM_UP_SECONDS = 1;

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** Runs the benchmark. `root` is the checkout. Returns the process's exit code. */
export async function runService(args: readonly string[], root: string): Promise<number> {
  let parsed: ServiceOptions | "help";
  try {
    parsed = parseServiceOptions(args);
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${SERVICE_HELP}`);
    return EXIT_USAGE;
  }
  if (parsed === "help") {
    console.log(SERVICE_HELP);
    return 0;
  }
  const options = parsed;
  const problem = obstacle("service", PROGRAMS);
  if (problem !== null) {
    console.error(problem);
    return EXIT_USAGE;
  }
  clearEarlierRuns();
  const machine = describeMachine(root, {
    iptables: [`iptables-${options.iptables}`, "--version"],
    nftables: ["nft", "--version"],
    iperf3: ["iperf3", "--version"],
    wrk: ["wrk", "--version"],
    nginx: ["nginx", "-v"],
    redis: ["redis-server", "--version"],
  });
  console.log(`${formatMachine(machine)}\n`);
  console.log(
    `${options.variants.length} variants at ${options.services.join(", ")} services (the measured ones ${options.position}), ` +
      `iptables-${options.iptables}, ${options.repetitions} repetitions of ${options.seconds} s: ` +
      `about ${formatDuration(estimate(options))}\n`,
  );
  const run = new ServiceRun(options, join(root, "dist", "cli", "main.js"));
  const results = await run.measureAll((result) => {
    console.log(`${formatLevel(result, options.measures, options.variants)}\n`);
  });
  if (options.json !== null) writeJson(options.json, machine, options, results);
  const failed = results.some((result) => result.errors.length > 0 || Object.keys(result.failed).length > 0);
  return failed ? EXIT_FAILED : 0;
}

/** The order of things. */
class ServiceRun {
  private readonly launcher = new Launcher(workDirectory());
  private beds: ServiceBed[] = [];
  private sets = 0;

  constructor(
    private readonly options: ServiceOptions,
    private readonly agentProgram: string,
  ) {}

  /** Measures every number of Services in turn, and shows each. Leaves nothing behind, however it ends. */
  async measureAll(show: (result: LevelResult) => void): Promise<LevelResult[]> {
    const sets = () => this.beds.map((bed) => bed.set);
    return inSession(this.launcher, sets, async () => {
      const results: LevelResult[] = [];
      for (const count of this.options.services) {
        const result = await this.measureLevel(count);
        show(result);
        results.push(result);
      }
      return results;
    });
  }

  private async measureLevel(count: number): Promise<LevelResult> {
    const result: LevelResult = {
      services: count,
      loads: {},
      checks: {},
      otherCores: [],
      failed: {},
      ...emptyRecords(),
    };
    const services = makeServices(count, this.options.position);
    for (const variant of this.options.variants) await this.bringUp(variant, services, result);
    for (const bed of this.beds) await this.warmUp(bed, result);
    const visits = this.beds.flatMap((bed) => waysOf(bed.variant).map((way) => ({ bed, way })));
    for (let repetition = 0; repetition < this.options.repetitions; repetition++) {
      const order = repetition % 2 === 0 ? visits : [...visits].reverse();
      for (const bed of this.beds) bed.nextRepetition();
      const pids = this.beds.flatMap((bed) => bed.agentPids());
      const { cpu } = await accounted(pids, () => sleep(PAUSE_MS));
      result.otherCores.push((cpu.machine - cpu.processes) / cpu.seconds);
      const last = repetition === this.options.repetitions - 1;
      for (const measure of this.options.measures.filter((each) => last || isRepeated(each))) {
        const shown: string[] = [];
        for (const { bed, way } of order)
          if (applies(measure, way)) shown.push(await this.measureOne(bed, way, measure, repetition, result));
        const progress = `${count} services ${repetition + 1}/${this.options.repetitions} ${measure.key}`;
        console.error(`${progress.padEnd(30)} ${shown.join("  ")}`);
      }
    }
    console.error("");
    for (const bed of this.beds) await bed.down();
    this.beds = [];
    return result;
  }

  /** Sets one variant up, with its Services in effect and checked. One that fails is left out. */
  private async bringUp(
    variant: Variant,
    services: readonly BenchService[],
    result: LevelResult,
  ): Promise<void> {
    const bed = new ServiceBed(this.launcher, variant, this.sets++, this.agentProgram, this.options.iptables);
    this.beds.push(bed);
    try {
      await bed.up();
      const seconds = await bed.load(services);
      const check = await checkSpread(this.launcher, bed);
      result.loads[variant.key] = seconds;
      result.checks[variant.key] = check;
      const shown = seconds.map((each) => formatNumber(each, 3)).join(" and ");
      console.error(`${variant.key}: ${services.length} services loaded in ${shown} s`);
    } catch (error) {
      if (!(error instanceof TestbedError)) throw error;
      console.error(`${variant.title} did not come up: ${error.message}`);
      result.failed[variant.key] = error.message;
      await bed.down();
      this.beds = this.beds.filter((other) => other !== bed);
    }
  }

  /** Gives the agents' code time to be compiled. */
  private async warmUp(bed: ServiceBed, result: LevelResult): Promise<void> {
    if (bed.variant.translator !== "podwire") return;
    for (const way of waysOf(bed.variant)) {
      try {
        await someTcp(this.launcher, bed.pathOf(way), WARM_UP_SECONDS);
        await someUdp(this.launcher, bed.pathOf(way), WARM_UP_SECONDS);
      } catch (error) {
        noteError(result, {
          repetition: 0,
          test: "warm-up",
          variant: seriesKey(bed.variant, way),
          error,
        });
      }
    }
  }

  /** One test of one way. Records what came of it; returns a word for the progress line. */
  private measureOne(
    bed: ServiceBed,
    way: Way,
    measure: Measure,
    repetition: number,
    result: LevelResult,
  ): Promise<string> {
    return record(result, { series: seriesKey(bed.variant, way), measure, repetition }, () => {
      if (!bed.agentsAlive()) throw new MeasureError(`an agent ended\n${bed.agentLogs()}`);
      return measure.run({
        launcher: this.launcher,
        path: bed.pathOf(way),
        seconds: this.options.seconds,
      });
    });
  }
}

function writeJson(
  file: string,
  machine: Machine,
  options: ServiceOptions,
  results: readonly LevelResult[],
): void {
  const { measures, variants, ...rest } = options;
  const written = {
    machine,
    options: rest,
    figures: measures.flatMap((measure) => measure.figures),
    variants,
    levels: results,
  };
  writeFileSync(file, `${JSON.stringify(written, null, 2)}\n`);
}
