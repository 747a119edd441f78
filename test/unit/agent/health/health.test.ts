import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { healthz, livez, serviceHealth } from "../../../../src/agent/health/answers.js";
import { HealthServers } from "../../../../src/agent/health/HealthServers.js";
import { ProxyHealth } from "../../../../src/agent/health/ProxyHealth.js";
import type { HealthCheckConfig } from "../../../../src/model/AgentConfig.js";
import { SILENT } from "../../../../src/reconcile/Log.js";
import { waitFor } from "../../../support/netns.js";

const START = Date.UTC(2026, 0, 2, 3, 4, 5, 60);
let now: number;
/** What was asked to be done later, in order. */
let later: { at: number; work: () => void }[];
const clock = {
  now: () => now,
  date: () => new Date(START + now),
  after: (ms: number, work: () => void) => {
    const entry = { at: now + ms, work };
    later.push(entry);
    return () => void later.splice(later.indexOf(entry), 1);
  },
};
const pass = (ms: number) => {
  now += ms;
  for (const { work } of later.filter(({ at }) => at <= now)) work();
  later = later.filter(({ at }) => at > now);
};

beforeEach(() => {
  now = 0;
  later = [];
});

describe("health", () => {
  test("while it starts, and while what was asked for is not late", () => {
    const health = new ProxyHealth(clock);
    expect(health.state()).toMatchObject({ healthy: true, nodeEligible: true });
    health.queued("tables");
    pass(59_999);
    expect(health.healthy).toBe(true);
    expect(health.state().lastUpdated).toEqual(clock.date());
  });

  test("the oldest request counts, until all is done", () => {
    const health = new ProxyHealth(clock);
    health.done("tables");
    const done = clock.date();
    pass(1_000);
    health.queued("tables");
    pass(40_000);
    health.queued("tables");
    pass(20_000);
    expect(health.state()).toMatchObject({ healthy: false, lastUpdated: done, currentTime: clock.date() });
    health.done("tables");
    expect(health.healthy).toBe(true);
  });

  test("a dataplane that stalls is noticed sooner, though no table waits", () => {
    const health = new ProxyHealth(clock);
    health.queued("dataplane");
    pass(15_000);
    expect(health.state()).toMatchObject({ healthy: false, lastUpdated: null });
  });

  test("a node that is going to be removed is alive, and not eligible", () => {
    const health = new ProxyHealth(clock);
    health.setNodeEligible(false);
    expect(health.healthy).toBe(true);
    expect(healthz(health.state()).status).toBe(503);
    expect(livez(health.state()).status).toBe(200);
    health.setNodeEligible(true);
    expect(healthz(health.state()).status).toBe(200);
  });
});

describe("answers, as kube-proxy's", () => {
  const state = {
    healthy: false,
    lastUpdated: new Date(Date.UTC(2026, 0, 2, 3, 4, 50)),
    currentTime: new Date(Date.UTC(2026, 0, 2, 3, 5, 0, 120)),
    nodeEligible: true,
  };
  test("/healthz", () => {
    expect(healthz(state)).toMatchObject({
      status: 503,
      body: '{"lastUpdated": "2026-01-02 03:04:50 +0000 UTC","currentTime": "2026-01-02 03:05:00.12 +0000 UTC", "nodeEligible": true}',
    });
    expect(healthz({ ...state, lastUpdated: null }).body).toMatch(/"0001-01-01 00:00:00 \+0000 UTC"/);
  });
  test("/livez", () => {
    expect(livez({ ...state, healthy: true })).toMatchObject({
      status: 200,
      body: '{"lastUpdated": "2026-01-02 03:04:50 +0000 UTC","currentTime": "2026-01-02 03:05:00.12 +0000 UTC"}',
    });
  });
  test.each([
    [2, true, 200],
    [0, true, 503],
    [2, false, 503],
  ])("a Service with %i local endpoints, dataplane healthy: %s", (localEndpoints, healthy, status) => {
    const check = { namespace: "default", name: "web", port: 30999, localEndpoints };
    expect(serviceHealth(check, healthy)).toEqual({
      status,
      headers: {
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": String(localEndpoints),
      },
      body: `{\n\t"service": {\n\t\t"namespace": "default",\n\t\t"name": "web"\n\t},\n\t"localEndpoints": ${localEndpoints},\n\t"serviceProxyHealthy": ${healthy}\n}`,
    });
  });
});

describe("servers", () => {
  let health: ProxyHealth;
  let servers: HealthServers;
  let failures: string[];
  const others: Server[] = [];

  beforeEach(() => {
    health = new ProxyHealth(clock);
    failures = [];
    servers = new HealthServers({
      health,
      clock,
      log: SILENT,
      onFailed: ({ name }, message) => failures.push(`${name}: ${message}`),
    });
  });
  afterEach(async () => {
    await servers.close();
    await Promise.all(others.splice(0).map((each) => new Promise((resolve) => each.close(resolve))));
  });

  /** A port that nobody uses; with `hold` somebody does. */
  async function port(hold = false): Promise<number> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port: found } = server.address() as AddressInfo;
    if (hold) others.push(server);
    else await new Promise((resolve) => server.close(resolve));
    return found;
  }
  const addresses = ["127.0.0.1"];
  const check = (port: number, localEndpoints = 1, name = "web"): HealthCheckConfig => ({
    namespace: "default",
    name,
    port,
    localEndpoints,
  });
  /** Status of an answer; 0 where nobody listens. */
  const status = (port: number, path = "/") =>
    fetch(`http://127.0.0.1:${port}${path}`, { headers: { Connection: "close" } }).then(
      async (response) => {
        await response.text();
        return response.status;
      },
      () => 0,
    );
  const becomes = (port: number, wanted: number, path = "/") =>
    waitFor(async () => (await status(port, path)) === wanted, { what: `${path} of ${port} is ${wanted}` });

  test("/healthz and /livez, and nothing else", async () => {
    const at = await port();
    servers.sync({ healthz: `127.0.0.1:${at}`, addresses, checks: [] });
    await becomes(at, 200, "/healthz");
    expect(await status(at, "/livez?verbose")).toBe(200);
    expect(await status(at, "/metrics")).toBe(404);
    health.setNodeEligible(false);
    expect(await status(at, "/healthz")).toBe(503);
    expect(await status(at, "/livez")).toBe(200);
  });

  test("ports open, change and close with the list", async () => {
    const [a, b] = [await port(), await port()];
    servers.sync({ healthz: null, addresses, checks: [check(a), check(b, 0, "other")] });
    await becomes(a, 200);
    await becomes(b, 503);
    servers.sync({ healthz: null, addresses, checks: [check(a, 0), check(b, 3, "other")] });
    expect([await status(a), await status(b)]).toEqual([503, 200]);
    servers.sync({ healthz: null, addresses, checks: [check(b, 3, "other")] });
    await becomes(a, 0);
    expect(await status(b)).toBe(200);
  });

  test("an open connection does not keep a port, and a port may go to another Service", async () => {
    const at = await port();
    servers.sync({ healthz: null, addresses, checks: [check(at)] });
    await becomes(at, 200);
    // fetch keeps this one.
    await (await fetch(`http://127.0.0.1:${at}/`)).text();
    servers.sync({ healthz: null, addresses, checks: [check(at, 0, "heir")] });
    await waitFor(async () => {
      pass(5_000);
      return (await status(at)) === 503;
    });
  });

  test("a port in use is reported, and tried again", async () => {
    const at = await port(true);
    servers.sync({ healthz: null, addresses, checks: [check(at)] });
    await waitFor(() => failures.length === 1);
    expect(failures[0]).toMatch(/^web: listen EADDRINUSE/);
    await new Promise((resolve) => others.pop()!.close(resolve));
    pass(5_000);
    await becomes(at, 200);
    expect(failures).toHaveLength(1);
  });
});
