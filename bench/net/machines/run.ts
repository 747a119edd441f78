/**
 * `npm run bench -- net --target vagrant|ssh`: the tests of `bench net` between pods of two nodes of a
 * running cluster, beside a kernel vxlan device between the same two. The order is that of `net`: for each
 * repetition and each test both variants in turn, in reverse order in every second repetition.
 */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { vagrantSshConfig } from "../../../test/support/ssh.js";
import { Launcher } from "../../command.js";
import { someTcp, someUdp } from "../../testbed/measures.js";
import { emptyRecords, noteError, type Records, record } from "../../testbed/records.js";
import { inSession } from "../../testbed/session.js";
import { TestbedError } from "../../testbed/TestbedError.js";
import { workDirectory } from "../../testbed/topology.js";
import { selectVariants, type Variant } from "../variants.js";
import { clear, findNode, makeKernelEnds, makePods } from "./ends.js";
import { Machine, type Surroundings } from "./Machine.js";
import { MACHINES_HELP, type MachinesOptions, parseMachinesOptions } from "./options.js";
import { Path } from "./Path.js";
import { formatMachines } from "./report.js";

const MASTER = "k8s-master";
const [KERNEL] = selectVariants(["kernel"], [1]) as [Variant];
/** As the cluster's nodes have chosen to send. */
const PODWIRE: Variant = {
  key: "podwire",
  title: "podwire",
  overlay: "podwire",
  dataplane: {},
  target: null,
  scraped: false,
  unscraped: null,
};
export const VARIANTS: readonly Variant[] = [KERNEL, PODWIRE];

/** Programs of both ends, and the Debian packages that have them. */
const PROGRAMS = { iperf3: "iperf3", wrk: "wrk", nginx: "nginx", ping: "iputils-ping", ss: "iproute2" };
const WARM_UP_SECONDS = 1;

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** Runs the benchmark. `root` is the checkout. Returns the process's exit code. */
export async function runOnMachines(args: readonly string[], root: string): Promise<number> {
  let options: MachinesOptions | "help";
  try {
    options = parseMachinesOptions(args);
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${MACHINES_HELP}`);
    return EXIT_USAGE;
  }
  if (options === "help") {
    console.log(MACHINES_HELP);
    return 0;
  }
  const chosen = options;
  const launcher = new Launcher(workDirectory());
  return inSession(
    launcher,
    () => [],
    async () => {
      try {
        const config = sshConfigOf(chosen, root);
        const machine = (name: string) => new Machine(launcher, config, name);
        const ends = [machine(chosen.nodes[0]), machine(chosen.nodes[1])] as const;
        return await measure(chosen, launcher, machine(MASTER), ends);
      } catch (error) {
        if (!(error instanceof TestbedError)) throw error;
        console.error(error.message);
        return EXIT_FAILED;
      }
    },
  );
}

/** Vagrant's goes into the work directory. */
function sshConfigOf({ target, sshConfig }: MachinesOptions, root: string): string {
  if (target === "ssh") return sshConfig;
  const file = join(workDirectory(), "ssh_config");
  writeFileSync(file, vagrantSshConfig(join(root, "vagrant")));
  return file;
}

/** Sets up, measures, prints, and clears up on the machines, also what a killed run has left there. */
async function measure(
  options: MachinesOptions,
  launcher: Launcher,
  master: Machine,
  ends: readonly [Machine, Machine],
): Promise<number> {
  await clear(master, ends);
  const surroundings: Record<string, Surroundings> = {};
  for (const machine of ends) {
    await machine.install(PROGRAMS);
    surroundings[machine.name] = await machine.surroundings();
  }
  try {
    const nodes = [await findNode(master, ends[0]), await findNode(master, ends[1])] as const;
    const paths = [
      new Path(KERNEL, ...(await makeKernelEnds(nodes))),
      new Path(PODWIRE, ...(await makePods(master, nodes))),
    ];
    for (const path of paths) await path.up();
    const records = await measureAll(options, launcher, paths);
    console.log(formatMachines(options, surroundings, records, VARIANTS));
    if (options.json !== null) writeJson(options.json, options, surroundings, records);
    return records.errors.length > 0 ? EXIT_FAILED : 0;
  } finally {
    await clear(master, ends);
  }
}

async function measureAll(
  options: MachinesOptions,
  launcher: Launcher,
  paths: readonly Path[],
): Promise<Records> {
  const records = emptyRecords();
  for (const path of paths) {
    records.values[path.variant.key] = {};
    try {
      await someTcp(launcher, path, WARM_UP_SECONDS);
      await someUdp(launcher, path, WARM_UP_SECONDS);
    } catch (error) {
      noteError(records, { repetition: 0, test: "warm-up", variant: path.variant.key, error });
    }
  }
  for (let repetition = 0; repetition < options.repetitions; repetition++) {
    const order = repetition % 2 === 0 ? paths : [...paths].reverse();
    for (const path of paths) path.unpaced.clear();
    for (const test of options.measures) {
      const shown: string[] = [];
      for (const path of order)
        shown.push(
          await record(records, { series: path.variant.key, measure: test, repetition }, () =>
            test.run({ launcher, path, seconds: options.seconds }),
          ),
        );
      const progress = `${repetition + 1}/${options.repetitions} ${test.key}`;
      console.error(`${progress.padEnd(16)} ${shown.join("  ")}`);
    }
  }
  console.error("");
  return records;
}

function writeJson(
  file: string,
  { measures, ...options }: MachinesOptions,
  machines: Readonly<Record<string, Surroundings>>,
  { values, details, errors }: Records,
): void {
  const tests = measures.map(({ key }) => key);
  const figures = measures.flatMap((each) => each.figures);
  const written = {
    machines,
    options: { ...options, tests },
    figures,
    variants: VARIANTS,
    values,
    details,
    errors,
  };
  writeFileSync(file, `${JSON.stringify(written, null, 2)}\n`);
}
