import { describe, expect, it } from "vitest";
import type { Pod } from "../../../src/kube/types.js";
import { podStatus, refusal } from "../../../src/lab/podStatus.js";

const NOW = "2024-01-01T00:00:10Z";
const pod: Pod = {
  metadata: { name: "nginx", namespace: "default" },
  spec: { nodeName: "k8s-master", containers: [{ name: "web", image: "nginx:latest" }] },
  status: { phase: "Pending", podIP: "10.1.235.193" },
};

describe("refusal", () => {
  it.each<[string, NonNullable<Pod["spec"]>, string | null]>([
    ["a known image", pod.spec!, null],
    [
      "an unknown image",
      { containers: [{ name: "a", image: "busybox" }] },
      'no program for the image "busybox"',
    ],
    [
      "two containers",
      { containers: [pod.spec!.containers[0]!, { name: "b", image: "redis" }] },
      "one container",
    ],
    ["the host's network", { ...pod.spec!, hostNetwork: true }, "host's network"],
  ])("%s", (_, spec, why) => {
    const said = refusal({ ...pod, spec }, (image) => image.startsWith("nginx"));
    if (why === null) expect(said).toBeNull();
    else expect(said).toContain(why);
  });
});

describe("podStatus", () => {
  const conditions = (status: ReturnType<typeof podStatus>) =>
    Object.fromEntries(status.conditions!.map(({ type, status: value }) => [type, value]));

  it("is Running and Ready, and leaves addresses to the agent", () => {
    const status = podStatus(pod, { state: "ready", startedAt: NOW }, NOW);
    expect(status.phase).toBe("Running");
    expect(conditions(status)).toEqual({
      PodReadyToStartContainers: "True",
      Initialized: "True",
      Ready: "True",
      ContainersReady: "True",
    });
    expect(status.containerStatuses).toMatchObject([
      {
        name: "web",
        image: "nginx:latest",
        ready: true,
        restartCount: 0,
        state: { running: { startedAt: NOW } },
      },
    ]);
    expect(status).not.toHaveProperty("podIP");
    expect(status).not.toHaveProperty("podIPs");
  });

  it("says why nothing runs", () => {
    const status = podStatus(pod, { state: "refused", message: "no such program" }, NOW);
    expect(status.phase).toBe("Pending");
    expect(status.containerStatuses![0]!.state).toEqual({
      waiting: { reason: "ErrImagePull", message: "no such program" },
    });
  });

  it("is not ready when the program has ended, and dates only what changes", () => {
    const earlier = "2024-01-01T00:00:00Z";
    const before = { ...pod, status: podStatus(pod, { state: "ready", startedAt: earlier }, earlier) };
    const status = podStatus(before, { state: "ended", startedAt: earlier, finishedAt: NOW }, NOW);
    expect(conditions(status)).toMatchObject({ Initialized: "True", Ready: "False" });
    const since = (type: string) => status.conditions!.find((each) => each.type === type)!.lastTransitionTime;
    expect([since("Initialized"), since("Ready")]).toEqual([earlier, NOW]);
    expect(status.startTime).toBe(earlier);
    expect(status.containerStatuses![0]!.state).toHaveProperty("terminated");
  });
});
