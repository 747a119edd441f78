/**
 * `podwire controller`: on a Kubernetes cluster of its own, gives addresses to Services of type
 * LoadBalancer. Several may run; one leads, by a Lease.
 */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { Command } from "commander";
import { METALLB_NAMESPACE } from "../model/metallb.js";
import type { LoadBalancer } from "../vip/startLoadBalancer.js";
import { logLevelOption, makeLog } from "./log.js";
import { metricsOption, serveMetrics } from "./metrics.js";

interface Options {
  kubeconfig?: string;
  namespace: string;
  leaseNamespace: string;
  lbClass?: string;
  metrics: string | null;
  logLevel: string;
}

/** Name of the Lease. */
const LEASE = "podwire-controller";

/** The subcommand. */
export function controllerCommand(): Command {
  return new Command("controller")
    .description(
      "Give addresses of MetalLB's IPAddressPools to the Services of a Kubernetes cluster. With\n" +
        "`podwire apiserver` it is there already. Rights: manifests/controller/rbac.yaml.",
    )
    .option("-k, --kubeconfig <file>", "how to reach the cluster; default: as kubectl, or the pod's account")
    .option("-n, --namespace <name>", "namespace of the pools and advertisements", METALLB_NAMESPACE)
    .option("--lease-namespace <name>", "namespace of the Lease that elects the leader", "kube-system")
    .option("--lb-class <class>", "only Services with this spec.loadBalancerClass")
    .addOption(metricsOption())
    .addOption(logLevelOption())
    .action(run);
}

async function run(options: Options): Promise<void> {
  const [{ KubeClient }, { LeaderElector }, { startLoadBalancer }, { registerLoadBalancer }] =
    await Promise.all([
      import("../kube/KubeClient.js"),
      import("../kube/Lease.js"),
      import("../vip/startLoadBalancer.js"),
      import("../metrics/clusterMetrics.js"),
    ]);
  const log = await makeLog(options.logLevel);
  const kube =
    options.kubeconfig === undefined
      ? await KubeClient.fromDefault()
      : await KubeClient.fromFile(options.kubeconfig);
  let stop: (() => Promise<void>) | undefined;
  /** Of this term; null while another one leads. */
  let leading: LoadBalancer | null = null;
  /** Ends of terms, which the next one waits for. */
  let ended = Promise.resolve();
  const elector = new LeaderElector(kube, {
    namespace: options.leaseNamespace,
    name: LEASE,
    identity: `${hostname()}_${randomUUID()}`,
    onStarted: () => {
      const term = ended.then(() => {
        log.info("leading");
        leading = startLoadBalancer(kube, {
          namespace: options.namespace,
          loadBalancerClass: options.lbClass,
          onError: (key, error) => log.warn({ key, error: String(error) }, "failed; it is tried again"),
        });
        return leading;
      });
      stop = async () => {
        const balancer = await term;
        leading = null;
        await balancer.stop();
      };
    },
    onStopped: () => {
      log.info("no longer leading");
      ended = stop?.() ?? ended;
    },
    onError: (error) => log.warn({ error: String(error) }, "lease not renewed"),
  });
  elector.start();
  const closeMetrics = await serveMetrics(options.metrics, log, (registry) =>
    registerLoadBalancer(registry, () => leading?.usage() ?? []),
  );
  log.info({ address: kube.address, namespace: options.namespace }, "controller started");
  let stopping = false;
  const end = async () => {
    if (stopping) return;
    stopping = true;
    await closeMetrics();
    // The work ends before the lease is given up: two must not write.
    await stop?.();
    await elector.stop();
    await ended;
    kube.close();
    log.info("controller stopped");
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void end());
}
