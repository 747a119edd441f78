/** `podwire apiserver`: runs the embedded Kubernetes API until a signal ends it. */
import { Command } from "commander";
import type { Service } from "../kube/types.js";
import { listeningPort, wholeNumber } from "./arguments.js";
import { logLevelOption, makeLog } from "./log.js";
import { metricsOption, serveMetrics } from "./metrics.js";

export const DEFAULT_DATA_DIR = "/var/lib/podwire/apiserver";

interface Options {
  dataDir: string;
  address: string;
  port: number;
  serviceRange: string;
  controllers: boolean;
  addressGrace: number;
  watchHistory: number;
  minRequestTimeout: number;
  metrics: string | null;
  logLevel: string;
}

/** The subcommand. */
export function apiserverCommand(): Command {
  return new Command("apiserver")
    .description(
      "Run the embedded Kubernetes API with its controllers. The first start makes a cluster CA and an\n" +
        "administrator's kubeconfig (admin.kubeconfig in the data directory); nodes join with a token of\n" +
        "`podwire token create`.",
    )
    .requiredOption("-a, --address <ip>", "address to listen on: the node's own")
    .option("-p, --port <number>", "port to listen on", listeningPort, 6443)
    .option("-d, --data-dir <directory>", "where objects and certificates are kept", DEFAULT_DATA_DIR)
    .option("--service-range <cidr>", "where ClusterIPs come from", "10.152.183.0/24")
    .option("--no-controllers", "only serve the API")
    .option(
      "--address-grace <seconds>",
      "how long nobody may have an address before it is taken back",
      wholeNumber(1),
      60,
    )
    .option(
      "--min-request-timeout <seconds>",
      "a watch is ended after once to twice this time, and resumed by its client",
      wholeNumber(1),
      1800,
    )
    .option("--watch-history <changes>", "how many changes a watch can resume over", wholeNumber(1), 10_000)
    .addOption(metricsOption())
    .addOption(logLevelOption())
    .action(run);
}

async function run(options: Options): Promise<void> {
  // Loaded here: `podwire --help` needs none of it.
  const [
    { ApiServer },
    { RESOURCES },
    { loadSchemas },
    { startControllers },
    { Collector },
    { mayWriteBlock },
    { SYSTEM_CLOCK },
    { serviceAllocator },
    { admitPools },
    { registerIpam, registerLoadBalancer },
  ] = await Promise.all([
    import("../apiserver/ApiServer.js"),
    import("../apiserver/resources/index.js"),
    import("../apiserver/openapi/index.js"),
    import("../controllers/startControllers.js"),
    import("../ipam/Collector.js"),
    import("../ipam/rights.js"),
    import("../kube/Clock.js"),
    import("./serviceAllocator.js"),
    import("../vip/admitPools.js"),
    import("../metrics/clusterMetrics.js"),
  ]);
  const log = await makeLog(options.logLevel);
  const { dataDir, address, port, serviceRange } = options;
  const service = serviceAllocator(serviceRange);
  const server = await ApiServer.start({
    dataDir,
    address,
    port,
    serviceRange,
    definitions: RESOURCES,
    schemas: loadSchemas(),
    allocators: [service.allocator],
    admissions: [admitPools],
    blockRule: mayWriteBlock,
    historyLimit: options.watchHistory,
    minRequestTimeout: options.minRequestTimeout,
  });
  log.info(
    { address, port: server.port, kubeconfig: server.kubeconfigFile, caHash: server.caHash },
    "API server ready",
  );
  const controllers = options.controllers
    ? startControllers(server.kube, {
        apiClusterIP: service.apiAddress,
        // Endpoints may not be loopback addresses: then the kubernetes Service has none.
        apiServers: address.startsWith("127.") ? [] : [{ address, port: server.port }],
        repair: { allocator: service.owners, services: () => server.latest("", "services") as Service[] },
        onError: (controller, key, error) =>
          log.warn({ controller, key, error: String(error) }, "controller failed; it tries again"),
      })
    : undefined;
  // An address is looked at twice, so far apart.
  const grace = options.addressGrace * 1000;
  const collector = new Collector(server.kube, SYSTEM_CLOCK, { grace });
  let collected = { suspected: 0, released: 0 };
  const collecting = options.controllers
    ? setInterval(() => {
        collector.collect().then(
          ({ released, suspected }) => {
            collected = { suspected, released: collected.released + released.length };
          },
          (error) => log.warn({ error: String(error) }, "address collection failed"),
        );
      }, grace / 2)
    : undefined;
  const closeMetrics = await serveMetrics(options.metrics, log, (registry) => {
    registerIpam(registry, server.kube, () => collected);
    registerLoadBalancer(registry, () => controllers?.poolUsage() ?? []);
  });
  let stopping = false;
  const stop = async () => {
    if (stopping) return;
    stopping = true;
    clearInterval(collecting);
    await closeMetrics();
    await controllers?.stop();
    await server.stop();
    log.info("API server stopped");
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void stop());
}
