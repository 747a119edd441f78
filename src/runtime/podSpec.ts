/**
 * From a Pod's spec to what the engine starts: what is refused, command, arguments, environment, user,
 * volumes. As a kubelet does it (pkg/kubelet/kubelet_pods.go, third_party/forked/golang/expansion).
 * Pure; objects that are referred to come through `Lookup`.
 */
import type * as core from "kubernetes-types/core/v1.js";
import { parseQuantity } from "../kube/quantity.js";
import type { Pod } from "../kube/types.js";
import type { ContainerSpec } from "./ContainerEngine.js";
import type { ImageEntry } from "./images.js";
import { DEFAULT_CAPABILITIES, DEFAULT_PATH } from "./oci.js";
import { substitute } from "./rootfs.js";

export type Container = core.Container;

/** Data of a ConfigMap or Secret, values in base64; null where there is none. */
export type Lookup = (
  kind: "configMap" | "secret",
  namespace: string,
  name: string,
) => Promise<Readonly<Record<string, string>> | null>;

/** A container cannot be configured; the message is for its status (CreateContainerConfigError). */
export class ConfigProblem extends Error {
  override readonly name = "ConfigProblem";
}

/** A pod's containers, in the order in which they are started. */
export function containersOf({ spec }: Pod): Container[] {
  return [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])];
}

/** Why the pod is not run here at all; null where it may be. */
export function refusalOf(pod: Pod): string | null {
  const { spec } = pod;
  if (spec === undefined) return "the pod has no spec";
  if (spec.hostNetwork) return "hostNetwork is refused: pods do not get the node's network";
  if (spec.hostPID) return "hostPID is refused: pods do not see the node's processes";
  if (spec.hostIPC) return "hostIPC is refused: pods do not share the node's IPC";
  if (spec.shareProcessNamespace) return "shareProcessNamespace is not supported";
  for (const container of spec.initContainers ?? [])
    if ((container as { restartPolicy?: string }).restartPolicy !== undefined)
      return `container ${container.name}: sidecar containers (an init container's restartPolicy) are not supported`;
  const { sysctls = [], seccompProfile } = spec.securityContext ?? {};
  if (sysctls.length > 0) return "sysctls are refused: the pod's kernel settings are the node's to make";
  for (const { name, securityContext, volumeMounts = [] } of containersOf(pod)) {
    if (securityContext?.privileged) return `container ${name}: privileged is refused`;
    const added = (securityContext?.capabilities?.add ?? []).filter(
      (each) => !DEFAULT_CAPABILITIES.includes(capabilityName(each)),
    );
    if (added.length > 0) return `container ${name}: added capabilities are refused (${added.join(", ")})`;
    if (securityContext?.procMount === "Unmasked") return `container ${name}: procMount Unmasked is refused`;
    const { type = "RuntimeDefault" } = securityContext?.seccompProfile ?? seccompProfile ?? {};
    if (type !== "RuntimeDefault") return `container ${name}: seccomp profile ${type} is refused`;
    const part = volumeMounts.find(({ subPath, subPathExpr }) => subPath || subPathExpr);
    if (part !== undefined) return `container ${name}: volume mount "${part.name}": subPath is not supported`;
  }
  for (const volume of spec.volumes ?? []) {
    if (volume.hostPath !== undefined)
      return `volume "${volume.name}": hostPath is refused: pods do not see the node's files`;
    const kind = Object.keys(volume).find((key) => key !== "name") ?? "emptyDir";
    if (!["emptyDir", "configMap", "secret"].includes(kind) && !isTokenVolume(volume))
      return `volume "${volume.name}": ${kind} is not supported (emptyDir, configMap and secret are)`;
  }
  return null;
}

/** The volume that admission adds for the service account; there is no token here, and it stays away. */
function isTokenVolume(volume: core.Volume): boolean {
  return volume.projected !== undefined && volume.name.startsWith("kube-api-access-");
}

/** `$(NAME)` becomes the variable's value, `$$` a `$`; a name that is not known stays as it stands. */
export function expand(text: string, variables: ReadonlyMap<string, string>): string {
  return text.replace(/\$(\$|\(([^()]*)\))/g, (whole, what: string, name: string | undefined) =>
    what === "$" ? "$" : (variables.get(name!) ?? whole),
  );
}

export interface Surroundings {
  pod: Pod;
  node: string;
  nodeAddress: string;
  podIP: string;
  lookup: Lookup;
  /** Directory of a volume, filled with `files` (values in base64). */
  volume: (name: string, files: Readonly<Record<string, string>> | null) => string;
}

/** What to start for a container. Rejects with ConfigProblem. */
export async function containerSpec(
  container: Container,
  image: ImageEntry,
  attempt: number,
  around: Surroundings,
): Promise<ContainerSpec> {
  const { pod, node } = around;
  const names = { name: pod.metadata.name ?? "", node };
  const variables = await environment(container, image, around);
  const words = (texts: readonly string[]) => texts.map((text) => expand(text, variables));
  const command = container.command?.length ? words(container.command) : image.command;
  // A command of the Pod's own makes the image's arguments meaningless.
  const args = container.args?.length
    ? words(container.args)
    : container.command?.length
      ? []
      : image.args.map((text) => substitute(text, names));
  if (command.length + args.length === 0) throw new ConfigProblem("no command specified");
  const limits = container.resources?.limits ?? {};
  const { securityContext } = container;
  return {
    uid: pod.metadata.uid ?? "",
    container: container.name,
    attempt,
    imageName: container.image ?? "",
    image,
    command: [...command, ...args],
    env: [...variables].map(([name, value]) => `${name}=${value}`),
    workingDir: container.workingDir ? expand(container.workingDir, variables) : image.workingDir,
    user: userOf(pod, container, image),
    capabilities: capabilitiesOf(container),
    mounts: await mounts(container, around),
    readOnlyRoot: securityContext?.readOnlyRootFilesystem === true,
    terminationMessagePath: container.terminationMessagePath ?? "/dev/termination-log",
    messageFromLog: container.terminationMessagePolicy === "FallbackToLogsOnError",
    memoryLimit: quantity(limits.memory),
    cpuLimit: scaled(quantity(limits.cpu)),
    tty: container.tty === true,
  };
}

function quantity(text: string | undefined): number | null {
  if (text === undefined) return null;
  const value = Number(parseQuantity(text));
  return Number.isFinite(value) && value > 0 ? value : null;
}

function scaled(cpus: number | null): number | null {
  return cpus === null ? null : cpus * 1000;
}

/** As the kernel names it: Kubernetes' names have no CAP_. */
function capabilityName(name: string): string {
  return `CAP_${name.toUpperCase().replace(/^CAP_/, "")}`;
}

/** The default ones but for those that are dropped ("ALL" drops them all), and those added again. */
function capabilitiesOf({ securityContext }: Container): string[] {
  const { add = [], drop = [] } = securityContext?.capabilities ?? {};
  const dropped = drop.map(capabilityName);
  const added = add.map(capabilityName);
  return DEFAULT_CAPABILITIES.filter(
    (name) => added.includes(name) || !(dropped.includes(name) || dropped.includes("CAP_ALL")),
  );
}

function userOf(pod: Pod, container: Container, image: ImageEntry): ContainerSpec["user"] {
  const [uid = "0", gid] = image.user.split(":");
  const forPod = pod.spec?.securityContext;
  const own = container.securityContext;
  const chosen = {
    uid: own?.runAsUser ?? forPod?.runAsUser ?? Number(uid),
    gid: own?.runAsGroup ?? forPod?.runAsGroup ?? Number(gid ?? 0),
    groups: [
      ...(forPod?.supplementalGroups ?? []),
      ...(forPod?.fsGroup === undefined ? [] : [forPod.fsGroup]),
    ],
  };
  if ((own?.runAsNonRoot ?? forPod?.runAsNonRoot) && chosen.uid === 0)
    throw new ConfigProblem(
      `container has runAsNonRoot and image will run as root (pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})", container: ${container.name})`,
    );
  return chosen;
}

async function environment(
  container: Container,
  image: ImageEntry,
  around: Surroundings,
): Promise<Map<string, string>> {
  const { pod, node, lookup } = around;
  const namespace = pod.metadata.namespace ?? "default";
  const names = { name: pod.metadata.name ?? "", node };
  const result = new Map<string, string>([
    ["PATH", DEFAULT_PATH],
    ["HOSTNAME", hostnameOf(pod)],
  ]);
  for (const [name, value] of Object.entries(image.env)) result.set(name, substitute(value, names));
  for (const { prefix = "", configMapRef, secretRef } of container.envFrom ?? []) {
    const kind = secretRef === undefined ? "configMap" : "secret";
    const ref = secretRef ?? configMapRef;
    const data = await lookup(kind, namespace, ref?.name ?? "");
    if (data === null && !ref?.optional) throw missing(kind, ref?.name);
    for (const [key, value] of Object.entries(data ?? {})) result.set(prefix + key, decoded(value));
  }
  for (const { name, value, valueFrom } of container.env ?? []) {
    if (valueFrom === undefined) result.set(name, expand(value ?? "", result));
    else {
      const found = await resolve(valueFrom, container, around);
      if (found !== null) result.set(name, found);
    }
  }
  return result;
}

async function resolve(
  from: core.EnvVarSource,
  container: Container,
  around: Surroundings,
): Promise<string | null> {
  const { pod, lookup } = around;
  if (from.fieldRef !== undefined) return fieldOf(from.fieldRef.fieldPath, around);
  if (from.resourceFieldRef !== undefined) return resourceOf(from.resourceFieldRef.resource, container);
  const [kind, ref] =
    from.secretKeyRef === undefined
      ? (["configMap", from.configMapKeyRef] as const)
      : (["secret", from.secretKeyRef] as const);
  if (ref === undefined) return "";
  const data = await lookup(kind, pod.metadata.namespace ?? "default", ref.name ?? "");
  if (data === null) {
    if (ref.optional) return null;
    throw missing(kind, ref.name);
  }
  const value = data[ref.key];
  if (value !== undefined) return decoded(value);
  if (ref.optional) return null;
  const { namespace } = pod.metadata;
  throw new ConfigProblem(
    `couldn't find key ${ref.key} in ${kind === "secret" ? "Secret" : "ConfigMap"} ${namespace}/${ref.name}`,
  );
}

function fieldOf(path: string, { pod, node, nodeAddress, podIP }: Surroundings): string {
  const { metadata } = pod;
  const keyed = /^metadata\.(labels|annotations)\['([^']+)'\]$/.exec(path);
  if (keyed !== null) return metadata[keyed[1] as "labels" | "annotations"]?.[keyed[2]!] ?? "";
  const fields: Record<string, string | undefined> = {
    "metadata.name": metadata.name,
    "metadata.namespace": metadata.namespace,
    "metadata.uid": metadata.uid,
    "spec.nodeName": node,
    "spec.serviceAccountName": pod.spec?.serviceAccountName ?? "default",
    "status.podIP": podIP,
    "status.podIPs": podIP,
    "status.hostIP": nodeAddress,
    "status.hostIPs": nodeAddress,
  };
  if (!Object.hasOwn(fields, path)) throw new ConfigProblem(`unsupported fieldPath: ${path}`);
  return fields[path] ?? "";
}

function resourceOf(resource: string, container: Container): string {
  const [kind = "", name = ""] = resource.split(".");
  const value = quantity(container.resources?.[kind as "limits" | "requests"]?.[name]);
  if (value === null) throw new ConfigProblem(`the container has no ${resource}`);
  return String(Math.ceil(value));
}

async function mounts(container: Container, around: Surroundings): Promise<ContainerSpec["mounts"]> {
  const { pod, lookup, volume } = around;
  const namespace = pod.metadata.namespace ?? "default";
  const result: ContainerSpec["mounts"] = [];
  for (const mount of container.volumeMounts ?? []) {
    const found = pod.spec?.volumes?.find(({ name }) => name === mount.name);
    if (found === undefined) throw new ConfigProblem(`there is no volume "${mount.name}"`);
    if (isTokenVolume(found)) continue;
    const kind = found.secret === undefined ? "configMap" : "secret";
    const name = found.secret?.secretName ?? found.configMap?.name;
    if (found.secret === undefined && found.configMap === undefined) {
      result.push({
        source: volume(mount.name, null),
        destination: mount.mountPath,
        readOnly: mount.readOnly === true,
      });
      continue;
    }
    const data = await lookup(kind, namespace, name ?? "");
    const optional = (found.secret ?? found.configMap)?.optional === true;
    if (data === null && !optional) throw missing(kind, name);
    const items = (found.secret ?? found.configMap)?.items;
    result.push({
      source: volume(mount.name, chosenFiles(data ?? {}, items, mount.name)),
      destination: mount.mountPath,
      readOnly: true,
    });
  }
  return result;
}

function chosenFiles(
  data: Readonly<Record<string, string>>,
  items: core.KeyToPath[] | undefined,
  volume: string,
): Record<string, string> {
  if (items === undefined) return data;
  return Object.fromEntries(
    items.map(({ key, path }) => {
      if (data[key] === undefined)
        throw new ConfigProblem(`volume "${volume}" references non-existent key: ${key}`);
      if (path.includes("/"))
        throw new ConfigProblem(`volume "${volume}": directories in a path are not supported`);
      return [path, data[key]];
    }),
  );
}

function missing(kind: "configMap" | "secret", name: string | undefined): ConfigProblem {
  return new ConfigProblem(`${kind.toLowerCase()} "${name ?? ""}" not found`);
}

function decoded(base64: string): string {
  return Buffer.from(base64, "base64").toString("utf8");
}

/** At most 63 characters, as the kernel wants it. */
export function hostnameOf(pod: Pod): string {
  return (pod.spec?.hostname ?? pod.metadata.name ?? "").slice(0, 63).replace(/[-.]+$/, "");
}
