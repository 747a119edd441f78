/** `npm run bench -- micro | control | net | service | failover`: chooses the benchmark. */

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const USAGE = `npm run bench -- micro | control | net | service | failover [options]

  micro     the dataplane's parts without I/O: ns per operation
  control   a thousand nodes, ten thousand services, and a change of one: objects to tables
  net       podwire beside the kernel's vxlan: throughput, packet rate, latency; --target vagrant: across VMs
  service   podwire beside kube-proxy-shaped iptables and nftables rules
  failover  how long an address is away when its owner fails, beside keepalived

"npm run bench -- net --help" lists the options of net, and so on.`;

const [kind, ...args] = process.argv.slice(2);
// Loaded when asked for: one needs the native binding, the other does not.
if (kind === "net" && args.some((arg) => /^--target(=|$)/.test(arg))) {
  const { runOnMachines } = await import("./net/machines/run.js");
  process.exitCode = await runOnMachines(args, checkout());
} else if (kind === "net") {
  const { runNet } = await import("./net/run.js");
  process.exitCode = await runNet(args, checkout());
} else if (kind === "micro") {
  const { runMicro } = await import("./micro/run.js");
  process.exitCode = await runMicro(args, checkout());
} else if (kind === "control") {
  const { runControl } = await import("./control/run.js");
  process.exitCode = await runControl(args, checkout());
} else if (kind === "service") {
  const { runService } = await import("./service/run.js");
  process.exitCode = await runService(args, checkout());
} else if (kind === "failover") {
  const { runFailover } = await import("./failover/run.js");
  process.exitCode = await runFailover(args, checkout());
} else {
  console.error(USAGE);
  process.exitCode = 2;
}

/** The nearest directory above this file that has a package.json. */
function checkout(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, "package.json"))) directory = dirname(directory);
  return directory;
}
