/**
 * The static config file: YAML text to a validated AgentConfig, or every problem in it with its
 * place. Order: YAML syntax, shape and single fields (schema), then fields against each other
 * (configChecks). Must not know the machine: whether an address or a namespace exists is
 * environment.ts's.
 */
import { readFile } from "node:fs/promises";
import { isMap, isNode, isScalar, LineCounter, type Node, type ParsedNode, parseDocument } from "yaml";
import { z } from "zod";
import { bfdPeers } from "../announce/neighbors.js";
import { hashNode, rendezvousOrder } from "../announce/rendezvous.js";
import { MIN_OVERLAY_MTU, VXLAN_OVERHEAD } from "../desired/host.js";
import { isUnicastMac, vtepMac } from "../desired/mac.js";
import type { AgentConfig, AnnounceConfig, BfdConfig, ServiceHostConfig } from "../model/AgentConfig.js";
import { formatCidr, formatIpv4, hasHostBits, networkOf, parseCidr, parseIpv4 } from "../model/ipv4.js";
import { SERVICE_PROTOCOLS, type ServiceProtocol } from "../model/Service.js";
import { DEFAULT_STATE_DIR } from "../model/stateDir.js";
import { MAX_PEERS, MAX_PORTS } from "../packet/layout.js";
import { RESERVED_PORTS } from "../reconcile/Reconciler.js";
import { ConfigError, type FieldPath, fieldName, type Problem } from "./ConfigError.js";
import { checkConfig } from "./configChecks.js";
import type { Finding } from "./configDocument.js";
import {
  checkServiceHost,
  isSocketAddress,
  parseRulePorts,
  RULE_PORTS_MESSAGE,
  SERVICE_HOST_DEFAULTS,
} from "./serviceHost.js";

export const DEFAULT_PORT = 4789;
export const DEFAULT_VNI = 4096;
/** Least underlay MTU. */
export const MIN_UNDERLAY_MTU = MIN_OVERLAY_MTU + VXLAN_OVERHEAD;
const MAX_PODS = MAX_PORTS - RESERVED_PORTS;
/** sun_path holds 108 bytes; our socket's name and a margin go off. */
const MAX_STATE_DIR = 90;

/** Where an agent serves metrics: to this machine. */
export const DEFAULT_METRICS = "127.0.0.1:9475";

/** ADDRESS:PORT, or null for "off"; undefined where it is neither. */
export function parseMetricsAddress(text: string): string | null | undefined {
  if (text === "off") return null;
  return isSocketAddress(text) ? text : undefined;
}

/** Flows that are tracked at once: 22 MiB when all are in use. */
export const DEFAULT_MAX_FLOWS = 131_072;
/** Smallest and largest flow table. */
export const FLOW_LIMITS = { min: 1024, max: 1 << 24 } as const;
/**
 * A text of this length that is JSON is read as such, which is two hundred times as fast as YAML:
 * 7 MB (10,000 Services with 10 backends each) take 20 ms. Then a key that is there twice is not
 * reported, as in any JSON; the last one counts.
 */
const LARGE = 65_536;

/** A config, and where each of its fields stands in its file. */
export interface LoadedConfig {
  config: AgentConfig;
  file: string;
  /** A problem of the field at `path`, placed in the file. */
  problem(path: FieldPath, message: string, remedy: string): Problem;
}

/** The text of a config file. Throws a ConfigError. */
export async function readConfig(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const text = code === "ENOENT" ? "there is no such file" : `cannot be read: ${message}`;
    throw new ConfigError([
      { file, line: 0, column: 0, field: "", message: text, remedy: "Name the config file with --config." },
    ]);
  }
}

/**
 * The state directory that a config's text names, the default where it names none. For cleanup,
 * which must work with a config that is wrong elsewhere.
 */
export function stateDirOf(text: string): string {
  const raw: unknown = parseDocument(text, { prettyErrors: false }).toJS();
  const named = (raw as { stateDir?: unknown } | null)?.stateDir;
  return typeof named === "string" && named.startsWith("/") ? named : DEFAULT_STATE_DIR;
}

/** Parses a config's text. `file` is its name in messages. Throws a ConfigError. */
export function parseConfig(file: string, text: string): LoadedConfig {
  let document: ReturnType<typeof parseYaml> | null = null;
  const yaml = () => {
    document ??= parseYaml(file, text);
    return document;
  };
  const place = ({ path, atKey, message, remedy }: Finding): Problem => {
    const { root, counter } = yaml();
    const { line, col } = counter.linePos(offsetOf(root, path, atKey === true));
    return { file, line, column: col, field: fieldName(path), message, remedy };
  };
  const raw = normalise((text.length < LARGE ? undefined : parseJson(text)) ?? yaml().value());
  const parsed = schema.safeParse(raw);
  const findings = [
    ...(parsed.success ? [] : parsed.error.issues.flatMap((issue) => findingsOf(issue, raw))),
    ...checkConfig(raw),
  ];
  const config = parsed.success ? withDefaults(parsed.data) : null;
  if (config !== null && config.serviceHost !== null)
    // Of ranges that are written, checkConfig has told.
    for (const { part, ...finding } of checkServiceHost(config.serviceHost, config))
      if (part !== "ranges" || config.serviceHost.ranges === SERVICE_HOST_DEFAULTS.ranges)
        findings.push({ ...finding, path: part === "ranges" ? ["serviceRange"] : ["serviceHost", part] });
  if (config === null || findings.length > 0)
    throw new ConfigError(findings.map(place).sort((a, b) => a.line - b.line || a.column - b.column));
  return {
    config,
    file,
    problem: (path, message, remedy) => place({ path, message, remedy }),
  };
}

/** Throws a ConfigError on wrong syntax. */
function parseYaml(file: string, text: string) {
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false });
  if (document.errors.length > 0)
    throw new ConfigError(
      document.errors.map((error) => {
        const { line, col } = counter.linePos(error.pos[0]);
        const message = error.message.replace(/\.$/, "");
        return { file, line, column: col, field: "", message, remedy: "Correct the YAML syntax." };
      }),
    );
  return {
    counter,
    root: document.contents as ParsedNode | null,
    value: (): unknown => document.toJS(),
  };
}

/** Undefined where the text is no JSON. */
function parseJson(text: string): unknown {
  if (!text.trimStart().startsWith("{")) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

// ---- schema -----------------------------------------------------------------------------------

/** A string that passes `check`; `message` says what it is not, `remedy` how to write it. */
function textField(check: (text: string) => boolean, message: string, remedy: string) {
  return z.string().refine(check, { error: message, params: { remedy } });
}

function numberField(min: number, max: number, remedy: string) {
  return z.number().refine((n) => Number.isInteger(n) && n >= min && n <= max, {
    error: `must be a whole number from ${min} to ${max}`,
    params: { remedy },
  });
}

const addressField = textField(
  (text) => parseIpv4(text) !== null,
  "is no IPv4 address",
  "Write dotted decimal, e.g. 192.168.2.30.",
);

const prefixField = z.string().superRefine((text, context) => {
  const prefix = parseCidr(text);
  if (prefix === null)
    context.addIssue({
      code: "custom",
      message: "is no IPv4 prefix",
      params: { remedy: "Write CIDR notation, e.g. 10.1.235.192/26." },
    });
  else if (hasHostBits(prefix))
    context.addIssue({
      code: "custom",
      message: `${text} has bits set beyond its prefix length`,
      params: { remedy: `Write ${formatCidr(networkOf(prefix))}.` },
    });
  else if (prefix.length === 0)
    context.addIssue({
      code: "custom",
      message: `${text} is the whole address space`,
      params: { remedy: "Write a longer prefix, e.g. 10.1.0.0/16." },
    });
});

const nodeField = textField(
  (text) => /^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/.test(text),
  "is no node name",
  "Use letters, digits, dots and hyphens, as in k8s-worker01.",
);

const interfaceField = textField(
  (text) =>
    /^[^\s/:]{1,15}$/.test(text) &&
    Buffer.byteLength(text) <= 15 &&
    !["lo", ".", "..", "all", "default"].includes(text),
  "is no usable interface name",
  "Use 1 to 15 bytes without blanks, slashes and colons, as in eth0.",
);

const pathField = textField(
  (text) => text.startsWith("/") && !text.includes("\0"),
  "is no absolute path",
  "Write the path from the root, e.g. /run/netns/pod1.",
);

const macField = textField(
  isUnicastMac,
  "is no unicast MAC address",
  "Write aa:bb:cc:dd:ee:ff, or leave it out: it is derived from the node's name.",
);

const rulePortsField = textField(
  (text) => parseRulePorts(text) !== null,
  RULE_PORTS_MESSAGE,
  "Write the first and the last one, e.g. 30000-32767.",
);

const portField = numberField(1, 65535, `Leave it out for ${DEFAULT_PORT}, the port of RFC 7348.`);

/** Profiles of BFD: the detection time is intervalMs × multiplier. */
export const BFD_PROFILES = {
  default: { intervalMs: 100, multiplier: 3 },
  fast: { intervalMs: 10, multiplier: 3 },
} as const satisfies Record<string, BfdConfig>;

/** Least and most of each of BFD's times. */
export const BFD_LIMITS = { intervalMs: { min: 5, max: 60_000 }, multiplier: { min: 2, max: 255 } } as const;

/** Whether BFD can have these times. */
export function isBfdConfig(bfd: BfdConfig): boolean {
  const within = (key: keyof BfdConfig) => bfd[key] >= BFD_LIMITS[key].min && bfd[key] <= BFD_LIMITS[key].max;
  return within("intervalMs") && within("multiplier");
}

const announceSchema = z.strictObject({
  interface: interfaceField.optional(),
  bfd: z
    .union(
      [
        z.enum(Object.keys(BFD_PROFILES) as (keyof typeof BFD_PROFILES)[]),
        z.strictObject({
          intervalMs: numberField(
            BFD_LIMITS.intervalMs.min,
            BFD_LIMITS.intervalMs.max,
            "Leave bfd out for 100; the fast profile has 10.",
          ),
          multiplier: numberField(
            BFD_LIMITS.multiplier.min,
            BFD_LIMITS.multiplier.max,
            "Leave bfd out for 3.",
          ),
        }),
      ],
      { error: `must be ${Object.keys(BFD_PROFILES).join(", ")}, or a map with intervalMs and multiplier` },
    )
    .optional(),
  addresses: z
    .array(z.strictObject({ address: addressField, nodes: z.array(nodeField).optional() }))
    .optional(),
});

const fullNameField = (what: string) =>
  textField(
    (text) => /^[^\s/]+\/[^\s/]+$/.test(text),
    `is no ${what} name`,
    "Write NAMESPACE/NAME, e.g. default/nginx.",
  );

const l4PortField = numberField(1, 65535, "Ports are numbers from 1 to 65535.");
const trafficPolicyField = z.enum(["Cluster", "Local"]).optional();

const serviceSchema = z.strictObject({
  name: fullNameField("service"),
  clusterIP: addressField,
  externalIPs: z.array(addressField).optional(),
  loadBalancerIPs: z.array(addressField).optional(),
  sessionAffinitySeconds: numberField(
    1,
    86_400,
    "Kubernetes' own default is 10800; leave it out for none.",
  ).optional(),
  internalTrafficPolicy: trafficPolicyField,
  externalTrafficPolicy: trafficPolicyField,
  ports: z
    .array(
      z.strictObject({
        name: z.string().optional(),
        protocol: z.enum(Object.keys(SERVICE_PROTOCOLS) as [ServiceProtocol]).optional(),
        port: l4PortField,
        nodePort: l4PortField.optional(),
        targetPort: l4PortField.optional(),
      }),
    )
    .refine((list) => list.length > 0, {
      error: "is empty",
      params: { remedy: "Name the port that clients ask, e.g. ports: [{ port: 80 }]." },
    }),
  backends: z.array(
    z.strictObject({
      address: addressField,
      port: l4PortField.optional(),
      node: nodeField.optional(),
      ready: z.boolean().optional(),
    }),
  ),
});

const schema = z.strictObject({
  node: nodeField,
  stateDir: textField(
    (text) => text.startsWith("/") && Buffer.byteLength(text) <= MAX_STATE_DIR,
    `must be an absolute path of at most ${MAX_STATE_DIR} bytes`,
    `Leave it out for ${DEFAULT_STATE_DIR}.`,
  ).optional(),
  underlay: z.strictObject({
    address: addressField,
    port: portField.optional(),
    vni: numberField(1, 0xffffff, `Leave it out for ${DEFAULT_VNI}.`).optional(),
    mtu: numberField(
      MIN_UNDERLAY_MTU,
      65535,
      `The overlay's MTU is ${VXLAN_OVERHEAD} less and must be at least ${MIN_OVERLAY_MTU}; leave it out to take the interface's.`,
    )
      .nullable()
      .optional(),
  }),
  podPool: z.array(prefixField).refine((list) => list.length > 0, {
    error: "is empty",
    params: { remedy: "Name the range that pods get their addresses from, e.g. podPool: 10.1.0.0/16." },
  }),
  blocks: z.array(prefixField).refine((list) => list.length > 0, {
    error: "is empty",
    params: { remedy: "Name this node's block, e.g. blocks: [10.1.235.192/26]." },
  }),
  tunnelAddress: addressField.optional(),
  vteps: z
    .array(
      z.strictObject({
        node: nodeField,
        address: addressField,
        port: portField.optional(),
        tunnelAddress: addressField.optional(),
        mac: macField.optional(),
        lanMac: macField.optional(),
        peer: z.enum(["podwire", "vxlan"]).optional(),
        blocks: z.array(prefixField).optional(),
      }),
    )
    .refine((list) => list.length <= MAX_PEERS, {
      error: `has more than ${MAX_PEERS} entries`,
      params: { remedy: "" },
    }),
  pods: z
    .array(
      z.strictObject({
        name: fullNameField("pod"),
        netns: pathField,
        address: addressField,
        interface: interfaceField.optional(),
      }),
    )
    .refine((list) => list.length <= MAX_PODS, {
      error: `has more than ${MAX_PODS} entries`,
      params: { remedy: "Run fewer pods on this node." },
    }),
  serviceRange: z.array(prefixField).optional(),
  services: z.array(serviceSchema),
  serviceHost: z
    .strictObject({
      nodePorts: rulePortsField.optional(),
      egressPorts: rulePortsField.optional(),
      egress: z.enum(["masquerade", "off"]).optional(),
      nodePortAddresses: z.array(prefixField).optional(),
      localhostNodePorts: z.boolean().optional(),
      vips: z.array(addressField).optional(),
      healthChecks: z
        .array(
          z.strictObject({
            namespace: z.string(),
            name: z.string(),
            port: numberField(1, 65535, "Write the Service's healthCheckNodePort."),
            localEndpoints: numberField(0, 0xffffff, "Write how many endpoints this node has."),
          }),
        )
        .optional(),
      healthz: textField(
        isSocketAddress,
        "is no ADDRESS:PORT",
        "Leave it out for 0.0.0.0:10256, or write null for no /healthz.",
      )
        .nullable()
        .optional(),
    })
    .optional(),
  announce: announceSchema.optional(),
  metrics: textField(
    (text) => parseMetricsAddress(text) !== undefined,
    "is no ADDRESS:PORT",
    `Leave it out for ${DEFAULT_METRICS}, or write "off".`,
  ).optional(),
  dataplane: z.strictObject({
    tunnelGso: z.enum(["auto", "on", "off"]).optional(),
    uso: z.enum(["auto", "on", "off"]).optional(),
    threads: z.union([z.literal(1), z.literal(2)], { error: "must be 1 or 2" }).optional(),
    spinMicroseconds: numberField(0, 10_000, "Leave it out for 50.").optional(),
    cpuLatency: z.enum(["auto", "off"]).optional(),
    maxFlows: z
      .number()
      .refine((n) => isFlowLimit(n), {
        error: `must be a power of two from ${FLOW_LIMITS.min} to ${FLOW_LIMITS.max}`,
        params: { remedy: `Leave it out for ${DEFAULT_MAX_FLOWS}.` },
      })
      .optional(),
  }),
});

/** Whether a flow table can have this size. */
export function isFlowLimit(n: number): boolean {
  return n >= FLOW_LIMITS.min && n <= FLOW_LIMITS.max && Number.isInteger(Math.log2(n));
}

/** Keys that each part of the document may have, for the nearest one to an unknown key. */
const KEYS: Record<string, string[]> = {
  "": Object.keys(schema.shape),
  underlay: Object.keys(schema.shape.underlay.shape),
  vteps: Object.keys(schema.shape.vteps.element.shape),
  pods: Object.keys(schema.shape.pods.element.shape),
  services: Object.keys(serviceSchema.shape),
  "services.ports": Object.keys(serviceSchema.shape.ports.element.shape),
  "services.backends": Object.keys(serviceSchema.shape.backends.element.shape),
  announce: Object.keys(announceSchema.shape),
  "announce.bfd": Object.keys(BFD_LIMITS),
  "announce.addresses": Object.keys(announceSchema.shape.addresses.unwrap().element.shape),
  serviceHost: Object.keys(schema.shape.serviceHost.unwrap().shape),
  dataplane: Object.keys(schema.shape.dataplane.shape),
};

/** What YAML users write for an empty list or a list of one, as the schema wants it. */
function normalise(raw: unknown): unknown {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) return raw;
  const { podPool, serviceRange, serviceHost, ...others } = raw as Record<string, unknown>;
  const { vteps, pods, services, dataplane, underlay, ...rest } = others;
  return {
    ...rest,
    ...(underlay === null ? { underlay: {} } : underlay === undefined ? {} : { underlay }),
    ...(podPool === undefined ? {} : { podPool: typeof podPool === "string" ? [podPool] : podPool }),
    ...(serviceRange === undefined || serviceRange === null
      ? {}
      : { serviceRange: typeof serviceRange === "string" ? [serviceRange] : serviceRange }),
    ...(serviceHost === undefined ? {} : { serviceHost: serviceHost ?? {} }),
    vteps: vteps ?? [],
    pods: pods ?? [],
    services: Array.isArray(services) ? services.map(normaliseService) : (services ?? []),
    dataplane: dataplane ?? {},
  };
}

/** A Service may have no backends. */
function normaliseService(raw: unknown): unknown {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) return raw;
  const { backends } = raw as { backends?: unknown };
  return backends === undefined || backends === null ? { ...raw, backends: [] } : raw;
}

function withDefaults(raw: z.infer<typeof schema>): AgentConfig {
  const port = raw.underlay.port ?? DEFAULT_PORT;
  return {
    node: raw.node,
    stateDir: raw.stateDir ?? DEFAULT_STATE_DIR,
    underlay: {
      address: raw.underlay.address,
      port,
      vni: raw.underlay.vni ?? DEFAULT_VNI,
      mtu: raw.underlay.mtu ?? null,
    },
    podPool: raw.podPool,
    blocks: raw.blocks,
    tunnelAddress: raw.tunnelAddress ?? firstAddress(raw.blocks)!,
    vteps: raw.vteps.map((vtep) => ({
      node: vtep.node,
      address: vtep.address,
      port: vtep.port ?? port,
      // checkTunnelAddresses made sure that there is one of the two.
      tunnelAddress: vtep.tunnelAddress ?? firstAddress(vtep.blocks ?? [])!,
      mac: vtep.mac?.toLowerCase() ?? vtepMac(vtep.node),
      peer: vtep.peer ?? "podwire",
      blocks: vtep.blocks ?? [],
    })),
    pods: raw.pods.map((pod) => ({ ...pod, interface: pod.interface ?? "eth0" })),
    services: raw.services,
    serviceHost: serviceHostOf(raw),
    announce: announceOf(raw),
    metrics: parseMetricsAddress(raw.metrics ?? DEFAULT_METRICS) ?? null,
    dataplane: {
      tunnelGso: raw.dataplane.tunnelGso ?? "auto",
      uso: raw.dataplane.uso ?? "auto",
      threads: raw.dataplane.threads ?? 1,
      spinMicroseconds: raw.dataplane.spinMicroseconds ?? 50,
      cpuLatency: raw.dataplane.cpuLatency ?? "auto",
      maxFlows: raw.dataplane.maxFlows ?? DEFAULT_MAX_FLOWS,
    },
  };
}

/** What Services need of the node's kernel; null where nothing in the file is about Services. */
function serviceHostOf(raw: z.infer<typeof schema>): ServiceHostConfig | null {
  const { serviceHost, serviceRange, services } = raw;
  if (serviceHost === undefined && serviceRange === undefined && services.length === 0) return null;
  const { nodePorts, egressPorts, vips = [], ...rest } = serviceHost ?? {};
  const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
  const ports = (text: string | undefined) => (text === undefined ? null : parseRulePorts(text));
  const ofServices = services.flatMap(({ externalIPs = [], loadBalancerIPs = [] }) => [
    ...externalIPs,
    ...loadBalancerIPs,
  ]);
  return {
    ...SERVICE_HOST_DEFAULTS,
    ...given,
    ranges: serviceRange ?? SERVICE_HOST_DEFAULTS.ranges,
    nodePorts: ports(nodePorts) ?? SERVICE_HOST_DEFAULTS.nodePorts,
    egressPorts: ports(egressPorts) ?? SERVICE_HOST_DEFAULTS.egressPorts,
    vips: [...new Set([...vips, ...ofServices])],
    udpNodePorts: services.flatMap(({ ports }) =>
      ports.flatMap(({ protocol, nodePort }) => (protocol === "UDP" && nodePort ? [nodePort] : [])),
    ),
  };
}

/**
 * Who announces what. Addresses that are not written are those of the file's Services, and may be owned
 * by every node that podwire runs on; these all watch one another, as far as bfdPeers lets them.
 */
function announceOf(raw: z.infer<typeof schema>): AnnounceConfig | null {
  const { announce, node, vteps, services } = raw;
  if (announce === undefined) return null;
  const others = vteps.filter(({ peer }) => peer !== "vxlan");
  const all = [node, ...others.map((vtep) => vtep.node)];
  const hashed = all.map(hashNode);
  const ofServices = [...new Set(services.flatMap(({ loadBalancerIPs = [] }) => loadBalancerIPs))];
  const vips = (announce.addresses ?? ofServices.map((address) => ({ address, nodes: undefined }))).map(
    ({ address, nodes }) => ({
      address,
      nodes: nodes ?? rendezvousOrder(hashed, parseIpv4(address)!).map(({ name }) => name),
    }),
  );
  const orders = vips.map(({ address, nodes }) => ({ address: parseIpv4(address)!, nodes, problem: null }));
  const watched = new Set(bfdPeers(node, all, orders));
  return {
    interface: announce.interface ?? null,
    bfd: typeof announce.bfd === "object" ? announce.bfd : BFD_PROFILES[announce.bfd ?? "default"],
    nodes: others.map((vtep) => ({
      node: vtep.node,
      mac: vtep.lanMac?.toLowerCase() ?? "",
      watched: watched.has(vtep.node),
    })),
    vips,
  };
}

function firstAddress(blocks: string[]): string | undefined {
  return blocks[0] === undefined ? undefined : formatIpv4(parseCidr(blocks[0])!.address);
}

// ---- problems ---------------------------------------------------------------------------------

type Issue = z.core.$ZodIssue;

function findingsOf(issue: Issue, raw: unknown): Finding[] {
  const path = issue.path.map((part) => (typeof part === "number" ? part : String(part)));
  const value = path.reduce<unknown>((each, key) => (each as Record<string, unknown> | null)?.[key], raw);
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => unknownKey(path, key));
    case "invalid_type": {
      if (path.length === 0 && (value === undefined || value === null))
        return [{ path, message: "the file is empty", remedy: "Describe the node in it." }];
      if (value === undefined) return [{ path, message: "is missing", remedy: missingRemedy(path) }];
      const wanted = {
        object: "a map",
        array: "a list",
        string: "a text",
        number: "a number",
        boolean: "true or false",
      }[issue.expected as string];
      const remedy = issue.expected === "string" ? "Put it in quotes if it is meant as text." : "";
      return [{ path, message: `must be ${wanted ?? issue.expected}, not ${described(value)}`, remedy }];
    }
    case "invalid_value": {
      const values = issue.values.map(String).join(", ");
      return [
        { path, message: `${described(value)} is none of ${values}`, remedy: `Write one of ${values}.` },
      ];
    }
    case "invalid_union": {
      // Of a map, what is wrong within tells more than that it is none of the others.
      const within = issue.errors.find((errors) => errors.some(isWithin));
      if (within === undefined || typeof value !== "object")
        return [{ path, message: issue.message, remedy: "" }];
      return within.flatMap((each) => findingsOf({ ...each, path: [...issue.path, ...each.path] }, raw));
    }
    case "custom": {
      const named =
        typeof value === "string" && !issue.message.includes(value) ? `${JSON.stringify(value)} ` : "";
      return [{ path, message: `${named}${issue.message}`, remedy: String(issue.params?.remedy ?? "") }];
    }
    default:
      return [{ path, message: issue.message, remedy: "" }];
  }
}

function isWithin({ code, path }: Issue): boolean {
  return path.length > 0 || code === "unrecognized_keys";
}

function missingRemedy(path: FieldPath): string {
  const example: Record<string, string> = {
    node: "node: k8s-master",
    underlay: "underlay: { address: 192.168.2.30 }",
    podPool: "podPool: 10.1.0.0/16",
    blocks: "blocks: [10.1.235.192/26]",
    netns: "netns: /run/netns/pod1",
    name: "name: default/nginx",
    address: "address: 192.168.2.30",
    clusterIP: "clusterIP: 10.152.183.10",
    ports: "ports: [{ port: 80 }]",
    port: "port: 80",
    intervalMs: "intervalMs: 100",
    multiplier: "multiplier: 3",
  };
  return `Add it, e.g. "${example[String(path.at(-1))] ?? `${path.at(-1)}: …`}".`;
}

function unknownKey(path: FieldPath, key: string): Finding {
  const part = path.filter((each) => typeof each === "string").join(".");
  const known = KEYS[part] ?? [];
  const plain = (text: string) => text.toLowerCase().replace(/[-_]/g, "");
  const [nearest] = known
    .map((each) => ({ each, distance: editDistance(plain(each), plain(key)) }))
    .filter(({ each, distance }) => distance <= Math.max(1, Math.floor(each.length / 3)))
    .sort((a, b) => a.distance - b.distance);
  const remedy =
    nearest === undefined ? `Known keys here: ${known.join(", ")}.` : `Did you mean ${nearest.each}?`;
  return { path: [...path, key], atKey: true, message: "unknown key", remedy };
}

function described(value: unknown): string {
  if (value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a map";
  return JSON.stringify(value);
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length]!;
}

/**
 * Offset in the text of the value at `path`; of its key where the value is a map, is empty or the
 * key is meant; of the nearest thing above where there is no such path.
 */
function offsetOf(root: ParsedNode | null, path: FieldPath, atKey: boolean): number {
  let node: Node | null = root;
  let offset = root?.range?.[0] ?? 0;
  for (const part of path) {
    if (isMap(node)) {
      const pair: { key: unknown; value: unknown } | undefined = node.items.find(
        ({ key }) => isScalar(key) && String(key.value) === String(part),
      );
      if (pair === undefined) return offset;
      if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
      node = isNode(pair.value) ? pair.value : null;
    } else {
      const item: unknown =
        typeof part === "number" && node !== null && "items" in node ? (node.items as unknown[])[part] : null;
      node = isNode(item) ? item : null;
    }
    if (node === null) return offset;
    if (typeof part === "number") offset = node.range?.[0] ?? offset;
  }
  return atKey || isMap(node) || node === null ? offset : (node.range?.[0] ?? offset);
}
