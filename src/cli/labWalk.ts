/**
 * Owns what `podwire lab walk` does and prints: the walkthrough's steps one after another, their
 * commands with what these print, tables of who answered whom, and the same as JSON. How things are
 * asked is in src/lab.
 */
import {
  applyServices,
  clusterIps,
  nodeFacts,
  podsWide,
  servicesWide,
  walkthroughPods,
} from "../lab/cluster.js";
import { LabError } from "../lab/errors.js";
import { type LabReport, report, type Say } from "../lab/lifecycle.js";
import {
  answerMatrix,
  examples,
  failures,
  failuresOf,
  matrix,
  nodeTable,
  spreadLines,
  total,
} from "../lab/render.js";
import { REQUESTS, serviceProbes, spreadOf, unasked, walkServices } from "../lab/serviceWalk.js";
import { walk } from "../lab/walk.js";
import { DAEMON_SETS, type LabPod, SERVICE_MANIFESTS, type ServiceStep } from "../lab/walkthrough.js";

export type Step = 1 | ServiceStep;

export const STEPS: readonly Step[] = [1, 2, 3];

export interface WalkOptions {
  steps: readonly Step[];
  json: boolean;
  signal: AbortSignal;
  say: Say;
  /** How long the lab took to come up; null where it was up. */
  readySeconds: number | null;
}

const SHOWN_FAILURES = 6;

/** A step's results, for programs. */
interface StepJson {
  step: Step;
  ok: boolean;
  passed: number;
  total: number;
  seconds: number;
  failures: { from: string; to: string; at: string; reason: string }[];
  /** Step 1: whether each pod reached each, in the order of `pods`. */
  matrix?: boolean[][];
  /** Steps 2 and 3: how often each pod answered, by Service. */
  spread?: { service: string; clusterIP: string; nodePort: number; answers: Record<string, number> }[];
}

/** Drops that the agents counted, a line for each node that has any. */
function dropLines(nodes: LabReport["nodes"]): string[] {
  return nodes.flatMap(({ node, health }) => {
    const drops = Object.entries(health?.dropped ?? {}).filter(([, count]) => count > 0);
    if (drops.length === 0) return health === null ? [`  ${node.name}: the agent does not answer`] : [];
    return [`  ${node.name}: ${drops.map(([reason, count]) => `${reason} ${count}`).join(", ")}`];
  });
}

async function walkPods(pods: readonly LabPod[], colour: boolean, { signal, say }: WalkOptions) {
  const [nodes, wide] = await Promise.all([nodeFacts(), podsWide()]);
  say(`\nStep 1, pods\n\n${nodeTable(nodes)}\n\n$ kubectl get pod -o wide\n${wide}`);
  say("Every pod asks every pod: curl for nginx and apache, redis-cli for redis.\n");
  const begin = performance.now();
  const results = await walk(pods, signal);
  const seconds = (performance.now() - begin) / 1000;
  say(matrix(pods, results, colour));
  say(`\n${total(results, seconds)}`);
  const passed = results.filter(({ ok }) => ok).length;
  const byName = new Map(results.map((result) => [`${result.from.name} ${result.to.name}`, result.ok]));
  const json: StepJson = {
    step: 1,
    ok: passed === results.length,
    passed,
    total: results.length,
    seconds,
    failures: failuresOf(results),
    matrix: pods.map((from) => pods.map((to) => byName.get(`${from.name} ${to.name}`) === true)),
  };
  return { json, lines: failures(results, SHOWN_FAILURES) };
}

const HEADINGS: Readonly<Record<ServiceStep, string>> = {
  2: `Every node and every pod asks every ClusterIP ${REQUESTS} times; the pc is not to be answered.\nA cell says which pods answered.`,
  3: `The pc and every node ask every NodePort ${REQUESTS} times at every node's address.\nA cell says which pods answered.`,
};

async function walkServiceStep(
  step: ServiceStep,
  pods: readonly LabPod[],
  colour: boolean,
  { signal, say }: WalkOptions,
) {
  say(`\nStep ${step}, ${step === 2 ? "ClusterIP" : "NodePort"}\n`);
  say(`$ kubectl apply -f manifests/lab/${SERVICE_MANIFESTS[step]}.yaml`);
  say(await applyServices(step, signal));
  say(`$ kubectl get svc -o wide\n${await servicesWide()}`);
  const addresses = await clusterIps(step);
  const begin = performance.now();
  const results = await walkServices(serviceProbes(step, pods, addresses), pods, signal);
  const seconds = (performance.now() - begin) / 1000;
  const spread = spreadOf(step, pods, results);
  say(`${examples(results)}\n`);
  if (step === 2) say(`${examples(results.filter(({ answers }) => !answers))}\n`);
  say(`${HEADINGS[step]}\n\n${answerMatrix(results, colour)}\n\n${spreadLines(spread)}`);
  say(`\n${total(results, seconds)}`);
  const passed = results.filter(({ reason }) => reason === "").length;
  const missing = unasked(spread);
  const json: StepJson = {
    step,
    ok: passed === results.length && missing.length === 0,
    passed,
    total: results.length,
    seconds,
    failures: failuresOf(results),
    spread: spread.map(({ service, answers }) => ({
      service: service.name,
      clusterIP: addresses.get(service.name) ?? "",
      nodePort: service.nodePort,
      answers: Object.fromEntries(answers.map(({ pod, count }) => [pod.name, count])),
    })),
  };
  return { json, lines: [...failures(results, SHOWN_FAILURES), ...missing] };
}

/**
 * Walks steps, making the Services that they need, prints, and returns the exit code: 0 where every
 * request went as it should. Throws a LabError where there are no pods to ask.
 */
export async function walkAndPrint(options: WalkOptions): Promise<number> {
  const { steps, json, say } = options;
  const pods = await walkthroughPods();
  if (pods.length === 0) {
    const names = DAEMON_SETS.map(({ name }) => name).join(", ");
    throw new LabError(`none of the DaemonSets ${names} has a pod`, "LAB_NO_PODS");
  }
  const stream = json ? process.stderr : process.stdout;
  const colour = stream.isTTY === true && !process.env.NO_COLOR;
  const walked: StepJson[] = [];
  for (const step of steps) {
    const { json: result, lines } =
      step === 1 ? await walkPods(pods, colour, options) : await walkServiceStep(step, pods, colour, options);
    walked.push(result);
    if (lines.length === 0) continue;
    say(`\n${lines.join("\n")}`);
    const drops = dropLines((await report()).nodes);
    if (drops.length > 0) say(`Dropped by the agents:\n${drops.join("\n")}`);
  }
  const ok = walked.every((each) => each.ok);
  if (json) console.log(JSON.stringify(walkJson(pods, walked, options.readySeconds)));
  return ok ? 0 : 1;
}

/** The results of a walk, for programs. */
function walkJson(pods: readonly LabPod[], steps: readonly StepJson[], readySeconds: number | null) {
  return {
    ok: steps.every(({ ok }) => ok),
    readySeconds,
    pods: pods.map(({ name, address, node, application, l4Port }) => ({
      name,
      ip: address,
      node,
      application,
      port: l4Port,
    })),
    steps,
  };
}
