/**
 * Load-balancer addresses in the lab: MetalLB's objects through kubectl, and what the LAN gets to see.
 * The addresses are asked by the pc, and its neighbour table is the witness for who answers.
 */
import { existsSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { AnnounceStatus } from "../../src/agent/announceStatus.js";
import type { Service } from "../../src/kube/types.js";
import { hostNamespace, LAN_NAMESPACE, macOf, manifest, nodePaths } from "../../src/lab/plan.js";
import { type LabNode, NODES } from "../../src/lab/walkthrough.js";
import { PODWIRE } from "../support/agent.js";
import { agentPid, create, eventsOf, kubectl, LONG, lab, run } from "../support/lab.js";
import { netnsUnavailable, TestNet, waitFor } from "../support/netns.js";
import { requirePrograms } from "../support/programs.js";

const PC = hostNamespace("pc");
const EXCLUDE = "node.kubernetes.io/exclude-from-external-load-balancers";
const WALK = ["lb-nginx-ds", "lb-apache-ds", "lb-redis-ds"];
/** The device that is none of the cluster's. */
const FOREIGN = { name: "foreign", address: "192.168.2.40", mac: "02:00:5e:00:53:01" };

const net = new TestNet();

async function addressOf(name: string): Promise<string> {
  const { status } = JSON.parse(await kubectl("get", "service", name, "-o", "json")) as Service;
  return status?.loadBalancer?.ingress?.[0]?.ip ?? "";
}

const given = (name: string) => waitFor(() => addressOf(name), { ...LONG, what: `an address for ${name}` });

/** What a node's agent says. */
async function announcement(node: string): Promise<AnnounceStatus> {
  const { stateDir } = nodePaths(node);
  const command = [process.execPath, PODWIRE, "announce", "status", "-d", stateDir, "-o", "json"];
  const { code, stdout, stderr } = await run(command);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as AnnounceStatus;
}

/** The node that these agents all name as an address's owner; "" where they do not agree (yet). */
async function ownerOf(address: string, nodes: readonly LabNode[] = NODES): Promise<string> {
  const views = await Promise.all(nodes.map(({ name }) => announcement(name)));
  const owners = new Set(
    views.map(({ addresses }) => addresses.find((each) => each.address === address)?.owner ?? ""),
  );
  return owners.size === 1 ? [...owners][0]! : "";
}

/** MAC that the pc has for an address, "" for none. */
async function learned(address: string): Promise<string> {
  const { stdout } = await net.exec(PC, "ip", ["-json", "neigh", "show", address]);
  const [entry] = JSON.parse(stdout || "[]") as { lladdr?: string }[];
  return entry?.lladdr ?? "";
}

function curl(address: string, port: number, seconds = "2") {
  return net.tryExec(PC, "curl", ["-sS", "-m", seconds, `http://${address}:${port}/`]);
}

/** Waits until the pc is answered, and has the MAC of the node that all agents name. */
async function answeredBy(
  address: string,
  port: number,
  wanted: (owner: string) => boolean = () => true,
  nodes: readonly LabNode[] = NODES,
): Promise<string> {
  return waitFor(
    async () => {
      const owner = await ownerOf(address, nodes);
      if (owner === "" || !wanted(owner) || (await curl(address, port)).code !== 0) return "";
      const node = NODES.find(({ name }) => name === owner)!;
      return (await learned(address)) === macOf(node.address) ? owner : "";
    },
    { ...LONG, what: `an owner of ${address}` },
  );
}

function echo(name: string, policy: string, port: number, more: object = {}): object {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, ...more },
    spec: {
      type: "LoadBalancer",
      externalTrafficPolicy: policy,
      selector: { app: "echo" },
      ports: [{ port, targetPort: 8080 }],
    },
  };
}

function echoPod(name: string, node: string): object {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, labels: { app: "echo" } },
    spec: {
      nodeName: node,
      terminationGracePeriodSeconds: 0,
      containers: [{ name: "main", image: "podwire/echo" }],
    },
  };
}

/** The namespace of a device on the lab's LAN that is none of the lab's; `name`: its link on the bridge. */
async function onLan(name: string, mac: string): Promise<string> {
  const device = await net.netns(name);
  const cable = `link add ${name} type veth peer name eth0 address ${mac} netns ${device}`;
  await net.exec(LAN_NAMESPACE, "ip", cable.split(" "));
  await net.exec(LAN_NAMESPACE, "ip", ["link", "set", name, "master", "br0", "up"]);
  await net.exec(device, "ip", ["link", "set", "eth0", "up"]);
  return device;
}

describe.skipIf(netnsUnavailable() !== "")("load-balancer addresses of the lab", () => {
  beforeAll(async () => {
    requirePrograms("curl", "ping", "bridge");
    lab("down");
    const { code, stderr } = lab("up", "--no-install");
    expect(code, stderr).toBe(0);
  });

  afterAll(async () => {
    await net.cleanup();
    expect(lab("down").code).toBe(0);
    expect(existsSync("/run/podwire-lab")).toBe(false);
  });

  afterEach(async () => {
    for (const { name } of NODES) await kubectl("label", "node", name, `${EXCLUDE}-`);
  });

  test("step 4: pending, the pool, three addresses, each with one owner on the LAN", async () => {
    await kubectl("apply", "-f", manifest("loadbalancer"));
    const lines = (await kubectl("get", "svc", "-o", "wide")).trimEnd().split("\n");
    for (const [i, ports] of ["8080:30800/TCP", "9090:30900/TCP", "6379:30379/TCP"].entries()) {
      const row = lines.find((line) => line.startsWith(WALK[i]!))!.split(/ {2,}/);
      expect([row[1], row[3], row[4]]).toEqual(["LoadBalancer", "<pending>", ports]);
    }
    const silent =
      'Warning AllocationFailed Failed to allocate IP for "default/lb-nginx-ds": no available IPs';
    const said = () => eventsOf("lb-nginx-ds");
    await waitFor(async () => (await said()).length > 0, { ...LONG, what: "an Event" });
    expect(await said()).toEqual([silent]);
    await kubectl("apply", "-f", manifest("addresspool"));
    const addresses = await Promise.all(WALK.map(given));
    expect(addresses.sort()).toEqual(["192.168.2.36", "192.168.2.37", "192.168.2.38"]);

    const web = await addressOf("lb-nginx-ds");
    const owner = await answeredBy(web, 8080);
    expect((await curl(web, 8080)).stdout).toMatch(/^nginx-ds-\w+ on k8s-/);
    await answeredBy(await addressOf("lb-apache-ds"), 9090);
    const redis = await addressOf("lb-redis-ds");
    expect((await net.exec(PC, "redis-cli", ["-h", redis, "PING"])).stdout).toBe("PONG\n");
    const assigned = `Normal nodeAssigned announcing from node "${owner}" with protocol "layer2"`;
    await waitFor(async () => (await said()).includes(assigned), {
      ...LONG,
      what: "the owner's Event",
    });
    const status = await announcement(owner);
    expect(status).toMatchObject({ node: owner, carrier: true, settled: true, drained: false });
    expect(status.addresses.find(({ address }) => address === web)).toMatchObject({
      owner,
      answers: true,
      pool: "default-addresspool",
      services: ["default/lb-nginx-ds"],
      problem: null,
    });
    expect(status.neighbors.map(({ node, state }) => `${node} ${state}`).sort()).toEqual(
      NODES.filter(({ name }) => name !== owner).map(({ name }) => `${name} Up`),
    );
  });

  test("an excluded node hands its addresses on, and gets them back", async () => {
    const address = await addressOf("lb-nginx-ds");
    const owner = await answeredBy(address, 8080);
    await kubectl("label", "node", owner, `${EXCLUDE}=`);
    const heir = await answeredBy(address, 8080, (each) => each !== owner);
    expect(heir).not.toBe(owner);
    await kubectl("label", "node", owner, `${EXCLUDE}-`);
    await answeredBy(address, 8080, (each) => each === owner);
  });

  test("advertisements choose nodes; without one nobody answers, and the status says why", async () => {
    const address = await addressOf("lb-nginx-ds");
    const select = (selectors: object) =>
      kubectl(
        "patch",
        "-n",
        "metallb-system",
        "l2advertisement",
        "default-advertise-all-pools",
        "--type=merge",
        "-p",
        JSON.stringify({ spec: selectors }),
      );
    for (const { name } of [NODES[0]!, NODES[3]!]) {
      await select({ nodeSelectors: [{ matchLabels: { "kubernetes.io/hostname": name } }] });
      await answeredBy(address, 8080, (owner) => owner === name);
    }
    await select({ interfaces: ["eth9"] });
    const problem = async () =>
      (await announcement(NODES[3]!.name)).addresses.find((each) => each.address === address)?.problem;
    await waitFor(async () => (await problem()) === "noNode", { ...LONG, what: "no node" });
    await net.exec(PC, "ip", ["neigh", "flush", "dev", "eth0"]);
    expect((await curl(address, 8080, "1")).code).not.toBe(0);
    await select({ interfaces: null, nodeSelectors: null });
    await answeredBy(address, 8080);
  });

  test("policy Local: the address follows the endpoints, and the client's address survives", async () => {
    await create(echoPod("echo-1", "k8s-worker01"), echo("echo-local", "Local", 80));
    await kubectl("wait", "--for=condition=Ready", "pod/echo-1", "--timeout=60s");
    const address = await given("echo-local");
    await answeredBy(address, 80, (owner) => owner === "k8s-worker01");
    const { stdout } = await net.exec(PC, "curl", [
      "-sS",
      "-H",
      "Accept: application/json",
      `http://${address}/`,
    ]);
    expect(JSON.parse(stdout)).toMatchObject({
      pod: "echo-1",
      client: expect.stringMatching(/^192\.168\.2\.10:/),
    });
    await create(echoPod("echo-2", "k8s-worker03"));
    await kubectl("wait", "--for=condition=Ready", "pod/echo-2", "--timeout=60s");
    await kubectl("delete", "pod", "echo-1", "--wait");
    await answeredBy(address, 80, (owner) => owner === "k8s-worker03");
    await kubectl("delete", "service", "echo-local");
    await kubectl("delete", "pod", "echo-2", "--wait");
  });

  test("an address that a device on the LAN has is reported and left out", async () => {
    const foreign = await onLan(FOREIGN.name, FOREIGN.mac);
    await net.exec(foreign, "ip", ["address", "add", `${FOREIGN.address}/24`, "dev", "eth0"]);
    await waitFor(async () => (await net.tryExec(PC, "ping", ["-c1", "-W1", FOREIGN.address])).code === 0, {
      ...LONG,
      what: "the device on the LAN",
    });
    const want = { annotations: { "metallb.io/loadBalancerIPs": FOREIGN.address } };
    await create(echo("wants-it", "Cluster", 80, want), echo("takes-any", "Cluster", 80));
    const inUse = `Warning AddressInUse IP "${FOREIGN.address}" is in use by ${FOREIGN.mac} on the LAN, it is left out`;
    await waitFor(async () => (await eventsOf("wants-it")).includes(inUse), { ...LONG, what: "the report" });
    expect(await addressOf("wants-it")).toBe("");
    expect(await given("takes-any")).toBe("192.168.2.39");
    expect(await addressOf("wants-it")).toBe("");
    await kubectl("delete", "service", "wants-it", "takes-any");
  });

  test("a device that claims an address in use is reported, and the owner goes on", async () => {
    const address = await addressOf("lb-nginx-ds");
    const owner = await answeredBy(address, 8080);
    const foreign = await onLan("claimant", "02:00:5e:00:53:02");
    await net.exec(foreign, "ip", ["address", "add", `${address}/24`, "dev", "eth0"]);
    const said = `Warning AddressConflict the device 02:00:5e:00:53:02 claims ${address} too: node "${owner}" goes on announcing it`;
    await waitFor(
      async () => {
        // What anybody does who asks from that address.
        await net.tryExec(foreign, "ping", ["-c1", "-W1", "192.168.2.10"]);
        return (await eventsOf("lb-nginx-ds")).includes(said);
      },
      { ...LONG, what: "the report" },
    );
    const { conflicts } = await announcement(owner);
    expect(conflicts.filter(({ node }) => node === null)).toMatchObject([
      { address, mac: "02:00:5e:00:53:02", yielded: false },
    ]);
    await net.exec(foreign, "ip", ["link", "del", "eth0"]);
    await net.exec(PC, "ip", ["neigh", "flush", "dev", "eth0"]);
    await answeredBy(address, 8080, (each) => each === owner);
  });

  test("kill -9 of the owner's agent: another takes over; the agent comes back and gets its own", async () => {
    const address = await addressOf("lb-nginx-ds");
    const owner = await answeredBy(address, 8080);
    process.kill(agentPid(owner), "SIGKILL");
    const rest = NODES.filter(({ name }) => name !== owner);
    const heir = await waitFor(
      async () => {
        const now = await ownerOf(address, rest);
        return now !== owner ? now : "";
      },
      { ...LONG, what: "another owner" },
    );
    await waitFor(
      async () => (await learned(address)) === macOf(NODES.find(({ name }) => name === heir)!.address),
      { ...LONG, what: "the pc's new MAC" },
    );
    // The dead agent's node has endpoints still: of some requests at least those to the others are answered.
    await waitFor(async () => (await curl(address, 8080)).code === 0, { ...LONG, what: "an answer" });
    const [vip] = (await announcement(heir)).addresses.filter((each) => each.address === address);
    expect(vip!.order[0]).toEqual({ node: owner, up: false });
    expect(lab("restart", owner).code).toBe(0);
    await answeredBy(address, 8080, (each) => each === owner);
    const assigned = `Normal nodeAssigned announcing from node "${heir}" with protocol "layer2"`;
    await waitFor(async () => (await eventsOf("lb-nginx-ds")).includes(assigned), {
      ...LONG,
      what: "the heir's Event",
    });
  });

  test("the walk's step 4 holds again, and step 3 after it", () => {
    for (const step of ["4", "3", "4"]) {
      const { code, stdout, stderr } = lab("walk", "--step", step);
      expect(code, stdout + stderr).toBe(0);
    }
  });
});
