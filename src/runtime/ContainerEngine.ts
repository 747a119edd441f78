/**
 * What PodManager asks of the machine: sandboxes (a pod's shared namespaces and directory) and
 * containers in them, which live on without us. The real one is RuncEngine; tests have a fake. Types
 * only. Must not know Pods of the API.
 */
import type { ImageEntry } from "./images.js";
import type { ExecOptions, ExecSession, LogOptions } from "./PodAccess.js";

export interface SandboxSpec {
  uid: string;
  namespace: string;
  name: string;
  node: string;
  /** Path at which the network namespace is made. */
  netns: string;
  hostname: string;
  /** Content of /etc/resolv.conf. */
  resolvConf: string;
  /** Milliseconds since the epoch. What ended before ran in another sandbox. */
  createdAt: number;
}

/** One instance of a container. */
export interface ContainerId {
  /** The pod's. */
  uid: string;
  container: string;
  /** 0, then one more with each restart. */
  attempt: number;
}

export interface VolumeMount {
  /** Path of the volume here. */
  source: string;
  destination: string;
  readOnly: boolean;
}

export interface ContainerSpec extends ContainerId {
  /** As the Pod names it. */
  imageName: string;
  image: ImageEntry;
  /** Program and arguments. */
  command: string[];
  /** NAME=VALUE. */
  env: string[];
  workingDir: string;
  /** In the container; `groups` are its further groups. */
  user: { uid: number; gid: number; groups: number[] };
  /** Of DEFAULT_CAPABILITIES, those that it has: names with CAP_. */
  capabilities: string[];
  mounts: VolumeMount[];
  readOnlyRoot: boolean;
  /** Where the program may leave its last words. */
  terminationMessagePath: string;
  /** Whether its log's end stands in where it left none and failed. */
  messageFromLog: boolean;
  /** Bytes; null without a limit. */
  memoryLimit: number | null;
  /** Thousandths of a CPU; null without a limit. */
  cpuLimit: number | null;
  /** Whether its output is a terminal. */
  tty: boolean;
}

/** How an instance is, or how it ended. Times are milliseconds since the epoch. */
export interface ContainerState extends ContainerId {
  imageName: string;
  /** "runc://ID", as a status shows it. */
  containerId: string;
  /** What asks the program to end. */
  stopSignal: string;
  running: boolean;
  startedAt: number;
  /** Null while it runs. */
  end: ContainerEnd | null;
  /** As they were last told with remember(). */
  memory: ContainerMemory;
}

export interface ContainerEnd {
  exitCode: number;
  reason: "Completed" | "Error" | "OOMKilled" | "StartError" | "ContainerStatusUnknown";
  message: string;
  finishedAt: number;
}

/** What of an instance has to survive the agent. */
export interface ContainerMemory {
  /** Whether its startup probe has succeeded. */
  started: boolean;
  ready: boolean;
}

/** A container could not be started; the message is the OCI runtime's. */
export class StartError extends Error {
  override readonly name = "StartError";
}

export interface SandboxState {
  spec: SandboxSpec;
  /** Whether its namespaces are there. */
  alive: boolean;
  /** Every instance that is kept, oldest first. */
  containers: ContainerState[];
}

export interface ContainerEngine {
  /** Sandboxes that are there, from before too. `changed` is told of every end of a container. */
  start(changed: (uid: string) => void): Promise<void>;
  /** Lets go of everything; what runs goes on. */
  stop(): void;
  sandboxes(): SandboxState[];
  sandbox(uid: string): SandboxState | null;
  /** Makes the namespaces and the directory; may be repeated. */
  createSandbox(spec: SandboxSpec): Promise<void>;
  /** Takes the namespaces away; logs stay. Nothing may run in them. May be repeated. */
  closeSandbox(uid: string): Promise<void>;
  /** Ends what runs, and removes every trace. */
  removeSandbox(uid: string): Promise<void>;
  /** Directory of a volume of the pod's own, made empty if it is not there; its content. */
  volume(uid: string, name: string, files: Readonly<Record<string, string>> | null): string;
  /** Says the pod's address in its /etc/hosts. */
  setAddress(uid: string, address: string): void;
  /** Starts an instance, and forgets those before the one before. Rejects with StartError, which is recorded. */
  startContainer(spec: ContainerSpec): Promise<void>;
  signal(id: ContainerId, signal: string): void;
  remember(id: ContainerId, memory: ContainerMemory): void;
  /** Runs a command in a running instance. Never rejects: what cannot run ends with a message. */
  exec(id: ContainerId, options: ExecOptions, signal: AbortSignal): Promise<ExecSession>;
  /** Chunks of an instance's log. */
  log(id: ContainerId, options: LogOptions, signal: AbortSignal): AsyncIterable<Buffer>;
}
