/** The walkthrough's twelve pods as the API would describe them, with names that do not change. */
import { DAEMON_SETS, IMAGES, type LabPod, labelOf, NODES } from "../../src/lab/walkthrough.js";

function addressAt(block: string, offset: number): string {
  const octets = block.slice(0, block.indexOf("/")).split(".").map(Number);
  octets[3]! += offset;
  return octets.join(".");
}

export const PODS: readonly LabPod[] = DAEMON_SETS.flatMap(({ name, application }, set) =>
  NODES.map((node, index) => ({
    uid: `${application}-${node.name}`,
    namespace: "default",
    name: `${name}-x7k2${"bcdf".charAt(index)}`,
    label: labelOf(application, node.name),
    application,
    l4Port: IMAGES[application].l4Port,
    address: addressAt(node.block, set + 1),
    node: node.name,
  })),
);
