/** The controller with the prober that asks agents: as it runs beside the API server, and elected. */
import type { KubeApi } from "../kube/KubeApi.js";
import { NodeProber } from "./NodeProber.js";
import { VipController, type VipControllerOptions } from "./VipController.js";

export interface LoadBalancer {
  /** Resolves when every Service's address is known. */
  ready: Promise<void>;
  /** Turns that wait or are in work. */
  readonly size: number;
  /** Addresses that Services have and that are left, by pool; none while no configuration holds. */
  usage(): { pool: string; assigned: number; available: number }[];
  /** Resolves when nothing is left to do now, and the Events are written. */
  idle(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts to give addresses to Services. Only one may run at a time in a cluster. */
export function startLoadBalancer(
  kube: KubeApi,
  options: Omit<VipControllerOptions, "prober"> = {},
): LoadBalancer {
  const { clock, random, onError } = options;
  const prober = new NodeProber(kube, {
    ...(clock && { clock }),
    ...(random && { random }),
    onError: (error) => onError?.("nodes", error),
  });
  const controller = new VipController(kube, { ...options, prober });
  prober.start();
  return {
    ready: controller.start(),
    get size() {
      return controller.size;
    },
    usage: () => controller.usage(),
    idle: () => controller.idle(),
    stop: async () => {
      // A turn that waits for an answer ends with it; the controller must not take it for one.
      const stopped = controller.stop();
      await prober.stop();
      await stopped;
    },
  };
}
