/**
 * Owns what `podwire lab walk` does and prints: the walkthrough's steps one after another, their
 * commands with what these print, tables of who answered whom, and the same as JSON. How things are
 * asked is in src/lab.
 */
import { type AddressOwner, neighbourTable, ownersOf } from "../lab/addressWalk.js";
import {
  applyAddressPool,
  applyServices,
  awaitExternalIps,
  clusterIps,
  deleteManifests,
  externalIps,
  nodeFacts,
  obstaclesOf,
  podsWide,
  servicesWide,
  walkthroughPods,
} from "../lab/cluster.js";
import { LabError } from "../lab/errors.js";
import { type LabReport, report, type Say } from "../lab/lifecycle.js";
import { drawStep } from "../lab/pictures.js";
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
import {
  ADDRESS_POOL_MANIFEST,
  DAEMON_SETS,
  type LabPod,
  PC,
  SERVICE_MANIFESTS,
  SERVICES,
  type ServiceStep,
} from "../lab/walkthrough.js";

export type Step = 1 | ServiceStep;

export const STEPS: readonly Step[] = [1, 2, 3, 4];

export interface WalkOptions {
  steps: readonly Step[];
  json: boolean;
  signal: AbortSignal;
  say: Say;
  /** How long the lab took to come up; null where it was up. */
  readySeconds: number | null;
  /** Where each step's picture is saved. */
  pictures: string;
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
  /** Steps 2 to 4: how often each pod answered, by Service. */
  spread?: {
    service: string;
    clusterIP: string;
    nodePort: number;
    /** Step 4: the load-balancer address. */
    externalIP?: string;
    answers: Record<string, number>;
  }[];
  /** Step 4: who answers for each load-balancer address on the LAN. */
  owners?: Omit<AddressOwner, "reason">[];
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
  4: `The pc, every node and every pod ask every load-balancer address ${REQUESTS} times.\nA cell says which pods answered.`,
};

const TITLES: Readonly<Record<ServiceStep, string>> = { 2: "ClusterIP", 3: "NodePort", 4: "LoadBalancer" };

/** Makes room for a step, and prints it where something was in the way. */
async function clearTheWay(step: ServiceStep, { signal, say }: WalkOptions): Promise<void> {
  const names = obstaclesOf(step);
  const output = names.length === 0 ? "" : await deleteManifests(names, signal);
  if (output === "") return;
  say(
    `$ kubectl delete --ignore-not-found ${names.map((name) => `-f manifests/lab/${name}.yaml`).join(" ")}`,
  );
  say(output);
}

/** Services without addresses, then the pool: returns the addresses, and what was not as it should be. */
async function giveAddresses({ signal, say }: WalkOptions) {
  const without = await servicesWide();
  const early = [...(await externalIps(4))].filter(([, address]) => address !== "").map(([name]) => name);
  const missing = SERVICES[4].filter(({ name }) => !new RegExp(`^${name} .*<pending>`, "m").test(without));
  say(`$ kubectl get svc -o wide\n${without}`);
  say(`$ kubectl apply -f manifests/lab/${ADDRESS_POOL_MANIFEST}.yaml`);
  say(await applyAddressPool(signal));
  const addresses = await awaitExternalIps(4, signal);
  const lines = [
    ...early.map((name) => `${name}: has an address without a pool`),
    ...missing.map(({ name }) => `${name}: EXTERNAL-IP is not <pending> without a pool`),
    ...[...addresses].filter(([, address]) => address === "").map(([name]) => `${name}: got no address`),
  ];
  if (new Set(addresses.values()).size < addresses.size) lines.push("two Services have the same address");
  return { addresses, lines };
}

/** Who answers for the addresses, as the pc and the agents say. */
async function walkOwners(addresses: ReadonlyMap<string, string>, { signal, say }: WalkOptions) {
  const owners = await ownersOf([...addresses.values()], signal);
  const { command, output } = await neighbourTable();
  say(`${PC.name}$ ${command}\n${output.trimEnd()}\n`);
  say(
    owners.map(({ address, owner, mac }) => `${address} is announced by ${owner || "?"} (${mac})`).join("\n"),
  );
  const wrong = owners.filter(({ reason }) => reason !== "");
  return {
    owners: owners.map(({ address, owner, mac }) => ({ address, owner, mac })),
    lines: wrong.map(({ address, reason }) => `${address}: ${reason}`),
  };
}

async function walkServiceStep(
  step: ServiceStep,
  pods: readonly LabPod[],
  colour: boolean,
  options: WalkOptions,
) {
  const { signal, say } = options;
  say(`\nStep ${step}, ${TITLES[step]}\n`);
  await clearTheWay(step, options);
  say(`$ kubectl apply -f manifests/lab/${SERVICE_MANIFESTS[step]}.yaml`);
  say(await applyServices(step, signal));
  const given = step === 4 ? await giveAddresses(options) : null;
  say(`$ kubectl get svc -o wide\n${await servicesWide()}`);
  const inside = await clusterIps(step);
  const begin = performance.now();
  const results = await walkServices(serviceProbes(step, pods, given?.addresses ?? inside), pods, signal);
  const seconds = (performance.now() - begin) / 1000;
  const spread = spreadOf(step, pods, results);
  say(`${examples(results)}\n`);
  if (step === 2) say(`${examples(results.filter(({ answers }) => !answers))}\n`);
  const owners = given === null ? null : await walkOwners(given.addresses, options);
  say(
    `${owners === null ? "" : "\n"}${HEADINGS[step]}\n\n${answerMatrix(results, colour)}\n\n${spreadLines(spread)}`,
  );
  say(`\n${total(results, seconds)}`);
  const passed = results.filter(({ reason }) => reason === "").length;
  const complaints = [...unasked(spread), ...(given?.lines ?? []), ...(owners?.lines ?? [])];
  const json: StepJson = {
    step,
    ok: passed === results.length && complaints.length === 0,
    passed,
    total: results.length,
    seconds,
    failures: failuresOf(results),
    spread: spread.map(({ service, answers }) => ({
      service: service.name,
      clusterIP: inside.get(service.name) ?? "",
      nodePort: service.nodePort,
      ...(given === null ? {} : { externalIP: given.addresses.get(service.name) ?? "" }),
      answers: Object.fromEntries(answers.map(({ pod, count }) => [pod.name, count])),
    })),
    ...(owners === null ? {} : { owners: owners.owners }),
  };
  return { json, lines: [...failures(results, SHOWN_FAILURES), ...complaints] };
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
    await showPicture(step, options);
    if (lines.length === 0) continue;
    say(`\n${lines.join("\n")}`);
    const drops = dropLines((await report()).nodes);
    if (drops.length > 0) say(`Dropped by the agents:\n${drops.join("\n")}`);
  }
  const ok = walked.every((each) => each.ok);
  if (json) console.log(JSON.stringify(walkJson(pods, walked, options.readySeconds)));
  return ok ? 0 : 1;
}

/** Prints a step's picture as text, and where it was saved. A picture that fails takes nothing from the walk. */
async function showPicture(step: Step, { say, pictures }: WalkOptions): Promise<void> {
  try {
    const { text, file, problem } = await drawStep(step, pictures);
    say(`\n${text}`);
    say(file === null ? `The picture was not saved: ${problem}` : `Picture: ${file}`);
  } catch (error) {
    say(`\nNo picture: ${(error as Error).message}`);
  }
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
