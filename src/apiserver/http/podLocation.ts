/**
 * Which path of a node's pod port answers a request for a pod's log or for a command in it, with the
 * checks and the words of Kubernetes (k8s.io/kubernetes pkg/registry/core/pod, pkg/kubelet). Pure.
 */
import type { ContainerStatus, Pod } from "../../kube/types.js";
import { badRequest, invalid } from "../errors.js";
import type { FieldError } from "../resource.js";

export interface PodLocation {
  node: string;
  /** Path and query. */
  path: string;
}

/** Where the log is; null where the pod has no node yet, so that there is none. Throws BadRequest and Invalid. */
export function logLocation(pod: Pod, query: URLSearchParams): PodLocation | null {
  const name = pod.metadata.name!;
  const sent = logOptions(name, query);
  const container = containerOf(pod, query.get("container"));
  const node = pod.spec?.nodeName;
  if (!node) return null;
  refuseWaiting(pod, container, sent.get("previous") === "true");
  return { node, path: pathOf("containerLogs", pod, container, sent) };
}

/** Where a command runs. Throws BadRequest. */
export function execLocation(pod: Pod, query: URLSearchParams): PodLocation {
  const container = containerOf(pod, query.get("container"));
  const node = pod.spec?.nodeName;
  if (!node) throw badRequest(`pod ${pod.metadata.name} does not have a host assigned`);
  const sent = new URLSearchParams();
  for (const [theirs, ours] of EXEC_FLAGS) if (flag(query, theirs)) sent.set(ours, "1");
  for (const each of query.getAll("command")) sent.append("command", each);
  return { node, path: pathOf("exec", pod, container, sent) };
}

/** Names of PodExecOptions, and of a kubelet's. */
const EXEC_FLAGS = [
  ["stdin", "input"],
  ["stdout", "output"],
  ["stderr", "error"],
  ["tty", "tty"],
] as const;

function pathOf(verb: string, { metadata }: Pod, container: string, query: URLSearchParams): string {
  const path = `/${verb}/${metadata.namespace}/${metadata.name}/${container}`;
  return query.size === 0 ? path : `${path}?${query}`;
}

function containerOf(pod: Pod, wanted: string | null): string {
  const { name } = pod.metadata;
  const names = (list: readonly { name: string }[] | undefined) => (list ?? []).map((each) => each.name);
  const containers = names(pod.spec?.containers);
  const initContainers = names(pod.spec?.initContainers);
  if (wanted) {
    if ([...containers, ...initContainers].includes(wanted)) return wanted;
    throw badRequest(`container ${wanted} is not valid for pod ${name}`);
  }
  if (containers.length === 1) return containers[0]!;
  const others =
    initContainers.length > 0 ? ` or one of the init containers: [${initContainers.join(" ")}]` : "";
  throw badRequest(
    `a container name must be specified for pod ${name}, choose one of: [${containers.join(" ")}]${others}`,
  );
}

/** A container that has never run has no log; `previous`: nor one that has never ended. */
function refuseWaiting(pod: Pod, container: string, previous: boolean): void {
  const statuses: readonly ContainerStatus[] = [
    ...(pod.status?.containerStatuses ?? []),
    ...(pod.status?.initContainerStatuses ?? []),
  ];
  const status = statuses.find((each) => each.name === container);
  const { waiting } = status?.state ?? {};
  if (waiting === undefined || status?.lastState?.terminated !== undefined || previous) return;
  const why = WAITING_TEXTS[waiting.reason ?? ""] ?? waiting.reason ?? "";
  throw badRequest(
    `container ${JSON.stringify(container)} in pod ${JSON.stringify(pod.metadata.name)} is waiting to start${why === "" ? " - no logs yet" : `: ${why}`}`,
  );
}

const WAITING_TEXTS: Record<string, string> = {
  ErrImagePull: "image can't be pulled",
  ImagePullBackOff: "trying and failing to pull image",
};

// ---- options ----------------------------------------------------------------------------------

/** The least value of each number in PodLogOptions. */
const LOG_NUMBERS = { tailLines: 0, sinceSeconds: 1, limitBytes: 1 } as const;

function logOptions(pod: string, query: URLSearchParams): URLSearchParams {
  const sent = new URLSearchParams();
  const faults: FieldError[] = [];
  const fault = (type: string, field: string, detail: string) => faults.push({ type, field, detail });
  for (const name of ["follow", "previous", "timestamps"]) if (flag(query, name)) sent.set(name, "true");
  for (const [name, least] of Object.entries(LOG_NUMBERS)) {
    const text = query.get(name);
    if (!text) continue;
    const value = Number(text);
    if (!/^[-+]?\d+$/.test(text) || !Number.isSafeInteger(value))
      throw badRequest(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
    if (value < least)
      fault(
        "FieldValueInvalid",
        name,
        `Invalid value: ${value}: must be greater than ${least === 0 ? "or equal to 0" : "0"}`,
      );
    sent.set(name, String(value));
  }
  const sinceTime = query.get("sinceTime");
  if (sinceTime) {
    if (Number.isNaN(Date.parse(sinceTime)))
      throw badRequest(
        `parsing time ${JSON.stringify(sinceTime)} as "2006-01-02T15:04:05Z07:00": cannot parse`,
      );
    sent.set("sinceTime", sinceTime);
    if (sent.has("sinceSeconds"))
      fault(
        "FieldValueForbidden",
        "",
        "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
      );
  }
  if (faults.length > 0) throw invalid("", "PodLogOptions", pod, faults);
  return sent;
}

function flag(query: URLSearchParams, name: string): boolean {
  return ["1", "t", "true"].includes((query.get(name) ?? "").toLowerCase());
}
