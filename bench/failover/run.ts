/**
 * `npm run bench -- failover`: how long a load-balancer address is away when its owner fails, and what
 * becomes of connections through it, beside keepalived.
 *
 * All variants are up at once. For each repetition every fault of every variant is measured in turn, with
 * endpoints that stay and with endpoints that come and go.
 */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Launcher } from "../command.js";
import { describeMachine, formatMachine } from "../machine.js";
import { formatDuration, formatNumber } from "../table.js";
import { accounted } from "../testbed/accounting.js";
import { MeasureError } from "../testbed/measures.js";
import { clearEarlierRuns, inSession, obstacle, sleep } from "../testbed/session.js";
import { TestbedError } from "../testbed/TestbedError.js";
import { workDirectory } from "../testbed/topology.js";
import type { Bed, Fault } from "./Bed.js";
import { estimate, FAILOVER_HELP, type FailoverOptions, parseFailoverOptions } from "./options.js";
import { PodwireBed } from "./PodwireBed.js";
import { type FailoverResult, formatFailover, missed } from "./report.js";
import { type Churn, measureFault, measureKeeping, type Trial, type TrialOptions } from "./trial.js";
import { makeBed, type Variant } from "./variants.js";

/** Programs, and the Debian packages that have them. */
const PROGRAMS: Record<string, string> = {
  ip: "iproute2",
  ping: "iputils-ping",
  curl: "curl",
  nginx: "nginx",
  "redis-server": "redis-server",
};
const PEER_PROGRAMS: Record<string, string> = { keepalived: "keepalived" };
/** Before each repetition, to see what else the machine does. */
const PAUSE_MS = 400;

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** Runs the benchmark. `root` is the checkout. Returns the process's exit code. */
export async function runFailover(args: readonly string[], root: string): Promise<number> {
  let parsed: FailoverOptions | "help";
  try {
    parsed = parseFailoverOptions(args);
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${FAILOVER_HELP}`);
    return EXIT_USAGE;
  }
  if (parsed === "help") {
    console.log(FAILOVER_HELP);
    return 0;
  }
  const options = parsed;
  const withPeer = options.variants.some(({ profile }) => profile === null);
  const problem = obstacle("failover", { ...PROGRAMS, ...(withPeer ? PEER_PROGRAMS : {}) });
  if (problem !== null) {
    console.error(problem);
    return EXIT_USAGE;
  }
  clearEarlierRuns();
  const machine = describeMachine(root, {
    ...(withPeer ? { keepalived: ["keepalived", "--version"] } : {}),
    curl: ["curl", "--version"],
    nginx: ["nginx", "-v"],
    redis: ["redis-server", "--version"],
  });
  console.log(`${formatMachine(machine)}\n`);
  console.log(
    `${options.variants.length} variants, ${options.faults.join(", ")}, ${options.repetitions} repetitions: about ${formatDuration(estimate(options))}\n`,
  );
  const result = await new FailoverRun(options, join(root, "dist", "cli", "main.js")).measureAll();
  console.log(formatFailover(result, options.variants));
  const misses = missed(result, options.variants);
  if (misses.length > 0) console.log(`\nNot as wanted:\n${misses.map((each) => `- ${each}`).join("\n")}`);
  if (options.json !== null)
    writeFileSync(options.json, `${JSON.stringify({ machine, options, ...result }, null, 2)}\n`);
  const incomplete = result.errors.length > 0 || Object.keys(result.failed).length > 0;
  return incomplete || misses.length > 0 ? EXIT_FAILED : 0;
}

/** The order of things. */
class FailoverRun {
  private readonly launcher = new Launcher(workDirectory());
  private beds: { variant: Variant; bed: Bed }[] = [];
  private readonly result: FailoverResult = { cases: [], otherCores: [], errors: [], failed: {} };

  constructor(
    private readonly options: FailoverOptions,
    private readonly program: string,
  ) {}

  /** Measures everything. Leaves nothing behind, however it ends. */
  async measureAll(): Promise<FailoverResult> {
    const sets = () => this.beds.map(({ bed }) => bed.set);
    return inSession(this.launcher, sets, async () => {
      for (const [index, variant] of this.options.variants.entries()) await this.bringUp(variant, index);
      for (let repetition = 0; repetition < this.options.repetitions; repetition++) {
        const { cpu } = await accounted([], () => sleep(PAUSE_MS));
        this.result.otherCores.push((cpu.machine - cpu.processes) / cpu.seconds);
        const order = repetition % 2 === 0 ? this.beds : [...this.beds].reverse();
        for (const fault of this.options.faults)
          for (const { variant, bed } of order) await this.measureBoth(variant, bed, fault, repetition);
      }
      for (const { bed } of this.beds) await bed.down();
      this.beds = [];
      return this.result;
    });
  }

  /** One that fails is left out. */
  private async bringUp(variant: Variant, index: number): Promise<void> {
    const bed = makeBed(this.launcher, variant, index, this.program);
    this.beds.push({ variant, bed });
    try {
      await bed.up();
    } catch (error) {
      if (!(error instanceof TestbedError)) throw error;
      await this.leaveOut(bed, variant, error);
    }
  }

  private async measureBoth(variant: Variant, bed: Bed, fault: Fault, repetition: number): Promise<void> {
    const options = { connections: this.options.connections, afterMs: variant.afterMs };
    if (!bed.faults.includes(fault)) return;
    // The peer knows no endpoints.
    const churns: readonly Churn[] = bed instanceof PodwireBed ? this.options.endpoints : ["stable"];
    for (const churn of churns) {
      if (!this.beds.some((each) => each.bed === bed)) return;
      const trial = await this.measureOne(variant, bed, fault, churn, repetition, options);
      this.caseOf(variant, fault, churn).trials.push(trial);
      const gap = formatNumber(trial?.outage.gapMs ?? Number.NaN, 0);
      const where = `${repetition + 1}/${this.options.repetitions} ${variant.key} ${fault} ${churn}`;
      const kept = trial?.living ? `, ${trial.living.intact} of ${trial.living.connections} kept` : "";
      console.error(
        `${where.padEnd(40)} gap ${gap} ms, ${trial?.refused ?? "–"} of ${trial?.connections ?? "–"} failed${kept}`,
      );
    }
  }

  private async measureOne(
    variant: Variant,
    bed: Bed,
    fault: Fault,
    churn: Churn,
    repetition: number,
    options: TrialOptions,
  ): Promise<Trial | null> {
    try {
      return bed instanceof PodwireBed
        ? await measureKeeping(this.launcher, bed, fault, churn, options)
        : await measureFault(this.launcher, bed, fault, options);
    } catch (error) {
      if (error instanceof TestbedError) await this.leaveOut(bed, variant, error);
      else if (error instanceof MeasureError)
        this.result.errors.push({
          repetition: repetition + 1,
          where: `${variant.key}, ${fault}, ${churn} endpoints`,
          message: error.message,
        });
      else throw error;
      return null;
    }
  }

  private async leaveOut(bed: Bed, variant: Variant, error: TestbedError): Promise<void> {
    console.error(`${variant.title}: ${error.message}`);
    this.result.failed[variant.key] = error.message;
    await bed.down();
    this.beds = this.beds.filter((each) => each.bed !== bed);
  }

  private caseOf(variant: Variant, fault: Fault, endpoints: Churn) {
    const { cases } = this.result;
    const found = cases.find(
      (each) => each.variant === variant.key && each.fault === fault && each.endpoints === endpoints,
    );
    if (found !== undefined) return found;
    const made = { variant: variant.key, fault, endpoints, trials: [] as (Trial | null)[] };
    cases.push(made);
    return made;
  }
}
