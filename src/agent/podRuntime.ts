/**
 * Brings the runtime into the node's agent: its engine, its pods, and the access that the pod port
 * gives to logs and commands. Off unless it is configured.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { netnsPath } from "../desired/pods.js";
import type { Host } from "../host/Host.js";
import type { KubeApi } from "../kube/KubeApi.js";
import type { Log } from "../reconcile/Log.js";
import { type ImageTable, readImageTable } from "../runtime/images.js";
import type { PodAccess } from "../runtime/PodAccess.js";
import { PodManager } from "../runtime/PodManager.js";
import { RuncEngine } from "../runtime/RuncEngine.js";
import { RuntimeAccess } from "../runtime/RuntimeAccess.js";
import { isAttached, podResolvConf } from "./podNetwork.js";
import { StateDir } from "./StateDir.js";

/** Outlives a reboot, as logs do. */
export const DEFAULT_RUNTIME_DIR = "/var/lib/podwire/runtime";

export interface PodRuntimeOptions {
  api: KubeApi;
  host: Host;
  log: Log;
  node: string;
  nodeAddress: string;
  stateDir: string;
  /** Path of a pod's network namespace; see desired/pods netnsPath. */
  podNetns: string;
  /** The runtime's directory. */
  directory: string;
  imageFile: string;
  /** Whether the image file has to be there. */
  imageFileRequired: boolean;
}

export interface PodRuntime {
  access: PodAccess;
  /** Lets go; pods run on. */
  stop(): Promise<void>;
}

/** Rejects with RuntimeUnavailable or ImageTableError. */
export async function startPodRuntime(options: PodRuntimeOptions): Promise<PodRuntime> {
  const { api, host, log, node, nodeAddress, stateDir, podNetns, directory, imageFile } = options;
  let table: ImageTable = readImageTable(imageFile, options.imageFileRequired);
  const engine = new RuncEngine(directory);
  const manager = new PodManager({
    api,
    engine,
    node,
    nodeAddress,
    netnsOf: (pod) => netnsPath(podNetns, pod),
    attached: (netns, address) => isAttached(host, netns, address),
    images: () => {
      try {
        table = readImageTable(imageFile, false);
      } catch (error) {
        log.warn({ err: error }, "the image table is not taken over; the last one stands");
      }
      return table;
    },
    imageFile,
    resolvConf: podResolvConf,
    onError: (error, pod) => log.warn({ err: error, ...(pod === undefined ? {} : { pod }) }, "pods"),
  });
  mkdirSync(stateDir, { recursive: true, mode: 0o755 });
  writeFileSync(new StateDir(stateDir).runtimeFile, directory);
  await manager.start();
  return {
    access: new RuntimeAccess(engine, (namespace, name) => manager.pods.get(name, namespace)),
    stop: () => manager.stop(),
  };
}

/**
 * Ends every pod of the runtime that agents on a state directory had. Returns their names.
 *
 * @param otherwise the runtime's directory where the state directory does not say; "" for none
 */
export async function removePods(stateDir: string, otherwise = ""): Promise<string[]> {
  let directory = otherwise;
  try {
    directory = readFileSync(new StateDir(stateDir).runtimeFile, "utf8");
  } catch {
    if (directory === "" || !existsSync(directory)) return [];
  }
  const engine = new RuncEngine(directory);
  await engine.start(() => {});
  return engine.removeAll();
}
