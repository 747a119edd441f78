/**
 * Step 4 of the walkthrough: the six Services go, three of type LoadBalancer come, wait for a pool, and
 * answer on the LAN at its addresses.
 */
import t from "tap";
import { NODES, SERVICES } from "../../src/lab/walkthrough.js";
import {
  type Answer,
  ask,
  complaints,
  manifest,
  nameServers,
  type Question,
  services,
  settled,
  unheard,
  until,
  walkPods,
} from "./support/cluster.js";
import { expectKubectl } from "./support/target.js";

const BALANCED = SERVICES[4];
const NAMES = BALANCED.map(({ name }) => name);
const POOL = Array.from({ length: 5 }, (_, i) => `192.168.2.${36 + i}`);
/** Of each Service: that one of four pods gets none of so many is less likely than 1 in a million. */
const REQUESTS = 60;
const pods = await walkPods();
let questions: Question[] = [];

t.test("without a pool, EXTERNAL-IP is <pending>", async (t) => {
  await nameServers(pods);
  await expectKubectl("delete --ignore-not-found -f -", manifest("addresspool"));
  const before = [...SERVICES[2], ...SERVICES[3]].map(({ name }) => name);
  await expectKubectl(`delete svc --ignore-not-found ${[...before, ...NAMES].join(" ")}`);
  await expectKubectl("apply -f -", manifest("loadbalancer"));
  const wide = (await expectKubectl("get svc -o wide --no-headers")).trim().split("\n");
  for (const { name, application, l4Port, nodePort } of BALANCED) {
    const [, type, , external, ports, , selector] = wide
      .find((line) => line.startsWith(`${name} `))!
      .split(/\s+/);
    t.strictSame(
      { type, external, ports, selector },
      {
        type: "LoadBalancer",
        external: "<pending>",
        ports: `${l4Port}:${nodePort}/TCP`,
        selector: `name=${application}`,
      },
      name,
    );
  }
});

t.test("with the pool, each gets an address of it", async (t) => {
  await expectKubectl("apply -f -", manifest("addresspool"));
  const found = await until("three addresses", 30, async () => {
    const all = await services();
    return NAMES.every((name) => all.get(name)?.addresses.length === 1) ? all : null;
  });
  questions = BALANCED.map(({ name, application, l4Port }) => ({
    application,
    address: found.get(name)!.addresses[0]!,
    l4Port,
  }));
  for (const { address } of questions) t.ok(POOL.includes(address), address);
  t.equal(new Set(questions.map(({ address }) => address)).size, 3, "different ones");
  t.comment(await expectKubectl("get svc -o wide"));
});

t.test("the pc gets answers at them, from every pod behind", async (t) => {
  await settled("pc", questions);
  const repeated = Array.from({ length: REQUESTS }, () => questions).flat();
  const answers: Answer[] = await ask({ place: "pc" }, repeated);
  t.strictSame(complaints("pc", repeated, answers, pods), []);
  t.strictSame(unheard(answers, pods), [], "every pod gets some");
});

t.test("nodes, pods and the Services' NodePorts do too", async (t) => {
  for (const { name } of NODES) await settled(name, questions);
  for (const { name } of pods.slice(0, NODES.length))
    t.strictSame(complaints(name, questions, await ask({ pod: name }, questions), pods), [], name);
  const nodePorts = BALANCED.map(({ application, nodePort }) => ({
    application,
    address: NODES[0]!.address,
    l4Port: nodePort,
  }));
  t.strictSame(complaints("pc", nodePorts, await ask({ place: "pc" }, nodePorts), pods), []);
});
