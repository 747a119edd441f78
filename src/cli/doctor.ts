/** `podwire doctor`: looks for what on this machine is in podwire's way. */
import { existsSync, readFileSync } from "node:fs";
import { Command, Option } from "commander";
import type { Finding, Severity } from "../doctor/checks.js";
import type { Wanted } from "../doctor/facts.js";

interface Options {
  address?: string;
  role?: "master" | "node";
  vxlanPort?: string;
  apiPort?: string;
  podPool: string;
  serviceRange?: string;
  runPods: boolean;
  output: "text" | "json";
}

/** The subcommand. */
export function doctorCommand(): Command {
  return new Command("doctor")
    .description(
      "Look for what on this machine is in podwire's way: kernel, rights, /dev/net/tun, programs, ports, MTU,\n" +
        "sysctls, rules of kube-proxy and of other pod networks, Docker's FORWARD policy, firewalls,\n" +
        "systemd-networkd, default routes; and say what to do about each. Changes nothing. Exit status 1 if\n" +
        "there is an error.",
    )
    .option("-a, --address <ip>", "this node's address on the LAN (default: as installed)")
    .addOption(
      new Option(
        "-r, --role <role>",
        "what this machine is, or will be (default: as installed, else node)",
      ).choices(["master", "node"]),
    )
    .option("--vxlan-port <port>", "UDP port of VXLAN (default: as installed, else 4789)")
    .option("--api-port <port>", "port of a master's API server (default: as installed, else 6443)")
    .option("--pod-pool <cidr>", "where pods' addresses come from", "10.1.0.0/16")
    .option(
      "--service-range <cidr>",
      "where ClusterIPs come from (default: as installed, else 10.152.183.0/24)",
    )
    .option("--no-run-pods", "a kubelet runs the pods")
    .addOption(new Option("-o, --output <format>", "format").choices(["text", "json"]).default("text"))
    .action(run);
}

async function run(options: Options): Promise<void> {
  const [{ readFacts }, { examine }, { NetlinkHost }, { native }] = await Promise.all([
    import("../doctor/readFacts.js"),
    import("../doctor/checks.js"),
    import("../host/NetlinkHost.js"),
    import("../binding/index.js"),
  ]);
  try {
    const facts = await readFacts(await wantedOf(options), new NetlinkHost(native));
    const findings = examine(facts);
    process.stdout.write(
      options.output === "json" ? `${JSON.stringify(findings, null, 2)}\n` : text(findings),
    );
    if (findings.some(({ severity }) => severity === "error")) process.exitCode = 1;
  } catch (error) {
    process.stderr.write(`podwire doctor: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}

/** What is said, else what is installed, else the defaults. */
async function wantedOf(options: Options): Promise<Wanted> {
  const { AGENT_ENV, APISERVER_ENV } = await import("../install/files.js");
  const agent = optionsIn(AGENT_ENV);
  const apiserver = optionsIn(APISERVER_ENV);
  const master = options.role === undefined ? existsSync(APISERVER_ENV) : options.role === "master";
  return {
    address: options.address ?? agent("--underlay-address"),
    vxlanPort: portOf("--vxlan-port", options.vxlanPort ?? agent("--vxlan-port") ?? "4789"),
    apiPort: master ? portOf("--api-port", options.apiPort ?? apiserver("--port") ?? "6443") : 0,
    runPods: options.runPods && (!existsSync(AGENT_ENV) || agent("--run-pods") !== null),
    podPool: options.podPool,
    serviceRange: options.serviceRange ?? agent("--service-cidr") ?? "10.152.183.0/24",
  };
}

function portOf(option: string, value: string): number {
  const port = Number(value);
  if (Number.isInteger(port) && port > 0 && port < 65536) return port;
  throw new Error(`${option}: "${value}" is no port`);
}

/** Finds options in what a unit reads: the word behind one, "" at the end, null where it is not there. */
function optionsIn(file: string): (option: string) => string | null {
  let words: string[] = [];
  try {
    words = readFileSync(file, "utf8")
      .split("\n")
      .filter((line) => !line.startsWith("#"))
      .flatMap((line) => line.slice(line.indexOf("=") + 1).split(/\s+/));
  } catch {
    // Not installed.
  }
  return (option) => {
    const at = words.indexOf(option);
    return at < 0 ? null : (words[at + 1] ?? "");
  };
}

const MARKS: Record<Severity, string> = {
  ok: "ok      ",
  advice: "advice  ",
  warning: "warning ",
  error: "ERROR   ",
};

function text(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ check }) => check.length));
  const lines = findings.flatMap(({ check, severity, message, remedy }) => [
    `${MARKS[severity]} ${check.padEnd(width)}  ${message}`,
    ...remedy.map((line) => `${" ".repeat(11 + width)}→ ${line}`),
  ]);
  const count = (severity: Severity) => findings.filter((each) => each.severity === severity).length;
  const [errors, warnings] = [count("error"), count("warning")];
  const sum =
    errors + warnings === 0
      ? "Nothing is in the way."
      : `${errors} ${errors === 1 ? "error" : "errors"}, ${warnings} ${warnings === 1 ? "warning" : "warnings"}.`;
  return `${lines.join("\n")}\n\n${sum}\n`;
}
