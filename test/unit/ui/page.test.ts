/**
 * The page in a real browser (Debian's chromium): it loads, shows the cluster, follows it, draws a trace,
 * has no error and asks nobody but its server. Screenshots are kept in test-output/ui.
 */
import { mkdirSync } from "node:fs";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { ENDPOINTSLICES, PODS } from "../../../src/kube/resources.js";
import type { EndpointSlice, Pod } from "../../../src/kube/types.js";
import type { Traced } from "../../../src/ui/pathView.js";
import type { NodeCounters } from "../../../src/ui/traffic.js";
import type { Tracer } from "../../../src/ui/UiServer.js";
import { BROWSER, launchBrowser, type OpenPage, openPage } from "../../support/browser.js";
import {
  type ClusterShape,
  clusterOf,
  DAEMON_SETS,
  manyNodes,
  STEP_SERVICES,
  WALKTHROUGH_NODES,
} from "../../support/topology.js";
import { compilePage, createWithStatus, OUTPUT, servePage, type TestPage } from "../../support/ui.js";

const SHOTS = `${OUTPUT}/ui`;

const SHAPE: ClusterShape = {
  nodes: WALKTHROUGH_NODES,
  daemonSets: DAEMON_SETS,
  services: STEP_SERVICES.loadbalancer,
};

let modules: string;
let browser: Browser;

test("a browser is there (sh scripts/setup.sh test)", () => expect(BROWSER).toBeDefined());

describe.skipIf(BROWSER === undefined)("the page", () => {
  beforeAll(async () => {
    mkdirSync(SHOTS, { recursive: true });
    modules = compilePage();
    browser = await launchBrowser();
  });
  afterAll(() => browser?.close());

  function open({ address }: TestPage, options?: Parameters<typeof openPage>[2]): Promise<OpenPage> {
    return openPage(browser, address, options);
  }

  async function serve(shape = SHAPE, trace?: Tracer): Promise<TestPage> {
    const served = await servePage(shape, {
      modules,
      ...(trace === undefined ? {} : { trace }),
      flows: async () => [
        {
          node: "k8s-master",
          protocol: "tcp",
          source: "192.168.2.10:40000",
          destination: "192.168.2.36:8080",
          translated: "10.1.79.65:80",
          state: "ESTABLISHED",
        },
      ],
    });
    onTestFinished(() => served.close());
    return served;
  }

  /** The names in the picture. */
  function names(page: Page): Promise<string[]> {
    return page.locator("svg.picture text").allTextContents();
  }

  test("shows four nodes with their pods, and follows a pod that is added and one that goes", async () => {
    const served = await serve();
    const { page, problems } = await open(served);
    for (const { name, address, tunnelAddress } of WALKTHROUGH_NODES)
      expect(await names(page)).toEqual(expect.arrayContaining([name, address, tunnelAddress]));
    expect(await page.getByRole("status").textContent()).toBe("live");
    await page.screenshot({ path: `${SHOTS}/everything.png`, fullPage: true });

    const [first] = clusterOf(SHAPE).pods;
    const pod: Pod = {
      ...first!,
      metadata: { namespace: "default", name: "echo-1" },
      status: { ...first!.status!, podIP: "10.1.235.200" },
    };
    await createWithStatus(served.kube, PODS, pod);
    await page.locator('svg.picture [data-ref="pod:default/echo-1"]').first().waitFor();
    expect(await names(page)).toEqual(expect.arrayContaining(["echo-1", "10.1.235.200"]));
    await served.kube.delete(PODS, "echo-1", "default", { gracePeriodSeconds: 0 });
    await page.locator('svg.picture [data-ref="pod:default/echo-1"]').first().waitFor({ state: "detached" });
    expect(problems).toEqual([]);
  });

  test("an endpoint that goes takes its line along", async () => {
    const served = await serve();
    const { page, problems } = await open(served, { hash: "loadbalancer" });
    const lines = page.locator('svg.picture g[data-ref="flow:default/lb-nginx-ds"]');
    const before = await lines.count();
    const name = "lb-nginx-ds-1";
    const slice = await served.kube.get<EndpointSlice>(ENDPOINTSLICES, name, "default");
    await served.kube.update(ENDPOINTSLICES, { ...slice, endpoints: slice.endpoints!.slice(1) });
    await expect.poll(() => lines.count()).toBe(before - 1);
    expect(problems).toEqual([]);
  });

  test.each([
    ["overlay", "VXLAN device (VTEP)", "lb-nginx-ds"],
    ["loadbalancer", "192.168.2.36 :8080", "no such text"],
  ])("step %s, chosen by its link", async (step, shown, hidden) => {
    const { page, problems } = await open(await serve());
    await page.locator(`nav a[href="#${step}"]`).click();
    await page.locator(`nav a[href="#${step}"][aria-current="page"]`).waitFor();
    await expect.poll(() => names(page)).toEqual(expect.arrayContaining([shown]));
    await expect.poll(() => names(page)).not.toContain(hidden);
    await page.screenshot({ path: `${SHOTS}/${step}.png`, fullPage: true });
    expect(problems).toEqual([]);
  });

  test("traffic: rates, drops, announcements, BFD and flows; lines with traffic move", async () => {
    const served = await serve();
    const { page, problems } = await open(served);
    const counted = (n: number): NodeCounters => ({
      received: 1000 * n,
      forwarded: 990 * n,
      dropped: { noRoute: 7 * n },
      takenAtMs: 2000 * n,
      vteps: [
        {
          node: "k8s-worker02",
          sent: { packets: 500 * n, bytes: 250_000 * n },
          received: { packets: 400 * n, bytes: 40_000 * n },
        },
      ],
      services: [
        {
          namespace: "default",
          name: "lb-nginx-ds",
          requests: { packets: 100 * n, bytes: 10_000 * n },
          replies: { packets: 100 * n, bytes: 90_000 * n },
        },
      ],
    });
    served.agents.announcements.set("k8s-worker01", {
      addresses: [
        { address: "192.168.2.36", owner: "k8s-worker01", since: "2024-05-01T10:00:00Z", answers: true },
      ],
      neighbors: [{ node: "k8s-master", state: "Up", upSince: "2024-05-01T09:00:00Z" }],
    });
    served.agents.counters.set("k8s-worker01", counted(1));
    await page.getByRole("cell", { name: "noRoute" }).waitFor();
    served.agents.counters.set("k8s-worker01", counted(2));
    // 250,000 bytes in two seconds of the agent's clock.
    await page.getByRole("cell", { name: "1.00 Mbit/s" }).waitFor();
    await page
      .locator('svg.picture g[data-ref="flow:default/lb-nginx-ds"] path.busy')
      .first()
      .waitFor({ state: "attached" });
    await page
      .locator('svg.picture g[data-ref="wire:k8s-worker02"] path.busy')
      .first()
      .waitFor({ state: "attached" });
    expect(await page.getByRole("cell", { name: "Up", exact: true }).count()).toBe(1);
    await expect.poll(() => names(page)).toContain("k8s-worker01 answers");
    await page.getByRole("button", { name: "Show" }).click();
    await page.getByRole("cell", { name: "10.1.79.65:80" }).waitFor();
    await page.screenshot({ path: `${SHOTS}/traffic.png`, fullPage: true });
    expect(problems).toEqual([]);
  });

  test("a trace is drawn on the picture, with its decisions; a refusal is told", async () => {
    const served = await serve(SHAPE, async ({ to }) => {
      if (to !== "svc/lb-nginx-ds") throw new Error(`no Service "${to}"`);
      return TRACED;
    });
    const { page, problems } = await open(served, { hash: "loadbalancer" });
    await page.locator('input[name="from"]').fill("pc");
    await page.locator('input[name="to"]').fill("svc/lb-nginx-ds");
    await page.getByRole("button", { name: "Trace" }).click();
    await page.locator('svg.picture g[data-path="request"]').waitFor({ state: "attached" });
    await page.locator('svg.picture g[data-path="reply"]').waitFor({ state: "attached" });
    await page.getByText("slot 17 of 1021").waitFor();
    // From the computer on the LAN at the left to the pod on the other node.
    const box = await page.locator('svg.picture g[data-path="request"]').boundingBox();
    const pod = await page.locator(`svg.picture rect[data-ref="${POD}"]`).first().boundingBox();
    expect(box!.x).toBeLessThan(pod!.x);
    expect(box!.y + box!.height).toBeGreaterThan(pod!.y);
    await page.screenshot({ path: `${SHOTS}/trace.png`, fullPage: true });
    expect(problems).toEqual([]);

    await page.locator('input[name="to"]').fill("svc/nobody");
    await page.getByRole("button", { name: "Trace" }).click();
    await page.getByText('no Service "svc/nobody"').waitFor();
    await page.locator('svg.picture g[data-path="request"]').waitFor({ state: "detached" });
  });

  test("dark where the system is, and as one chooses", async () => {
    const { page, problems } = await open(await serve(), { colorScheme: "dark" });
    const paper = () => page.evaluate<string>("getComputedStyle(document.body).backgroundColor");
    expect(await paper()).toBe("rgb(18, 22, 28)");
    await page.screenshot({ path: `${SHOTS}/dark.png`, fullPage: true });
    await page.getByLabel("colours").selectOption("light");
    await expect.poll(paper).toBe("rgb(255, 255, 255)");
    await page.reload();
    await page.locator("svg.picture").waitFor();
    expect(await paper()).toBe("rgb(255, 255, 255)");
    expect(problems).toEqual([]);
  });

  test("50 nodes", async () => {
    const nodes = manyNodes(50);
    const { page, problems } = await open(await serve({ ...SHAPE, nodes }), { hash: "loadbalancer" });
    await expect.poll(() => names(page)).toContain("worker-050");
    expect(await page.locator('svg.picture rect[data-ref^="pod:"]').count()).toBe(150);
    await page.screenshot({ path: `${SHOTS}/50-nodes.png`, fullPage: true });
    expect(problems).toEqual([]);
  });
});

const [POD_OF_WORKER] = clusterOf(SHAPE).pods.filter(({ spec }) => spec?.nodeName === "k8s-worker03");
const POD = `pod:default/${POD_OF_WORKER!.metadata.name}`;
const CLIENT = "192.168.2.10";
const BACKEND = "10.1.39.193";

const step = (lane: string, stage: string, what: string, because = "") => ({ lane, stage, what, because });

/** A request from outside by one node to a pod on another, and its reply. */
const TRACED: Traced = {
  verdict: "answered",
  notes: [],
  request: {
    packet: { source: CLIENT, destination: "192.168.2.36" },
    steps: [
      step("pc", "send", "sends tcp 192.168.2.10:40000 → 192.168.2.36:8080"),
      step("k8s-worker01", "service", "default/lb-nginx-ds: 10.1.39.193:80", "slot 17 of 1021"),
      step("k8s-worker01", "encap", "to k8s-worker03"),
      step("k8s-worker03", "deliver", "to the pod's TAP"),
    ],
    end: {
      kind: "delivered",
      lane: "k8s-worker03",
      to: "pod default/nginx",
      packet: { source: CLIENT, destination: BACKEND },
    },
  },
  reply: {
    packet: { source: BACKEND, destination: CLIENT },
    steps: [
      step("k8s-worker03", "encap", "to k8s-worker01", "the request came through it"),
      step("k8s-worker01", "translate", "from 192.168.2.36:8080"),
      step("pc", "deliver", "arrives"),
    ],
    end: {
      kind: "delivered",
      lane: "pc",
      to: CLIENT,
      packet: { source: "192.168.2.36", destination: CLIENT },
    },
  },
};
