/** Pictures: what they show, that boxes do not lie on one another, and that each format is whole. */
import { describe, expect, test } from "vitest";
import { mermaidOf } from "../../../src/explain/picture/mermaid.js";
import { drawTopology } from "../../../src/explain/picture/picture.js";
import { pngOf } from "../../../src/explain/picture/png.js";
import type { RectShape, Scene } from "../../../src/explain/picture/scene.js";
import type { Step } from "../../../src/explain/picture/selection.js";
import { svgOf } from "../../../src/explain/picture/svg.js";
import { textOf } from "../../../src/explain/picture/text.js";
import { topologyOf } from "../../../src/explain/topology.js";
import {
  type ClusterShape,
  clusterOf,
  DAEMON_SETS,
  liveOf,
  manyNodes,
  STEP_SERVICES,
  WALKTHROUGH_NODES,
} from "../../support/topology.js";

const OWNERS = { "192.168.2.36": "k8s-worker02", "192.168.2.37": "k8s-master" };

function shapeOf(
  services: ClusterShape["services"],
  nodes = WALKTHROUGH_NODES as ClusterShape["nodes"],
): ClusterShape {
  return { nodes, daemonSets: DAEMON_SETS, services };
}

function topology(services: ClusterShape["services"], nodes?: ClusterShape["nodes"]) {
  const shape = shapeOf(services, nodes);
  return topologyOf(clusterOf(shape), liveOf(shape, OWNERS));
}

function draw(step: Step | undefined, services: ClusterShape["services"], nodes?: ClusterShape["nodes"]) {
  return drawTopology(topology(services, nodes), step === undefined ? {} : { step });
}

function texts({ shapes }: Scene): string[] {
  return shapes.flatMap((shape) => (shape.kind === "text" ? shape.text : []));
}

/** The largest box of each thing whose `ref` begins so. */
function boxes({ shapes }: Scene, prefix: string): Map<string, RectShape> {
  const found = new Map<string, RectShape>();
  for (const shape of shapes)
    if (shape.kind === "rect" && shape.ref?.startsWith(prefix)) {
      const before = found.get(shape.ref);
      if (before === undefined || before.width * before.height < shape.width * shape.height)
        found.set(shape.ref, shape);
    }
  return found;
}

function overlap(a: RectShape, b: RectShape): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

/** Lines of a Service from its box to pods: where they end. */
function ends({ shapes }: Scene, service: string) {
  return shapes.flatMap((shape) =>
    shape.kind === "line" && shape.ref === `flow:${service}` && shape.arrow ? shape.points.at(-1)! : [],
  );
}

describe("the walkthrough", () => {
  test("step 1: every pod, VTEP, block and LAN address, and a packet inside a packet", async () => {
    const scene = await draw("overlay", STEP_SERVICES.clusterip);
    const said = texts(scene).join("\n");
    for (const node of WALKTHROUGH_NODES)
      for (const fact of [node.name, node.address, node.tunnelAddress, node.block])
        expect(said).toContain(fact);
    for (const fact of ["10.1.79.65", "10.1.79.66", "10.1.79.67", "66:00:00:00:00:02", "VXLAN, VNI 4096"])
      expect(said).toContain(fact);
    // The example: inner addresses of pods, outer ones of their nodes.
    expect(said).toContain("192.168.2.30 → 192.168.2.31");
    expect(said).toContain("10.1.235.193 →\n10.1.79.66, TCP port 90");
    expect(said).not.toContain("clusterip-nginx-ds");
    expect(boxes(scene, "pod:").size).toBe(12);
  });

  test.each([
    ["clusterip", STEP_SERVICES.clusterip, ["10.152.183.226", "any pod"]],
    ["nodeport", STEP_SERVICES.nodeport, [":30080", ":30090", ":30379", "Any of the 4 nodes"]],
    [
      "loadbalancer",
      STEP_SERVICES.loadbalancer,
      ["192.168.2.36 :8080", "k8s-worker02 answers", "192.168.2.37 :9090", "k8s-master answers"],
    ],
  ] as const)(
    "step %s: Services, and a line of its own colour from each to its four pods",
    async (step, services, facts) => {
      const scene = await draw(step, [...services]);
      const said = texts(scene);
      for (const fact of facts) expect(said).toContain(fact);
      const paints = new Set<string>();
      for (const { name, behind } of services) {
        const key = `default/${name}`;
        const pods = [...boxes(scene, `pod:default/${behind}`).values()];
        const to = ends(scene, key);
        expect(pods).toHaveLength(4);
        for (const pod of pods)
          expect(
            to.some(({ y }) => y > pod.y && y < pod.y + pod.height),
            `${name} to a pod`,
          ).toBe(true);
        for (const shape of scene.shapes)
          if (shape.kind === "line" && shape.ref === `flow:${key}`) paints.add(shape.paint);
      }
      expect(paints.size).toBe(3);
    },
  );

  test("a step shows the Services of its kind alone", async () => {
    const all = [...STEP_SERVICES.clusterip, ...STEP_SERVICES.nodeport];
    expect(texts(await draw("nodeport", all))).not.toContain("clusterip-nginx-ds");
    expect(texts(await draw(undefined, all))).toEqual(
      expect.arrayContaining(["clusterip-nginx-ds", "nodeport-redis-ds"]),
    );
  });

  test("a node's socket names the addresses that it answers for, where their Services are shown", async () => {
    const owners = Object.fromEntries(["36", "37", "38"].map((n) => [`192.168.2.${n}`, "k8s-worker02"]));
    const shape = shapeOf(STEP_SERVICES.loadbalancer);
    const cluster = topologyOf(clusterOf(shape), liveOf(shape, owners));
    const said = texts(await drawTopology(cluster, { step: "loadbalancer" }));
    expect(said.filter((text) => text === "answers for")).toHaveLength(1);
    for (const owned of Object.keys(owners)) expect(said).toContain(owned);
    const [{ name }] = STEP_SERVICES.loadbalancer;
    const one = texts(await drawTopology(cluster, { step: "loadbalancer", services: [name] }));
    expect(one).toContain("192.168.2.36");
    expect(one).not.toContain("192.168.2.37");
    for (const step of ["overlay", "clusterip", "nodeport"] as const)
      expect(texts(await drawTopology(cluster, { step })), step).not.toContain("answers for");
  });

  test("an address that is still pending says so, and nothing leads to it", async () => {
    const pending = STEP_SERVICES.loadbalancer.map(({ address: _, ...service }) => service);
    const scene = await draw("loadbalancer", pending);
    expect(texts(scene).filter((text) => text === "<pending>")).toHaveLength(3);
  });

  test("a Service without endpoints, and a node whose table is wrong, are seen", async () => {
    const shape = shapeOf([STEP_SERVICES.clusterip[0]]);
    const objects = clusterOf(shape);
    const live = liveOf(shape);
    const state = live.nodes.get("k8s-worker03")!;
    const nodes = new Map(live.nodes).set("k8s-worker03", { ...state, vteps: state.vteps.slice(1) });
    const scene = await drawTopology(topologyOf({ ...objects, endpointSlices: [] }, { ...live, nodes }));
    expect(texts(scene)).toEqual(expect.arrayContaining(["no endpoint", "table wrong for k8s-master"]));
  });
});

describe("nothing lies on anything else", () => {
  const clusters: [string, Step | undefined, ClusterShape["services"], ClusterShape["nodes"] | undefined][] =
    [
      ["step 1", "overlay", [], undefined],
      ["step 4", "loadbalancer", STEP_SERVICES.loadbalancer, undefined],
      ["everything", undefined, [...STEP_SERVICES.clusterip, ...STEP_SERVICES.nodeport], undefined],
      ["one node", undefined, STEP_SERVICES.nodeport, WALKTHROUGH_NODES.slice(0, 1)],
      ["50 nodes", "overlay", [], manyNodes(50)],
      ["50 nodes, step 4", "loadbalancer", STEP_SERVICES.loadbalancer, manyNodes(50)],
    ];
  test.each(clusters)("%s", async (_, step, services, nodes) => {
    const scene = await draw(step, services, nodes);
    for (const prefix of ["node:", "pod:", "service:", "vip:"]) {
      const all = [...boxes(scene, prefix).values()];
      for (const [n, a] of all.entries())
        for (const b of all.slice(n + 1)) expect(overlap(a, b), `${a.ref} and ${b.ref}`).toBe(false);
    }
    for (const shape of scene.shapes) {
      if (shape.kind === "line") continue;
      expect(shape.x, JSON.stringify(shape)).toBeGreaterThanOrEqual(0);
      expect(shape.x).toBeLessThanOrEqual(scene.width);
      expect(shape.y).toBeLessThanOrEqual(scene.height);
    }
  });
});

describe("50 nodes", () => {
  test("every node is there with a mark for each pod, in a picture that fits a screen's shape", async () => {
    const scene = await draw("loadbalancer", STEP_SERVICES.loadbalancer, manyNodes(50));
    expect(boxes(scene, "node:").size).toBe(50);
    expect(boxes(scene, "pod:").size).toBe(150);
    expect(texts(scene)).toEqual(expect.arrayContaining(["worker-050", "50 pods on 50 nodes"]));
    expect(scene.width).toBeLessThan(2600);
    expect(scene.height).toBeLessThan(1500);
  });

  test("a Service too many is said, not drawn", async () => {
    const many = Array.from({ length: 40 }, (_, n) => ({
      ...STEP_SERVICES.clusterip[n % 3]!,
      name: `web-${String(n).padStart(2, "0")}`,
      clusterIp: `10.152.183.${100 + n}`,
    }));
    const scene = await draw(undefined, many, manyNodes(50));
    expect(texts(scene)).toContain("and 24 more Services (choose with --service)");
    expect(new Set([...boxes(scene, "service:").keys()]).size).toBe(16);
  });
});

describe("formats", () => {
  test("SVG: well-formed, with names escaped, and needs nothing beside it", async () => {
    const odd = [{ ...STEP_SERVICES.clusterip[0], name: 'a<b>&"c' }];
    const svg = svgOf(await draw(undefined, odd));
    expect(svg).toContain("a&lt;b&gt;&amp;&quot;c");
    expect(svg).not.toMatch(/undefined|NaN|href|url\(|@import/);
    // Every element that is opened is closed.
    const opened = [...svg.matchAll(/<([a-z]+)\b[^>]*?(\/?)>/g)].filter(([, , closed]) => closed === "");
    for (const name of new Set(opened.map(([, name]) => name)))
      expect([...svg.matchAll(new RegExp(`</${name}>`, "g"))]).toHaveLength(
        opened.filter(([, each]) => each === name).length,
      );
  });

  test("PNG: an image of twice the picture's size, with text on it", async () => {
    const scene = await draw("overlay", []);
    const png = pngOf(svgOf(scene));
    expect(png.subarray(0, 8)).toEqual(Buffer.from("\x89PNG\r\n\x1a\n", "latin1"));
    expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([2 * scene.width, 2 * scene.height]);
    const mute = pngOf(svgOf({ ...scene, shapes: scene.shapes.filter(({ kind }) => kind !== "text") }));
    expect(png.length).toBeGreaterThan(1.5 * mute.length);
  });

  test("Mermaid: nodes with their pods, and a line for each endpoint", () => {
    const text = mermaidOf(topology(STEP_SERVICES.nodeport), { step: "nodeport" });
    expect(text).toContain("flowchart LR");
    expect(text.match(/subgraph/g)).toHaveLength(4);
    expect(text.match(/^ {2}end$/gm)).toHaveLength(4);
    expect(text.match(/^ {2}service\d+ --> pod\d+$/gm)).toHaveLength(12);
    expect(text).toContain("any node :30080");
  });

  test("text: who is behind each Service and each VTEP", () => {
    const text = textOf(topology(STEP_SERVICES.loadbalancer), { step: "loadbalancer" });
    expect(text).toMatch(
      /lb-nginx-ds +192\.168\.2\.36:8080 \(k8s-worker02 answers\) → any node:30800 → 10\.152\.183\.7:8080 → /,
    );
    expect(text).toMatch(/k8s-worker01 {2}VTEP 10\.1\.79\.64 66:00:00:00:00:01 .*192\.168\.2\.31/);
    expect(text).toContain("10.1.79.66:90");
  });
});
