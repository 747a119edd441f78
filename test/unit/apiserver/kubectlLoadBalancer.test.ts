/** kubectl against the whole server: the walkthrough's step 4, and `podwire controller` in the same place. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAN_RUN, eventually, KubectlCluster } from "../../support/kubectl.js";

const HOOK_MS = 60_000;
const POOL = fileURLToPath(new URL("../../../manifests/lab/addresspool.yaml", import.meta.url));
const MAIN = fileURLToPath(new URL("../../../dist/cli/main.js", import.meta.url));

/** name, port, target port, nodePort: the walkthrough's. */
const SERVICES = [
  ["lb-nginx-ds", 8080, 80, 30800, "nginx"],
  ["lb-apache-ds", 9090, 90, 30900, "apache"],
  ["lb-redis-ds", 6379, 6379, 30379, "redis"],
] as const;

let cluster: KubectlCluster;
const kubectl = (...args: string[]) => cluster.kubectl(...args);
const refusal = async (name: string, manifest: object): Promise<string> => {
  const { code, out, err } = await cluster.kubectl.raw(["create", "-f", "-"], {
    input: JSON.stringify({ apiVersion: "metallb.io/v1beta1", ...manifest }),
  });
  expect(code, `${name}: ${out}`).not.toBe(0);
  return err;
};
const pool = (name: string, address: string, namespace = "metallb-system") => ({
  kind: "IPAddressPool",
  metadata: { name, namespace },
  spec: { addresses: [address] },
});
const service = (name: string, ports: object[], more: object = {}) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name },
  spec: { type: "LoadBalancer", ports, ...more },
});
const apply = async (object: object) => {
  const { code, err } = await cluster.kubectl.raw(["apply", "-f", "-"], { input: JSON.stringify(object) });
  expect(code, err).toBe(0);
};
const address = (name: string) =>
  kubectl("get", "svc", name, "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}");
const has = (name: string, want: string) =>
  eventually(
    () => address(name),
    (text) => text === want,
  );

describe.skipIf(!CAN_RUN)("kubectl and load-balancer addresses", () => {
  beforeAll(async () => {
    cluster = await KubectlCluster.start();
  }, HOOK_MS);
  afterAll(() => cluster?.stop(), HOOK_MS);

  test("step 4: pending, then the pool, then three addresses", { timeout: HOOK_MS }, async () => {
    for (const [name, port, targetPort, nodePort, label] of SERVICES)
      await apply(service(name, [{ port, targetPort, nodePort }], { selector: { name: label } }));
    await eventually(
      () => kubectl("describe", "svc", "lb-nginx-ds"),
      (text) =>
        /Warning +AllocationFailed +\S+ +podwire-controller +Failed to allocate IP for "default\/lb-nginx-ds": no available IPs/.test(
          text,
        ),
    );
    const pending = await kubectl("get", "svc");
    for (const [name, port, , nodePort] of SERVICES)
      expect(pending).toMatch(
        new RegExp(`${name} +LoadBalancer +10\\.152\\.183\\.\\d+ +<pending> +${port}:${nodePort}/TCP `),
      );
    expect(await kubectl("apply", "-f", POOL)).toBe(
      "ipaddresspool.metallb.io/default-addresspool created\nl2advertisement.metallb.io/default-advertise-all-pools created",
    );
    await has("lb-redis-ds", "192.168.2.38");
    const wide = await kubectl("get", "svc", "-o", "wide");
    expect(wide).toMatch(/^NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE +SELECTOR\n/);
    for (const [i, [name, port, , nodePort, label]] of SERVICES.entries())
      expect(wide).toMatch(
        new RegExp(
          `${name} +LoadBalancer +10\\.152\\.183\\.\\d+ +192\\.168\\.2\\.${36 + i} +${port}:${nodePort}/TCP +\\d+s +name=${label}`,
        ),
      );
    const described = await eventually(
      () => kubectl("describe", "svc", "lb-nginx-ds"),
      (text) => text.includes("IPAllocated"),
    );
    expect(described).toMatch(/Annotations: +metallb\.io\/ip-allocated-from-pool: default-addresspool/);
    expect(described).toMatch(/LoadBalancer Ingress: +192\.168\.2\.36 \(VIP\)/);
    expect(described).toMatch(
      /Normal +IPAllocated +\S+ +podwire-controller +Assigned IP \["192\.168\.2\.36"\]/,
    );
    expect(described.match(/AllocationFailed/g)).toHaveLength(1);
    expect(
      await kubectl(
        "-n",
        "metallb-system",
        "wait",
        "ipaddresspool/default-addresspool",
        "--for=jsonpath={.status.availableIPv4}=2",
        "--timeout=60s",
      ),
    ).toContain("condition met");
  });

  test("what MetalLB refuses, with its words", async () => {
    const denied = (why: string, kind = "ipaddresspool") =>
      `Error from server (Forbidden): error when creating "STDIN": admission webhook "${kind}validationwebhook.metallb.io" denied the request: ${why}`;
    expect(await refusal("overlap", pool("p", "192.168.2.40/32"))).toBe(
      denied('CIDR "192.168.2.40/32" in pool "p" overlaps with already defined CIDR "192.168.2.40/32"'),
    );
    expect(await refusal("range", pool("p", "192.168.2.9-192.168.2.8"))).toBe(
      denied(
        'parsing address pool p: invalid CIDR "192.168.2.9-192.168.2.8" in pool "p": invalid IP range "192.168.2.9-192.168.2.8": start IP "192.168.2.9" is after the end IP "192.168.2.8"',
      ),
    );
    expect(await refusal("node", pool("p", "192.0.2.0/24"))).toBe(
      denied('pool cidr "192.0.2.0/24" contains nodeIp "192.0.2.1"'),
    );
    expect(await refusal("namespace", pool("p", "198.51.100.0/24", "default"))).toBe(
      denied("resource must be created in metallb-system namespace"),
    );
    const advertisement = {
      kind: "L2Advertisement",
      metadata: { name: "twice", namespace: "metallb-system" },
      spec: { ipAddressPools: ["a", "a"] },
    };
    expect(await refusal("advertisement", advertisement)).toBe(
      denied('duplicate definition of ipAddressPools "a"', "l2advertisement"),
    );
  });

  test("requested, shared, changed and deleted", { timeout: HOOK_MS }, async () => {
    const annotations = { "metallb.io/loadBalancerIPs": "192.168.2.36", "metallb.io/allow-shared-ip": "k" };
    const second = service("second", [{ name: "dns", port: 53, protocol: "UDP" }]);
    await apply({ ...second, metadata: { name: "second", annotations } });
    await eventually(
      () => kubectl("events", "--for", "svc/second"),
      (text) =>
        text.includes(
          `can't change sharing key for "default/second", address also in use by default/lb-nginx-ds`,
        ),
    );
    await kubectl("annotate", "svc", "lb-nginx-ds", "metallb.io/allow-shared-ip=k");
    await has("second", "192.168.2.36");
    await kubectl("patch", "svc", "second", "-p", '{"spec":{"type":"ClusterIP"}}');
    await has("second", "");
    await kubectl("delete", "svc", "lb-nginx-ds");
    await apply(service("third", [{ port: 80 }]));
    await has("third", "192.168.2.36");
  });

  test("podwire controller leads by its Lease and serves its class", {
    timeout: HOOK_MS,
  }, async () => {
    const kubeconfig = join(cluster.directory, "data", "admin.kubeconfig");
    const args = ["controller", "--kubeconfig", kubeconfig, "--lb-class", "example.com/lb"];
    const controller = spawn(process.execPath, [MAIN, ...args], { stdio: "ignore" });
    try {
      // Class that the server's own controller leaves alone.
      const spec = { loadBalancerClass: "example.com/lb", loadBalancerIP: "192.168.2.40" };
      await apply(service("classed", [{ port: 80 }], spec));
      await has("classed", "192.168.2.40");
      const holder = ["-n", "kube-system", "get", "lease", "podwire-controller"];
      expect(await kubectl(...holder, "-o", "jsonpath={.spec.holderIdentity}")).toMatch(/_[0-9a-f-]{36}$/);
      controller.kill("SIGTERM");
      const [code] = await once(controller, "exit");
      expect(code).toBe(0);
      expect(await kubectl(...holder, "-o", "jsonpath={.spec.holderIdentity}")).toBe("");
    } finally {
      controller.kill("SIGKILL");
    }
  });
});
