/** kubectl against the whole server with its controllers: pods, what makes them, and what is told of them. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAN_RUN, eventually, KubectlCluster } from "../../support/kubectl.js";

const HOOK_MS = 60_000;
const SOON = "--timeout=60s";

let cluster: KubectlCluster;

const kubectl = (...args: string[]) => cluster.kubectl(...args);
const refusal = async (...args: string[]): Promise<string> => {
  const { code, out, err } = await cluster.kubectl.raw(args);
  expect(code, out).not.toBe(0);
  return err;
};
const daemonSet = (name: string, image: string) =>
  cluster.file(
    `${name}.json`,
    JSON.stringify({
      apiVersion: "apps/v1",
      kind: "DaemonSet",
      metadata: { name },
      spec: {
        selector: { matchLabels: { ds: name } },
        template: {
          metadata: { labels: { ds: name } },
          spec: { containers: [{ name: "c", image, ports: [{ containerPort: 80 }] }] },
        },
      },
    }),
  );
const ago = (seconds: number) => new Date(Date.now() - seconds * 1000).toISOString().replace(/\.\d+Z$/, "Z");

/** A pod on n1 that only the test writes of. */
async function podByHand(name: string, spec: object = {}): Promise<void> {
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, annotations: { "by-hand": "" }, labels: { app: name } },
    spec: { nodeName: "n1", containers: [{ name: "c", image: "i" }], ...spec },
  };
  const { code, err } = await cluster.kubectl.raw(["create", "-f", "-"], { input: JSON.stringify(pod) });
  expect(code, err).toBe(0);
}

/** Writes status as a kubelet does. */
const status = (name: string, body: object) =>
  kubectl("patch", "pod", name, "--subresource=status", "-p", JSON.stringify({ status: body }));
const container = (state: object, more: object = {}) => ({
  name: "c",
  image: "i",
  imageID: "",
  ready: false,
  restartCount: 0,
  state,
  ...more,
});

describe.skipIf(!CAN_RUN)("kubectl and workloads", () => {
  beforeAll(async () => {
    cluster = await KubectlCluster.start();
  }, HOOK_MS);
  afterAll(() => cluster?.stop(), HOOK_MS);

  test("a Deployment's life", async () => {
    const d = "deployment.apps/web";
    expect(await kubectl("create", "deployment", "web", "--image=nginx:1", "--replicas=2", "--port=80")).toBe(
      `${d} created`,
    );
    expect(await kubectl("rollout", "status", "deploy/web", SOON)).toMatch(
      /(^|\n)deployment "web" successfully rolled out$/,
    );
    expect(await kubectl("wait", "--for=condition=Available", "deploy/web", SOON)).toBe(`${d} condition met`);
    expect(await kubectl("get", "pod", "-l", "app=web", "-o", "wide")).toMatch(
      /^NAME +READY +STATUS +RESTARTS +AGE +IP +NODE +NOMINATED NODE +READINESS GATES\nweb-[a-z0-9]+-[a-z0-9]{5} +1\/1 +Running +0 +\d+s +10\.1\.0\.\d+ +n\d +<none> +<none>\n/,
    );
    const all = await kubectl("get", "all", "-l", "app=web");
    expect(all).toMatch(
      /\ndeployment\.apps\/web +2\/2 +2 +2 +\d+s\n\nNAME .*\nreplicaset\.apps\/web-[a-z0-9]+ +2 +2 +2 /,
    );
    expect(await kubectl("scale", "deploy", "web", "--replicas=3", "--current-replicas=2")).toBe(
      `${d} scaled`,
    );
    expect(await refusal("scale", "deploy", "web", "--replicas=3", "--current-replicas=2")).toBe(
      "error: Expected replicas to be 2, was 3",
    );
    expect(await kubectl("wait", "--for=jsonpath={.status.readyReplicas}=3", "deploy/web", SOON)).toBe(
      `${d} condition met`,
    );
    expect(await kubectl("set", "image", "deploy/web", "nginx=nginx:2")).toBe(`${d} image updated`);
    await kubectl("rollout", "status", "deploy/web", SOON);
    expect(await kubectl("annotate", "deploy/web", "kubernetes.io/change-cause=two")).toBe(`${d} annotated`);
    await eventually(
      () => kubectl("rollout", "history", "deploy/web"),
      (text) => /^deployment\.apps\/web \nREVISION +CHANGE-CAUSE\n1 +<none>\n2 +two$/.test(text),
    );
    expect(await kubectl("rollout", "history", "deploy/web", "--revision=1")).toMatch(/Image:\s+nginx:1\n/);
    expect(await kubectl("rollout", "undo", "deploy/web")).toBe(`${d} rolled back`);
    await kubectl("rollout", "status", "deploy/web", SOON);
    const images = ["get", "pod", "-l", "app=web", "-o", "jsonpath={.items[*].spec.containers[0].image}"];
    await eventually(
      () => kubectl(...images),
      (text) => text === "nginx:1 nginx:1 nginx:1",
    );
    expect(await refusal("rollout", "undo", "deploy/web", "--to-revision=9")).toBe(
      "error: unable to find specified revision 9 in history",
    );
    expect(await kubectl("rollout", "pause", "deploy/web")).toBe(`${d} paused`);
    expect(await kubectl("rollout", "resume", "deploy/web")).toBe(`${d} resumed`);
    expect(await kubectl("rollout", "restart", "deploy/web")).toBe(`${d} restarted`);
    await kubectl("rollout", "status", "deploy/web", SOON);
    expect(await kubectl("describe", "deploy", "web")).toMatch(
      /\nReplicas: +3 desired \| 3 updated \| 3 total \| 3 available \| 0 unavailable\n[\s\S]*\n {2}Available +True +MinimumReplicasAvailable\n[\s\S]*ScalingReplicaSet +\S+ +(\(x\d+ over \S+\) +)?deployment-controller +Scaled up replica set web-\S+ from 0 to 2\n/,
    );
    expect(await kubectl("describe", "rs", "-l", "app=web")).toMatch(/\nControlled By: +Deployment\/web\n/);
    expect(await kubectl("delete", "deploy", "web")).toBe('deployment.apps "web" deleted');
    await kubectl("wait", "--for=delete", "pod", "-l", "app=web", SOON);
    await eventually(
      () => kubectl("get", "rs,pod", "-l", "app=web"),
      (text) => text === "No resources found in default namespace.",
    );
  });

  test("a DaemonSet's life", async () => {
    const d = "daemonset.apps/ds";
    expect(await kubectl("apply", "-f", daemonSet("ds", "i:1"))).toBe(`${d} created`);
    expect(await kubectl("rollout", "status", "ds/ds", SOON)).toMatch(
      /(^|\n)daemon set "ds" successfully rolled out$/,
    );
    expect(await kubectl("get", "ds")).toMatch(
      /^NAME +DESIRED +CURRENT +READY +UP-TO-DATE +AVAILABLE +NODE SELECTOR +AGE\nds +2 +2 +2 +2 +2 +<none> +\d+s$/,
    );
    expect(await kubectl("apply", "-f", daemonSet("ds", "i:2"))).toBe(`${d} configured`);
    await kubectl("rollout", "status", "ds/ds", SOON);
    expect(await kubectl("rollout", "history", "ds/ds")).toMatch(
      /^daemonset\.apps\/ds \nREVISION +CHANGE-CAUSE\n1 +<none>\n2 +<none>$/,
    );
    expect(await kubectl("rollout", "history", "ds/ds", "--revision=1")).toMatch(/Image:\s+i:1\n/);
    expect(await kubectl("rollout", "undo", "ds/ds", "--to-revision=2")).toBe(
      `${d} skipped rollback (current template already matches revision 2)`,
    );
    expect(await kubectl("rollout", "undo", "ds/ds")).toBe(`${d} rolled back`);
    await kubectl("rollout", "status", "ds/ds", SOON);
    const images = ["get", "pod", "-l", "ds=ds", "-o", "jsonpath={.items[*].spec.containers[0].image}"];
    expect(await kubectl(...images)).toBe("i:1 i:1");
    // The old one has become the newest.
    expect(await kubectl("get", "controllerrevisions", "-l", "ds=ds", "--sort-by=.revision")).toMatch(
      /^NAME +CONTROLLER +REVISION +AGE\nds-\S+ +daemonset\.apps\/ds +2 +\d+s\nds-\S+ +daemonset\.apps\/ds +3 +\d+s$/,
    );
    expect(await kubectl("rollout", "restart", "ds/ds")).toBe(`${d} restarted`);
    await kubectl("rollout", "status", "ds/ds", SOON);
    expect(await kubectl("describe", "ds", "ds")).toMatch(/\nPods Status: +2 Running \/ 0 Waiting/);
    expect(await kubectl("delete", "ds", "ds", "--cascade=foreground")).toBe('daemonset.apps "ds" deleted');
    expect(await kubectl("get", "pod,controllerrevisions", "-l", "ds=ds")).toBe(
      "No resources found in default namespace.",
    );
  });

  test("expose, run, and deletion that leaves what it owned", async () => {
    await kubectl("create", "deployment", "ex", "--image=i", "--port=80");
    expect(await kubectl("expose", "deploy", "ex", "--target-port=8080", "--type=NodePort")).toBe(
      "service/ex exposed",
    );
    await kubectl("rollout", "status", "deploy/ex", SOON);
    await eventually(
      () => kubectl("get", "endpointslice", "-l", "kubernetes.io/service-name=ex", "--no-headers"),
      (text) => /^ex-[a-z0-9]{5} +IPv4 +8080 +10\.1\.0\.\d+ /.test(text),
    );
    expect(await kubectl("describe", "svc", "ex")).toMatch(/\nEndpoints: +10\.1\.0\.\d+:8080\n/);
    expect(await kubectl("run", "r", "--image=i", "--port=80", "--expose")).toBe(
      "service/r created\npod/r created",
    );
    expect(await kubectl("wait", "--for=condition=Ready", "pod/r", SOON)).toBe("pod/r condition met");
    expect(await kubectl("delete", "deploy", "ex", "--cascade=orphan")).toBe('deployment.apps "ex" deleted');
    const left = await kubectl(
      "get",
      "rs",
      "-l",
      "app=ex",
      "-o",
      "jsonpath={.items[*].metadata.ownerReferences}",
    );
    expect(left).toBe("");
    expect(await kubectl("get", "rs", "-l", "app=ex", "--no-headers")).toMatch(/^ex-\S+ +1 +1 +1 /);
    expect(await kubectl("delete", "rs,svc,pod", "-l", "app=ex")).toContain('service "ex" deleted');
  });

  test("draining a node", async () => {
    await kubectl("apply", "-f", daemonSet("dr", "i"));
    await kubectl("rollout", "status", "ds/dr", SOON);
    await podByHandFree("alone", "n2");
    await kubectl("wait", "--for=condition=Ready", "pod/alone", SOON);
    const refused = await refusal("drain", "n2");
    expect(refused).toContain(
      "cannot delete Pods that declare no controller (use --force to override): default/alone",
    );
    expect(refused).toContain(
      "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): default/dr-",
    );
    await kubectl("uncordon", "n2");
    const dry = await kubectl("drain", "n2", "--ignore-daemonsets", "--force", "--dry-run=server");
    expect(dry).toContain("evicting pod default/alone (server dry run)");
    expect(await kubectl("get", "pod", "alone", "--no-headers")).toMatch(/^alone +1\/1 +Running /);
    const done = await kubectl("drain", "n2", "--ignore-daemonsets", "--force", SOON);
    expect(done).toContain("evicting pod default/alone\n");
    expect(done).toContain("pod/alone evicted\n");
    expect(done).toContain("node/n2 drained");
    expect(await kubectl("get", "pod", "-l", "!ds", "--field-selector", "spec.nodeName=n2")).toBe(
      "No resources found in default namespace.",
    );
    expect(await kubectl("get", "pod", "-l", "ds=dr", "-o", "name")).toMatch(/^pod\/dr-\S+\npod\/dr-\S+$/);
    await kubectl("uncordon", "n2");
    await kubectl("delete", "ds", "dr");
  });

  test("an eviction says why the pod goes, and takes preconditions", async () => {
    await podByHand("ev");
    await status("ev", { phase: "Running" });
    const evict = async (more: object) => {
      const body = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name: "ev" }, ...more };
      const path = "/api/v1/namespaces/default/pods/ev/eviction";
      const file = cluster.file("eviction.json", JSON.stringify(body));
      return cluster.kubectl.raw(["create", "--raw", path, "-f", file]);
    };
    const wrong = await evict({ deleteOptions: { preconditions: { uid: "other" } } });
    expect(wrong.err).toContain("Precondition failed: UID in precondition: other, UID in object meta: ");
    expect((await evict({ metadata: { name: "somebody" } })).err).toContain(
      "name in URL does not match name in Eviction object",
    );
    expect((await evict({})).code).toBe(0);
    const pod = JSON.parse(await kubectl("get", "pod", "ev", "-o", "json"));
    expect(pod.metadata.deletionGracePeriodSeconds).toBe(30);
    expect(pod.status.conditions).toMatchObject([
      { type: "DisruptionTarget", status: "True", reason: "EvictionByEvictionAPI" },
    ]);
    await kubectl("delete", "pod", "ev", "--force", "--grace-period=0");
  });

  test("deleting pods, slowly and at once", async () => {
    await podByHand("slow");
    await status("slow", {
      phase: "Running",
      containerStatuses: [container({ running: { startedAt: ago(5) } })],
    });
    expect(await kubectl("delete", "pod", "slow", "--grace-period=20", "--wait=false")).toBe(
      'pod "slow" deleted',
    );
    const meta = ["get", "pod", "slow", "-o", "jsonpath={.metadata.deletionGracePeriodSeconds}"];
    expect(await kubectl(...meta)).toBe("20");
    expect(await kubectl("get", "pod", "slow", "--no-headers")).toMatch(/^slow +0\/1 +Terminating +0 /);
    expect(await refusal("wait", "--for=delete", "pod/slow", "--timeout=1s")).toContain(
      "error: timed out waiting for the condition on pods/slow",
    );
    expect(await kubectl("describe", "pod", "slow")).toMatch(
      /\nStatus: +Terminating \(lasts \S+\)\nTermination Grace Period: +20s\n/,
    );
    expect(await kubectl("delete", "pod", "slow", "--now", "--wait=false")).toBe('pod "slow" deleted');
    expect(await kubectl(...meta)).toBe("1");
    expect(await kubectl("delete", "pod", "slow", "--force", "--grace-period=0")).toContain(
      'pod "slow" force deleted',
    );
    expect(await refusal("get", "pod", "slow")).toBe('Error from server (NotFound): pods "slow" not found');
  });

  test.each<[name: string, row: RegExp, status: object, spec?: object]>([
    [
      "created",
      /^created +0\/1 +ContainerCreating +0 /,
      { phase: "Pending", containerStatuses: [container({ waiting: { reason: "ContainerCreating" } })] },
    ],
    [
      "crash",
      /^crash +0\/1 +CrashLoopBackOff +3 \([5-9]s ago\) /,
      {
        phase: "Running",
        containerStatuses: [
          container(
            { waiting: { reason: "CrashLoopBackOff" } },
            {
              restartCount: 3,
              lastState: { terminated: { exitCode: 1, reason: "Error", finishedAt: "5s" } },
            },
          ),
        ],
      },
    ],
    [
      "again",
      /^again +1\/1 +Running +1 \(3m1?\d?s? ago\) /,
      {
        phase: "Running",
        conditions: [{ type: "Ready", status: "True" }],
        containerStatuses: [
          container(
            { running: {} },
            {
              ready: true,
              restartCount: 1,
              lastState: { terminated: { exitCode: 137, finishedAt: "180s" } },
            },
          ),
        ],
      },
    ],
    [
      "image",
      /^image +0\/1 +ErrImagePull +0 /,
      {
        phase: "Pending",
        containerStatuses: [container({ waiting: { reason: "ErrImagePull", message: "no such image" } })],
      },
    ],
    [
      "back",
      /^back +0\/1 +ImagePullBackOff +0 /,
      { phase: "Pending", containerStatuses: [container({ waiting: { reason: "ImagePullBackOff" } })] },
    ],
    [
      "fails",
      /^fails +0\/1 +Error +0 /,
      { phase: "Failed", containerStatuses: [container({ terminated: { exitCode: 1, reason: "Error" } })] },
      { restartPolicy: "Never" },
    ],
    [
      "killed",
      /^killed +0\/1 +OOMKilled +0 /,
      {
        phase: "Failed",
        containerStatuses: [container({ terminated: { exitCode: 137, reason: "OOMKilled" } })],
      },
      { restartPolicy: "Never" },
    ],
    [
      "code",
      /^code +0\/1 +ExitCode:3 +0 /,
      { phase: "Failed", containerStatuses: [container({ terminated: { exitCode: 3 } })] },
      { restartPolicy: "Never" },
    ],
    [
      "done",
      /^done +0\/1 +Completed +0 /,
      {
        phase: "Succeeded",
        containerStatuses: [container({ terminated: { exitCode: 0, reason: "Completed" } })],
      },
      { restartPolicy: "Never" },
    ],
    [
      "out",
      /^out +0\/1 +Evicted +0 /,
      { phase: "Failed", reason: "Evicted", message: "The node was low on resource" },
    ],
    [
      "init",
      /^init +0\/1 +Init:1\/2 +0 /,
      {
        phase: "Pending",
        initContainerStatuses: [
          { ...container({ terminated: { exitCode: 0, reason: "Completed" } }), name: "a", ready: true },
          { ...container({ running: {} }), name: "b" },
        ],
      },
      {
        initContainers: [
          { name: "a", image: "i" },
          { name: "b", image: "i" },
        ],
      },
    ],
    [
      "initcrash",
      /^initcrash +0\/1 +Init:CrashLoopBackOff +2 /,
      {
        phase: "Pending",
        initContainerStatuses: [
          { ...container({ waiting: { reason: "CrashLoopBackOff" } }, { restartCount: 2 }), name: "a" },
        ],
      },
      { initContainers: [{ name: "a", image: "i" }] },
    ],
    [
      "initerror",
      /^initerror +0\/1 +Init:Error +0 /,
      {
        phase: "Failed",
        initContainerStatuses: [
          { ...container({ terminated: { exitCode: 1, reason: "Error" } }), name: "a" },
        ],
      },
      { restartPolicy: "Never", initContainers: [{ name: "a", image: "i" }] },
    ],
  ])("STATUS and RESTARTS of a pod: %s", async (name, row, body, spec) => {
    await podByHand(name, spec);
    // "5s": that long ago.
    const dated = JSON.parse(JSON.stringify(body), (key, value: unknown) =>
      key === "finishedAt" ? ago(Number.parseInt(String(value), 10)) : value,
    ) as object;
    await status(name, dated);
    expect(await kubectl("get", "pod", name, "--no-headers")).toMatch(row);
    // What was written comes back, list by list and field by field.
    const kept = JSON.parse(await kubectl("get", "pod", name, "-o", "json")).status;
    expect(kept).toMatchObject(dated);
    await kubectl("delete", "pod", name, "--force", "--grace-period=0");
  });

  test("a kubelet's status writes leave the rest alone, and merge conditions by type", async () => {
    await podByHand("st");
    await status("st", { phase: "Running", conditions: [{ type: "Initialized", status: "True" }] });
    await status("st", { conditions: [{ type: "Ready", status: "True" }] });
    const patch = {
      metadata: { labels: { seen: "1" } },
      spec: { nodeName: "n2" },
      status: { podIP: "10.1.0.250" },
    };
    await kubectl("patch", "pod", "st", "--subresource=status", "-p", JSON.stringify(patch));
    const pod = JSON.parse(await kubectl("get", "pod", "st", "-o", "json"));
    expect(pod.spec.nodeName).toBe("n1");
    expect(pod.status).toMatchObject({ phase: "Running", podIP: "10.1.0.250", qosClass: "BestEffort" });
    expect(pod.status.conditions.map(({ type }: { type: string }) => type).sort()).toEqual([
      "Initialized",
      "Ready",
    ]);
    // The other way round: a spec write does not touch the status.
    await kubectl("patch", "pod", "st", "-p", JSON.stringify({ status: { phase: "Failed" } }));
    expect(await kubectl("get", "pod", "st", "-o", "jsonpath={.status.phase}")).toBe("Running");
    await kubectl("delete", "pod", "st", "--force", "--grace-period=0");
  });

  test("events with counts, and where they show", async () => {
    await podByHand("noisy");
    const uid = await kubectl("get", "pod", "noisy", "-o", "jsonpath={.metadata.uid}");
    const event = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { name: "noisy.1", namespace: "default" },
      involvedObject: { apiVersion: "v1", kind: "Pod", name: "noisy", namespace: "default", uid },
      type: "Warning",
      reason: "BackOff",
      message: "Back-off restarting failed container c in pod noisy",
      source: { component: "kubelet", host: "n1" },
      firstTimestamp: ago(120),
      lastTimestamp: ago(3),
      count: 3,
    };
    const { code, err } = await cluster.kubectl.raw(["create", "-f", "-"], { input: JSON.stringify(event) });
    expect(code, err).toBe(0);
    expect(await kubectl("describe", "pod", "noisy")).toMatch(
      /\n {2}Warning +BackOff +\ds \(x3 over 2m\d*s?\) +kubelet +Back-off restarting failed container c in pod noisy/,
    );
    expect(
      await kubectl(
        "get",
        "events",
        "--field-selector",
        "involvedObject.name=noisy,type=Warning",
        "--no-headers",
      ),
    ).toMatch(/^\ds +Warning +BackOff +pod\/noisy +Back-off restarting/);
    expect(await kubectl("events", "--for", "pod/noisy", "--types=Warning", "--no-headers")).toMatch(
      /^\ds \(x3 over 2m\d*s?\) +Warning +BackOff +Pod\/noisy +Back-off/,
    );
    await kubectl("delete", "pod", "noisy", "--force", "--grace-period=0");
  });

  test("readiness and termination reach the EndpointSlice", async () => {
    await podByHand("be");
    await kubectl("create", "service", "clusterip", "be", "--tcp=80:80");
    const conditions = async () => {
      const text = await kubectl("get", "endpointslice", "-l", "kubernetes.io/service-name=be", "-o", "json");
      const [slice] = JSON.parse(text).items;
      return JSON.stringify(slice?.endpoints?.[0]?.conditions);
    };
    const shows = (ready: boolean, serving: boolean, terminating: boolean) =>
      eventually(conditions, (seen) => seen === JSON.stringify({ ready, serving, terminating }));
    const ready = (value: string) => ({
      phase: "Running",
      podIP: "10.1.0.200",
      podIPs: [{ ip: "10.1.0.200" }],
      conditions: [{ type: "Ready", status: value }],
    });
    await status("be", ready("False"));
    await shows(false, false, false);
    expect(await kubectl("get", "ep", "be", "-o", "jsonpath={.subsets[0].notReadyAddresses[0].ip}")).toBe(
      "10.1.0.200",
    );
    await status("be", ready("True"));
    await shows(true, true, false);
    await kubectl("delete", "pod", "be", "--wait=false");
    await shows(false, true, true);
    await status("be", ready("False"));
    await shows(false, false, true);
    await kubectl("delete", "pod", "be", "--force", "--grace-period=0");
    await eventually(conditions, (seen) => seen === undefined);
    await kubectl("delete", "svc", "be");
  });

  test("admission's marks on a pod", async () => {
    await podByHand("marks", {
      tolerations: [
        {
          key: "node.kubernetes.io/not-ready",
          operator: "Exists",
          tolerationSeconds: 7,
          effect: "NoExecute",
        },
      ],
    });
    expect(await kubectl("describe", "pod", "marks")).toMatch(
      /\nPriority: +0\n[\s\S]*\nTolerations: +node\.kubernetes\.io\/not-ready:NoExecute op=Exists for 7s\n +node\.kubernetes\.io\/unreachable:NoExecute op=Exists for 300s\n/,
    );
    await kubectl("delete", "pod", "marks", "--force", "--grace-period=0");
  });
});

/** A pod without a controller, run by the node. */
async function podByHandFree(name: string, nodeName: string): Promise<void> {
  const overrides = JSON.stringify({ spec: { nodeName } });
  await kubectl("run", name, "--image=i", `--overrides=${overrides}`);
}
