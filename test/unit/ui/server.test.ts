/** The page's server: who is answered, with what, and that nothing else can be read. */
import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { ClusterView } from "../../../src/ui/protocol.js";
import type { NodeCounters } from "../../../src/ui/traffic.js";
import { DAEMON_SETS, STEP_SERVICES, WALKTHROUGH_NODES } from "../../support/topology.js";
import { servePage, type TestPage } from "../../support/ui.js";

let served: TestPage;
beforeAll(async () => {
  const shape = { nodes: WALKTHROUGH_NODES, daemonSets: DAEMON_SETS, services: STEP_SERVICES.nodeport };
  served = await servePage(shape, { modules: "/nowhere" });
});
afterAll(() => served.close());

interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
}

function ask(path: string, options: { host?: string; method?: string } = {}): Promise<Answer> {
  const { hostname, port } = new URL(served.address);
  const { host = `127.0.0.1:${port}`, method = "GET" } = options;
  return new Promise((resolve, reject) => {
    const sent = request({ hostname, port, path, method, headers: { host } }, (answer) => {
      let text = "";
      answer.setEncoding("utf8");
      answer.on("data", (piece: string) => {
        text += piece;
      });
      answer.on("end", () => resolve({ status: answer.statusCode!, headers: answer.headers, text }));
    });
    sent.on("error", reject);
    sent.end();
  });
}

test.each([
  ["127.0.0.1:9476", 200],
  ["localhost", 200],
  ["LOCALHOST:1", 200],
  ["[::1]:9476", 200],
  ["192.0.2.1", 200],
  ["evil.example", 403],
  ["evil.example:9476", 403],
  ["127.0.0.1.evil.example", 403],
  ["localhost.evil.example", 403],
  ["[evil]", 403],
])("a request for the host %s is answered %i", async (host, status) => {
  expect((await ask("/", { host })).status).toBe(status);
});

test.each(["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])("%s changes nothing", async (method) => {
  expect((await ask("/api/cluster", { method })).status).toBe(405);
});

test("the page loads nothing from elsewhere, and cannot be framed", async () => {
  const { headers, text } = await ask("/");
  const policy = headers["content-security-policy"];
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).not.toMatch(/unsafe|https?:|\*/);
  expect([...text.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, url]) => url)).toEqual([
    "data:,",
    "/theme.css",
    "/ui/page/style.css",
    "/ui/page/main.js",
  ]);
});

test.each([
  "/ui/page/../../cli/main.js",
  "/ui/page/%2e%2e/UiServer.js",
  "/ui/UiServer.js",
  "/explain/picture/png.js",
  "/modules/../../package.json",
  "/etc/passwd",
  "//etc/passwd",
  "/api/",
])("%s is not there", async (path) => {
  expect((await ask(path)).status).toBe(404);
});

describe("the cluster", () => {
  test("as a picture with what stands in its tables", async () => {
    const { text, headers } = await ask("/api/cluster?step=nodeport");
    const view = JSON.parse(text) as ClusterView;
    expect(headers["cache-control"]).toBe("no-store");
    expect(view.connected).toBe(true);
    expect(view.nodes.map(({ name }) => name)).toEqual(WALKTHROUGH_NODES.map(({ name }) => name));
    expect(view.nodes.every(({ ready, live }) => ready && live)).toBe(true);
    expect(view.pods).toHaveLength(12);
    expect(view.blocks[0]).toEqual({ cidr: "10.1.235.192/26", node: "k8s-master", used: 4, size: 64 });
    expect(view.services.map(({ paint }) => paint).sort()).toEqual(["service0", "service1", "service2"]);
    expect(view.picture.shapes.length).toBeGreaterThan(100);
  });

  test("a step that there is none of is refused", async () => {
    expect(await ask("/api/cluster?step=five")).toMatchObject({ status: 400 });
  });

  test("a trace where nobody traces", async () => {
    const { status, text } = await ask("/api/trace?from=pc&to=x");
    expect(status).toBe(501);
    expect(JSON.parse(text)).toEqual({ error: "nobody traces here" });
  });
});

test("an agent that tells what nobody can read does not end the looks at all of them", async () => {
  served.agents.counters.set("k8s-master", {} as NodeCounters);
  const events = new AbortController();
  const { body } = await fetch(`${served.address}/api/events`, { signal: events.signal });
  // Read from at once: fetch cancels a body that nobody reads when its Response is collected.
  const pieces = body!.pipeThrough(new TextDecoderStream());
  await vi.waitFor(() => expect(served.errors).not.toEqual([]), 10_000);
  served.agents.counters.delete("k8s-master");
  let text = "";
  for await (const piece of pieces) {
    text += piece;
    if (text.includes("event: traffic")) break;
  }
  expect(text).toContain("event: traffic");
  events.abort();
});
