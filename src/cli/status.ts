/** `podwire status`: asks the running agent and prints its answer. */
import { Command } from "commander";
import type { AgentStatus } from "../agent/Agent.js";
import { type DirectoryOptions, withAgent } from "./agentSocket.js";
import { table } from "./table.js";

interface Options extends DirectoryOptions {
  json?: true;
}

/** The subcommand. */
export function statusCommand(): Command {
  return new Command("status")
    .description(
      "Show what the agent on this node does: its pods, the other nodes, what was forwarded and dropped.",
    )
    .option("-c, --config <file>", "config file that names the state directory")
    .option("-d, --state-dir <dir>", "the state directory (default: /run/podwire)")
    .option("--json", "print JSON")
    .action(run);
}

async function run(options: Options): Promise<void> {
  const { ask } = await import("../agent/StatusServer.js");
  await withAgent(options, async (socket) => {
    const status = await ask<AgentStatus>(socket, "status");
    process.stdout.write(options.json ? `${JSON.stringify(status, null, 2)}\n` : text(status));
  });
}

function text(status: AgentStatus): string {
  const { underlay, dataplane, counters } = status;
  const send = dataplane.send === "tunnel-gso" ? "tunnel GSO" : "UDP_SEGMENT";
  const lines = [
    `node       ${status.node} (process ${status.pid}, since ${status.startedAt})`,
    `underlay   ${underlay.address}:${underlay.port}, VNI ${underlay.vni}, MTU ${underlay.mtu}`,
    `overlay    ${status.blocks.join(", ")} of ${status.podPool.join(", ")}, tunnel address ${status.tunnelAddress}, MTU ${status.overlayMtu}`,
    `dataplane  ${send}, USO ${dataplane.uso ? "on" : "off"}, ${dataplane.threads === 1 ? "1 thread" : `${dataplane.threads} threads`}`,
    `services   ${status.services.count}, ${Math.ceil(status.services.memory / 1024)} KiB of tables`,
    `flows      ${status.flows.flows} of at most ${status.flows.capacity}, ${status.flows.egress} of them behind a port of the node`,
    "",
    ...table(
      ["POD", "ADDRESS", "INTERFACE", "NAMESPACE", "STATE"],
      status.pods.map((pod) => [
        pod.name,
        pod.address,
        pod.interface,
        pod.netns,
        pod.message === "" ? pod.state : `${pod.state}: ${pod.message}`,
      ]),
    ),
    "",
    ...table(
      ["NODE", "UNDERLAY", "TUNNEL", "MAC", "BLOCKS"],
      status.vteps.map((vtep) => [
        vtep.node,
        `${vtep.address}:${vtep.port}`,
        vtep.tunnelAddress,
        vtep.mac,
        vtep.blocks.join(", "),
      ]),
    ),
    "",
    `frames     ${counters.received} received, ${counters.forwarded} forwarded, ${counters.answered} answered`,
    ...Object.entries(counters.dropped).map(([reason, count]) => `dropped    ${count} ${reason}`),
    ...status.devices
      .filter((device) => device.state === "failed" && !device.id.startsWith("pod "))
      .map((device) => `failed     ${device.id}: ${device.message}`),
  ];
  return `${lines.join("\n")}\n`;
}
