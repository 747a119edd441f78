/**
 * `npm run bench -- micro`: what the dataplane's parts cost without I/O. Absolute figures, which
 * say where time goes; how fast podwire is, `net` says.
 */

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { describeMachine, formatMachine } from "../machine.js";
import { formatNumber, renderTable } from "../table.js";
import { checksumSuite } from "./checksum.js";
import { lookupSuite } from "./lookup.js";
import { flowSuite, pipelineSuite, stageSuite } from "./pipeline.js";
import { type MicroResult, type MicroSuite, runSuite } from "./suite.js";

const SUITES: Record<string, () => MicroSuite> = {
  checksum: checksumSuite,
  lookup: lookupSuite,
  stages: stageSuite,
  pipeline: pipelineSuite,
  flows: flowSuite,
};

const HELP = `npm run bench -- micro [options]

  --suites a,b     ${Object.keys(SUITES).join(",")} (default all)
  --seconds S      time for each case (default 0.5)
  --json FILE      write the figures to FILE`;

const EXIT_USAGE = 2;

/** Runs the suites. `root` is the checkout. Returns the process's exit code. */
export async function runMicro(args: readonly string[], root: string): Promise<number> {
  let names: string[];
  let seconds: number;
  let json: string | undefined;
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        suites: { type: "string", default: Object.keys(SUITES).join(",") },
        seconds: { type: "string", default: "0.5" },
        json: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (values.help) {
      console.log(HELP);
      return 0;
    }
    names = values.suites.split(",");
    seconds = Number(values.seconds);
    json = values.json;
    const unknown = names.find((name) => SUITES[name] === undefined);
    if (unknown !== undefined) throw new Error(`unknown suite ${unknown}`);
    if (!(seconds > 0)) throw new Error("--seconds takes a number above 0");
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${HELP}`);
    return EXIT_USAGE;
  }
  const machine = describeMachine(root, {});
  console.log(`${formatMachine(machine)}\n`);
  const written: { suite: string; unit: string; results: MicroResult[] }[] = [];
  for (const name of names) {
    const suite = SUITES[name]();
    const results = await runSuite(suite, seconds);
    written.push({ suite: suite.title, unit: suite.unit, results });
    console.log(`## ${suite.title}\n\n${formatSuite(suite, results)}\n`);
  }
  if (json !== undefined) writeFileSync(json, `${JSON.stringify({ machine, suites: written }, null, 2)}\n`);
  return 0;
}

function formatSuite(suite: MicroSuite, results: readonly MicroResult[]): string {
  const head = ["", `ns per ${suite.unit}`, "spread", `million ${suite.unit}s/s`];
  if (suite.cumulative) head.push("step, ns");
  return renderTable({
    head,
    rows: results.map((result, index) => {
      const row = [
        result.name,
        formatNumber(result.nanoseconds, 1),
        `${formatNumber(result.min, 1)}–${formatNumber(result.max, 1)}`,
        formatNumber(1000 / result.nanoseconds, 2),
      ];
      if (suite.cumulative) {
        const before = index === 0 ? 0 : results[index - 1].nanoseconds;
        row.push(formatNumber(result.nanoseconds - before, 1));
      }
      return row;
    }),
  });
}
