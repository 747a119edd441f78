/** Step 3 of the walkthrough: NodePorts answer from outside, at every node, whichever has the pod. */
import t from "tap";
import { NODES, SERVICES } from "../../src/lab/walkthrough.js";
import {
  type Answer,
  ask,
  complaints,
  manifest,
  nameServers,
  services,
  settled,
  unheard,
  walkPods,
} from "./support/cluster.js";
import { expectKubectl } from "./support/target.js";

const REQUESTS = 3;
const pods = await walkPods();
const questions = NODES.flatMap(({ address }) =>
  SERVICES[3].map(({ application, nodePort }) => ({ application, address, l4Port: nodePort })),
);

t.test("kubectl apply: NodePorts, with ClusterIPs of their own", async (t) => {
  await nameServers(pods);
  await expectKubectl("apply -f -", manifest("nodeport"));
  const found = await services();
  for (const { name, l4Port, nodePort } of SERVICES[3]) {
    const service = found.get(name)!;
    t.equal(service.type, "NodePort", name);
    t.strictSame(
      service.ports.map((each) => [each.port, each.nodePort]),
      [[l4Port, nodePort]],
    );
  }
  const addresses = [...found.values()].map(({ clusterIP }) => clusterIP);
  t.equal(new Set(addresses).size, addresses.length, "no ClusterIP twice");
});

t.test("the pc, and every node, gets answers at every node's address", async (t) => {
  const all: Answer[] = [];
  const repeated = Array.from({ length: REQUESTS }, () => questions).flat();
  for (const place of ["pc", ...NODES.map(({ name }) => name)]) {
    await settled(place, questions);
    const answers = await ask({ place }, repeated);
    all.push(...answers);
    t.strictSame(complaints(place, repeated, answers, pods), [], place);
  }
  t.strictSame(unheard(all, pods), [], "every pod gets some");
});
