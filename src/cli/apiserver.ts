/** `podwire apiserver`: runs the embedded Kubernetes API until a signal ends it. */
import { Command, InvalidArgumentError, Option } from "commander";
import type { Service } from "../kube/types.js";

/** How often leaked pod addresses are looked for. */
const COLLECT_MS = 30_000;
export const DEFAULT_DATA_DIR = "/var/lib/podwire/apiserver";

interface Options {
  dataDir: string;
  address: string;
  port: number;
  serviceRange: string;
  controllers: boolean;
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
    .option("-p, --port <number>", "port to listen on", parsePort, 6443)
    .option("-d, --data-dir <directory>", "where objects and certificates are kept", DEFAULT_DATA_DIR)
    .option("--service-range <cidr>", "where ClusterIPs come from", "10.152.183.0/24")
    .option("--no-controllers", "only serve the API")
    .addOption(
      new Option("--log-level <level>", "least level that is logged (JSON lines on stderr)")
        .choices(["trace", "debug", "info", "warn", "error", "fatal"])
        .default("info"),
    )
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
    { serviceAllocator },
    pino,
  ] = await Promise.all([
    import("../apiserver/ApiServer.js"),
    import("../apiserver/resources/index.js"),
    import("../apiserver/openapi/index.js"),
    import("../controllers/startControllers.js"),
    import("../ipam/Collector.js"),
    import("../ipam/rights.js"),
    import("./serviceAllocator.js"),
    import("pino"),
  ]);
  const log = pino.default(
    {
      level: options.logLevel,
      timestamp: pino.default.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.default.destination({ fd: 2, sync: true }),
  );
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
    blockRule: mayWriteBlock,
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
  const collector = new Collector(server.kube);
  const collecting = options.controllers
    ? setInterval(() => {
        collector.collect().catch((error) => log.warn({ error: String(error) }, "address collection failed"));
      }, COLLECT_MS)
    : undefined;
  let stopping = false;
  const stop = async () => {
    if (stopping) return;
    stopping = true;
    clearInterval(collecting);
    await controllers?.stop();
    await server.stop();
    log.info("API server stopped");
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void stop());
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new InvalidArgumentError("want 0 to 65535");
  return port;
}
