/** The server over HTTPS: who may what, joining, and kubectl itself. */
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { type RequestOptions, request } from "node:https";
import { join as joinPath } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { ApiServer } from "../../../src/apiserver/ApiServer.js";
import { ClusterCa, certificateRequest, spkiHash } from "../../../src/apiserver/pki/ClusterCa.js";
import { kubeconfig } from "../../../src/apiserver/pki/kubeconfig.js";
import { CertificateRenewal } from "../../../src/kube/CertificateRenewal.js";
import { FakeClock } from "../../../src/kube/Clock.js";
import { join } from "../../../src/kube/join.js";
import { KubeClient } from "../../../src/kube/KubeClient.js";
import {
  inlineCertificate,
  plainCredentials,
  replaceInlineCertificate,
} from "../../../src/kube/kubeconfig.js";
import { CONFIGMAPS, NODES } from "../../../src/kube/resources.js";
import { startApiServer, temporaryDirectory } from "../../support/apiserver.js";

let directory: ReturnType<typeof temporaryDirectory>;
let server: ApiServer;
let ca: ClusterCa;

beforeAll(async () => {
  directory = temporaryDirectory();
  server = await startApiServer(directory.path, { historyLimit: 50 });
  ca = await ClusterCa.open(joinPath(directory.path, "pki"));
});
afterAll(async () => {
  await server.stop();
  directory.remove();
});

interface Answer {
  code: number;
  // biome-ignore lint/suspicious/noExplicitAny: whatever JSON came
  body: any;
  headers: Record<string, unknown>;
}

function ask(
  path: string,
  options: {
    method?: string;
    body?: object;
    /** Instead of a body, as it stands. */
    text?: string;
    cert?: string;
    key?: string;
    headers?: Record<string, string>;
  } = {},
): Promise<Answer> {
  const { method = "GET", body, text, headers, ...tls } = options;
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: "127.0.0.1",
        port: server.port,
        path,
        method,
        headers: { "Content-Type": "application/json", ...headers },
        ca: ca.certificate,
        ...tls,
        agent: false,
      },
      (answer) => {
        let said = "";
        answer.setEncoding("utf8").on("data", (chunk: string) => {
          said += chunk;
        });
        answer.on("end", () =>
          resolve({
            code: answer.statusCode!,
            headers: answer.headers,
            body: said.startsWith("{") && !said.includes("}\n{") ? JSON.parse(said) : said,
          }),
        );
      },
    );
    sent.on("error", reject);
    sent.end(body === undefined ? text : JSON.stringify(body));
  });
}

async function credentials(commonName: string, organizations: string[]) {
  const { certificate, key } = await ca.issue({ commonName, organizations });
  return { cert: certificate, key };
}

describe("trust", () => {
  test("files of the CA and the administrator are the owner's alone", () => {
    for (const file of ["pki/ca.key", "pki/apiserver.key", "admin.kubeconfig"])
      expect(statSync(joinPath(directory.path, file)).mode & 0o777).toBe(0o600);
  });

  test("without a certificate one sees health and version, nothing else", async () => {
    expect((await ask("/readyz")).body).toBe("ok");
    expect((await ask("/version")).body.minor).toBe("32");
    const refused = await ask("/api/v1/namespaces/default/pods");
    expect([refused.code, refused.body.message]).toEqual([
      403,
      'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "default"',
    ]);
  });

  test("a certificate of somebody else's CA, and a wrong token, are Unauthorized", async () => {
    const other = temporaryDirectory();
    const stranger = await (await ClusterCa.open(other.path)).issue({
      commonName: "x",
      organizations: ["system:masters"],
    });
    const refused = await ask("/api/v1/pods", { cert: stranger.certificate, key: stranger.key });
    expect([refused.code, refused.body.reason]).toEqual([401, "Unauthorized"]);
    other.remove();
    const token = { Authorization: "Bearer abcdef.0123456789abcdef" };
    expect((await ask("/join/v1/node", { method: "POST", body: {}, headers: token })).code).toBe(401);
  });

  test("a node joins with a token, and writes its own Node only", async () => {
    const found = await ask("/join/v1/ca");
    expect(spkiHash(found.body.certificate)).toBe(server.caHash);
    const token = server.tokens.create(60);
    const headers = { Authorization: `Bearer ${token}` };
    // Whatever the request calls itself: the server decides.
    const { request: csr, key } = await certificateRequest({
      commonName: "admin",
      organizations: ["system:masters"],
    });
    const joined = await ask("/join/v1/node", {
      method: "POST",
      headers,
      body: { node: "n1", request: csr },
    });
    expect(joined.code).toBe(201);
    const node = { cert: joined.body.certificate as string, key };
    const create = (name: string) =>
      ask("/api/v1/nodes", { ...node, method: "POST", body: { metadata: { name } } });
    expect((await create("n1")).code).toBe(201);
    const refused = await create("n2");
    expect([refused.code, refused.body.message]).toEqual([
      403,
      'nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2"',
    ]);
    expect((await ask("/api/v1/services", node)).code).toBe(200);
    expect((await ask("/api/v1/secrets", node)).code).toBe(403);
    const service = { metadata: { name: "s" }, spec: { ports: [{ port: 80 }] } };
    const wrote = await ask("/api/v1/namespaces/default/services", {
      ...node,
      method: "POST",
      body: service,
    });
    expect(wrote.body.message).toBe(
      'services is forbidden: User "system:node:n1" cannot create resource "services" in API group "" in the namespace "default"',
    );
    server.tokens.delete(token);
    expect((await ask("/join/v1/node", { method: "POST", headers, body: {} })).code).toBe(401);
  });
});

describe("a node's side of joining", () => {
  const joins = (token: string, caHash = server.caHash) =>
    join({ server: `https://127.0.0.1:${server.port}`, token, caHash, node: "n9" });

  test("gets a certificate for the right token and hash only", async () => {
    const { certificate, key } = await joins(server.tokens.create(60));
    expect((await ask("/api/v1/nodes", { cert: certificate, key })).code).toBe(200);
    await expect(joins("abcdef.0123456789abcdef")).rejects.toMatchObject({
      code: 401,
      reason: "Unauthorized",
    });
    await expect(joins(server.tokens.create(-1))).rejects.toMatchObject({ code: 401 });
    await expect(joins(server.tokens.create(60), `sha256:${"0".repeat(64)}`)).rejects.toThrow(server.caHash);
  });
});

describe("renewing a node's certificate", () => {
  const serial = (certificate: string) => new X509Certificate(certificate).serialNumber;
  const DAY = 24 * 3600_000;

  test("a node gets another for itself, nobody else gets one", async () => {
    const csr = await certificateRequest({
      commonName: "system:node:other",
      organizations: ["system:nodes"],
    });
    const renew = (who: object) =>
      ask("/join/v1/renew", { ...who, method: "POST", body: { request: csr.request } });
    const node = await credentials("system:node:n5", ["system:nodes"]);
    const renewed = await renew(node);
    expect(renewed.code).toBe(201);
    expect(new X509Certificate(renewed.body.certificate).subject).toBe("O=system:nodes\nCN=system:node:n5");
    const again = { cert: renewed.body.certificate as string, key: csr.key };
    expect((await ask("/api/v1/nodes", again)).code).toBe(200);
    expect((await renew(await credentials("admin", ["system:masters"]))).code).toBe(403);
    expect((await renew({})).code).toBe(403);
    expect((await ask("/join/v1/renew", { ...node, method: "POST", body: {} })).code).toBe(400);
  });

  test("in its kubeconfig, in time, and the client goes on with it", async () => {
    const file = joinPath(directory.path, "n6.kubeconfig");
    const url = `https://127.0.0.1:${server.port}`;
    const first = await ca.issue({ commonName: "system:node:n6", organizations: ["system:nodes"] });
    writeFileSync(
      file,
      kubeconfig({ server: url, caCertificate: ca.certificate, user: "system:node:n6", ...first }),
    );
    const clock = new FakeClock();
    const renewals: Date[] = [];
    const failures: unknown[] = [];
    const until = Date.parse(new X509Certificate(first.certificate).validTo);
    const from = Date.parse(new X509Certificate(first.certificate).validFrom);
    await clock.advance(from - clock.date().getTime());
    const renewal = new CertificateRenewal(file, {
      clock,
      random: () => 0.5,
      onRenewed: (goodUntil) => renewals.push(goodUntil),
      onError: (error) => failures.push(error),
    }).start();
    const current = () => inlineCertificate(file)!.certificate;
    try {
      // 80 % of its life.
      await clock.advance(0.8 * (until - from) - DAY);
      expect(serial(current())).toBe(serial(first.certificate));
      await clock.advance(2 * DAY);
      await vi.waitFor(() => expect(renewals).toHaveLength(1), { timeout: 10_000 });
      expect(serial(current())).not.toBe(serial(first.certificate));
      expect(statSync(file).mode & 0o777).toBe(0o600);
      const client = await KubeClient.fromFile(file);
      expect((await client.list(NODES)).items).toBeInstanceOf(Array);
      client.close();
      expect(failures).toEqual([]);
    } finally {
      await renewal.stop();
    }
  });

  test("a client that is open takes up what the file says now", async () => {
    const file = joinPath(directory.path, "n7.kubeconfig");
    const url = `https://127.0.0.1:${server.port}`;
    const { certificate, key } = await ca.issue({
      commonName: "system:node:n7",
      organizations: ["system:nodes"],
    });
    writeFileSync(
      file,
      kubeconfig({ server: url, caCertificate: ca.certificate, user: "system:node:n7", certificate, key }),
    );
    const credentialsOf = plainCredentials(file)!;
    const before: RequestOptions = {};
    await credentialsOf.applyToHTTPSOptions(before);
    const next = await ca.issue({ commonName: "system:node:n7", organizations: ["system:nodes"] });
    replaceInlineCertificate(file, next.certificate, next.key);
    const after: RequestOptions = {};
    await credentialsOf.applyToHTTPSOptions(after);
    expect([String(before.cert), String(after.cert), String(after.key)]).toEqual([
      certificate,
      next.certificate,
      next.key,
    ]);
  });
});

describe("objects", () => {
  const maps = "/api/v1/namespaces/default/configmaps";

  test("limit and continue show one moment", async () => {
    const admin = await credentials("a", ["system:masters"]);
    for (const name of ["a", "b", "c"])
      await ask(maps, { ...admin, method: "POST", body: { metadata: { name } } });
    const first = (await ask(`${maps}?limit=2`, admin)).body;
    expect(first.metadata.remainingItemCount).toBe(1);
    await ask(`${maps}/c`, { ...admin, method: "DELETE" });
    const second = (await ask(`${maps}?limit=2&continue=${first.metadata.continue}`, admin)).body;
    expect(second.items.map((each: { metadata: { name: string } }) => each.metadata.name)).toEqual(["c"]);
  });

  test("a conflict, an old and a future resourceVersion", async () => {
    const admin = await credentials("a", ["system:masters"]);
    const made = (
      await ask(maps, { ...admin, method: "POST", body: { metadata: { name: "k" }, data: { n: "0" } } })
    ).body;
    for (let i = 1; i <= 60; i++)
      await ask(`${maps}/k`, {
        ...admin,
        method: "PUT",
        body: { metadata: { name: "k" }, data: { n: String(i) } },
      });
    const old = await ask(`${maps}/k`, { ...admin, method: "PUT", body: { ...made, data: {} } });
    expect([old.code, old.body.message]).toEqual([
      409,
      'Operation cannot be fulfilled on configmaps "k": the object has been modified; please apply your changes to the latest version and try again',
    ]);
    const { resourceVersion } = made.metadata;
    const gone = await ask(`${maps}?watch=1&resourceVersion=${resourceVersion}`, admin);
    expect([gone.code, gone.body.type, gone.body.object.code, gone.body.object.reason]).toEqual([
      200,
      "ERROR",
      410,
      "Expired",
    ]);
    const list = await ask(`${maps}?resourceVersion=${resourceVersion}&resourceVersionMatch=Exact`, admin);
    expect([list.code, list.body.reason]).toEqual([410, "Expired"]);
    expect((await ask(`${maps}?watch=1&resourceVersion=999999`, admin)).code).toBe(504);
  });
});

describe("duplicate fields", () => {
  const send = async (text: string, type: string, query: string) => {
    const admin = await credentials("a", ["system:masters"]);
    const path = `/api/v1/namespaces/default/configmaps?dryRun=All${query}`;
    return ask(path, { ...admin, method: "POST", text, headers: { "Content-Type": type } });
  };
  const json = '{"metadata":{"name":"dup"},"data":{"a":"1"},"data":{"a":"2"}}';

  test("are refused by strict validation, of JSON and of YAML", async () => {
    const strict = await send(json, "application/json", "&fieldValidation=Strict");
    expect([strict.code, strict.body.message]).toEqual([
      400,
      'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "data"',
    ]);
    const yaml = await send(
      "metadata:\n  name: a\n  name: b\n",
      "application/yaml",
      "&fieldValidation=Strict",
    );
    expect(yaml.body.message).toContain(
      'strict decoding error: yaml: unmarshal errors:\n  line 3: key "name" already set in map',
    );
  });

  test("are a warning otherwise, or nothing, and the last one counts", async () => {
    const warned = await send(json, "application/json", "");
    expect([warned.code, warned.headers.warning, warned.body.data]).toEqual([
      201,
      '299 - "duplicate field \\"data\\""',
      { a: "2" },
    ]);
    expect((await send(json, "application/json", "&fieldValidation=Ignore")).headers.warning).toBeUndefined();
  });
});

test("the latest objects are those that the next write would find, durable or not", async () => {
  const made = server.kube.create(CONFIGMAPS, { metadata: { name: "fresh", namespace: "default" } });
  const names = () => server.latest("", "configmaps").map(({ metadata }) => metadata.name);
  expect(names()).toContain("fresh");
  await made;
  const going = server.kube.delete(CONFIGMAPS, "fresh", "default");
  expect(names()).not.toContain("fresh");
  await going;
});

const KUBECTL = ["/usr/bin/kubectl", "/usr/local/bin/kubectl"].find((path) => existsSync(path));

describe.skipIf(KUBECTL === undefined)("kubectl", () => {
  const run = promisify(execFile);
  const kubectl = async (...args: string[]) => {
    const env = {
      ...process.env,
      KUBECONFIG: server.kubeconfigFile,
      HOME: directory.path,
      EDITOR: "sed -i s/OLD/NEW/",
    };
    try {
      return (await run(KUBECTL!, args, { env, timeout: 20_000 })).stdout.trim();
    } catch (error) {
      return (error as { stderr: string }).stderr.trim();
    }
  };
  const deployment = (image: string) => `apiVersion: apps/v1
kind: Deployment
metadata: {name: d, annotations: {note: OLD}}
spec:
  selector: {matchLabels: {name: d}}
  template:
    metadata: {labels: {name: d}}
    spec: {containers: [{name: c, image: "${image}"}]}
`;

  test("apply, scale, label, edit, get, delete", async () => {
    const file = joinPath(directory.path, "d.yaml");
    writeFileSync(file, deployment("a:1"));
    expect(await kubectl("apply", "-f", file)).toBe("deployment.apps/d created");
    expect(await kubectl("apply", "-f", file)).toBe("deployment.apps/d unchanged");
    writeFileSync(file, deployment("a:2"));
    expect(await kubectl("apply", "-f", file)).toBe("deployment.apps/d configured");
    expect(await kubectl("scale", "deploy/d", "--replicas=3")).toBe("deployment.apps/d scaled");
    expect(await kubectl("label", "deploy", "d", "x=y")).toBe("deployment.apps/d labeled");
    expect(await kubectl("edit", "deploy", "d")).toBe("deployment.apps/d edited");
    const path =
      "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image} {.metadata.annotations.note}";
    expect(
      await kubectl("get", "deploy", "-l", "x in (y,z)", "-o", path.replaceAll("{.", "{.items[0].")),
    ).toBe("3 a:2 NEW");
    expect(await kubectl("get", "deploy", "d", "-o", "wide")).toMatch(
      /^NAME +READY .*SELECTOR\nd +0\/3 .*name=d$/,
    );
    expect(await kubectl("delete", "-f", file)).toBe('deployment.apps "d" deleted');
  });

  test("typed commands, which send protobuf", async () => {
    expect(await kubectl("create", "namespace", "n")).toBe("namespace/n created");
    expect(await kubectl("create", "configmap", "m", "-n", "n", "--from-literal=a=b")).toBe(
      "configmap/m created",
    );
    expect(await kubectl("get", "cm", "m", "-n", "n", "-o", "jsonpath={.data}")).toBe('{"a":"b"}');
    expect(await kubectl("create", "deployment", "w", "--image=i", "--replicas=0")).toBe(
      "deployment.apps/w created",
    );
    expect(await kubectl("get", "deploy", "w", "-o", "jsonpath={.spec.replicas}")).toBe("0");
  });

  test("errors as users know them", async () => {
    const file = joinPath(directory.path, "wrong.yaml");
    expect(await kubectl("get", "pod", "x")).toBe('Error from server (NotFound): pods "x" not found');
    writeFileSync(file, "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {prots: [{port: 80}]}\n");
    expect(await kubectl("create", "-f", file)).toContain(
      'Service in version "v1" cannot be handled as a Service: strict decoding error: unknown field "spec.prots"',
    );
    expect(await kubectl("apply", "--server-side", "-f", file)).toContain(
      "Server-side apply not available on the server",
    );
    expect(await kubectl("explain", "service.spec.type")).toContain("FIELD: type <string>");
    expect(readFileSync(server.kubeconfigFile, "utf8")).toContain("https://127.0.0.1:");
  });
});
