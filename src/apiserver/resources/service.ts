/**
 * v1 Service: defaults, checks, table. Addresses and node ports are given out by the allocator
 * (controllers/), which also keeps them for a writer who leaves them out, and knows the address families.
 */
import type { FieldError, ResourceDefinition } from "../resource.js";
import { AGE_COLUMN, column, defineResource, NAME_COLUMN, wide } from "./define.js";
import { duplicate, forbidden, goValue, invalid, notSupported, required, Verbatim } from "./fieldErrors.js";
import { age, formatLabels } from "./format.js";
import { items, type Loose, setDefault } from "./loose.js";
import { validateLabels, validateUnique } from "./metadata.js";
import {
  isAddress,
  isCidr,
  isDns1035Label,
  isDnsLabel,
  isDnsSubdomain,
  isOrdinaryAddress,
  isPortName,
  isPortNumber,
  isQualifiedName,
} from "./names.js";
import { PROTOCOLS } from "./podSpec.js";

const TYPES = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const AFFINITY_SECONDS_LIMIT = 86_400;

export const services: ResourceDefinition = defineResource({
  group: "",
  version: "v1",
  kind: "Service",
  plural: "services",
  shortNames: ["svc"],
  categories: ["all"],
  namespaced: true,
  status: true,
  name: isDns1035Label,
  defaults(service) {
    service.spec ??= {};
    defaultSpec(service.spec);
  },
  prepareStatus(service) {
    for (const ingress of items(service.status?.loadBalancer?.ingress)) {
      if (service.spec.type === "LoadBalancer" && ingress.ip) setDefault(ingress, "ipMode", "VIP");
    }
  },
  prepareCreate(service) {
    service.status = { loadBalancer: {} };
  },
  prepareUpdate(service) {
    if (service.spec.type !== "LoadBalancer") service.status = { ...service.status, loadBalancer: {} };
  },
  validate: (service, old) => [
    ...validateSpec(service.spec),
    ...(old === undefined ? [] : validateChange(service.spec, old.spec)),
    ...validateStatus(service),
  ],
  selectable: (service) => ({
    "spec.clusterIP": service.spec?.clusterIP ?? "",
    "spec.type": service.spec?.type ?? "",
  }),
  columns: [
    NAME_COLUMN,
    column("Type", "type determines how the Service is exposed."),
    column("Cluster-IP", "clusterIP is the IP address of the service."),
    column("External-IP", "externalIPs is a list of IP addresses for which nodes also accept traffic."),
    column("Port(s)", "The list of ports that are exposed by this service."),
    AGE_COLUMN,
    wide("Selector", "Route service traffic to pods with label keys and values matching this selector."),
  ],
  row(service, now) {
    const spec = service.spec ?? {};
    return [
      service.metadata.name,
      spec.type ?? "",
      spec.clusterIPs?.[0] || "<none>",
      externalAddress(service),
      items(spec.ports).map(portText).join(",") || "<none>",
      age(service, now),
      formatLabels(spec.selector),
    ];
  },
});

const isExternal = (spec: Loose) =>
  spec.type === "NodePort" ||
  spec.type === "LoadBalancer" ||
  (spec.type === "ClusterIP" && items(spec.externalIPs).length > 0);

const needsHealthPort = (spec: Loose) =>
  spec.type === "LoadBalancer" && spec.externalTrafficPolicy === "Local";

function defaultSpec(spec: Loose): void {
  setDefault(spec, "type", "ClusterIP");
  setDefault(spec, "sessionAffinity", "None");
  if (spec.sessionAffinity === "None") delete spec.sessionAffinityConfig;
  if (spec.sessionAffinity === "ClientIP") {
    spec.sessionAffinityConfig ??= {};
    spec.sessionAffinityConfig.clientIP ??= {};
    setDefault(spec.sessionAffinityConfig.clientIP, "timeoutSeconds", 10_800);
  }
  for (const port of items(spec.ports)) {
    setDefault(port, "protocol", "TCP");
    if (!port.targetPort) port.targetPort = port.port;
  }
  if (isExternal(spec)) setDefault(spec, "externalTrafficPolicy", "Cluster");
  if (spec.type !== "ExternalName") setDefault(spec, "internalTrafficPolicy", "Cluster");
  if (spec.type === "LoadBalancer") spec.allocateLoadBalancerNodePorts ??= true;
}

function validateSpec(spec: Loose): FieldError[] {
  const faults: FieldError[] = [];
  const headless = items(spec.clusterIPs)[0] === "None" || spec.clusterIP === "None";
  const ports = items(spec.ports);
  if (!TYPES.includes(spec.type)) faults.push(notSupported("spec.type", spec.type, TYPES));
  if (ports.length === 0 && !headless && spec.type !== "ExternalName") faults.push(required("spec.ports"));
  if (headless && (spec.type === "LoadBalancer" || spec.type === "NodePort")) {
    faults.push(invalid("spec.clusterIPs[0]", "None", `may not be set to 'None' for ${spec.type} services`));
  }
  if (spec.type === "ExternalName") {
    if (items(spec.clusterIPs).length > 0 || spec.clusterIP) {
      faults.push(forbidden("spec.clusterIPs", "may not be set for ExternalName services"));
    }
    const name = (spec.externalName ?? "").replace(/\.$/, "");
    if (name === "") faults.push(required("spec.externalName"));
    else for (const message of isDnsSubdomain(name)) faults.push(invalid("spec.externalName", name, message));
  }
  ports.forEach((port, i) => {
    faults.push(...validatePort(port, `spec.ports[${i}]`, ports.length > 1, spec));
  });
  faults.push(
    ...validateUnique(
      ports,
      (port) => port.name ?? "",
      (i) => `spec.ports[${i}].name`,
    ),
  );
  faults.push(...validateRepeatedPorts(ports));
  faults.push(...validateLabels(spec.selector, "spec.selector"));
  faults.push(...validateAffinity(spec));

  items(spec.clusterIPs).forEach((address, i) => {
    if (address === "None") return;
    for (const message of isAddress(address)) faults.push(invalid(`spec.clusterIPs[${i}]`, address, message));
  });
  if (spec.clusterIP && items(spec.clusterIPs).length > 0 && spec.clusterIPs[0] !== spec.clusterIP) {
    faults.push(invalid("spec.clusterIPs", spec.clusterIPs, "first value must match `clusterIP`"));
  }
  items(spec.externalIPs).forEach((address, i) => {
    for (const message of isOrdinaryAddress(address)) {
      faults.push(invalid(`spec.externalIPs[${i}]`, address, message));
    }
  });
  faults.push(...validateTraffic(spec), ...validateLoadBalancer(spec));
  return faults;
}

function validatePort(port: Loose, field: string, nameRequired: boolean, spec: Loose): FieldError[] {
  const faults: FieldError[] = [];
  if (!port.name) {
    if (nameRequired) faults.push(required(`${field}.name`));
  } else
    for (const message of isDnsLabel(port.name)) faults.push(invalid(`${field}.name`, port.name, message));
  for (const message of isPortNumber(port.port ?? 0)) {
    faults.push(invalid(`${field}.port`, port.port ?? 0, message));
  }
  if (!port.protocol) faults.push(required(`${field}.protocol`));
  else if (!PROTOCOLS.includes(port.protocol)) {
    faults.push(notSupported(`${field}.protocol`, port.protocol, PROTOCOLS));
  }
  if (typeof port.targetPort === "string") {
    for (const message of isPortName(port.targetPort)) {
      faults.push(invalid(`${field}.targetPort`, port.targetPort, message));
    }
  } else {
    for (const message of isPortNumber(port.targetPort ?? 0)) {
      faults.push(invalid(`${field}.targetPort`, port.targetPort ?? 0, message));
    }
  }
  if (port.appProtocol) {
    for (const message of isQualifiedName(port.appProtocol)) {
      faults.push(invalid(`${field}.appProtocol`, port.appProtocol, message));
    }
  }
  // Whether a node port is in the range, and free, is the allocator's to say.
  if (port.nodePort && (spec.type === "ClusterIP" || spec.type === "ExternalName")) {
    faults.push(forbidden(`${field}.nodePort`, `may not be used when \`type\` is '${spec.type}'`));
  }
  return faults;
}

function validateRepeatedPorts(ports: Loose[]): FieldError[] {
  const faults: FieldError[] = [];
  const seen = new Set<string>();
  const shown = (protocol: string, port: number, nodePort: number) =>
    new Verbatim(
      `core.ServicePort{Name:"", Protocol:${goValue(protocol)}, AppProtocol:(*string)(nil), Port:${port}, TargetPort:intstr.IntOrString{Type:0, IntVal:0, StrVal:""}, NodePort:${nodePort}}`,
    );
  ports.forEach((port, i) => {
    if (port.nodePort) {
      const key = `node ${port.protocol}/${port.nodePort}`;
      if (seen.has(key)) {
        faults.push(duplicate(`spec.ports[${i}].nodePort`, shown(port.protocol, 0, port.nodePort)));
      }
      seen.add(key);
    }
    const key = `${port.protocol}/${port.port}`;
    if (seen.has(key)) faults.push(duplicate(`spec.ports[${i}]`, shown(port.protocol, port.port, 0)));
    seen.add(key);
  });
  return faults;
}

function validateAffinity(spec: Loose): FieldError[] {
  if (spec.sessionAffinity !== "None" && spec.sessionAffinity !== "ClientIP") {
    return [notSupported("spec.sessionAffinity", spec.sessionAffinity, ["ClientIP", "None"])];
  }
  const seconds = spec.sessionAffinityConfig?.clientIP?.timeoutSeconds;
  if (spec.sessionAffinity === "ClientIP" && (seconds <= 0 || seconds > AFFINITY_SECONDS_LIMIT)) {
    return [
      invalid(
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        seconds,
        `must be greater than 0 and less than ${AFFINITY_SECONDS_LIMIT}`,
      ),
    ];
  }
  return [];
}

function validateTraffic(spec: Loose): FieldError[] {
  const faults: FieldError[] = [];
  const policies = ["Cluster", "Local"];
  const external = spec.externalTrafficPolicy;
  if (!isExternal(spec)) {
    if (external) {
      faults.push(
        invalid("spec.externalTrafficPolicy", external, "may only be set for externally-accessible services"),
      );
    }
  } else if (!external) faults.push(required("spec.externalTrafficPolicy"));
  else if (!policies.includes(external)) {
    faults.push(notSupported("spec.externalTrafficPolicy", external, policies));
  }
  if (spec.internalTrafficPolicy && !policies.includes(spec.internalTrafficPolicy)) {
    faults.push(notSupported("spec.internalTrafficPolicy", spec.internalTrafficPolicy, policies));
  }
  if (spec.healthCheckNodePort && !needsHealthPort(spec)) {
    faults.push(
      invalid(
        "spec.healthCheckNodePort",
        spec.healthCheckNodePort,
        "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
      ),
    );
  }
  items(spec.ipFamilies).forEach((family, i) => {
    if (family !== "IPv4" && family !== "IPv6") {
      faults.push(notSupported(`spec.ipFamilies[${i}]`, family, ["IPv4", "IPv6"]));
    }
  });
  return faults;
}

function validateLoadBalancer(spec: Loose): FieldError[] {
  const faults: FieldError[] = [];
  const only = "may only be used when `type` is 'LoadBalancer'";
  const ranges = items(spec.loadBalancerSourceRanges);
  if (spec.type === "LoadBalancer") {
    ranges.forEach((range, i) => {
      for (const message of isCidr(range.trim())) {
        faults.push(invalid(`spec.LoadBalancerSourceRanges[${i}]`, range, message));
      }
    });
    if (spec.loadBalancerClass) {
      for (const message of isQualifiedName(spec.loadBalancerClass)) {
        faults.push(invalid("spec.loadBalancerClass", spec.loadBalancerClass, message));
      }
    }
    return faults;
  }
  if (ranges.length > 0) faults.push(forbidden("spec.LoadBalancerSourceRanges", only));
  for (const field of ["loadBalancerClass", "allocateLoadBalancerNodePorts"]) {
    if (spec[field] !== undefined && spec[field] !== null) faults.push(forbidden(`spec.${field}`, only));
  }
  return faults;
}

function validateChange(spec: Loose, old: Loose): FieldError[] {
  const faults: FieldError[] = [];
  const before = items(old.clusterIPs)[0];
  const now = items(spec.clusterIPs)[0];
  if (old.type !== "ExternalName" && spec.type !== "ExternalName" && before && before !== now) {
    faults.push(
      now === undefined
        ? invalid("spec.clusterIPs", new Verbatim("[]string(nil)"), "primary clusterIP can not be unset")
        : invalid("spec.clusterIPs[0]", spec.clusterIPs, "may not change once set"),
    );
  }
  if (old.type === "LoadBalancer" && spec.type === "LoadBalancer") {
    if ((old.loadBalancerClass ?? "") !== (spec.loadBalancerClass ?? "")) {
      faults.push(
        invalid("spec.loadBalancerClass", spec.loadBalancerClass ?? null, "may not change once set"),
      );
    }
    const health = old.healthCheckNodePort;
    if (needsHealthPort(spec) && needsHealthPort(old) && health && health !== spec.healthCheckNodePort) {
      faults.push(invalid("spec.healthCheckNodePort", spec.healthCheckNodePort ?? 0, "field is immutable"));
    }
  }
  return faults;
}

function validateStatus(service: Loose): FieldError[] {
  const faults: FieldError[] = [];
  items(service.status?.loadBalancer?.ingress).forEach((ingress, i) => {
    const at = `status.loadBalancer.ingress[${i}]`;
    if (ingress.ip)
      for (const message of isAddress(ingress.ip)) faults.push(invalid(`${at}.ip`, ingress.ip, message));
    if (ingress.hostname) {
      for (const message of isDnsSubdomain(ingress.hostname)) {
        faults.push(invalid(`${at}.hostname`, ingress.hostname, message));
      }
    }
  });
  return faults;
}

function externalAddress(service: Loose): string {
  const spec = service.spec ?? {};
  const external = items(spec.externalIPs).join(",");
  if (spec.type === "ClusterIP" || spec.type === "NodePort") return external || "<none>";
  if (spec.type === "ExternalName") return spec.externalName ?? "";
  if (spec.type !== "LoadBalancer") return "<unknown>";
  const given = new Set<string>();
  for (const ingress of items(service.status?.loadBalancer?.ingress)) {
    if (ingress.ip || ingress.hostname) given.add(ingress.ip || ingress.hostname);
  }
  const all = [...[...given].sort(), ...(external === "" ? [] : [external])];
  return all.length === 0 ? "<pending>" : all.join(",");
}

function portText(port: Loose): string {
  const protocol = port.protocol ?? "TCP";
  return port.nodePort > 0 ? `${port.port}:${port.nodePort}/${protocol}` : `${port.port}/${protocol}`;
}
