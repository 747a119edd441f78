/** The cluster as kubectl shows it, and questions asked from its machines and pods. */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { DAEMON_SETS, IMAGES, NODES } from "../../../src/lab/walkthrough.js";
import { at, expectKubectl, kubectl } from "./target.js";
/** Text of a manifest of manifests/lab. */
export function manifest(name) {
    return readFileSync(fileURLToPath(new URL(`../../../../manifests/lab/${name}.yaml`, import.meta.url)), "utf8");
}
/** The pods of the walkthrough's DaemonSets: DaemonSet by DaemonSet, in the order of the nodes. */
export async function walkPods() {
    const order = NODES.map(({ name }) => name);
    const pods = [];
    for (const { name, application } of DAEMON_SETS) {
        const label = name.replace(/-ds$/, "");
        const { items } = JSON.parse(await expectKubectl(`get pod -l name=${label} -o json`));
        pods.push(...items
            .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
            .map(({ metadata, spec, status }) => ({
            name: metadata.name,
            address: status.podIP ?? "",
            node: spec.nodeName,
            application,
            l4Port: IMAGES[application].l4Port,
        }))
            .sort((a, b) => order.indexOf(a.node) - order.indexOf(b.node)));
    }
    return pods;
}
/** Redis servers do not know which pod they are in: they are told. */
export async function nameServers(pods) {
    await Promise.all(pods
        .filter(({ application }) => application === "redis")
        .map(({ name }) => expectKubectl(`exec ${name} -- redis-cli SET pod ${name}`)));
}
/** How long an answer is waited for, in seconds. */
const PATIENCE = 5;
/** And one that must not come. */
export const SILENCE = 1;
/**
 * Asks, one question after another, from a machine or from inside of a pod, with one command. Answers
 * come in the order of the questions.
 */
export async function ask(from, questions, patience = PATIENCE) {
    const script = [
        `http() { curl -sS --noproxy '*' -m ${patience} "http://$1:$2/" 2>&1 || echo "exit status $?"; }`,
        `redis() { timeout ${patience} redis-cli -h "$1" -p "$2" GET pod 2>&1 || echo "exit status $?"; }`,
        ...questions.map(({ application, address, l4Port }, i) => `echo "@${i}"; ${application === "redis" ? "redis" : "http"} ${address} ${l4Port}`),
    ].join("\n");
    const said = "place" in from
        ? await at(from.place, "sh -s", script)
        : await kubectl(`exec -i ${from.pod} -- sh -s`, script);
    return questions.map((_, i) => {
        const text = said.stdout
            .split(`@${i}\n`)[1]
            ?.split(/^@\d+$/m)[0]
            ?.trim();
        if (text === undefined)
            return { problem: said.stderr.trim() || "nothing was asked" };
        // "nginx-ds-abcde on k8s-master", or the name alone from redis.
        const [, pod] = /^([a-z]+-ds-[a-z0-9]+)( on \S+)?$/.exec(text) ?? [];
        return pod === undefined ? { problem: text === "" ? "an empty answer" : text } : { pod };
    });
}
/** Calls `condition` until it gives something, or throws after the time with what it said last. */
export async function until(what, seconds, condition) {
    const deadline = performance.now() + seconds * 1000;
    let last = "";
    for (;;) {
        try {
            const value = await condition();
            if (value !== null)
                return value;
        }
        catch (error) {
            last = `: ${error.message}`;
        }
        if (performance.now() > deadline)
            throw new Error(`${what}: not within ${seconds} s${last}`);
        await sleep(250);
    }
}
/** Every Service of the default namespace, by name. */
export async function services() {
    const { items } = JSON.parse(await expectKubectl("get svc -o json"));
    return new Map(items.map(({ metadata: { name }, spec, status }) => [
        name,
        {
            ...spec,
            name,
            addresses: (status.loadBalancer?.ingress ?? []).flatMap(({ ip }) => ip ?? []),
        },
    ]));
}
/** Waits until each question is answered: what kubectl has made takes a moment to be everywhere. */
export async function settled(place, questions) {
    await until(`answers at ${place}`, 30, async () => {
        const answers = await ask({ place }, questions);
        const missing = answers.flatMap((answer, i) => "pod" in answer ? [] : [`${questions[i].address}: ${answer.problem}`]);
        if (missing.length > 0)
            throw new Error(missing.join("; "));
        return true;
    });
}
/** What is wrong with the answers to questions that pods of `pods` should have answered; a line each. */
export function complaints(from, questions, answers, pods) {
    return answers.flatMap((answer, i) => {
        const { application, address, l4Port } = questions[i];
        const where = `${from} → ${address}:${l4Port}`;
        if ("problem" in answer)
            return [`${where}: ${answer.problem}`];
        const who = pods.find(({ name }) => name === answer.pod);
        return who?.application === application ? [] : [`${where}: ${answer.pod} answered`];
    });
}
/** Those of `pods` that gave none of the answers. */
export function unheard(answers, pods) {
    const heard = new Set(answers.flatMap((answer) => ("pod" in answer ? [answer.pod] : [])));
    return pods.map(({ name }) => name).filter((name) => !heard.has(name));
}
//# sourceMappingURL=cluster.js.map