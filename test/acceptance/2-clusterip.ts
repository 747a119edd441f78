/** Step 2 of the walkthrough: ClusterIPs answer on every node and in every pod, and not outside. */
import t from "tap";
import { NODES, SERVICES } from "../../src/lab/walkthrough.js";
import {
  type Answer,
  ask,
  complaints,
  manifest,
  nameServers,
  type Question,
  SILENCE,
  services,
  settled,
  unheard,
  walkPods,
} from "./support/cluster.js";
import { expectKubectl } from "./support/target.js";

const REQUESTS = 3;
const pods = await walkPods();
let questions: Question[] = [];

t.test("kubectl apply: a ClusterIP each, of the service range", async (t) => {
  await nameServers(pods);
  await expectKubectl("apply -f -", manifest("clusterip"));
  const found = await services();
  t.equal(found.get("kubernetes")?.clusterIP, "10.152.183.1");
  questions = SERVICES[2].map(({ name, application, l4Port }) => {
    const service = found.get(name)!;
    t.equal(service.type, "ClusterIP", name);
    t.match(service.clusterIP, /^10\.152\.183\.\d+$/);
    t.strictSame(
      service.ports.map(({ port }) => port),
      [l4Port],
    );
    return { application, address: service.clusterIP, l4Port };
  });
  t.equal(new Set(questions.map(({ address }) => address)).size, 3, "different ones");
});

t.test("they answer from every node and every pod, spread over the pods", async (t) => {
  for (const { name } of NODES) await settled(name, questions);
  const repeated = Array.from({ length: REQUESTS }, () => questions).flat();
  const all: Answer[] = [];
  const asked = async (from: string, answers: Answer[]) => {
    all.push(...answers);
    t.strictSame(complaints(from, repeated, answers, pods), [], from);
  };
  for (const { name } of NODES) await asked(name, await ask({ place: name }, repeated));
  const inside = await Promise.all(pods.map(({ name }) => ask({ pod: name }, repeated)));
  for (const [i, answers] of inside.entries()) await asked(pods[i]!.name, answers);
  t.strictSame(unheard(all, pods), [], "every pod gets some");
});

t.test("the pc gets no answer", async (t) => {
  const answers = await ask({ place: "pc" }, questions, SILENCE);
  for (const [i, answer] of answers.entries()) t.notOk("pod" in answer, questions[i]!.address);
});
