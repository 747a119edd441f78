/** `podwire ipam`: shows, checks and mends the addresses that the cluster's pods have. */
import { readFile, writeFile } from "node:fs/promises";
import { Command } from "commander";
import type { KubeApi } from "../kube/KubeApi.js";
import { wholeNumber } from "./arguments.js";

/** The API, from a kubeconfig file or from where kubectl finds it. */
export type Connect = (kubeconfig: string | undefined) => Promise<{ kube: KubeApi; close(): void }>;

/** What commander cannot see of a wrong command line. */
class UsageError extends Error {}

/** The subcommand. */
export function ipamCommand(connect: Connect = connectByKubeconfig): Command {
  const ipam = new Command("ipam").description(
    "Show, check and mend the addresses of pods: pools, blocks, allocations.",
  );
  add(ipam, "show", "Show how much of each pool is in use, or who has one address.")
    .option("--show-blocks", "show each block too: its node, its state, what others have borrowed")
    .option("--ip <address>", "show who has this address")
    .option("--json", "print JSON")
    .action(guarded(connect, show));
  add(ipam, "check", "Check that all pools, blocks, pods and nodes agree. Exit status 1 where they do not.")
    .option("-o, --output <file>", "write a report that `podwire ipam release --from-report` reads")
    .option("--json", "print JSON")
    .action(guarded(connect, runCheck));
  add(
    ipam,
    "release",
    "Release an address that nobody uses. Agents do so by themselves; this is for what they left.",
  )
    .option("--ip <address>", "the address; whoever has it must not use it any more")
    .option(
      "--from-report <file>",
      "all leaked addresses of a report that `podwire ipam check --output` wrote",
    )
    .action(guarded(connect, release));
  add(ipam, "split", "Split a pool into equal smaller ones. Addresses in use stay in use.")
    .argument("<number>", "how many; a power of 2", wholeNumber(2))
    .option("--name <pool>", "the pool, by name")
    .option("--cidr <cidr>", "the pool, by CIDR")
    .action(guarded(connect, split));
  return ipam;
}

function add(parent: Command, name: string, description: string): Command {
  return parent
    .command(name)
    .description(description)
    .option("--kubeconfig <file>", "kubeconfig (default: KUBECONFIG, then ~/.kube/config)");
}

async function show(kube: KubeApi, options: { showBlocks?: true; ip?: string; json?: true }): Promise<void> {
  const { findAddress, readPoolsAndBlocks } = await import("../ipam/admin.js");
  const { addressText, usages, usageTable } = await import("../ipam/report.js");
  if (options.ip !== undefined) {
    const { block, allocation } = await findAddress(kube, options.ip);
    if (options.json)
      print(json({ address: options.ip, block: block ?? null, allocation: allocation ?? null }));
    else print(addressText(options.ip, block, allocation));
    return;
  }
  const lines = usages(await readPoolsAndBlocks(kube));
  print(options.json ? json(lines) : usageTable(lines, options.showBlocks === true));
}

async function runCheck(kube: KubeApi, options: { output?: string; json?: true }): Promise<void> {
  const { readObjects } = await import("../ipam/admin.js");
  const { check } = await import("../ipam/check.js");
  const { checkText } = await import("../ipam/report.js");
  const report = check(await readObjects(kube));
  if (options.output !== undefined) await writeFile(options.output, json(report));
  print(options.json ? json(report) : checkText(report));
  // A warning alone is no disagreement.
  if (report.findings.some(({ severity }) => severity !== "warning")) process.exitCode = 1;
}

async function release(kube: KubeApi, options: { ip?: string; fromReport?: string }): Promise<void> {
  const { releaseAddress } = await import("../ipam/admin.js");
  const { leaksOfReport } = await import("../ipam/report.js");
  if ((options.ip === undefined) === (options.fromReport === undefined))
    throw new UsageError("give either --ip or --from-report");
  const wanted =
    options.ip === undefined
      ? leaksOfReport(await readFile(options.fromReport!, "utf8"))
      : [{ address: options.ip, handle: undefined, sequence: undefined }];
  for (const { address, handle, sequence } of wanted) {
    const expected = handle === undefined ? undefined : { handle, sequence: sequence! };
    const freed = await releaseAddress(kube, address, expected);
    print(freed === null ? `${address}: nothing to release\n` : `${address}: released (${freed.handle})\n`);
  }
}

async function split(
  kube: KubeApi,
  options: { name?: string; cidr?: string },
  [parts]: [number],
): Promise<void> {
  const { poolByCidr, readPoolsAndBlocks, splitPool } = await import("../ipam/admin.js");
  const { name, cidr } = options;
  if ((name === undefined) === (cidr === undefined)) throw new UsageError("give either --name or --cidr");
  const pool = name ?? poolByCidr((await readPoolsAndBlocks(kube)).pools, cidr!).metadata.name!;
  const children = await splitPool(kube, pool, parts);
  for (const child of children) print(`${child.metadata.name}  ${child.spec.cidr}\n`);
}

/** An action with a client; errors become one line. Commander gives arguments, options, command. */
function guarded<O extends object, A extends unknown[]>(
  connect: Connect,
  action: (kube: KubeApi, options: O, args: A) => Promise<void>,
): (...given: unknown[]) => Promise<void> {
  return async (...given) => {
    const options = given.at(-2) as O & { kubeconfig?: string };
    try {
      const { kube, close } = await connect(options.kubeconfig);
      try {
        await action(kube, options, given.slice(0, -2) as A);
      } finally {
        close();
      }
    } catch (error) {
      process.stderr.write(`${(error as Error).message}\n`);
      process.exitCode = error instanceof UsageError ? 2 : 1;
    }
  };
}

async function connectByKubeconfig(kubeconfig: string | undefined): ReturnType<Connect> {
  const { KubeClient } = await import("../kube/KubeClient.js");
  const client = await (kubeconfig === undefined
    ? KubeClient.fromDefault()
    : KubeClient.fromFile(kubeconfig));
  return { kube: client, close: () => client.close() };
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function print(text: string): void {
  process.stdout.write(text);
}
