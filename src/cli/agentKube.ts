/** `podwire agent --kubeconfig`: wires the agent to a Kubernetes API. */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { Agent, type AgentParts } from "../agent/Agent.js";
import { CniAttachments } from "../agent/CniAttachments.js";
import { ConfigError, type FieldPath, type Problem } from "../agent/ConfigError.js";
import {
  BFD_LIMITS,
  BFD_PROFILES,
  DEFAULT_MAX_FLOWS,
  DEFAULT_METRICS,
  DEFAULT_PORT,
  DEFAULT_VNI,
  FLOW_LIMITS,
  isBfdConfig,
  isFlowLimit,
  type LoadedConfig,
  parseMetricsAddress,
} from "../agent/config.js";
import { KubeSource, MAX_PODS } from "../agent/kubeSource.js";
import { readLastConfig, saveConfig } from "../agent/lastConfig.js";
import { readLastServices, saveServices } from "../agent/lastServices.js";
import { readMachine } from "../agent/machine.js";
import type { NodeState } from "../agent/podPort/nodeState.js";
import type { PodPort } from "../agent/podPort/startPodPort.js";
import type { PodRuntime } from "../agent/podRuntime.js";
import { StateDir } from "../agent/StateDir.js";
import { type Answerer, type Arguments, StatusServer } from "../agent/StatusServer.js";
import {
  checkServiceHost,
  isSocketAddress,
  parseRulePorts,
  RULE_PORTS_MESSAGE,
  SERVICE_HOST_DEFAULTS,
} from "../agent/serviceHost.js";
import { Allocator } from "../ipam/Allocator.js";
import { CertificateRenewal } from "../kube/CertificateRenewal.js";
import { KubeClient } from "../kube/KubeClient.js";
import { servingCertificate } from "../kube/servingCertificate.js";
import type { AgentConfig, BfdConfig, ServiceHostConfig } from "../model/AgentConfig.js";
import type { CniAdd, CniTarget, CniTopic } from "../model/cni.js";
import { hasHostBits, type Ipv4Prefix, parseCidr, parseIpv4 } from "../model/ipv4.js";
import { POD_PORT } from "../model/podPort.js";
import { DEFAULT_STATE_DIR } from "../model/stateDir.js";
import type { PodAccess } from "../runtime/PodAccess.js";
import { agentParts, onSignals } from "./agentProcess.js";

/** A start waits so long for the API before it goes by the last config. */
const PATIENCE_MS = 3_000;

/** A list of every attachment of a full node. */
const LONGEST_CNI_REQUEST = 1 << 20;

export interface KubeAgentOptions {
  kubeconfig: string;
  logLevel: string;
  node?: string;
  underlayAddress?: string;
  vxlanPort?: string;
  vni?: string;
  underlayMtu?: string;
  stateDir?: string;
  podNetns?: string;
  podPort?: string;
  runPods?: true;
  cni?: true;
  runtimeDir?: string;
  images?: string;
  nodeLabel?: string[];
  serviceCidr?: string;
  nodePorts?: string;
  egressPorts?: string;
  egress?: "masquerade" | "off";
  nodeportAddresses?: string[];
  localhostNodeports: boolean;
  healthzBindAddress?: string;
  metrics?: string;
  tunnelGso?: "auto" | "on" | "off";
  uso?: "auto" | "on" | "off";
  threads?: string;
  spin?: string;
  cpuLatency?: "auto" | "off";
  maxFlows?: string;
  externalIpRange?: string[];
  lanInterface?: string;
  bfd?: string;
  metallbNamespace?: string;
}

type Base = Pick<AgentConfig, "node" | "stateDir" | "underlay" | "serviceHost" | "metrics" | "dataplane">;

/** Runs the agent. Where it runs the pods, it serves their logs and commands on the pod port. */
export async function serveFromKube(options: KubeAgentOptions): Promise<void> {
  const base = baseOf(options);
  const podPort = options.runPods ? (number("--pod-port", options.podPort, 1, 65535) ?? POD_PORT) : undefined;
  const labels = labelsOf(options.nodeLabel ?? []);
  const announce = { interface: options.lanInterface ?? null, bfd: bfdOf(options.bfd) };
  const api = await KubeClient.fromFile(options.kubeconfig).catch((error: Error) => {
    throw wrong("--kubeconfig", error.message, "`podwire join` makes one for this node.");
  });
  const parts = await agentParts(base.node, options.logLevel);
  const { log } = parts;
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  const renewal = new CertificateRenewal(options.kubeconfig, {
    onRenewed: (goodUntil) => log.info({ goodUntil }, "client certificate renewed"),
    onError: (error, goodUntil) =>
      log.warn({ error: String(error), goodUntil }, "client certificate not renewed"),
  }).start();
  const podNetns = options.podNetns ?? "/run/netns/{namespace}.{name}";
  let agent: Agent | null = null;
  let eligible = true;
  const claimer = new Allocator(api, base.node);
  const attachments = options.cni ? openAttachments(base, claimer, parts) : undefined;
  const source = new KubeSource({
    api,
    claimer,
    attachments,
    base,
    podNetns,
    externalIpRanges: (options.externalIpRange ?? []).map(externalRange),
    announce,
    metallbNamespace: options.metallbNamespace,
    probe: async (address) => {
      if (agent === null) throw new Error("the agent does not run yet");
      return agent.probeAddress(address);
    },
    description: { labels, machine: readMachine(), version, podPort },
    save: saveConfig,
    saveServices: (services) => saveServices(base, services),
    onNodeEligible: (now) => {
      eligible = now;
      agent?.setNodeEligible(now);
    },
    log,
  });
  let runtime: PodRuntime | null = null;
  let served: PodPort | null = null;
  let cni: StatusServer<CniTopic> | null = null;
  const stopping = onSignals({
    stop: async () => {
      await cni?.close();
      await served?.close();
      await renewal.stop();
      await runtime?.stop();
      await source.stop();
      await agent?.stop();
      api.close();
    },
    reload: () => void agent?.resync(),
  });
  if (options.runPods) runtime = await startRuntime(options, base, podNetns, api, parts);
  const last = readLastConfig(base);
  const lastServices = readLastServices(base);
  if (last !== null && lastServices !== null) source.restore(last, lastServices);
  source.start();
  const config = await firstConfig(source, last, () =>
    log.warn({}, "no answer from the API server yet; starting with the last known config"),
  );
  if (stopping.asked()) return;
  try {
    // Pods whose namespaces are not there (yet) are attached when these come.
    const present = config.pods.filter(({ netns }) => parts.host.netnsIdentity(netns) !== null);
    agent = await Agent.start(loaded(options, { ...config, pods: present }), {
      ...parts,
      lenientPods: true,
      onServiceHealthFailed: (...about) => source.reportServiceHealthFailed(...about),
      services: source.services,
      lanInterface: announce.interface,
      onLan: (lan) => source.setLan(lan),
      onAddress: (report) => source.reportAddress(report),
      announced: () => source.announcedAddresses,
    });
    const running = agent;
    running.setNodeEligible(eligible);
    await source.feed(
      { ...config, pods: present },
      (next) => running.update(next),
      () => running.publishServices(),
    );
    if (attachments !== undefined) cni = await serveCni(base, attachments, source, running);
    served = await openPodPort(base, podPort, runtime?.access, running, api, log);
  } catch (error) {
    await renewal.stop();
    await runtime?.stop();
    await source.stop();
    api.close();
    throw error;
  }
  await stopping.ifAsked();
}

/** The interfaces that a container runtime has asked for so far. */
function openAttachments({ stateDir }: Base, claimer: Allocator, { host, log }: AgentParts): CniAttachments {
  const netnsIdentity = (path: string) => host.netnsIdentity(path);
  const { cniFile } = new StateDir(stateDir);
  return new CniAttachments({ file: cniFile, limit: MAX_PODS, claimer, netnsIdentity, log });
}

/** Carries out what the CNI plugin asks for, on a socket of its own beside the agent's. */
async function serveCni(
  { stateDir }: Base,
  attachments: CniAttachments,
  source: KubeSource,
  agent: Agent,
): Promise<StatusServer<CniTopic>> {
  attachments.serve({
    apply: () => source.applyAttachments(),
    state: (name) => {
      const { state, message } = agent.podState(name);
      return { up: state === "up", message };
    },
    mtu: () => agent.overlayMtu,
  });
  const answers = {
    add: (request: Arguments) => attachments.add(request as unknown as CniAdd),
    del: (request: Arguments) => attachments.del(request as unknown as CniTarget),
    check: (request: Arguments) => attachments.check(request as unknown as CniTarget),
    gc: ({ valid }: Arguments) => attachments.gc(valid as CniTarget[]),
    ready: () => attachments.ready(),
  } satisfies Record<CniTopic, Answerer>;
  const server = new StatusServer<CniTopic>(answers, LONGEST_CNI_REQUEST);
  await server.listen(new StateDir(stateDir).cniSocketFile);
  return server;
}

/** Null where there is nothing to serve. */
async function openPodPort(
  { node, underlay }: Base,
  port: number | undefined,
  access: PodAccess | undefined,
  state: NodeState,
  api: KubeClient,
  log: AgentParts["log"],
): Promise<PodPort | null> {
  if (port === undefined || access === undefined) return null;
  // Loaded here: an agent without pods of its own carries nothing of it.
  const { startPodPort } = await import("../agent/podPort/startPodPort.js");
  const { address } = underlay;
  return startPodPort({
    address,
    port,
    access,
    state,
    log,
    tls: () => servingCertificate(api, node, [address]),
  });
}

/** Pods are run from the start: they need no dataplane to go on. */
async function startRuntime(
  options: KubeAgentOptions,
  { node, stateDir, underlay }: Base,
  podNetns: string,
  api: KubeClient,
  { host, log }: AgentParts,
): Promise<PodRuntime> {
  // Loaded here: most agents run beside a container runtime.
  const { DEFAULT_RUNTIME_DIR, startPodRuntime } = await import("../agent/podRuntime.js");
  const { DEFAULT_IMAGE_FILE } = await import("../runtime/images.js");
  const directory = options.runtimeDir ?? DEFAULT_RUNTIME_DIR;
  if (!directory.startsWith("/")) throw wrong("--runtime-dir", "must be an absolute path", "");
  try {
    return await startPodRuntime({
      api,
      host,
      log,
      node,
      nodeAddress: underlay.address,
      stateDir,
      podNetns,
      directory,
      imageFile: options.images ?? DEFAULT_IMAGE_FILE,
      imageFileRequired: options.images !== undefined,
    });
  } catch (error) {
    api.close();
    throw wrong("--run-pods", (error as Error).message, "");
  }
}

/** From the API; from the last time where that does not answer soon. */
async function firstConfig(
  source: KubeSource,
  last: AgentConfig | null,
  onLast: () => void,
): Promise<AgentConfig> {
  if (last === null) return source.ready;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), PATIENCE_MS);
  });
  const config = await Promise.race([source.ready, late]);
  clearTimeout(timer);
  if (config === null) onLast();
  return config ?? last;
}

// ---- options ----------------------------------------------------------------------------------

function baseOf(options: KubeAgentOptions): Base {
  const node = options.node ?? hostname().toLowerCase();
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(node))
    throw wrong("--node", `"${node}" is no node name`, "Use lower-case letters, digits, dots and hyphens.");
  const address = options.underlayAddress;
  if (address === undefined)
    throw wrong(
      "--underlay-address",
      "is missing",
      "Name this node's address on the LAN, e.g. 192.168.2.30.",
    );
  if (parseIpv4(address) === null)
    throw wrong("--underlay-address", `"${address}" is no IPv4 address`, "Write dotted decimal.");
  const stateDir = options.stateDir ?? DEFAULT_STATE_DIR;
  if (!stateDir.startsWith("/") || Buffer.byteLength(stateDir) > 90)
    throw wrong("--state-dir", "must be an absolute path of at most 90 bytes", "");
  const netns = options.podNetns ?? "/{uid}";
  if (!netns.startsWith("/") || !/\{uid\}|\{namespace\}.*\{name\}/.test(netns))
    throw wrong("--pod-netns", "must be an absolute path with {uid}, or {namespace} and {name}, in it", "");
  const underlay = {
    address,
    port: number("--vxlan-port", options.vxlanPort, 1, 65535) ?? DEFAULT_PORT,
    vni: number("--vni", options.vni, 1, 0xffffff) ?? DEFAULT_VNI,
    mtu: number("--underlay-mtu", options.underlayMtu, 626, 65535) ?? null,
  };
  const metrics = parseMetricsAddress(options.metrics ?? DEFAULT_METRICS);
  if (metrics === undefined)
    throw wrong(
      "--metrics",
      `"${options.metrics}" is no ADDRESS:PORT`,
      `Write e.g. ${DEFAULT_METRICS}, or off.`,
    );
  return {
    node,
    stateDir,
    underlay,
    serviceHost: serviceHostOf(options, underlay),
    metrics,
    dataplane: {
      tunnelGso: options.tunnelGso ?? "auto",
      uso: options.uso ?? "auto",
      threads: options.threads === "2" ? 2 : 1,
      spinMicroseconds: number("--spin", options.spin, 0, 10_000) ?? 50,
      cpuLatency: options.cpuLatency ?? "auto",
      maxFlows: maxFlows(options.maxFlows),
    },
  };
}

/** Option that each part of ServiceHostConfig comes from; addresses of Services come from the API. */
const SERVICE_OPTIONS: Record<keyof ServiceHostConfig, string> = {
  ranges: "--service-cidr",
  nodePorts: "--node-ports",
  egressPorts: "--egress-ports",
  egress: "--egress",
  nodePortAddresses: "--nodeport-addresses",
  localhostNodePorts: "--no-localhost-nodeports",
  vips: "",
  udpNodePorts: "",
  healthChecks: "",
  healthz: "--healthz-bind-address",
};

function serviceHostOf(options: KubeAgentOptions, underlay: AgentConfig["underlay"]): ServiceHostConfig {
  const { serviceCidr, nodeportAddresses = [], localhostNodeports } = options;
  const ports = (part: "nodePorts" | "egressPorts") => {
    const text = options[part];
    if (text === undefined) return SERVICE_HOST_DEFAULTS[part];
    const range = parseRulePorts(text);
    if (range !== null) return range;
    throw wrong(SERVICE_OPTIONS[part], `"${text}" ${RULE_PORTS_MESSAGE}`, "Write FIRST-LAST.");
  };
  const ranges = serviceCidr?.split(",") ?? SERVICE_HOST_DEFAULTS.ranges;
  for (const [option, texts] of [
    [SERVICE_OPTIONS.ranges, ranges],
    [SERVICE_OPTIONS.nodePortAddresses, nodeportAddresses],
  ] as const)
    for (const text of texts) {
      const prefix = parseCidr(text);
      if (prefix === null || hasHostBits(prefix))
        throw wrong(option, `"${text}" is no IPv4 network`, "Write CIDR notation, e.g. 10.152.183.0/24.");
    }
  const healthz = options.healthzBindAddress ?? SERVICE_HOST_DEFAULTS.healthz ?? "";
  if (healthz !== "" && !isSocketAddress(healthz))
    throw wrong(
      SERVICE_OPTIONS.healthz,
      `"${healthz}" is no ADDRESS:PORT`,
      'Write e.g. 0.0.0.0:10256, or "".',
    );
  const services = {
    ranges,
    nodePorts: ports("nodePorts"),
    egressPorts: ports("egressPorts"),
    egress: options.egress ?? SERVICE_HOST_DEFAULTS.egress,
    nodePortAddresses: nodeportAddresses,
    localhostNodePorts: localhostNodeports,
    vips: [],
    udpNodePorts: [],
    healthChecks: [],
    healthz: healthz === "" ? null : healthz,
  };
  // The pod pool comes from the API later.
  const [finding] = checkServiceHost(services, { podPool: [], underlay });
  if (finding !== undefined) throw wrong(SERVICE_OPTIONS[finding.part], finding.message, finding.remedy);
  return services;
}

function number(option: string, text: string | undefined, min: number, max: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw wrong(option, `"${text}" must be a whole number from ${min} to ${max}`, "");
}

/** A profile's name, or INTERVALxMULTIPLIER in milliseconds. */
function bfdOf(text = "default"): BfdConfig {
  if (Object.hasOwn(BFD_PROFILES, text)) return BFD_PROFILES[text as keyof typeof BFD_PROFILES];
  const [, interval, multiplier] = /^(\d{1,5})x(\d{1,3})$/.exec(text) ?? [];
  const bfd = { intervalMs: Number(interval), multiplier: Number(multiplier) };
  if (isBfdConfig(bfd)) return bfd;
  const { intervalMs, multiplier: count } = BFD_LIMITS;
  throw wrong(
    "--bfd",
    `"${text}" is no profile, nor an interval of ${intervalMs.min} to ${intervalMs.max} ms with a multiplier of ${count.min} to ${count.max}`,
    `Write ${Object.keys(BFD_PROFILES).join(", ")}, or e.g. 50x4.`,
  );
}

function maxFlows(text: string | undefined): number {
  const value = Number(text ?? DEFAULT_MAX_FLOWS);
  if (isFlowLimit(value)) return value;
  const { min, max } = FLOW_LIMITS;
  throw wrong("--max-flows", `"${text}" must be a power of two from ${min} to ${max}`, "");
}

function externalRange(text: string): Ipv4Prefix {
  const prefix = parseCidr(text);
  if (prefix !== null && !hasHostBits(prefix)) return prefix;
  throw wrong(
    "--external-ip-range",
    `"${text}" is no IPv4 network`,
    "Write CIDR notation, e.g. 192.0.2.0/24.",
  );
}

function labelsOf(texts: string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const match = /^([^=\s]+)=([^\s]*)$/.exec(text);
      if (match === null) throw wrong("--node-label", `"${text}" is no label`, "Write key=value.");
      return [match[1]!, match[2]!];
    }),
  );
}

/**
 * The config under the names that its fields have on the command line. With another config in its
 * place (Agent.update) it speaks of that one's pods.
 */
export function loaded(options: Pick<KubeAgentOptions, "kubeconfig">, config: AgentConfig): LoadedConfig {
  const names: Record<string, string> = {
    "underlay.address": "--underlay-address",
    "underlay.port": "--vxlan-port",
    "underlay.mtu": "--underlay-mtu",
    "dataplane.tunnelGso": "--tunnel-gso",
    "dataplane.uso": "--uso",
  };
  const nameOf = ({ pods }: AgentConfig, path: FieldPath) =>
    path[0] === "pods" ? `pod ${pods[Number(path[1])]?.name}` : (names[path.join(".")] ?? path.join("."));
  return {
    config,
    file: options.kubeconfig,
    problem(path, message, remedy) {
      return problem(nameOf(this.config, path), message, remedy);
    },
  };
}

function problem(field: string, message: string, remedy: string): Problem {
  return { file: "podwire agent", line: 0, column: 0, field, message, remedy };
}

function wrong(option: string, message: string, remedy: string): ConfigError {
  return new ConfigError([problem(option, message, remedy)]);
}
