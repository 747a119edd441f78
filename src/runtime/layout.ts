/**
 * The runtime's directory:
 *
 *   runc/                               runc's own state
 *   exits/ID                            exit code of a container, written by conmon
 *   pods/UID/pod.json                   SandboxSpec
 *           /ns/ipc ns/uts              pinned namespaces (the network namespace has a path of its own)
 *           /hosts hostname resolv.conf
 *           /volumes/NAME/
 *           /containers/NAME/ATTEMPT/   record.json config.json rootfs/ log log.1 termination pid conmon
 *
 * Paths only.
 */
import { join } from "node:path";
import type { ContainerId } from "./ContainerEngine.js";
import type { SandboxPaths } from "./oci.js";

export class Layout {
  readonly runc: string;
  readonly exits: string;
  readonly pods: string;

  constructor(readonly root: string) {
    this.runc = join(root, "runc");
    this.exits = join(root, "exits");
    this.pods = join(root, "pods");
  }

  pod(uid: string): SandboxPaths & { directory: string; record: string; ns: string; containers: string } {
    const directory = join(this.pods, uid);
    const at = (name: string) => join(directory, name);
    return {
      directory,
      record: at("pod.json"),
      ns: at("ns"),
      ipc: at("ns/ipc"),
      uts: at("ns/uts"),
      hosts: at("hosts"),
      hostname: at("hostname"),
      resolvConf: at("resolv.conf"),
      containers: at("containers"),
    };
  }

  volume(uid: string, name: string): string {
    return join(this.pods, uid, "volumes", name);
  }

  attempts({ uid, container }: Omit<ContainerId, "attempt">): string {
    return join(this.pods, uid, "containers", container);
  }

  container(
    id: ContainerId,
  ): Record<"bundle" | "record" | "spec" | "rootfs" | "log" | "termination", string> &
    Record<"pid" | "conmonPid" | "ctl" | "exit", string> {
    const bundle = join(this.attempts(id), String(id.attempt));
    const at = (name: string) => join(bundle, name);
    return {
      bundle,
      record: at("record.json"),
      spec: at("config.json"),
      rootfs: at("rootfs"),
      log: at("log"),
      termination: at("termination"),
      pid: at("pid"),
      conmonPid: at("conmon"),
      ctl: at("ctl"),
      exit: join(this.exits, runcId(id)),
    };
  }
}

/** What runc and conmon call an instance. */
export function runcId({ uid, container, attempt }: ContainerId): string {
  return `${uid}.${container}.${attempt}`;
}
