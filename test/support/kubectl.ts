/**
 * A cluster for kubectl: the real `podwire apiserver` with its controllers, two nodes whose kubelet is
 * played here, and the machine's kubectl.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Informer } from "../../src/kube/Informer.js";
import { KubeClient } from "../../src/kube/KubeClient.js";
import { LEASES, NODES, PODS } from "../../src/kube/resources.js";
import type { Lease, Node, Pod } from "../../src/kube/types.js";
import { temporaryDirectory } from "./apiserver.js";
import { freePort } from "./ports.js";

const MAIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const KUBECTL = ["/usr/bin/kubectl", "/usr/local/bin/kubectl"].find((path) => existsSync(path));

/** Whether the build and kubectl are there. */
export const CAN_RUN = KUBECTL !== undefined && existsSync(MAIN);

/** Pods with this annotation are left to the test. */
const BY_HAND = "by-hand";
const LEASE_NAMESPACE = "kube-node-lease";
const CALM_MS = 50;
const RENEW_MS = 10_000;

export interface Answer {
  code: number;
  out: string;
  err: string;
}

export interface Kubectl {
  /** stdout and stderr, trimmed, one behind the other; fails the test where kubectl does. */
  (...args: string[]): Promise<string>;
  /** Whatever comes of it; `input` is its stdin. */
  raw(args: string[], options?: { input?: string; env?: Record<string, string> }): Promise<Answer>;
  /** A running kubectl. */
  start(...args: string[]): ChildProcess;
}

export class KubectlCluster {
  private constructor(
    readonly directory: string,
    readonly kube: KubeClient,
    readonly kubectl: Kubectl,
    private readonly server: ChildProcess,
    private readonly kubelet: FakeKubelet,
    private readonly removeDirectory: () => void,
  ) {}

  static async start(): Promise<KubectlCluster> {
    const directory = temporaryDirectory();
    const port = await freePort();
    const data = join(directory.path, "data");
    const args = ["apiserver", "-a", "127.0.0.1", "-p", String(port), "-d", data];
    const server = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "ignore", "pipe"] });
    try {
      await ready(server);
      const kubeconfig = join(data, "admin.kubeconfig");
      const kube = await KubeClient.fromFile(kubeconfig);
      const kubelet = new FakeKubelet(kube);
      await kubelet.start(["n1", "n2"]);
      const kubectl = kubectlOf(kubeconfig, directory.path);
      return new KubectlCluster(directory.path, kube, kubectl, server, kubelet, directory.remove);
    } catch (error) {
      server.kill("SIGKILL");
      directory.remove();
      throw error;
    }
  }

  /** Writes a manifest and returns its path. */
  file(name: string, text: string): string {
    const path = join(this.directory, name);
    writeFileSync(path, text);
    return path;
  }

  async stop(): Promise<void> {
    await this.kubelet.stop();
    this.kube.close();
    this.server.kill("SIGTERM");
    if (this.server.exitCode === null) await once(this.server, "exit");
    this.removeDirectory();
  }
}

/** Waits for a condition; the error says what was seen last. */
export async function eventually<T>(
  look: () => Promise<T>,
  good: (seen: T) => boolean,
  seconds = 20,
): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const seen = await look();
    if (good(seen)) return seen;
    if (Date.now() > deadline) throw new Error(`not in ${seconds} s; last seen: ${String(seen)}`);
    await new Promise((resolve) => setTimeout(resolve, CALM_MS));
  }
}

/** Runs every pod of its nodes at once, and lets those end that are deleted. */
class FakeKubelet {
  private readonly informer: Informer<Pod>;
  private addresses = 0;
  private renewing: NodeJS.Timeout | undefined;
  private readonly running = new Set<Promise<void>>();

  constructor(private readonly kube: KubeClient) {
    this.informer = new Informer<Pod>(kube, PODS);
  }

  async start(nodes: string[]): Promise<void> {
    for (const name of nodes) {
      await this.kube.create<Node>(NODES, nodeOf(name));
      await this.kube.create<Lease>(LEASES, {
        metadata: { name, namespace: LEASE_NAMESPACE },
        spec: { holderIdentity: name, leaseDurationSeconds: 40, renewTime: microTime() },
      } as unknown as Lease);
    }
    this.renewing = setInterval(() => void this.renew(nodes).catch(() => {}), RENEW_MS);
    const take = (pod: Pod) => {
      const work = this.sync(pod).catch((error: { code?: number }) => {
        // Somebody was quicker; the next event shows it.
        if (error.code !== 404 && error.code !== 409) throw error;
      });
      this.running.add(work);
      void work.finally(() => this.running.delete(work));
    };
    this.informer.addHandler({ added: take, updated: take }).start();
    await this.informer.synced;
  }

  async stop(): Promise<void> {
    clearInterval(this.renewing);
    await this.informer.stop();
    await Promise.allSettled(this.running);
  }

  private async renew(nodes: string[]): Promise<void> {
    const spec = { renewTime: microTime() };
    for (const name of nodes) await this.kube.patch(LEASES, name, LEASE_NAMESPACE, "merge", { spec });
  }

  private async sync(pod: Pod): Promise<void> {
    const { name, namespace, uid, deletionTimestamp, annotations } = pod.metadata;
    if (!pod.spec?.nodeName || annotations?.[BY_HAND] !== undefined) return;
    if (deletionTimestamp !== undefined) {
      await this.kube.delete(PODS, name!, namespace, { gracePeriodSeconds: 0, uid: uid! });
      return;
    }
    if (pod.status?.phase !== "Pending") return;
    const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    const ip = `10.1.0.${++this.addresses}`;
    const conditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"].map(
      (type) => ({ type, status: "True", lastProbeTime: null, lastTransitionTime: now }),
    );
    const containerStatuses = pod.spec.containers.map((container) => ({
      name: container.name,
      image: container.image,
      imageID: "",
      containerID: `podwire://${name}`,
      ready: true,
      started: true,
      restartCount: 0,
      state: { running: { startedAt: now } },
      lastState: {},
    }));
    const status = { phase: "Running", podIP: ip, podIPs: [{ ip }], hostIP: "192.0.2.1", startTime: now };
    await this.kube.patch(
      PODS,
      name!,
      namespace,
      "strategic",
      { metadata: { uid }, status: { ...status, conditions, containerStatuses } },
      "status",
    );
  }
}

/** A MicroTime has six digits behind the point. */
function microTime(): string {
  return new Date().toISOString().replace("Z", "000Z");
}

function nodeOf(name: string): Node {
  const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const resources = { cpu: "4", memory: "8Gi", pods: "110" };
  return {
    metadata: { name, labels: { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" } },
    spec: {},
    status: {
      capacity: resources,
      allocatable: resources,
      addresses: [
        { type: "InternalIP", address: `192.0.2.${name.slice(1)}` },
        { type: "Hostname", address: name },
      ],
      conditions: [
        {
          type: "Ready",
          status: "True",
          reason: "KubeletReady",
          message: "kubelet is posting ready status",
          lastHeartbeatTime: now,
          lastTransitionTime: now,
        },
      ],
      nodeInfo: {
        architecture: "amd64",
        operatingSystem: "linux",
        kubeletVersion: "v1.32.0",
        osImage: "Ubuntu 22.04.5 LTS",
        kernelVersion: "5.15.0",
        containerRuntimeVersion: "podwire://0.1.0",
        bootID: "",
        machineID: "",
        systemUUID: "",
        kubeProxyVersion: "",
      },
    },
  } as Node;
}

function kubectlOf(kubeconfig: string, home: string): Kubectl {
  const base = { ...process.env, KUBECONFIG: kubeconfig, HOME: home };
  const raw: Kubectl["raw"] = (args, { input, env } = {}) =>
    new Promise((resolve) => {
      const child = execFile(
        KUBECTL!,
        args,
        { env: { ...base, ...env }, timeout: 40_000, maxBuffer: 1 << 24 },
        (error, stdout, stderr) =>
          resolve({
            code: error === null ? 0 : typeof error.code === "number" ? error.code : -1,
            out: stdout.trimEnd(),
            err: stderr.trimEnd(),
          }),
      );
      child.stdin?.end(input);
    });
  const run = async (...args: string[]): Promise<string> => {
    const { code, out, err } = await raw(args);
    if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: exit ${code}\n${out}\n${err}`);
    return [out, err].filter((text) => text !== "").join("\n");
  };
  return Object.assign(run, {
    raw,
    start: (...args: string[]) => spawn(KUBECTL!, args, { env: base, stdio: ["ignore", "pipe", "pipe"] }),
  });
}

/** The pipe is read on afterwards: whoever writes to one that is full stops. */
function ready(server: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = "";
    server.stderr!.on("data", (piece: Buffer) => {
      text = (text + String(piece)).slice(-10_000);
      if (text.includes("API server ready")) resolve();
    });
    server.once("exit", () => reject(new Error(`the server did not start: ${text}`)));
  });
}
