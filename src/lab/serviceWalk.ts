/**
 * Owns the walk of steps 2 to 4: every place asks every address of the step's Services a few times,
 * and every answer tells which pod gave it. Must not know how Services came to be, nor how results are
 * printed.
 *
 *   step 2   every node and every pod asks every ClusterIP; the pc asks too and must not be answered
 *   step 3   the pc and every node ask every NodePort at every node's address
 *   step 4   the pc, every node and every pod ask every load-balancer address
 */
import { setTimeout as sleep } from "node:timers/promises";
import { hostNamespace, inNetwork, type Place, pageOf, podNamespace } from "./plan.js";
import { type CommandResult, run } from "./processes.js";
import { complaintOf, fetchPage, inTurn, nameServers, TIMEOUT_SECONDS } from "./walk.js";
import { type LabPod, type LabService, NODES, PC, SERVICES, type ServiceStep } from "./walkthrough.js";

/** Each probe asks so often: enough that each of four pods gets some. */
export const REQUESTS = 3;
/** How long the pc waits for an answer that must not come. */
const SILENCE_SECONDS = 1;
/** How long Services may take from kubectl to every node. */
const SETTLE_MS = 5_000;

/** Somebody who asks. */
export interface Asker extends Place {
  /** Short name, as in the matrix; empty where there is none. */
  label: string;
}

export interface ServiceProbe {
  from: Asker;
  service: LabService;
  address: string;
  l4Port: number;
  /** False where nobody may answer. */
  answers: boolean;
}

export interface ServiceResult extends ServiceProbe {
  /** The pods that answered, request by request. */
  pods: LabPod[];
  /** What the last request's command printed. */
  said: string;
  /** Why not ok; empty if ok. */
  reason: string;
}

/**
 * Everything that a step asks, row by row. `addresses` by the Service's name: the ClusterIPs, at step 4 the
 * load-balancer addresses.
 */
export function serviceProbes(
  step: ServiceStep,
  pods: readonly LabPod[],
  addresses: ReadonlyMap<string, string>,
): ServiceProbe[] {
  const services = SERVICES[step];
  const host = ({ name }: { name: string }) => ({ name, label: "", namespace: hostNamespace(name) });
  if (step !== 3) {
    const inside = pods.map((pod) => ({ name: pod.name, label: pod.label, namespace: podNamespace(pod) }));
    const cluster = [...NODES.map(host), ...inside];
    return (step === 2 ? [...cluster, host(PC)] : [host(PC), ...cluster]).flatMap((from) =>
      services.map((service) => ({
        from,
        service,
        address: addresses.get(service.name) ?? "",
        l4Port: service.l4Port,
        answers: step === 4 || from.name !== PC.name,
      })),
    );
  }
  return [host(PC), ...NODES.map(host)].flatMap((from) =>
    NODES.flatMap(({ address }) =>
      services.map((service) => ({ from, service, address, l4Port: service.nodePort, answers: true })),
    ),
  );
}

/** How a Service is asked which pod answers. */
export function serviceCommand({ service, address, l4Port, answers }: ServiceProbe): string[] {
  const seconds = answers ? TIMEOUT_SECONDS : SILENCE_SECONDS;
  return service.application === "redis"
    ? ["redis-cli", "-h", address, "-p", String(l4Port), "GET", "pod"]
    : fetchPage(address, l4Port, seconds);
}

/** The pod that gave an answer; undefined where it is none of the Service's. */
export function answeredBy(
  { service }: ServiceProbe,
  pods: readonly LabPod[],
  { code, stdout }: CommandResult,
): LabPod | undefined {
  if (code !== 0) return undefined;
  return pods.find(
    (pod) =>
      pod.application === service.application &&
      stdout === (service.application === "redis" ? `${pod.name}\n` : pageOf(pod)),
  );
}

async function request(probe: ServiceProbe): Promise<CommandResult> {
  const seconds = probe.answers ? TIMEOUT_SECONDS : SILENCE_SECONDS;
  return run(inNetwork(probe.from.namespace, serviceCommand(probe)), { timeoutMs: (seconds + 1) * 1000 });
}

async function walkProbe(probe: ServiceProbe, pods: readonly LabPod[]): Promise<ServiceResult> {
  const answered: LabPod[] = [];
  let said = "";
  let reason = "";
  for (let i = 0; i < (probe.answers ? REQUESTS : 1) && reason === ""; i++) {
    const result = await request(probe);
    said = result.stdout || result.stderr;
    const pod = answeredBy(probe, pods, result);
    if (pod !== undefined) answered.push(pod);
    else if (probe.answers) reason = complaintOf(result);
  }
  if (!probe.answers && answered.length > 0) reason = `${answered[0]!.name} answered`;
  return { ...probe, pods: answered, said, reason };
}

/**
 * Waits until every node knows the Services, which takes a moment from kubectl on. What still does not
 * answer then shows in the walk.
 */
async function settle(probes: readonly ServiceProbe[], signal: AbortSignal): Promise<void> {
  const hosts = [...NODES, PC].map(({ name }) => name);
  const own = probes.filter(({ from, answers }) => answers && hosts.includes(from.name));
  const deadline = performance.now() + SETTLE_MS;
  await inTurn(own, signal, async (probe) => {
    while ((await request(probe)).code !== 0 && performance.now() < deadline)
      await sleep(100, undefined, { signal });
  });
}

/** Asks everything; results come in the order of `probes`. */
export async function walkServices(
  probes: readonly ServiceProbe[],
  pods: readonly LabPod[],
  signal: AbortSignal,
): Promise<ServiceResult[]> {
  await nameServers(pods);
  await settle(probes, signal);
  return inTurn(probes, signal, (probe) => walkProbe(probe, pods));
}

export interface Spread {
  service: LabService;
  /** How often each of its pods answered. */
  answers: { pod: LabPod; count: number }[];
}

/** Pods that gave no answer: of enough requests each gets some. */
export function unasked(spread: readonly Spread[]): string[] {
  return spread.flatMap(({ service, answers }) =>
    answers
      .filter(({ count }) => count === 0)
      .map(({ pod }) => `${service.name}: no answer from ${pod.name}`),
  );
}

/** How a step's answers spread over the pods behind each Service. */
export function spreadOf(
  step: ServiceStep,
  pods: readonly LabPod[],
  results: readonly ServiceResult[],
): Spread[] {
  return SERVICES[step].map((service) => {
    const answers = results.filter((each) => each.service === service).flatMap((each) => each.pods);
    const behind = pods.filter(({ application }) => application === service.application);
    return {
      service,
      answers: behind.map((pod) => ({ pod, count: answers.filter((each) => each === pod).length })),
    };
  });
}
