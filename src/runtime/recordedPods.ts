/**
 * What the runtime's directory says of its pods, for those who only look: needs no rights on the machine,
 * no running agent and no API. Reads; changes nothing.
 */
import { readdirSync, readFileSync } from "node:fs";
import type { ContainerEnd, SandboxSpec } from "./ContainerEngine.js";
import { isRunning, type ProcessId } from "./command.js";
import { Layout } from "./layout.js";

/** The last instance of a container. */
export interface RecordedContainer {
  name: string;
  /** As the Pod names it. */
  image: string;
  /** Whether its first process lives. */
  running: boolean;
  /** Where its end is recorded. */
  exitCode: number | null;
  restarts: number;
}

export interface RecordedPod extends SandboxSpec {
  /** As its /etc/hosts says it; "" before it has one. */
  address: string;
  containers: RecordedContainer[];
}

interface Record {
  imageName: string;
  process: ProcessId | null;
  end: ContainerEnd | null;
}

/** The pods of a runtime's directory, by namespace and name; none where there is no such directory. */
export function recordedPods(root: string): RecordedPod[] {
  const layout = new Layout(root);
  return namesIn(layout.pods)
    .flatMap((uid): RecordedPod[] => {
      const paths = layout.pod(uid);
      const spec = readJson<SandboxSpec>(paths.record);
      if (spec === null) return [];
      const containers = namesIn(paths.containers).flatMap((name) => containerOf(layout, uid, name));
      return [{ ...spec, address: addressIn(paths.hosts, spec.hostname), containers }];
    })
    .sort((a, b) => (`${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1));
}

function containerOf(layout: Layout, uid: string, container: string): RecordedContainer[] {
  const attempts = namesIn(layout.attempts({ uid, container })).map(Number);
  if (attempts.length === 0) return [];
  const attempt = Math.max(...attempts);
  const record = readJson<Record>(layout.container({ uid, container, attempt }).record);
  if (record === null) return [];
  const { imageName, process: first, end } = record;
  const running = end === null && first !== null && isRunning(first);
  return [{ name: container, image: imageName, running, exitCode: end?.exitCode ?? null, restarts: attempt }];
}

/** The address in front of the host name. */
function addressIn(file: string, hostname: string): string {
  const line = readText(file)
    .split("\n")
    .find((each) => each.endsWith(`\t${hostname}`));
  return line?.split("\t")[0] ?? "";
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function readJson<T>(file: string): T | null {
  const text = readText(file);
  return text === "" ? null : (JSON.parse(text) as T);
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
