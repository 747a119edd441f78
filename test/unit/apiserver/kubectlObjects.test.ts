/** kubectl against the whole server: objects of all kinds, made, looked at, changed and deleted. */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAN_RUN, eventually, KubectlCluster } from "../../support/kubectl.js";

const HOOK_MS = 60_000;

let cluster: KubectlCluster;

const kubectl = (...args: string[]) => cluster.kubectl(...args);
/** stderr of a kubectl that is expected to fail. */
const refusal = async (...args: string[]): Promise<string> => {
  const { code, out, err } = await cluster.kubectl.raw(args);
  expect(code, out).not.toBe(0);
  return err;
};
const configMap = (name: string, data: object) =>
  cluster.file(
    `${name}.json`,
    JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name }, data }),
  );

describe.skipIf(!CAN_RUN)("kubectl and objects", () => {
  beforeAll(async () => {
    cluster = await KubectlCluster.start();
  }, HOOK_MS);
  afterAll(() => cluster?.stop(), HOOK_MS);

  test("typed creates, with and without dry runs", async () => {
    const made = [
      [["configmap", "tc", "--from-literal=a=b"], "configmap/tc created"],
      [["secret", "generic", "ts", "--from-literal=p=q"], "secret/ts created"],
      [["namespace", "tn"], "namespace/tn created"],
      [["service", "clusterip", "tcip", "--tcp=80:8080"], "service/tcip created"],
      [["service", "nodeport", "tnp", "--tcp=80:8080", "--node-port=30080"], "service/tnp created"],
      [["service", "loadbalancer", "tlb", "--tcp=80:8080"], "service/tlb created"],
      [["service", "externalname", "tex", "--external-name=example.org"], "service/tex created"],
      [["serviceaccount", "tsa"], "serviceaccount/tsa created"],
    ] as const;
    for (const [args, text] of made) {
      const client = await kubectl("create", ...args, "--dry-run=client");
      expect(client).toBe(text.replace("created", "created (dry run)"));
      const server = await kubectl("create", ...args, "--dry-run=server");
      expect(server).toBe(text.replace("created", "created (server dry run)"));
      expect(await kubectl("create", ...args)).toBe(text);
      expect(await refusal("create", ...args)).toMatch(/already exists|already allocated/);
    }
    expect(await kubectl("get", "svc", "tnp", "tex", "tlb", "--no-headers")).toMatch(
      /^tnp +NodePort +10\.152\.183\.\d+ +<none> +80:30080\/TCP +\d+s\ntex +ExternalName +<none> +example.org +<none> +\d+s\ntlb +LoadBalancer +10\.152\.183\.\d+ +<pending> +80:3\d{4}\/TCP +\d+s$/,
    );
    expect(await kubectl("get", "secret", "ts", "-o", "jsonpath={.data.p}")).toBe("cQ==");
  });

  test("apply, diff, replace and edit", async () => {
    const file = configMap("ap", { a: "1" });
    expect(await kubectl("apply", "-f", file, "--dry-run=server")).toBe(
      "configmap/ap created (server dry run)",
    );
    expect(await kubectl("apply", "-f", file)).toBe("configmap/ap created");
    expect(await kubectl("apply", "-f", file)).toBe("configmap/ap unchanged");
    expect((await cluster.kubectl.raw(["diff", "-f", file])).code).toBe(0);
    configMap("ap", { b: "2" });
    const diff = await cluster.kubectl.raw(["diff", "-f", file]);
    expect([diff.code, diff.out]).toEqual([1, expect.stringMatching(/\n- {2}a: "1"\n\+ {2}b: "2"\n/)]);
    expect(await kubectl("apply", "-f", file)).toBe("configmap/ap configured");
    expect(await kubectl("get", "cm", "ap", "-o", "jsonpath={.data}")).toBe('{"b":"2"}');
    expect(await refusal("apply", "--server-side", "-f", file)).toContain(
      "error: Server-side apply not available on the server: ",
    );
    configMap("ap", { c: "OLD" });
    expect(await kubectl("replace", "-f", file)).toBe("configmap/ap replaced");
    const env = { EDITOR: "sed -i s/OLD/NEW/" };
    expect((await cluster.kubectl.raw(["edit", "cm", "ap"], { env })).out).toBe("configmap/ap edited");
    expect(await kubectl("get", "cm", "ap", "-o", "jsonpath={.data.c}")).toBe("NEW");
    const idle = await cluster.kubectl.raw(["edit", "cm", "ap"], { env: { EDITOR: "true" } });
    expect(idle.err).toBe("Edit cancelled, no changes made.");
    expect(await kubectl("replace", "--force", "-f", file)).toBe(
      'configmap "ap" deleted\nconfigmap/ap replaced',
    );
    expect(await refusal("replace", "-f", configMap("absent", {}))).toBe(
      `Error from server (NotFound): error when replacing "${cluster.directory}/absent.json": configmaps "absent" not found`,
    );
  });

  test("the three kinds of patch", async () => {
    await kubectl("create", "configmap", "pa", "--from-literal=a=1");
    const patched = "configmap/pa patched";
    expect(await kubectl("patch", "cm", "pa", "-p", '{"data":{"b":"2"}}')).toBe(patched);
    expect(await kubectl("patch", "cm", "pa", "--type=merge", "-p", '{"data":{"a":null}}')).toBe(patched);
    const operations = (value: object) => ["--type=json", "-p", JSON.stringify([value])];
    const add = operations({ op: "add", path: "/data/c", value: "3" });
    expect(await kubectl("patch", "cm", "pa", ...add)).toBe(patched);
    expect(await kubectl("patch", "cm", "pa", ...add)).toBe(`${patched} (no change)`);
    expect(await kubectl("get", "cm", "pa", "-o", "jsonpath={.data}")).toBe('{"b":"2","c":"3"}');
    const failing = operations({ op: "test", path: "/data/c", value: "4" });
    expect(await refusal("patch", "cm", "pa", ...failing)).toBe(
      "The request is invalid: the server rejected our request due to an error in our request",
    );
  });

  test("labels and annotations", async () => {
    await kubectl("create", "configmap", "la");
    expect(await kubectl("label", "cm", "la", "k=1")).toBe("configmap/la labeled");
    expect(await refusal("label", "cm", "la", "k=2")).toBe(
      "error: 'k' already has a value (1), and --overwrite is false",
    );
    expect(await kubectl("label", "cm", "la", "k=2", "--overwrite")).toBe("configmap/la labeled");
    expect(await kubectl("get", "cm", "-l", "k in (2,3),k!=1", "-L", "k", "--no-headers")).toMatch(
      /^la +0 +\d+s +2$/,
    );
    expect(await kubectl("label", "cm", "la", "k-")).toBe("configmap/la unlabeled");
    expect(await refusal("label", "cm", "la", "k=-bad")).toContain("a valid label must be an empty string");
    expect(await kubectl("annotate", "cm", "la", "n=1")).toBe("configmap/la annotated");
    expect(await kubectl("annotate", "cm", "la", "n-")).toBe("configmap/la annotated");
    expect(await refusal("get", "cm", "-l", "k in (")).toContain("unable to parse requirement");
  });

  test("ways of output, selection and order", async () => {
    for (const name of ["oa", "ob", "oc"])
      await kubectl("create", "configmap", name, `--from-literal=k=${name}`);
    await kubectl("label", "cm", "oa", "ob", "oc", "o=1");
    const chosen = ["get", "cm", "-l", "o=1"];
    expect(await kubectl(...chosen, "-o", "name", "--chunk-size=1")).toBe(
      "configmap/oa\nconfigmap/ob\nconfigmap/oc",
    );
    expect(
      await kubectl(...chosen, "-o", "custom-columns=N:.metadata.name,K:.data.k", "--sort-by=.data.k"),
    ).toBe("N     K\noa    oa\nob    ob\noc    oc");
    expect(await kubectl(...chosen, "-o", "jsonpath={.items[*].metadata.name}")).toBe("oa ob oc");
    expect(await kubectl(...chosen, "-o", "go-template={{len .items}}")).toBe("3");
    expect(await kubectl("get", "cm", "--field-selector", "metadata.name=ob", "-o", "name")).toBe(
      "configmap/ob",
    );
    expect(await refusal("get", "cm", "--field-selector", "data.k=1")).toContain(
      "field label not supported: data.k",
    );
    expect(JSON.parse(await kubectl("get", "cm", "oa", "-o", "json"))).toMatchObject({
      apiVersion: "v1",
      kind: "ConfigMap",
      data: { k: "oa" },
    });
    expect(await kubectl("get", "cm", "oa", "-o", "yaml")).toMatch(
      /^apiVersion: v1\ndata:\n {2}k: oa\nkind: ConfigMap\n/,
    );
    expect(await kubectl("get", "cm,svc", "-l", "o=1", "--show-kind", "--show-labels")).toMatch(
      /^NAME +DATA +AGE +LABELS\nconfigmap\/oa /,
    );
  });

  test("watching", async () => {
    const watch = cluster.kubectl.start("get", "cm", "-w", "-l", "w=1", "--output-watch-events");
    let text = "";
    watch.stdout!.on("data", (piece: Buffer) => {
      text += String(piece);
    });
    try {
      const file = (data: object) =>
        cluster.file(
          "w.json",
          JSON.stringify({
            apiVersion: "v1",
            kind: "ConfigMap",
            metadata: { name: "wa", labels: { w: "1" } },
            data,
          }),
        );
      const seen = (words: RegExp) =>
        eventually(
          async () => text,
          (all) => words.test(all),
        );
      await kubectl("apply", "-f", file({}));
      await seen(/^EVENT +NAME +DATA +AGE\nADDED +wa +0 /);
      await kubectl("apply", "-f", file({ a: "1" }));
      await seen(/\nMODIFIED +wa +1 /);
      await kubectl("delete", "cm", "wa");
      await seen(/\nDELETED +wa +1 /);
    } finally {
      watch.kill();
    }
  });

  test("deletion", async () => {
    for (const name of ["da", "db", "dc"]) await kubectl("create", "configmap", name);
    await kubectl("label", "cm", "db", "dc", "d=1");
    expect(await kubectl("delete", "cm", "da")).toBe('configmap "da" deleted');
    expect(await refusal("delete", "cm", "da")).toBe(
      'Error from server (NotFound): configmaps "da" not found',
    );
    expect(await kubectl("delete", "cm", "da", "--ignore-not-found")).toBe("");
    expect(await kubectl("delete", "cm", "-l", "d=1", "--dry-run=server")).toBe(
      'configmap "db" deleted (server dry run)\nconfigmap "dc" deleted (server dry run)',
    );
    expect(await kubectl("delete", "cm", "-l", "d=1")).toBe('configmap "db" deleted\nconfigmap "dc" deleted');
    await kubectl("create", "namespace", "dn");
    await kubectl("create", "configmap", "x", "-n", "dn");
    await kubectl("create", "deployment", "x", "-n", "dn", "--image=i");
    expect(await kubectl("delete", "namespace", "dn")).toBe('namespace "dn" deleted');
    expect(await refusal("get", "ns", "dn")).toBe('Error from server (NotFound): namespaces "dn" not found');
    expect(await kubectl("get", "all", "-n", "dn")).toBe("No resources found in dn namespace.");
    expect(await refusal("delete", "ns", "default")).toBe(
      'Error from server (Forbidden): namespaces "default" is forbidden: this namespace may not be deleted',
    );
  });

  test("faults are told as a Kubernetes user knows them", async () => {
    const create = async (object: object) => {
      const answer = await cluster.kubectl.raw(["create", "-f", "-"], { input: JSON.stringify(object) });
      return answer.err;
    };
    const service = (spec: object) => ({ apiVersion: "v1", kind: "Service", metadata: { name: "f" }, spec });
    expect(await create(service({ prots: [{ port: 80 }] }))).toBe(
      'Error from server (BadRequest): error when creating "STDIN": Service in version "v1" cannot be handled as a Service: strict decoding error: unknown field "spec.prots"',
    );
    expect(await create(service({ type: "NodePort", ports: [{ port: 80, nodePort: 80 }] }))).toBe(
      'The Service "f" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767',
    );
    expect(await create({ ...service({}), metadata: { name: "F_" } })).toContain(
      'The Service "F_" is invalid: \n* metadata.name: Invalid value: "F_": a DNS-1035 label must consist of',
    );
    expect(await create({ ...service({}), metadata: { name: "f", namespace: "nowhere" } })).toBe(
      'Error from server (NotFound): error when creating "STDIN": namespaces "nowhere" not found',
    );
    expect(await create({ apiVersion: "v1", kind: "Nonsense", metadata: { name: "f" } })).toContain(
      'no matches for kind "Nonsense" in version "v1"',
    );
    expect(await refusal("get", "nonsense")).toBe(
      `error: the server doesn't have a resource type "nonsense"`,
    );
  });

  test("who may what", async () => {
    expect(await kubectl("auth", "can-i", "create", "pods")).toBe("yes");
    expect(await kubectl("auth", "can-i", "*", "*")).toBe("yes");
    expect(await kubectl("auth", "can-i", "--list")).toMatch(
      /^Resources +Non-Resource URLs +Resource Names +Verbs\n\*\.\* +\[\] +\[\] +\[\*\]\n/,
    );
    expect(await kubectl("auth", "whoami")).toMatch(
      /^ATTRIBUTE +VALUE\nUsername +kubernetes-admin\nGroups +\[system:masters system:authenticated\]$/,
    );
    const node = ["--as=system:node:n1", "--as-group=system:nodes"];
    const can = async (...args: string[]) =>
      (await cluster.kubectl.raw(["auth", "can-i", ...args, ...node])).out;
    expect(await can("list", "services")).toBe("yes");
    expect(await can("create", "services")).toBe("no");
    expect(await can("get", "secrets")).toBe("no");
    expect(await can("update", "nodes/n1")).toBe("yes");
    expect(await can("update", "nodes/n2")).toBe("no");
    expect(await can("get", "/healthz")).toBe("yes");
    const rights = await kubectl("auth", "can-i", "--list", ...node);
    expect(rights).toMatch(/\nnodes +\[\] +\[n1\] +\[update patch\]/);
    expect(rights).toMatch(/\nservices +\[\] +\[\] +\[get list watch\]/);
    expect(rights).not.toMatch(/\n(secrets|configmaps)/);
    // What the review promises is what the server does.
    expect(await refusal("get", "secrets", ...node)).toBe(
      'Error from server (Forbidden): secrets is forbidden: User "system:node:n1" cannot list resource "secrets" in API group "" in the namespace "default"',
    );
    // … except those that its own pods refer to, one by one.
    await kubectl("create", "secret", "generic", "mine", "--from-literal=key=value");
    await kubectl("create", "secret", "generic", "others", "--from-literal=key=value");
    const bound = (name: string, nodeName: string, secretName: string) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, annotations: { "by-hand": "" } },
      spec: {
        nodeName,
        containers: [{ name: "c", image: "busybox" }],
        volumes: [{ name: "v", secret: { secretName } }],
      },
    });
    for (const pod of [bound("reader", "n1", "mine"), bound("other", "n2", "others")])
      expect((await cluster.kubectl.raw(["create", "-f", "-"], { input: JSON.stringify(pod) })).code).toBe(0);
    expect(await can("get", "secret/mine")).toBe("yes");
    expect(await can("delete", "secret/mine")).toBe("no");
    expect(await kubectl("get", "secret", "mine", "-o", "name", ...node)).toBe("secret/mine");
    expect(await refusal("get", "secret", "others", ...node)).toBe(
      `Error from server (Forbidden): secrets "others" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in the namespace "default": no relationship found between node 'n1' and this object`,
    );
    await kubectl("delete", "pod", "reader", "other", "--force");
    expect(await can("get", "secret/mine")).toBe("no");
    expect(await refusal("get", "pods", "--as=bob")).toContain('User "bob" cannot list resource "pods"');
  });

  test("asking the server about itself", async () => {
    expect(await kubectl("cluster-info")).toContain(
      "Kubernetes control plane is running at https://127.0.0.1:",
    );
    expect(await kubectl("version")).toMatch(/\nServer Version: v1\.32\.0\+podwire$/);
    const versions = (await kubectl("api-versions")).split("\n");
    expect(versions).toEqual(
      expect.arrayContaining([
        "apps/v1",
        "authorization.k8s.io/v1",
        "discovery.k8s.io/v1",
        "podwire.dev/v1alpha1",
        "v1",
      ]),
    );
    const kinds = await kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name");
    expect(kinds.split("\n")).toEqual(
      expect.arrayContaining(["pods", "daemonsets.apps", "controllerrevisions.apps"]),
    );
    expect(kinds).not.toContain("review");
    expect(await kubectl("api-resources")).toMatch(/\ndeployments +deploy +apps\/v1 +true +Deployment\n/);
    expect(await kubectl("get", "--raw", "/readyz")).toBe("ok");
    expect(JSON.parse(await kubectl("get", "--raw", "/api/v1/namespaces/default"))).toMatchObject({
      metadata: { name: "default" },
      status: { phase: "Active" },
    });
    expect(await refusal("get", "--raw", "/nonsense")).toBe(
      "Error from server (NotFound): the server could not find the requested resource",
    );
    const type = await kubectl("explain", "service.spec.type");
    expect(type).toMatch(/^KIND: +Service\nVERSION: +v1\n\nFIELD: type <string>\nENUM:\n {4}ClusterIP\n/);
    expect(type).toContain("type determines how the Service is exposed. Defaults to ClusterIP.");
    const all = await kubectl("explain", "pods", "--recursive");
    expect(all).toMatch(/\n {2}spec\t<PodSpec>\n/);
    expect(all).toMatch(/\n +containerPort\t<integer> -required-\n/);
    expect(await kubectl("explain", "service")).toContain("Spec defines the behavior of a service.");
  });

  test("describe of every kind", async () => {
    await kubectl("create", "configmap", "ex", "--from-literal=key=value");
    await kubectl("create", "secret", "generic", "ex", "--from-literal=key=value");
    await kubectl("create", "service", "clusterip", "ex", "--tcp=80:8080");
    await kubectl("create", "serviceaccount", "ex");
    const described = async (...args: string[]) => kubectl("describe", ...args);
    expect(await described("cm", "ex")).toMatch(/\nData\n====\nkey:\n----\nvalue\n/);
    expect(await described("secret", "ex")).toMatch(/\nType: +Opaque\n\nData\n====\nkey: +5 bytes/);
    expect(await described("svc", "ex")).toMatch(/\nIP Families: +IPv4\nIP: +10\.152\.183\.\d+\n/);
    expect(await described("sa", "ex")).toMatch(/^Name: +ex\n/);
    expect(await described("ns", "default")).toMatch(/\nStatus: +Active$/);
    expect(await described("lease", "n1", "-n", "kube-node-lease")).toMatch(/Holder Identity: +n1\n/);
    expect(await described("ep", "kubernetes")).toMatch(/^Name: +kubernetes\n/);
    expect(await described("endpointslice", "kubernetes")).toMatch(/\nAddressType: +IPv4\n/);
    expect(await described("node", "n1")).toMatch(
      /\nLease:\n {2}HolderIdentity: +n1\n[\s\S]*\nNon-terminated Pods: /,
    );
    const event = (await kubectl("get", "events", "-o", "name")).split("\n")[0]!;
    expect(await described(event)).toMatch(/\nKind: +Event\n/);
  });

  test("nodes: wide output, taints, cordon", async () => {
    expect(await kubectl("get", "node", "n1", "-o", "wide")).toMatch(
      /^NAME +STATUS +ROLES +AGE +VERSION +INTERNAL-IP +EXTERNAL-IP +OS-IMAGE +KERNEL-VERSION +CONTAINER-RUNTIME\nn1 +Ready +<none> +\d+s +v1\.32\.0 +192\.0\.2\.1 +<none> +Ubuntu 22\.04\.5 LTS +5\.15\.0 +podwire:\/\/0\.1\.0$/,
    );
    expect(await kubectl("taint", "node", "n2", "k=v:NoSchedule")).toBe("node/n2 tainted");
    expect(await refusal("taint", "node", "n2", "k=v:NoSchedule")).toBe(
      "error: node n2 already has k taint(s) with same effect(s) and --overwrite is false",
    );
    expect(await kubectl("taint", "node", "n2", "k:NoSchedule-")).toBe("node/n2 untainted");
    expect(await kubectl("cordon", "n2")).toBe("node/n2 cordoned");
    expect(await kubectl("get", "node", "n2", "--no-headers")).toMatch(/^n2 +Ready,SchedulingDisabled /);
    await eventually(
      () => kubectl("get", "node", "n2", "-o", "jsonpath={.spec.taints[*].key}"),
      (keys) => keys === "node.kubernetes.io/unschedulable",
    );
    expect(await kubectl("uncordon", "n2")).toBe("node/n2 uncordoned");
    await eventually(
      () => kubectl("get", "node", "n2", "-o", "jsonpath={.spec.taints}"),
      (taints) => taints === "",
    );
  });

  test("the administrator's kubeconfig names this server", () => {
    expect(readFileSync(`${cluster.directory}/data/admin.kubeconfig`, "utf8")).toContain(
      "https://127.0.0.1:",
    );
  });
});
