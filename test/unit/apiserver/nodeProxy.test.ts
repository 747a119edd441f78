/** Nodes' own servers by way of the API server: what passes, who may, what is kept back. */
import { request } from "node:https";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { KubeClient } from "../../../src/kube/KubeClient.js";
import { nodeProxyPath, readNode } from "../../../src/kube/nodeProxy.js";
import { NODES } from "../../../src/kube/resources.js";
import type { Node } from "../../../src/kube/types.js";
import {
  clientOf,
  NODE,
  nodeAt,
  nodeClient,
  type PodCluster,
  startPodCluster,
} from "../../support/podCluster.js";

let cluster: PodCluster;
let admin: { cert: string; key: string; ca: string };

beforeAll(async () => {
  cluster = await startPodCluster();
  await cluster.pod("web", ["app"]);
  cluster.access.say("default/web/app", "a line");
  admin = await clientOf(cluster.ca, { commonName: "somebody", organizations: ["system:masters"] });
});
afterAll(() => cluster.stop());

function ask(
  path: string,
  {
    method = "GET",
    headers = {},
    tls = admin,
  }: { method?: string; headers?: Record<string, string>; tls?: object } = {},
): Promise<{ code: number; type: string | undefined; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: "127.0.0.1", port: cluster.server.port, path, method, headers, agent: false, ...tls },
      (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (piece: string) => {
          text += piece;
        });
        answer.on("end", () =>
          resolve({ code: answer.statusCode!, type: answer.headers["content-type"], text }),
        );
      },
    );
    sent.on("error", reject);
    sent.end();
  });
}

describe("the proxy to a node", () => {
  test("passes on path and query, and the answer with its kind", async () => {
    const status = await ask(nodeProxyPath(NODE, "podwire/status"));
    expect(status).toEqual({ code: 200, type: "application/json", text: '{"node":"n1"}' });
    const flows = await ask(nodeProxyPath(NODE, "podwire/flows", new URLSearchParams({ limit: "3" })));
    expect(JSON.parse(flows.text)).toEqual({ flows: [], more: false });
    const log = await ask(nodeProxyPath(NODE, "containerLogs/default/web/app?tailLines=1"));
    expect(log).toEqual({ code: 200, type: "text/plain", text: "a line\n" });
    expect((await ask(`/api/v1/nodes/${NODE}/proxy`)).code).toBe(404);
  });

  test("passes on a refusal of the node's", async () => {
    const answer = await ask(nodeProxyPath(NODE, "podwire/flows?limit=x"));
    expect(answer).toMatchObject({ code: 400, text: 'limit: "x" must be a whole number' });
  });

  test("is what kubectl and our client read", async () => {
    const { code, stdout } = await cluster.kubectl("get", "--raw", nodeProxyPath(NODE, "podwire/counters"));
    expect([code, JSON.parse(stdout)]).toEqual([0, { received: 7 }]);
    const client = await KubeClient.fromFile(cluster.server.kubeconfigFile);
    expect(await readNode(client, NODE, "podwire/status")).toEqual({ node: "n1" });
    await expect(readNode(client, "nobody", "podwire/status")).rejects.toMatchObject({ code: 404 });
    client.close();
  });

  test("is for those with the right to nodes/proxy: not for nodes, whichever", async () => {
    const node = await nodeClient(cluster.server, NODE);
    for (const path of ["podwire/status", "podwire/tables?watch=1", ""])
      await expect(readNode(node, NODE, path)).rejects.toMatchObject({
        code: 403,
        message: expect.stringMatching(/cannot (get|watch) resource "nodes\/proxy"/),
      });
    node.close();
    const { ca } = admin;
    expect((await ask(nodeProxyPath(NODE, "podwire/status"), { tls: { ca } })).code).toBe(403);
    const rights = await cluster.kubectl(
      "auth",
      "can-i",
      "get",
      "nodes",
      "--subresource=proxy",
      "--as=system:node:n1",
      "--as-group=system:nodes",
    );
    expect(rights.stdout.trim()).toBe("no");
  });

  test("reads only", async () => {
    for (const method of ["POST", "PUT", "DELETE", "PATCH"])
      expect((await ask(nodeProxyPath(NODE, "podwire/status"), { method })).code).toBe(405);
    const headers = { connection: "Upgrade", upgrade: "websocket" };
    const exec = nodeProxyPath(NODE, "exec/default/web/app?command=id&output=1");
    expect((await ask(exec, { headers })).code).toBe(400);
  });

  test("is about that node alone", async () => {
    const sneaky = await ask(`/api/v1/nodes/nobody/proxy/../../${NODE}/proxy/podwire/status`);
    expect(sneaky).toMatchObject({ code: 200, text: '{"node":"n1"}' });
    expect((await ask(nodeProxyPath("no/body", "podwire/status"))).code).toBe(404);
    await cluster.server.kube.create<Node>(NODES, nodeAt("gone", "127.0.0.1", 1));
    const gone = await ask(nodeProxyPath("gone", "podwire/status"));
    expect(gone.code).toBe(500);
    expect(JSON.parse(gone.text).message).toMatch(/dial tcp 127\.0\.0\.1:1: connect: connection refused/);
  });
});
