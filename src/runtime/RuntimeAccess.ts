/** Logs and commands for the agent's pod port: finds the instance that is meant, and asks the engine. */
import { Readable } from "node:stream";
import type { Pod } from "../kube/types.js";
import type { ContainerEngine, ContainerState } from "./ContainerEngine.js";
import {
  AccessError,
  type ContainerRef,
  type ExecOptions,
  type ExecSession,
  type LogOptions,
  type PodAccess,
} from "./PodAccess.js";
import { containersOf } from "./podSpec.js";

const DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container";

export class RuntimeAccess implements PodAccess {
  constructor(
    private readonly engine: ContainerEngine,
    private readonly podOf: (namespace: string, name: string) => Pod | undefined,
  ) {}

  async log(ref: ContainerRef, options: LogOptions, signal: AbortSignal): Promise<Readable> {
    const { pod, container, instances } = this.find(ref);
    const which = `container "${container}" in pod "${ref.pod}"`;
    const instance = options.previous ? instances.at(-2) : instances.at(-1);
    if (instance === undefined && options.previous)
      throw new AccessError("noPreviousInstance", `previous terminated ${which} not found`);
    if (instance === undefined) {
      const { containerStatuses = [], initContainerStatuses = [] } = pod.status ?? {};
      const { reason = "ContainerCreating" } =
        [...initContainerStatuses, ...containerStatuses].find(({ name }) => name === container)?.state
          ?.waiting ?? {};
      const trouble = reason.includes("Image") ? "trying and failing to pull image" : reason;
      throw new AccessError("badRequest", `${which} is waiting to start: ${trouble}`);
    }
    return Readable.from(this.engine.log(instance, options, signal), { objectMode: false });
  }

  async exec(ref: ContainerRef, options: ExecOptions, signal: AbortSignal): Promise<ExecSession> {
    if (options.command.length === 0) throw new AccessError("badRequest", "no command was given");
    if (options.tty && options.stderr)
      throw new AccessError("badRequest", "tty and stderr cannot both be true");
    const { container, instances } = this.find(ref);
    const instance = instances.at(-1);
    if (!instance?.running)
      throw new AccessError("containerNotRunning", `container ${container} is not running`);
    return this.engine.exec(instance, options, signal);
  }

  private find({ namespace, pod: name, container: wanted }: ContainerRef): {
    pod: Pod;
    container: string;
    /** Oldest first. */
    instances: ContainerState[];
  } {
    const pod = this.podOf(namespace, name);
    if (pod === undefined) throw new AccessError("podNotFound", `pods "${name}" not found`);
    const names = (pod.spec?.containers ?? []).map((each) => each.name);
    const known = containersOf(pod).map((each) => each.name);
    const container = wanted ?? pod.metadata.annotations?.[DEFAULT_CONTAINER] ?? names[0] ?? "";
    if (
      wanted === undefined &&
      names.length > 1 &&
      pod.metadata.annotations?.[DEFAULT_CONTAINER] === undefined
    )
      throw new AccessError(
        "badRequest",
        `a container name must be specified for pod ${name}, choose one of: [${names.join(" ")}]`,
      );
    if (!known.includes(container))
      throw new AccessError("containerNotFound", `container ${container} is not valid for pod ${name}`);
    const all = this.engine.sandbox(pod.metadata.uid ?? "")?.containers ?? [];
    return { pod, container, instances: all.filter((each) => each.container === container) };
  }
}
