/** Defaults and checks of a pod's spec, for Pods and for the templates of what makes Pods. */

import { compareQuantities } from "../../kube/quantity.js";
import type { FieldError } from "../resource.js";
import { duplicate, forbidden, invalid, notFound, notSupported, required } from "./fieldErrors.js";
import { items, type Loose, setDefault } from "./loose.js";
import { validateLabels, validateUnique } from "./metadata.js";
import { isDnsLabel, isDnsSubdomain, isEnvName, isPortName, isPortNumber, isQualifiedName } from "./names.js";

export const PROTOCOLS = ["SCTP", "TCP", "UDP"];
const PULL_POLICIES = ["Always", "IfNotPresent", "Never"];
const TERMINATION_POLICIES = ["FallbackToLogsOnError", "File"];
const RESTART_POLICIES = ["Always", "Never", "OnFailure"];
const DNS_POLICIES = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const PROBE_DEFAULTS = { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 };

/** SetDefaults_PodSpec and those of everything below it. */
export function defaultPodSpec(spec: Loose): void {
  setDefault(spec, "restartPolicy", "Always");
  setDefault(spec, "terminationGracePeriodSeconds", 30);
  setDefault(spec, "dnsPolicy", "ClusterFirst");
  setDefault(spec, "securityContext", {});
  setDefault(spec, "schedulerName", "default-scheduler");
  // The two names of one field.
  if (spec.serviceAccountName) spec.serviceAccount = spec.serviceAccountName;
  else if (spec.serviceAccount) spec.serviceAccountName = spec.serviceAccount;
  for (const container of [...items(spec.containers), ...items(spec.initContainers)]) {
    defaultContainer(container, spec.hostNetwork === true);
  }
  for (const volume of items(spec.volumes)) defaultVolume(volume);
}

function defaultContainer(container: Loose, hostNetwork: boolean): void {
  setDefault(container, "imagePullPolicy", pullPolicy(container.image ?? ""));
  setDefault(container, "terminationMessagePath", "/dev/termination-log");
  setDefault(container, "terminationMessagePolicy", "File");
  container.resources ??= {};
  for (const [name, limit] of Object.entries(container.resources.limits ?? {})) {
    container.resources.requests ??= {};
    container.resources.requests[name] ??= limit;
  }
  for (const port of items(container.ports)) {
    setDefault(port, "protocol", "TCP");
    if (hostNetwork && !port.hostPort) port.hostPort = port.containerPort;
  }
  for (const variable of items(container.env)) {
    if (variable.valueFrom?.fieldRef) setDefault(variable.valueFrom.fieldRef, "apiVersion", "v1");
  }
  for (const kind of ["livenessProbe", "readinessProbe", "startupProbe"]) {
    const probe = container[kind];
    if (!probe) continue;
    for (const [field, value] of Object.entries(PROBE_DEFAULTS)) if (!probe[field]) probe[field] = value;
    if (probe.httpGet) defaultHttpGet(probe.httpGet);
    if (probe.grpc) probe.grpc.service ??= "";
  }
  for (const hook of [container.lifecycle?.postStart, container.lifecycle?.preStop]) {
    if (hook?.httpGet) defaultHttpGet(hook.httpGet);
  }
}

function defaultHttpGet(action: Loose): void {
  setDefault(action, "path", "/");
  setDefault(action, "scheme", "HTTP");
}

function defaultVolume(volume: Loose): void {
  if (Object.keys(volume).filter((key) => key !== "name").length === 0) volume.emptyDir = {};
  for (const source of ["secret", "configMap", "downwardAPI", "projected"]) {
    if (volume[source]) setDefault(volume[source], "defaultMode", 0o644);
  }
  if (volume.hostPath) volume.hostPath.type ??= "";
}

/** Always for the tag "latest" and for none. */
function pullPolicy(image: string): string {
  const name = image.slice(image.lastIndexOf("/") + 1);
  if (name.includes("@")) return "IfNotPresent";
  const tag = name.includes(":") ? name.slice(name.indexOf(":") + 1) : "latest";
  return tag === "latest" ? "Always" : "IfNotPresent";
}

export function validatePodSpec(spec: Loose, field: string): FieldError[] {
  const faults: FieldError[] = [];
  const volumeNames = new Set<string>(items(spec.volumes).map((volume) => volume.name));
  faults.push(...validateVolumes(items(spec.volumes), `${field}.volumes`));

  const containers = items(spec.containers);
  if (containers.length === 0) faults.push(required(`${field}.containers`));
  const names = new Set<string>();
  const lists: [string, Loose[]][] = [
    ["containers", containers],
    ["initContainers", items(spec.initContainers)],
  ];
  for (const [list, members] of lists) {
    members.forEach((container, i) => {
      const at = `${field}.${list}[${i}]`;
      if (container.name && names.has(container.name)) faults.push(duplicate(`${at}.name`, container.name));
      names.add(container.name);
      faults.push(...validateContainer(container, at, volumeNames, spec.hostNetwork === true));
    });
  }
  faults.push(...validateHostPorts(containers, field));
  faults.push(...oneOf(`${field}.restartPolicy`, spec.restartPolicy, RESTART_POLICIES));
  faults.push(...oneOf(`${field}.dnsPolicy`, spec.dnsPolicy, DNS_POLICIES));
  faults.push(...validateLabels(spec.nodeSelector, `${field}.nodeSelector`));
  faults.push(...validateTolerations(items(spec.tolerations), `${field}.tolerations`));
  if (spec.terminationGracePeriodSeconds < 0) {
    faults.push(
      invalid(
        `${field}.terminationGracePeriodSeconds`,
        spec.terminationGracePeriodSeconds,
        "must be greater than or equal to 0",
      ),
    );
  }
  if (spec.activeDeadlineSeconds !== undefined && spec.activeDeadlineSeconds !== null) {
    if (spec.activeDeadlineSeconds < 1 || spec.activeDeadlineSeconds > 2147483647) {
      faults.push(
        invalid(
          `${field}.activeDeadlineSeconds`,
          spec.activeDeadlineSeconds,
          "must be between 1 and 2147483647, inclusive",
        ),
      );
    }
  }
  for (const part of ["serviceAccountName", "nodeName", "priorityClassName"]) {
    if (!spec[part]) continue;
    for (const message of isDnsSubdomain(spec[part]))
      faults.push(invalid(`${field}.${part}`, spec[part], message));
  }
  if (spec.hostname) {
    for (const message of isDnsLabel(spec.hostname)) {
      faults.push(invalid(`${field}.hostname`, spec.hostname, message));
    }
  }
  return faults;
}

function oneOf(field: string, value: string | undefined, supported: string[]): FieldError[] {
  if (!value) return [required(field)];
  return supported.includes(value) ? [] : [notSupported(field, value, supported)];
}

function validateVolumes(volumes: Loose[], field: string): FieldError[] {
  const faults: FieldError[] = [];
  volumes.forEach((volume, i) => {
    const at = `${field}[${i}]`;
    if (!volume.name) faults.push(required(`${at}.name`));
    else
      for (const message of isDnsLabel(volume.name)) faults.push(invalid(`${at}.name`, volume.name, message));
    const sources = Object.keys(volume).filter((key) => key !== "name" && volume[key] !== null);
    for (const extra of sources.slice(1)) {
      faults.push(forbidden(`${at}.${extra}`, "may not specify more than 1 volume type"));
    }
    if (volume.hostPath && !volume.hostPath.path) faults.push(required(`${at}.hostPath.path`));
    if (volume.secret && !volume.secret.secretName) faults.push(required(`${at}.secret.secretName`));
    if (volume.configMap && !volume.configMap.name) faults.push(required(`${at}.configMap.name`));
  });
  faults.push(
    ...validateUnique(
      volumes,
      (volume) => volume.name ?? "",
      (i) => `${field}[${i}].name`,
    ),
  );
  return faults;
}

function validateContainer(
  container: Loose,
  field: string,
  volumes: Set<string>,
  hostNetwork: boolean,
): FieldError[] {
  const faults: FieldError[] = [];
  if (!container.name) faults.push(required(`${field}.name`));
  else {
    for (const message of isDnsLabel(container.name)) {
      faults.push(invalid(`${field}.name`, container.name, message));
    }
  }
  if (!container.image) faults.push(required(`${field}.image`));
  else if (container.image.trim() !== container.image) {
    faults.push(invalid(`${field}.image`, container.image, "must not have leading or trailing whitespace"));
  }
  const ports = items(container.ports);
  ports.forEach((port, i) => {
    const at = `${field}.ports[${i}]`;
    if (port.name)
      for (const message of isPortName(port.name)) faults.push(invalid(`${at}.name`, port.name, message));
    if (!port.containerPort) faults.push(required(`${at}.containerPort`));
    else {
      for (const message of isPortNumber(port.containerPort)) {
        faults.push(invalid(`${at}.containerPort`, port.containerPort, message));
      }
    }
    if (port.hostPort) {
      for (const message of isPortNumber(port.hostPort)) {
        faults.push(invalid(`${at}.hostPort`, port.hostPort, message));
      }
      if (hostNetwork && port.hostPort !== port.containerPort) {
        faults.push(
          invalid(
            `${at}.containerPort`,
            port.containerPort,
            "must match `hostPort` when `hostNetwork` is true",
          ),
        );
      }
    }
    faults.push(...oneOf(`${at}.protocol`, port.protocol, PROTOCOLS));
  });
  faults.push(
    ...validateUnique(
      ports,
      (port) => port.name ?? "",
      (i) => `${field}.ports[${i}].name`,
    ),
  );
  items(container.env).forEach((variable, i) => {
    const at = `${field}.env[${i}]`;
    if (!variable.name) faults.push(required(`${at}.name`));
    else
      for (const message of isEnvName(variable.name))
        faults.push(invalid(`${at}.name`, variable.name, message));
    if (variable.valueFrom && variable.value) {
      faults.push(invalid(`${at}.valueFrom`, "", "may not be specified when `value` is not empty"));
    }
  });
  const mounts = items(container.volumeMounts);
  mounts.forEach((mount, i) => {
    const at = `${field}.volumeMounts[${i}]`;
    if (!mount.name) faults.push(required(`${at}.name`));
    else if (!volumes.has(mount.name)) faults.push(notFound(`${at}.name`, mount.name));
    if (!mount.mountPath) faults.push(required(`${at}.mountPath`));
    else if (mounts.findIndex((other) => other.mountPath === mount.mountPath) < i) {
      faults.push(invalid(`${at}.mountPath`, mount.mountPath, "must be unique"));
    }
  });
  faults.push(...oneOf(`${field}.imagePullPolicy`, container.imagePullPolicy, PULL_POLICIES));
  faults.push(
    ...oneOf(`${field}.terminationMessagePolicy`, container.terminationMessagePolicy, TERMINATION_POLICIES),
  );
  for (const kind of ["livenessProbe", "readinessProbe", "startupProbe"]) {
    if (container[kind]) faults.push(...validateProbe(container[kind], `${field}.${kind}`, kind));
  }
  for (const [name, request] of Object.entries<string>(container.resources?.requests ?? {})) {
    const limit = container.resources?.limits?.[name];
    if (limit !== undefined && compareQuantities(request, limit) > 0) {
      faults.push(
        invalid(
          `${field}.resources.requests`,
          String(request),
          `must be less than or equal to ${name} limit of ${limit}`,
        ),
      );
    }
  }
  return faults;
}

function validateProbe(probe: Loose, field: string, kind: string): FieldError[] {
  const faults: FieldError[] = [];
  const handlers = ["exec", "httpGet", "tcpSocket", "grpc"].filter((handler) => probe[handler]);
  if (handlers.length === 0) faults.push(required(field, "must specify a handler type"));
  for (const extra of handlers.slice(1)) {
    faults.push(forbidden(`${field}.${extra}`, "may not specify more than 1 handler type"));
  }
  for (const part of [
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
  ]) {
    if (probe[part] < 0) {
      faults.push(invalid(`${field}.${part}`, probe[part], "must be greater than or equal to 0"));
    }
  }
  if (kind !== "readinessProbe" && probe.successThreshold !== 1) {
    faults.push(invalid(`${field}.successThreshold`, probe.successThreshold, "must be 1"));
  }
  for (const handler of ["httpGet", "tcpSocket"]) {
    const port = probe[handler]?.port;
    if (port === undefined) continue;
    const messages = typeof port === "number" ? isPortNumber(port) : isPortName(port);
    for (const message of messages) faults.push(invalid(`${field}.${handler}.port`, port, message));
  }
  return faults;
}

/** Two containers of a pod cannot have the same port of the host. */
function validateHostPorts(containers: Loose[], field: string): FieldError[] {
  const faults: FieldError[] = [];
  const taken = new Set<string>();
  containers.forEach((container, i) => {
    items(container.ports).forEach((port, j) => {
      if (!port.hostPort) return;
      const key = `${port.protocol}/${port.hostIP ?? ""}/${port.hostPort}`;
      if (taken.has(key)) faults.push(duplicate(`${field}.containers[${i}].ports[${j}].hostPort`, key));
      taken.add(key);
    });
  });
  return faults;
}

function validateTolerations(tolerations: Loose[], field: string): FieldError[] {
  const faults: FieldError[] = [];
  tolerations.forEach((toleration, i) => {
    const at = `${field}[${i}]`;
    if (toleration.key) {
      for (const message of isQualifiedName(toleration.key)) {
        faults.push(invalid(`${at}.key`, toleration.key, message));
      }
    }
    const operator = toleration.operator ?? "";
    if (!toleration.key && operator !== "Exists") {
      faults.push(
        invalid(
          `${at}.operator`,
          operator,
          'operator must be Exists when `key` is empty, which means "match all values and all keys"',
        ),
      );
    }
    if (toleration.tolerationSeconds !== undefined && toleration.tolerationSeconds !== null) {
      if (toleration.effect !== "NoExecute") {
        faults.push(
          invalid(
            `${at}.effect`,
            toleration.effect ?? "",
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
          ),
        );
      }
    }
    if (operator === "Exists" && toleration.value) {
      faults.push(
        invalid(`${at}.operator`, toleration.value, "value must be empty when `operator` is 'Exists'"),
      );
    } else if (!["", "Equal", "Exists"].includes(operator)) {
      faults.push(notSupported(`${at}.operator`, operator, ["Equal", "Exists"]));
    }
    if (toleration.effect && !["NoExecute", "NoSchedule", "PreferNoSchedule"].includes(toleration.effect)) {
      faults.push(
        notSupported(`${at}.effect`, toleration.effect, ["NoExecute", "NoSchedule", "PreferNoSchedule"]),
      );
    }
  });
  return faults;
}
