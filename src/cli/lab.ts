/**
 * Owns the command line of the lab: options, what is printed where, exit codes, Ctrl-C. What the
 * commands do is in src/lab.
 *
 * Progress goes to standard output, or with --json to standard error, so that standard output holds
 * one JSON value only.
 */
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Command, Option } from "commander";
import { recordedLabPods } from "../lab/agents.js";
import { LabError } from "../lab/errors.js";
import {
  down,
  endedProcesses,
  examine,
  type LabReport,
  report,
  restartAgent,
  type Say,
  up,
} from "../lab/lifecycle.js";
import { runPage, servePage } from "../lab/page.js";
import {
  ADMIN_KUBECONFIG,
  BIN_DIRECTORY,
  findPlace,
  inNamespace,
  isNode,
  kubeEnvironment,
  LAB_DIRECTORY,
  type Place,
} from "../lab/plan.js";
import { runAttached } from "../lab/processes.js";
import { table } from "../lab/render.js";
import { completePath, ensureKubectl, ensurePrograms, ensureTun, REQUIREMENTS } from "../lab/requirements.js";
import {
  findHolder,
  forgetHolder,
  isInside,
  manageInside,
  onStopFromOutside,
  runInside,
} from "../lab/rootless.js";
import { DAEMON_SETS, NODES } from "../lab/walkthrough.js";
import { listeningPort } from "./arguments.js";
import { STEPS, type Step, walkAndPrint } from "./labWalk.js";

interface RunOptions {
  install: boolean;
  pictures: string;
  json?: boolean;
  step?: string;
  once?: boolean;
  keep?: boolean;
}

interface WalkCommandOptions {
  step?: string;
  json?: boolean;
  pictures: string;
}

const PICTURES = "lab-pictures";
const PICTURES_HELP = "where each step's picture is saved";

function stepOption(): Option {
  return new Option("--step <n>", "this step only").choices(STEPS.map(String));
}

/** All steps, or the one that was asked for. */
function stepsOf(step: string | undefined): readonly Step[] {
  return step === undefined ? STEPS : [Number(step) as Step];
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

function progress(json: boolean | undefined): Say {
  return json ? (line) => console.error(line) : (line) => console.log(line);
}

/** Turns Ctrl-C and its like into an abort; further ones change nothing, as clearing up goes on. */
function abortOnSignals(): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const stop = () => controller.abort();
  const names = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const name of names) process.on(name, stop);
  onStopFromOutside(stop);
  return {
    signal: controller.signal,
    release: () => {
      for (const name of names) process.off(name, stop);
    },
  };
}

/** Stays until told to stop, or until somebody else takes the lab down; reports what ends. */
async function stay(signal: AbortSignal, say: Say): Promise<void> {
  const reported = new Set<string>();
  while (!signal.aborted && examine() === "running") {
    for (const { name, log } of endedProcesses()) {
      if (reported.has(name)) continue;
      reported.add(name);
      say(`The ${name} has ended; its log is ${log}`);
    }
    await sleep(500, undefined, { signal }).catch(() => {});
  }
}

function hints(say: Say): void {
  say("\nThe lab is up. In another terminal:");
  say("  podwire lab status");
  say("  podwire lab shell k8s-master          # then: kubectl get pod -o wide");
  say("  podwire lab exec k8s-master -- kubectl exec -it ds/nginx-ds -- bash");
}

async function runUp(options: RunOptions, owned: boolean, signal: AbortSignal): Promise<number> {
  const say = progress(options.json);
  say(`podwire lab: API server, ${NODES.length} nodes, ${DAEMON_SETS.length * NODES.length} pods, a pc`);
  const seconds = await up({ install: options.install, owned, signal, say });
  say(`Ready in ${seconds.toFixed(1)} s.`);
  return seconds;
}

async function runCommand(options: RunOptions): Promise<number> {
  const { signal, release } = abortOnSignals();
  const say = progress(options.json);
  const seconds = await runUp(options, options.keep !== true, signal);
  let code = 1;
  try {
    const json = options.json === true;
    code = await walkAndPrint({
      steps: stepsOf(options.step),
      json,
      signal,
      say,
      readySeconds: seconds,
      pictures: options.pictures,
    });
    if (options.keep) {
      hints(say);
      return code;
    }
    if (!options.once) {
      hints(say);
      say("\nCtrl-C ends it.");
      await stay(signal, say);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    code = 130;
  } finally {
    if (!options.keep || signal.aborted) {
      await down(say);
      say("The lab is down.");
    }
    release();
  }
  return code;
}

function requireRunning(): void {
  if (examine() !== "running")
    throw new LabError('the lab is not up; "podwire lab up" starts it', "LAB_DOWN");
}

function placeOf(name: string): Place {
  const place = findPlace(name, recordedLabPods());
  if ("problem" in place) throw new LabError(place.problem, "LAB_NO_SUCH_PLACE");
  return place;
}

function printReport(lab: LabReport): void {
  const state = {
    down: "down",
    running: `up since ${lab.startedAt}`,
    crashed: "left behind by a crashed run",
  };
  console.log(`The lab is ${state[lab.verdict]}.`);
  if (lab.verdict === "crashed") console.log('"podwire lab up" and "podwire lab down" clear it.');
  if (lab.verdict !== "running") return;
  const agentState = (alive: boolean, ready: boolean | undefined) =>
    !alive ? "ended" : ready === undefined ? "no answer" : ready ? "ready" : "not ready";
  const nodes = lab.nodes.map(({ node, alive, health }) => [
    node.name,
    node.address,
    node.block,
    agentState(alive, health?.ready),
  ]);
  const pods = lab.pods.flatMap((pod) =>
    pod.containers.map(({ image, running, exitCode, restarts }) => [
      pod.namespace,
      pod.name,
      pod.address,
      pod.node,
      image,
      running ? "runs" : exitCode === 0 ? "completed" : "ended",
      String(restarts),
    ]),
  );
  for (const { name, alive } of lab.services) console.log(`The ${name} ${alive ? "runs" : "has ended"}.`);
  console.log(`KUBECONFIG=${ADMIN_KUBECONFIG} on the nodes.`);
  console.log(`\n${table(["NODE", "ADDRESS", "BLOCK", "AGENT"], nodes)}`);
  console.log(`\n${table(["NAMESPACE", "NAME", "IP", "NODE", "IMAGE", "STATE", "RESTARTS"], pods)}`);
}

/** Something runs in it, and whatever has ended (an init container) has ended well. */
function isPodWell({ containers }: LabReport["pods"][number]): boolean {
  return (
    containers.some(({ running }) => running) &&
    containers.every(({ running, exitCode }) => running || exitCode === 0)
  );
}

function isHealthy(lab: LabReport): boolean {
  return (
    lab.verdict === "running" &&
    lab.services.every(({ alive }) => alive) &&
    lab.nodes.every(({ health }) => health?.ready === true) &&
    lab.pods.every(isPodWell)
  );
}

async function statusCommand(options: { json?: boolean }): Promise<number> {
  const lab = await report();
  if (options.json) {
    console.log(
      JSON.stringify({
        state: lab.verdict,
        startedAt: lab.startedAt,
        services: lab.services,
        nodes: lab.nodes.map(({ node, alive, health }) => ({
          ...node,
          agentAlive: alive,
          ready: health?.ready === true,
        })),
        pods: lab.pods.map(({ namespace, name, address, node, containers }) => ({
          namespace,
          name,
          address,
          node,
          containers,
        })),
      }),
    );
  } else {
    printReport(lab);
  }
  return isHealthy(lab) ? 0 : 1;
}

function environmentOf(place: Place): NodeJS.ProcessEnv {
  const env = isNode(place) ? kubeEnvironment(process.env) : process.env;
  return { ...env, PATH: `${BIN_DIRECTORY}:${process.env.PATH}`, PODWIRE_LAB_PLACE: place.name };
}

async function shellCommand(where: string): Promise<number> {
  requireRunning();
  const place = placeOf(where);
  const shell = existsSync("/bin/bash") ? ["/bin/bash", "--norc"] : ["/bin/sh"];
  const env = { ...environmentOf(place), PS1: `${place.name}# ` };
  return runAttached(inNamespace(place.namespace, shell), env);
}

async function execCommand(where: string, command: string[]): Promise<number> {
  requireRunning();
  const place = placeOf(where);
  return runAttached(inNamespace(place.namespace, command), environmentOf(place));
}

async function restartCommand(name: string): Promise<number> {
  requireRunning();
  const node = NODES.find((each) => each.name === name);
  if (node === undefined)
    throw new LabError(`no node "${name}"; there are ${NODES.map((each) => each.name).join(", ")}`);
  await restartAgent(node);
  console.log(`The agent of ${name} is ready.`);
  return 0;
}

/** The page's way out is ours; where the lab is in namespaces of its own, its server runs there. */
async function uiCommand({ port, socket }: { port: number; socket?: string }): Promise<number> {
  if (socket !== undefined) return runPage(socket);
  const holder = isRoot() || isInside() ? null : findHolder();
  if (holder === null) requireRunning();
  const serve = (path: string) =>
    holder === null ? runPage(path) : runInside(holder, ["ui", "--socket", path]);
  return servePage(port, serve, (line) => console.log(line));
}

async function downCommand(): Promise<number> {
  const { namespaces, processes } = await down((line) => console.log(line));
  console.log(
    namespaces + processes === 0
      ? "The lab is down."
      : `The lab is down: ${processes} processes ended, ${namespaces} namespaces removed.`,
  );
  return 0;
}

/** How a command reaches the namespaces of a lab without root. */
type Entry = "start" | "manage" | "visit" | "outside";

/** What a user without root and without a lab of their own gets to hear. */
function withoutLab(entry: Entry, args: readonly string[]): number {
  if (args.includes("--json")) console.log(JSON.stringify({ state: "down" }));
  else console.log("The lab is down.");
  if (existsSync(LAB_DIRECTORY)) console.error("Root has a lab on this machine; sudo reaches it.");
  return entry === "manage" ? 0 : 1;
}

/** Does `work` here if we are root or inside already, else runs the same command inside. */
async function dispatch(entry: Entry, args: readonly string[], work: () => Promise<number>): Promise<number> {
  if (isRoot() || isInside() || (entry === "outside" && findHolder() !== null)) return work();
  if (entry === "start") {
    // Said here, where the user's own rights are seen.
    await ensureTun();
    ensureKubectl();
    await ensurePrograms(false, () => {});
    return manageInside(args, true);
  }
  const holder = findHolder();
  if (holder === null) {
    if (entry === "manage") forgetHolder();
    return withoutLab(entry, args);
  }
  return entry === "manage" ? manageInside(args, false) : runInside(holder, args);
}

function labArguments(): string[] {
  return process.argv.slice(process.argv.indexOf("lab") + 1);
}

/** Wraps a command: what goes wrong becomes a message and an exit code. */
function action<A extends unknown[]>(entry: Entry, work: (...args: A) => Promise<number>) {
  return async (...args: A): Promise<void> => {
    process.umask(0o022);
    process.env.PATH = completePath(process.env.PATH);
    // A closed pipe must not keep us from clearing up.
    for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
    try {
      process.exitCode = await dispatch(entry, labArguments(), () => work(...args));
    } catch (error) {
      if (!(error instanceof LabError)) throw error;
      if (error.code === "LAB_INTERRUPTED") {
        console.error("Interrupted; the lab is down.");
        process.exitCode = 130;
      } else {
        console.error(`podwire lab: ${error.message}`);
        process.exitCode = 1;
      }
    }
  };
}

/** `podwire lab …`. */
export function labCommand(): Command {
  const lab = new Command("lab")
    .description("the walkthrough's cluster on this machine, in network namespaces")
    .enablePositionalOptions();
  const noInstall = `refuse instead of installing missing programs (${REQUIREMENTS.map(({ program }) => program).join(", ")})`;

  lab
    .command("run")
    .description("up, walk, and stay until Ctrl-C")
    .option("--once", "end after the walk")
    .option("--keep", "return after the walk and leave the lab up")
    .addOption(stepOption())
    .option("--json", "print the walk's result as JSON")
    .option("--pictures <directory>", PICTURES_HELP, PICTURES)
    .option("--no-install", noInstall)
    .action(action("start", (options: RunOptions) => runCommand(options)));

  lab
    .command("up")
    .description("bring the lab up and return")
    .option("--no-install", noInstall)
    .action(
      action("start", async (options: RunOptions) => {
        const { signal, release } = abortOnSignals();
        await runUp(options, false, signal);
        release();
        return 0;
      }),
    );

  lab
    .command("walk")
    .description("the walkthrough's steps with their commands; exit code 1 if an answer is missing")
    .addOption(stepOption())
    .option("--json", "print the result as JSON")
    .option("--pictures <directory>", PICTURES_HELP, PICTURES)
    .action(
      action("visit", ({ step, json = false, pictures }: WalkCommandOptions) => {
        requireRunning();
        const steps = stepsOf(step);
        const { signal } = new AbortController();
        return walkAndPrint({ steps, json, signal, say: progress(json), readySeconds: null, pictures });
      }),
    );

  lab
    .command("status")
    .description("nodes, agents and pods; exit code 0 if all are well")
    .option("--json", "print it as JSON")
    .action(action("visit", (options: { json?: boolean }) => statusCommand(options)));

  lab
    .command("shell")
    .description("a shell on a node (with KUBECONFIG set), the pc, or in a pod")
    .argument("<where>", "node, pc, lan, or pod: name, unambiguous beginning, or label such as n0")
    .action(action("visit", (where: string) => shellCommand(where)));

  lab
    .command("exec")
    .description("run a command on a node, the pc, or in a pod; its exit code is ours")
    .argument("<where>", "as for shell")
    .argument("<command...>", "the command, after --")
    .passThroughOptions()
    .action(action("visit", (where: string, command: string[]) => execCommand(where, command)));

  lab
    .command("restart")
    .description("end a node's agent, if it runs, and start it again; pods and connections go on")
    .argument("<node>", "name of the node")
    .action(action("visit", (name: string) => restartCommand(name)));

  lab
    .command("ui")
    .description("serve a page with the lab's cluster, live, on this machine's loopback")
    .option("-p, --port <port>", "port, 0 for any", listeningPort, 9477)
    .addOption(new Option("--socket <path>", "only inside the lab: listen there").hideHelp())
    .action(action("outside", uiCommand));

  lab
    .command("down")
    .description("end the lab and remove every trace of it")
    .action(action("manage", () => downCommand()));

  return lab;
}
