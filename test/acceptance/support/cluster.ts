/** The cluster as kubectl shows it, and questions asked from its machines and pods. */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Application, DAEMON_SETS, IMAGES, NODES } from "../../../src/lab/walkthrough.js";
import { at, expectKubectl, kubectl, type Result } from "./target.js";

export interface WalkPod {
  name: string;
  address: string;
  node: string;
  application: Application;
  l4Port: number;
}

interface PodList {
  items: {
    metadata: { name: string; deletionTimestamp?: string };
    spec: { nodeName: string };
    status: { podIP?: string; conditions?: { type: string; status: string }[] };
  }[];
}

/** Text of a manifest of manifests/lab. */
export function manifest(name: string): string {
  return readFileSync(
    fileURLToPath(new URL(`../../../../manifests/lab/${name}.yaml`, import.meta.url)),
    "utf8",
  );
}

/** The pods of the walkthrough's DaemonSets: DaemonSet by DaemonSet, in the order of the nodes. */
export async function walkPods(): Promise<WalkPod[]> {
  const order = NODES.map(({ name }) => name);
  const pods: WalkPod[] = [];
  for (const { name, application } of DAEMON_SETS) {
    const label = name.replace(/-ds$/, "");
    const { items } = JSON.parse(await expectKubectl(`get pod -l name=${label} -o json`)) as PodList;
    pods.push(
      ...items
        .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
        .map(({ metadata, spec, status }) => ({
          name: metadata.name,
          address: status.podIP ?? "",
          node: spec.nodeName,
          application,
          l4Port: IMAGES[application].l4Port,
        }))
        .sort((a, b) => order.indexOf(a.node) - order.indexOf(b.node)),
    );
  }
  return pods;
}

/** Redis servers do not know which pod they are in: they are told. */
export async function nameServers(pods: readonly WalkPod[]): Promise<void> {
  await Promise.all(
    pods
      .filter(({ application }) => application === "redis")
      .map(({ name }) => expectKubectl(`exec ${name} -- redis-cli SET pod ${name}`)),
  );
}

// ---- asking -----------------------------------------------------------------------------------

/** Somebody who is asked. */
export interface Question {
  application: Application;
  address: string;
  l4Port: number;
}

/** Name of the pod that answered; what went wrong instead. */
export type Answer = { pod: string } | { problem: string };

/** How long an answer is waited for, in seconds. */
const PATIENCE = 5;
/** And one that must not come. */
export const SILENCE = 1;

/**
 * Asks, one question after another, from a machine or from inside of a pod, with one command. Answers
 * come in the order of the questions.
 */
export async function ask(
  from: { place: string } | { pod: string },
  questions: readonly Question[],
  patience = PATIENCE,
): Promise<Answer[]> {
  const script = [
    `http() { curl -sS --noproxy '*' -m ${patience} "http://$1:$2/" 2>&1 || echo "exit status $?"; }`,
    `redis() { timeout ${patience} redis-cli -h "$1" -p "$2" GET pod 2>&1 || echo "exit status $?"; }`,
    ...questions.map(
      ({ application, address, l4Port }, i) =>
        `echo "@${i}"; ${application === "redis" ? "redis" : "http"} ${address} ${l4Port}`,
    ),
  ].join("\n");
  const said: Result =
    "place" in from
      ? await at(from.place, "sh -s", script)
      : await kubectl(`exec -i ${from.pod} -- sh -s`, script);
  return questions.map((_, i): Answer => {
    const text = said.stdout
      .split(`@${i}\n`)[1]
      ?.split(/^@\d+$/m)[0]
      ?.trim();
    if (text === undefined) return { problem: said.stderr.trim() || "nothing was asked" };
    // "nginx-ds-abcde on k8s-master", or the name alone from redis.
    const [, pod] = /^([a-z]+-ds-[a-z0-9]+)( on \S+)?$/.exec(text) ?? [];
    return pod === undefined ? { problem: text === "" ? "an empty answer" : text } : { pod };
  });
}

/** Calls `condition` until it gives something, or throws after the time with what it said last. */
export async function until<T>(
  what: string,
  seconds: number,
  condition: () => Promise<T | null>,
): Promise<T> {
  const deadline = performance.now() + seconds * 1000;
  let last = "";
  for (;;) {
    try {
      const value = await condition();
      if (value !== null) return value;
    } catch (error) {
      last = `: ${(error as Error).message}`;
    }
    if (performance.now() > deadline) throw new Error(`${what}: not within ${seconds} s${last}`);
    await sleep(250);
  }
}

// ---- Services ---------------------------------------------------------------------------------

export interface WalkService {
  name: string;
  type: string;
  clusterIP: string;
  /** Load-balancer addresses. */
  addresses: string[];
  ports: { port: number; nodePort?: number }[];
  selector: Record<string, string>;
}

interface ServiceList {
  items: {
    metadata: { name: string };
    spec: Omit<WalkService, "name" | "addresses">;
    status: { loadBalancer?: { ingress?: { ip?: string }[] } };
  }[];
}

/** Every Service of the default namespace, by name. */
export async function services(): Promise<Map<string, WalkService>> {
  const { items } = JSON.parse(await expectKubectl("get svc -o json")) as ServiceList;
  return new Map(
    items.map(({ metadata: { name }, spec, status }) => [
      name,
      {
        ...spec,
        name,
        addresses: (status.loadBalancer?.ingress ?? []).flatMap(({ ip }) => ip ?? []),
      },
    ]),
  );
}

/** Waits until each question is answered: what kubectl has made takes a moment to be everywhere. */
export async function settled(place: string, questions: readonly Question[]): Promise<void> {
  await until(`answers at ${place}`, 30, async () => {
    const answers = await ask({ place }, questions);
    const missing = answers.flatMap((answer, i) =>
      "pod" in answer ? [] : [`${questions[i]!.address}: ${answer.problem}`],
    );
    if (missing.length > 0) throw new Error(missing.join("; "));
    return true;
  });
}

/** What is wrong with the answers to questions that pods of `pods` should have answered; a line each. */
export function complaints(
  from: string,
  questions: readonly Question[],
  answers: readonly Answer[],
  pods: readonly WalkPod[],
): string[] {
  return answers.flatMap((answer, i) => {
    const { application, address, l4Port } = questions[i]!;
    const where = `${from} → ${address}:${l4Port}`;
    if ("problem" in answer) return [`${where}: ${answer.problem}`];
    const who = pods.find(({ name }) => name === answer.pod);
    return who?.application === application ? [] : [`${where}: ${answer.pod} answered`];
  });
}

/** Those of `pods` that gave none of the answers. */
export function unheard(answers: readonly Answer[], pods: readonly WalkPod[]): string[] {
  const heard = new Set(answers.flatMap((answer) => ("pod" in answer ? [answer.pod] : [])));
  return pods.map(({ name }) => name).filter((name) => !heard.has(name));
}
