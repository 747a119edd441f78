import { describe, expect, test } from "vitest";
import { daemonPod } from "../../../src/controllers/daemonSet.js";
import { type NodeLoad, placementActions, placePod } from "../../../src/controllers/placement.js";
import { parseQuantity } from "../../../src/kube/quantity.js";
import type { Node, Pod } from "../../../src/kube/types.js";
import { brief, daemonSet, NOW, node, pod, replicaSet } from "./objects.js";

const load = (of: Node, pods: Pod[] = []): NodeLoad => ({ node: of, pods });
const rs = replicaSet("web");
const helpless = (n: number) =>
  `preemption: 0/${n} nodes are available: ${n} Preemption is not helpful for scheduling.`;

describe("where a pod goes", () => {
  test.each<[string, Pod, NodeLoad[], string]>([
    ["the emptiest", pod("p"), [load(node("a"), [pod("x")]), load(node("b"))], "b"],
    ["the first of equals", pod("p"), [load(node("b")), load(node("a"))], "a"],
    [
      "away from its siblings",
      pod("p", { owner: rs }),
      [load(node("a"), [pod("x", { owner: rs })]), load(node("b"), [pod("y"), pod("z")])],
      "b",
    ],
    [
      "where its selector says",
      pod("p", { spec: { nodeSelector: { "kubernetes.io/hostname": "b" } } }),
      [load(node("a")), load(node("b"), [pod("x")])],
      "b",
    ],
    [
      "where its DaemonSet says",
      daemonPod(daemonSet(), "b", "h"),
      [load(node("a")), load(node("b"), [pod("x")])],
      "b",
    ],
    [
      "onto a cordoned node, as a daemon",
      daemonPod(daemonSet(), "a", "h"),
      [
        load(
          node("a", {
            spec: {
              unschedulable: true,
              taints: [{ key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" }],
            },
          }),
        ),
      ],
      "a",
    ],
  ])("%s", (_, what, loads, expected) => expect(placePod(what, loads)).toEqual({ node: expected }));
});

describe("why it goes nowhere", () => {
  const small = node("small", { status: { allocatable: { cpu: "1", memory: "64Mi", pods: "2" } } });
  const hungry = (cpu: string, memory = "1Mi") =>
    pod("p", { spec: { containers: [{ name: "c", resources: { requests: { cpu, memory } } }] } });
  test.each<[string, Pod, NodeLoad[], string]>([
    ["no nodes", pod("p"), [], "no nodes available to schedule pods"],
    [
      "cordoned",
      pod("p"),
      [load(node("a", { spec: { unschedulable: true } }))],
      `0/1 nodes are available: 1 node(s) were unschedulable. ${helpless(1)}`,
    ],
    [
      "taints and selectors",
      pod("p", { spec: { nodeSelector: { disk: "ssd" } } }),
      [
        load(
          node("a", { spec: { taints: [{ key: "node.kubernetes.io/unreachable", effect: "NoSchedule" }] } }),
        ),
        load(node("b")),
        load(node("c")),
      ],
      `0/3 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, 2 node(s) didn't match Pod's node affinity/selector. ${helpless(3)}`,
    ],
    [
      "too little cpu",
      hungry("600m"),
      [load(small, [hungry("500m")])],
      "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
    ],
    [
      "too many pods, too little memory",
      hungry("1m", "65Mi"),
      [load(small, [pod("x"), pod("y")])],
      "0/1 nodes are available: 1 Insufficient memory, 1 Too many pods. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
    ],
  ])("%s", (_, what, loads, unschedulable) => expect(placePod(what, loads)).toEqual({ unschedulable }));
});

test("binding and the events", () => {
  const p = pod("p");
  const bound = placementActions(p, { node: "a" }, NOW);
  expect(brief(bound)).toEqual(["patch pods p", "patch pods/status p"]);
  expect(bound[0]).toMatchObject({
    done: { reason: "Scheduled", message: "Successfully assigned default/p to a" },
  });
  const refused = placementActions(p, { unschedulable: "no nodes available to schedule pods" }, NOW);
  expect(brief(refused)).toEqual(["event FailedScheduling", "patch pods/status p"]);
  const condition = { type: "PodScheduled", status: "False", message: "no nodes available to schedule pods" };
  const again = placementActions(
    { ...p, status: { conditions: [condition] } } as Pod,
    { unschedulable: condition.message },
    NOW,
  );
  expect(brief(again)).toEqual(["event FailedScheduling"]);
});

test.each([
  ["100m", 0.1],
  ["2", 2],
  ["64Mi", 67108864],
  ["1.5Gi", 1610612736],
  ["1e3", 1000],
  ["5k", 5000],
])("quantity %s", (text, value) => expect(parseQuantity(text)).toBeCloseTo(value));
