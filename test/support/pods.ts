/** Pods for tests of the runtime. */
import type { Pod } from "../../src/kube/types.js";

type Container = NonNullable<Pod["spec"]>["containers"][number];

/** A Pod bound to node n1, with an address as if the agent had given it one. */
export function boundPod(
  name: string,
  containers: Partial<Container>[],
  spec: Partial<NonNullable<Pod["spec"]>> = {},
): Pod {
  return {
    metadata: { name, namespace: "default", uid: `uid-${name}` },
    spec: {
      nodeName: "n1",
      terminationGracePeriodSeconds: 30,
      ...spec,
      containers: containers.map((each, at) => ({ name: `c${at}`, image: "busybox", ...each })),
    },
    status: { phase: "Pending", podIP: "192.0.2.10" },
  };
}
