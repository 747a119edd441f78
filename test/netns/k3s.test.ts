/**
 * vagrant/provision/k3s.sh as Vagrant runs it on a master and a node. k3s itself is not there: its installer and
 * its program are played, and `podwire apiserver` behind a front that knows accounts and RBAC is the cluster's API.
 * Held against that: what k3s is told, what is applied, what a node's agent then may and does.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { NODES } from "../../src/lab/walkthrough.js";
import { ROOT, read } from "../support/documents.js";
import { machineLan, TestMachine } from "../support/machine.js";
import { netnsUnavailable, TestNet, type TestProcess, waitFor } from "../support/netns.js";
import { grantsOf } from "../support/rbac.js";
import { RbacFront } from "../support/rbacFront.js";
import { Relay } from "../support/relay.js";

const [MASTER, WORKER] = NODES as [(typeof NODES)[number], (typeof NODES)[number]];
const SERVER = `https://${MASTER.address}:6443`;
const JOIN_TOKEN = "K10abc::0123.456789";
/** What npm is given, which is played. */
const PACKAGE = `${ROOT}package.json`;
/** The folder on the machines. */
const VAGRANT = "/usr/local/src/podwire/vagrant";
/** Of the API server behind the front. */
const INNER_PORT = 7443;

/** In a namespace: connections to ADDRESS PORT become some to a unix socket. */
const OUTSIDE = `
const { connect, createServer } = require("node:net");
const [path, address, port] = process.argv.slice(1);
createServer((a) => {
  const b = connect(path);
  for (const [x, y] of [[a, b], [b, a]]) {
    x.pipe(y);
    x.on("error", () => y.destroy());
    x.on("close", () => y.destroy());
  }
}).listen(Number(port), address, () => console.log("listening"));
`;

const net = new TestNet();
const shared = net.directory();
const admin = join(shared, "api", "admin.kubeconfig");
let master: TestMachine;
let worker: TestMachine;
let front: RbacFront;
let relay: Relay;

/** The programs that are played, and what they were told, in /run/told. */
const PLAYED: Readonly<Record<string, string>> = {
  "/usr/local/sbin/npm": `case $1 in
  root) echo /usr/local/lib/node_modules ;;
  install) mkdir -p /usr/local/lib/node_modules/podwire && cp -r ${ROOT}manifests /usr/local/lib/node_modules/podwire ;;
esac`,
  // What doctor finds is the test machine's own business.
  "/usr/local/bin/podwire": `[ "$1" != doctor ] || exit 0
exec ${process.execPath} ${ROOT}dist/cli/main.js "$@"`,
  "/usr/local/sbin/systemctl": `echo "systemctl $*" >> /run/told`,
  // What it starts writes a kubeconfig, and unpacks plugins of CNI.
  [`${VAGRANT}/cache/k3s-install.sh`]: `echo "install $*" >> /run/told
env | grep -E '^(INSTALL_)?K3S_' | sort >> /run/told
data=/var/lib/rancher/k3s
mkdir -p /etc/rancher/k3s $data/agent $data/data/1/bin && ln -sfn $data/data/1 $data/data/current
touch $data/data/1/bin/loopback
case $1 in
  server) cp ${admin} /etc/rancher/k3s/k3s.yaml ;;
  agent) cp ${admin} $data/agent/kubelet.kubeconfig ;;
esac`,
  // Kinds that the API server has not are left out; a Secret for an account gets its token, as a controller does it.
  [`${VAGRANT}/cache/k3s`]: `[ "$1 $2" = "kubectl --kubeconfig" ] || { echo "not played: $*" >&2; exit 1; }
config=$3; shift 3
kubectl() { KUBECACHEDIR=/run/kubectl command kubectl --kubeconfig "$config" "$@"; }
for last; do :; done
case "$*" in
  "get crd "*) exit 1 ;;
  "apply -k "* | "wait "* | "create -f "*/metallb/*) echo "kubectl $*" >> /run/told ;;
  "apply -f "*)
    echo "kubectl apply $(basename "$(dirname "$last")")/$(basename "$last")" >> /run/told
    awk 'BEGIN { RS = "---\\n"; ORS = "---\\n" } !/apiVersion: rbac\\./' "$last" | kubectl apply -f - || exit 1
    case $last in
      */token.yaml)
        account=podwire-$(basename "$(dirname "$last")")
        ca=$(base64 -w0 < ${shared}/ca.crt) token=$(printf 'token of %s' "$account" | tr ' ' - | base64 -w0)
        kubectl patch secret -n kube-system "$account" -p "{\\"data\\":{\\"ca.crt\\":\\"$ca\\",\\"token\\":\\"$token\\"}}"
        ;;
    esac
    ;;
  *) kubectl "$@" ;;
esac`,
};

async function start({ name }: (typeof NODES)[number]): Promise<TestMachine> {
  const machine = await TestMachine.start(net, `${net.prefix}-${name}`, name);
  await machine.runOrThrow("mkdir", "-p", VAGRANT);
  await machine.runOrThrow("cp", "-r", `${ROOT}vagrant/provision`, VAGRANT);
  for (const [path, text] of Object.entries(PLAYED)) {
    const file = join(shared, "played");
    writeFileSync(file, `#!/bin/sh\n${text}\n`);
    await machine.runOrThrow("install", "-D", "-m", "755", file, path);
  }
  return machine;
}

/** As the Vagrantfile's line. */
const provision = (machine: TestMachine, script: string, ...args: string[]) =>
  machine.run(
    "env",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PODWIRE_PROFILE=k3s",
    "PODWIRE_K3S_VERSION=v1.32.4+k3s1",
    "sh",
    `${VAGRANT}/provision/${script}.sh`,
    ...args,
  );
const told = async (machine: TestMachine) =>
  (await machine.runOrThrow("cat", "/run/told")).trimEnd().split("\n");
const kubectl = (...args: string[]) =>
  master.runOrThrow("env", "KUBECACHEDIR=/run/kubectl", "kubectl", "--kubeconfig", admin, ...args);

describe.skipIf(netnsUnavailable() !== "")("provision/k3s.sh", () => {
  let api: TestProcess;

  beforeAll(async () => {
    await machineLan(net, [MASTER, WORKER]);
    master = await start(MASTER);
    worker = await start(WORKER);
    const options = ["-a", MASTER.address, "-p", String(INNER_PORT), "-d", join(shared, "api")];
    api = master.spawn("podwire", "apiserver", ...options);
    await waitFor(() => api.stderr.includes("API server ready"), { deadlineMs: 60_000, what: api.stderr });

    const ns = `${net.prefix}-${MASTER.name}`;
    relay = await Relay.into(net, ns, MASTER.address, INNER_PORT);
    const kubeconfig = join(shared, "relayed.kubeconfig");
    const relayed = (await master.runOrThrow("cat", admin)).replace(
      /https:\/\/[\d.:]+/,
      `https://127.0.0.1:${relay.port}`,
    );
    writeFileSync(kubeconfig, relayed);
    const grants = grantsOf([read("manifests/agent/rbac.yaml")], {
      name: "podwire-agent",
      namespace: "kube-system",
    });
    const socket = join(shared, "front.sock");
    front = await RbacFront.start(socket, {
      directory: join(shared, "front"),
      address: MASTER.address,
      kubeconfig,
      accounts: { "token-of-podwire-agent": grants },
    });
    writeFileSync(join(shared, "ca.crt"), front.ca);
    const bridge = net.spawn(ns, process.execPath, ["-e", OUTSIDE, socket, MASTER.address, "6443"]);
    await waitFor(() => bridge.stdout.includes("listening"), { what: bridge.stderr });
  });
  afterAll(async () => {
    front?.close();
    relay?.close();
    await net.cleanup();
  });

  test("a master: k3s without a network of its own, and podwire's kinds, accounts and pool", async () => {
    const { code, stderr } = await provision(master, "node", PACKAGE, "master", MASTER.name, MASTER.address);
    expect(code, stderr).toBe(0);
    const manifests = "/usr/local/lib/node_modules/podwire/manifests";
    expect(await told(master)).toEqual([
      `install server --node-name=${MASTER.name} --node-ip=${MASTER.address} --advertise-address=${MASTER.address} --cluster-cidr=10.1.0.0/16 --service-cidr=10.152.183.0/24 --flannel-backend=none --disable-network-policy --disable-kube-proxy --disable=servicelb --disable=traefik`,
      "INSTALL_K3S_SKIP_DOWNLOAD=true",
      "INSTALL_K3S_VERSION=v1.32.4+k3s1",
      `kubectl apply -k ${manifests}/crd`,
      `kubectl create -f ${manifests}/metallb/crd.yaml`,
      expect.stringMatching(/^kubectl wait --for=condition=Established /),
      "kubectl apply agent/rbac.yaml",
      "kubectl apply agent/token.yaml",
      "kubectl apply controller/rbac.yaml",
      "kubectl apply controller/token.yaml",
      "systemctl daemon-reload",
      "systemctl enable -q podwire-controller",
      "systemctl restart podwire-controller",
    ]);
    expect(await kubectl("get", "ippools,namespaces", "-o", "name")).toMatch(
      /ippool.podwire.dev\/default\n(.*\n)*namespace\/metallb-system\n/,
    );
    const controller = await master.runOrThrow("cat", "/etc/podwire/controller.kubeconfig");
    expect(parse(controller).users).toEqual([
      { name: "podwire-controller", user: { token: "token-of-podwire-controller" } },
    ]);
    expect(await master.runOrThrow("readlink", "-f", "/opt/cni/bin/loopback")).toBe(
      "/var/lib/rancher/k3s/data/1/bin/loopback\n",
    );
  });

  test("a node joins with a token, gets its account's by itself, and its agent is ready by CNI", async () => {
    const { code, stderr } = await provision(
      worker,
      "node",
      PACKAGE,
      "node",
      WORKER.name,
      WORKER.address,
      SERVER,
      JOIN_TOKEN,
    );
    expect(code, stderr).toBe(0);
    expect(await told(worker)).toEqual([
      `install agent --node-name=${WORKER.name} --node-ip=${WORKER.address}`,
      "INSTALL_K3S_SKIP_DOWNLOAD=true",
      "INSTALL_K3S_VERSION=v1.32.4+k3s1",
      `K3S_TOKEN=${JOIN_TOKEN}`,
      `K3S_URL=${SERVER}`,
    ]);
    expect(await worker.runOrThrow("stat", "-c", "%a", "/etc/podwire/kubeconfig")).toBe("600\n");
    expect(await worker.runOrThrow("cat", "/etc/cni/net.d/10-podwire.conflist")).toContain("podwire-cni");

    // The kubelet's part.
    const node = join(shared, "node.json");
    writeFileSync(
      node,
      JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name: WORKER.name }, spec: {} }),
    );
    await kubectl("create", "-f", node);
    const agent = await worker.startUnit("podwire-agent.service");
    const plugin = ["env", "CNI_COMMAND=STATUS", "CNI_PATH=/opt/cni/bin", "sh", "-c"];
    const status = `echo '{"cniVersion":"1.1.0","name":"podwire","type":"podwire-cni"}' | /opt/cni/bin/podwire-cni`;
    await waitFor(async () => (await worker.run(...plugin, status)).code === 0, {
      deadlineMs: 60_000,
      what: agent.stderr,
    });
    const condition = '{.status.conditions[?(@.type=="NetworkUnavailable")].status}';
    expect(await kubectl("get", "node", WORKER.name, "-o", `jsonpath=${condition}`)).toBe("False");
    expect(await kubectl("get", "ipamblocks", "-o", "name")).toContain("10-1-79-64-26");
    expect(front.refused).toEqual([]);
  });

  test("ready.sh asks k3s's API, and does not name the suite", async () => {
    const ready = { status: { conditions: [{ type: "Ready", status: "True" }] } };
    const patch = ["--subresource=status", "-p", JSON.stringify(ready)];
    await kubectl("patch", "node", WORKER.name, ...patch);
    const { code, stdout, stderr } = await provision(master, "ready", "1");
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(new RegExp(`^${WORKER.name} +Ready `, "m"));
    expect(stdout).toContain("kubectl apply -f");
    expect(stdout).not.toContain("acceptance");
  });
});
