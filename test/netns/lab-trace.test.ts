/**
 * Traces of the walkthrough against the lab: the real connection from the same client port has the
 * endpoint that the trace says, by each way in.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { End, Trace } from "../../src/explain/trace/model.js";
import { hostNamespace, inNamespace, manifest, nodePaths, podNamespace } from "../../src/lab/plan.js";
import { type LabNode, NODES } from "../../src/lab/walkthrough.js";
import { PODWIRE } from "../support/agent.js";
import { kubectl, LONG, lab, podsOf, run } from "../support/lab.js";
import { netnsUnavailable, waitFor } from "../support/netns.js";
import { requirePrograms } from "../support/programs.js";

const [MASTER, WORKER01, WORKER02] = NODES as [LabNode, LabNode, LabNode];
/** Client ports: none is used twice, and none is one that the kernel hands out (ip_local_port_range). */
let nextPort = 22_000;

/** What `podwire trace` says on k8s-master. */
async function trace(...args: string[]): Promise<Trace> {
  const command = [process.execPath, PODWIRE, "trace", ...args, "-o", "json"];
  const { code, stdout, stderr } = await run(inNamespace(hostNamespace(MASTER.name), command));
  if (code !== 0 && code !== 3) throw new Error(`podwire trace ${args.join(" ")}: exit ${code}: ${stderr}`);
  return JSON.parse(stdout) as Trace;
}

/** The pod that answers at a URL: "nginx-ds-xm9z2", by what its page says. */
async function answerer(namespace: string, url: string, port: number): Promise<string> {
  const curl = ["curl", "-sS", "-m", "10", "--local-port", String(port), url];
  const { code, stdout, stderr } = await run(inNamespace(namespace, curl));
  if (code !== 0) throw new Error(`${url} from ${namespace}: ${stderr}`);
  return stdout.split(" ")[0]!;
}

function podOf(end: End): string {
  return end.kind === "delivered" ? end.lane.replace(/^default\//, "") : `${end.kind} at ${end.lane}`;
}

/** Some connections, each traced before it is made. */
async function compare(from: string, namespace: string, to: string, url: string): Promise<Set<string>> {
  const pods = new Set<string>();
  for (let n = 0; n < 4; n++) {
    const port = nextPort++;
    const traced = await trace(from, to, "--sport", String(port));
    expect(traced.verdict).toBe("answered");
    const really = await answerer(namespace, url, port);
    expect(really, `${from} → ${to}, client port ${port}`).toBe(podOf(traced.request.end));
    pods.add(really);
  }
  return pods;
}

async function clusterIpOf(name: string): Promise<string> {
  return kubectl("get", "service", name, "-o", "jsonpath={.spec.clusterIP}");
}

describe.skipIf(netnsUnavailable() !== "")("podwire trace in the lab", () => {
  beforeAll(async () => {
    requirePrograms("curl");
    lab("down");
    const { code, stderr } = lab("up", "--no-install");
    expect(code, stderr).toBe(0);
    await kubectl("apply", "-f", manifest("clusterip"), "-f", manifest("nodeport"));
    await waitFor(async () => (await trace("pc", `nodeport ${MASTER.name}:30080`)).verdict === "answered", {
      ...LONG,
      what: "NodePorts on every node",
    });
  }, 120_000);
  afterAll(() => {
    lab("down");
  }, 60_000);

  test("from the pc by NodePorts", async () => {
    const found = new Set<string>();
    for (const { name, address } of NODES) {
      const pods = await compare(
        "pc",
        hostNamespace("pc"),
        `nodeport ${name}:30080`,
        `http://${address}:30080/`,
      );
      for (const pod of pods) found.add(pod);
    }
    expect(found.size).toBeGreaterThan(1);
  });

  test("from a pod, and from a node, by a ClusterIP", async () => {
    const url = `http://${await clusterIpOf("clusterip-apache2-ds")}:90/`;
    const [pod] = await podsOf("name=nginx");
    const namespace = podNamespace({ uid: pod!.metadata.uid! });
    await compare(`pod/${pod!.metadata.name}`, namespace, "svc/clusterip-apache2-ds", url);
    await compare(`node/${WORKER01.name}`, hostNamespace(WORKER01.name), "svc/clusterip-apache2-ds", url);
  });

  test("what is refused and what gets no further, as the pc and a pod find it too", async () => {
    const clusterIp = await clusterIpOf("clusterip-nginx-ds");
    expect(await trace("pc", `${clusterIp}:80`)).toMatchObject({
      verdict: "dropped",
      request: { end: { drop: { reason: "noRouteFromOutside" } } },
    });
    const [pod] = await podsOf("name=nginx");
    const refused = await trace(`pod/${pod!.metadata.name}`, `${clusterIp}:81`);
    expect(refused).toMatchObject({
      verdict: "refused",
      request: { end: { drop: { reason: "noServicePort" } } },
    });
    const namespace = podNamespace({ uid: pod!.metadata.uid! });
    const curl = ["curl", "-sS", "-m", "10", `http://${clusterIp}:81/`];
    expect((await run(inNamespace(namespace, curl))).code).toBe(7);
  });

  test("--live: the next real connection, on every node that it crosses", async () => {
    const live = trace("pc", `nodeport ${WORKER02.name}:30080`, "--live", "--wait", "30");
    let over = false;
    void live.finally(() => {
      over = true;
    });
    while (!over) await answerer(hostNamespace("pc"), `http://${WORKER02.address}:30080/`, nextPort++);
    const { live: seen, request } = await live;
    expect(seen).toMatchObject({ agrees: true });
    expect(seen!.flows[0]!.node).toBe(WORKER02.name);
    expect(seen!.flows[0]!.line).toContain(`dport=30080`);
    if (request.end.kind !== "delivered") throw new Error("not delivered");
    expect(seen!.flows[0]!.line).toContain(`src=${request.end.packet.destination}`);
  });

  test("with an agent's own tables alone, as far as these go", async () => {
    const stateDir = nodePaths(WORKER01.name).stateDir;
    const traced = await trace("pc", `nodeport ${WORKER01.name}:30090`, "--state-dir", stateDir);
    expect(traced.notes).toEqual([`only ${WORKER01.name} is looked at: the other nodes need --kubeconfig`]);
    expect(["answered", "unseen"]).toContain(traced.verdict);
    const choice = traced.request.steps.find(({ service }) => service !== undefined)!.service!;
    expect(choice.endpoints).toHaveLength(4);
    expect(choice.endpoints.map(({ node }) => node).sort()).toEqual(NODES.map(({ name }) => name).sort());
  });

  test("from the pc by a load-balancer address, whose owner answers ARP", async () => {
    // It has the nodePort of one of those.
    await kubectl("delete", "-f", manifest("nodeport"));
    await kubectl("apply", "-f", manifest("loadbalancer"), "-f", manifest("addresspool"));
    const address = await waitFor(
      async () =>
        kubectl("get", "service", "lb-nginx-ds", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}"),
      { ...LONG, what: "an address of lb-nginx-ds" },
    );
    await waitFor(async () => (await trace("pc", `${address}:8080`)).verdict === "answered", {
      ...LONG,
      what: `${address} is announced`,
    });
    await compare("pc", hostNamespace("pc"), `${address}:8080`, `http://${address}:8080/`);
    const { request } = await trace("pc", "svc/lb-nginx-ds");
    expect(request.packet.destination).toBe(address);
    const owner = /^(\S+) answers ARP/.exec(request.steps.find(({ stage }) => stage === "arp")!.what)![1];
    const neighbour = await run(inNamespace(hostNamespace("pc"), ["ip", "-j", "neigh", "show", address]));
    const mac = (JSON.parse(neighbour.stdout) as { lladdr: string }[])[0]!.lladdr;
    const link = await run(inNamespace(hostNamespace(owner!), ["ip", "-j", "link", "show", "eth0"]));
    expect((JSON.parse(link.stdout) as { address: string }[])[0]!.address).toBe(mac);
  });
});
