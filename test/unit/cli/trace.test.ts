/** `podwire trace` over given tables: output, exit status, and a real flow that it is held against. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { FlowQuery, FlowView } from "../../../src/agent/flowReport.js";
import { FlowReport } from "../../../src/agent/flowReport.js";
import { traceCommand } from "../../../src/cli/trace.js";
import type { TraceSources } from "../../../src/cli/traceSources.js";
import type { EndpointSliceObject, ServiceObject } from "../../../src/desired/serviceObjects.js";
import type { Trace } from "../../../src/explain/trace/model.js";
import { FlowReader } from "../../../src/tables/FlowReader.js";
import { counting, RST, SYN, tcpPacket } from "../../support/frames.js";
import { NODES, type NodeName, PC, PODS, SimulatedCluster } from "../../support/model/SimulatedCluster.js";
import { sourceOf, sourcesOf } from "../../support/traceNodes.js";

let world: SimulatedCluster;
let written: string;
let complained: string;
let closed: number;
/** After so many looks at flows this happens. */
let afterLooks = 0;
let onLooked = () => {};
const { write } = process.stdout;
const { write: complain } = process.stderr;

beforeEach(() => {
  world = new SimulatedCluster();
  const web: ServiceObject = {
    metadata: { name: "web", namespace: "default" },
    spec: {
      type: "NodePort",
      clusterIP: "10.152.183.10",
      ports: [{ protocol: "TCP", port: 80, nodePort: 30_080 }],
    },
  };
  const slice: EndpointSliceObject = {
    metadata: { name: "web", namespace: "default", labels: { "kubernetes.io/service-name": "web" } },
    addressType: "IPv4",
    ports: [{ protocol: "TCP", port: 8080 }],
    endpoints: [PODS.a1, PODS.b1, PODS.c1].map((address) => ({ addresses: [address] })),
  };
  world.apply([web], [slice]);
  [written, complained, closed] = ["", "", 0];
  process.stdout.write = ((text: string) => {
    written += text;
    return true;
  }) as typeof write;
  process.stderr.write = ((text: string) => {
    complained += text;
    return true;
  }) as typeof write;
});
afterEach(() => {
  process.stdout.write = write;
  process.stderr.write = complain;
  process.exitCode = 0;
});

/** The sources of the simulated cluster as it is whenever something is asked. */
function sources(): TraceSources {
  return {
    nodes: sourcesOf(world).map(({ tables }) => ({
      tables,
      flows: (addresses) => sourceOf(world, tables.node as NodeName).flows(addresses),
    })),
    notes: [],
    flows: async (node: string, query: FlowQuery): Promise<FlowView[]> => {
      const { test: simulated, services } = world.nodes[node as NodeName];
      const now = () => Math.floor(simulated.io.nowUs / 1000) | 0;
      const found = [
        ...new FlowReport(new FlowReader(simulated.flows.words.buffer), services, now).list(query),
      ];
      if (--afterLooks === 0) onLooked();
      return found;
    },
    close: () => {
      closed++;
    },
  };
}

async function run(...args: string[]): Promise<number> {
  process.exitCode = 0;
  await traceCommand(async () => sources()).parseAsync(args, { from: "user" });
  return process.exitCode as number;
}

describe("podwire trace", () => {
  test("prints text, JSON or SVG, and lets go of what it asked", async () => {
    expect(await run("pod/a1", "svc/web")).toBe(0);
    expect(written).toMatch(/^pod\/a1 → svc\/web: tcp /);
    written = "";
    expect(await run("pod/a1", "svc/web", "-o", "json")).toBe(0);
    const result = JSON.parse(written) as Trace;
    expect(result).toMatchObject({ version: 1, verdict: "answered", live: null, from: "pod/a1" });
    written = "";
    expect(await run("pod/a1", "svc/web", "-o", "svg")).toBe(0);
    expect(written).toMatch(/^<svg /);
    expect(closed).toBe(3);
  });

  test("takes `nodeport NODE:PORT` in two words", async () => {
    await run("pc", "nodeport", "b:30080", "--sport", "41000", "-o", "json");
    expect((JSON.parse(written) as Trace).request.packet).toMatchObject({
      destination: NODES.b.underlay,
      destinationPort: 30_080,
      sourcePort: 41_000,
    });
  });

  test("ends with 3 where the packet is dropped or refused, and with 1 where the question is wrong", async () => {
    expect(await run("pod/a1", "10.152.183.10:81")).toBe(3);
    expect(written).toContain("Refused:");
    expect(await run("pod/a1", "svc/none")).toBe(1);
    expect(complained).toBe("podwire trace: there is no Service default/none with an address\n");
    expect(closed).toBe(2);
  });
});

describe("podwire trace --live", () => {
  const ends = { source: PC, destination: NODES.a.underlay, destinationPort: 30_080 };
  const open = (sourcePort: number) =>
    world.fromLan("a", tcpPacket({ ...ends, sourcePort, flags: SYN, sequence: 5 }, counting(0)));
  /** Lets something happen once the command has looked at each node for the first time. */
  const soon = (work: () => void) => {
    afterLooks = 3;
    onLooked = work;
  };

  test("waits for the next connection, not one that was there, and finds it as traced", async () => {
    open(45_000);
    soon(() => open(45_001));
    expect(await run("pc", "nodeport a:30080", "--live", "--wait", "10", "-o", "json")).toBe(0);
    const { request, live } = JSON.parse(written) as Trace;
    expect(request.packet).toMatchObject({ source: PC, sourcePort: 45_001 });
    expect(request.steps[0]!.lane).toBe("pc");
    // Its first packet, as it was before it was there.
    expect(request.steps.some(({ stage }) => stage === "service")).toBe(true);
    expect(live).toMatchObject({ agrees: true, difference: "" });
    expect(live!.flows[0]).toMatchObject({ node: "a" });
    const { destination, destinationPort } = request.packetAtEnd;
    expect(live!.flows[0]!.line).toContain(
      `src=${destination} dst=${PC} sport=${destinationPort} dport=45001`,
    );
  });

  test("takes a connection whose tuple was another's a moment before, and says when it waits", async () => {
    open(45_003);
    soon(() => {
      const reset = { ...ends, sourcePort: 45_003, flags: RST, sequence: 6 };
      world.fromLan("a", tcpPacket(reset, counting(0)));
      world.pass(5);
      open(45_003);
    });
    expect(await run("pc", "nodeport a:30080", "--live", "--wait", "10", "-o", "json")).toBe(0);
    expect((JSON.parse(written) as Trace).request.packet.sourcePort).toBe(45_003);
    expect(complained).toBe("waiting 10 s for a connection from pc to nodeport a:30080\n");
  });

  test("says where a connection did not go as traced", async () => {
    soon(() => {
      open(45_002);
      // The endpoints change right after it: only a flow table remembers.
      const [only] = [PODS.a1, PODS.b1, PODS.c1].filter((address) => !flowEnds().includes(address));
      world.apply(
        [],
        [
          {
            metadata: { name: "web", namespace: "default", labels: { "kubernetes.io/service-name": "web" } },
            addressType: "IPv4",
            ports: [{ protocol: "TCP", port: 8080 }],
            endpoints: [{ addresses: [only!] }],
          },
        ],
      );
    });
    const held = { ...sources() };
    // The tables are read after the change.
    await traceCommand(async () => {
      await new Promise((resolve) => setTimeout(resolve, 0));
      return {
        ...held,
        get nodes() {
          return sources().nodes;
        },
      };
    }).parseAsync(["pc", "nodeport a:30080", "--live", "--wait", "10", "-o", "json"], { from: "user" });
    const { live } = JSON.parse(written) as Trace;
    expect(live!.agrees).toBe(false);
    expect(live!.difference).toMatch(
      /^the flow goes to 10\.1\.\d+\.\d+:8080, the trace to 10\.1\.\d+\.\d+:8080$/,
    );
  });

  const flowEnds = () => world.nodes.a.lines().join(" ");

  test("gives up after a while, and says so", async () => {
    expect(await run("pc", "nodeport a:30080", "--live", "--wait", "0.2")).toBe(1);
    expect(complained).toMatch(/no flow from outside to 192\.168\.2\.30:30080 began within 0\.2 s/);
  });
});
