/** The pod port: whom it answers, what it refuses, how sessions end. */
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { request } from "node:https";
import { createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import WebSocket from "ws";
import type { FlowView } from "../../../../src/agent/flowReport.js";
import { PROTOCOLS } from "../../../../src/agent/podPort/remoteCommand.js";
import { startPodPort } from "../../../../src/agent/podPort/startPodPort.js";
import { FakeClock } from "../../../../src/kube/Clock.js";
import { servingCertificate } from "../../../../src/kube/servingCertificate.js";
import { APISERVER_CLIENT } from "../../../../src/model/podPort.js";
import { SILENT } from "../../../../src/reconcile/Log.js";
import { FLOW_ORIGINAL, KEY_PORTS } from "../../../../src/tables/flowLayout.js";
import { Tables } from "../../../../src/tables/TableImage.js";
import { draft } from "../../../support/flows.js";
import { LocalPodAccess } from "../../../support/LocalPodAccess.js";
import { fakeNodeState } from "../../../support/nodeState.js";
import { clientOf, NODE, nodeClient, type PodCluster, startPodCluster } from "../../../support/podCluster.js";

const HOST = "127.0.0.1";
const WAIT = { timeout: 20_000, interval: 20 };
const { commonName, organization } = APISERVER_CLIENT;

interface Tls {
  cert?: string;
  key?: string;
  ca: string;
}

let cluster: PodCluster;
let apiserver: Tls;

beforeAll(async () => {
  cluster = await startPodCluster({ pingMs: 100, idleMs: 2000 });
  await cluster.pod("web", ["app"]);
  cluster.access.say("default/web/app", "a line");
  apiserver = await clientOf(cluster.ca, { commonName, organizations: [organization] });
});
afterAll(() => cluster.stop());

function ask(
  path: string,
  tls: Tls,
  more: { method?: string; headers?: Record<string, string>; port?: number } = {},
): Promise<{ code: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: HOST, port: cluster.port, path, agent: false, ...tls, ...more },
      (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (piece: string) => {
          text += piece;
        });
        answer.on("end", () => resolve({ code: answer.statusCode!, text }));
      },
    );
    sent.on("error", reject);
    sent.end();
  });
}

/** A session and what it says; `ended` is the close code and its reason. */
function session(
  command: string[],
  query = "input=1&output=1&error=1",
  protocols: readonly string[] = PROTOCOLS,
) {
  const url = `wss://${HOST}:${cluster.port}/exec/default/web/app?${query}`;
  const socket = new WebSocket(
    `${url}${command.map((each) => `&command=${encodeURIComponent(each)}`).join("")}`,
    [...protocols],
    apiserver,
  );
  const said = ["", "", "", ""];
  socket.on("message", (data: Buffer) => {
    said[data[0]!] += data.toString("utf8", 1);
  });
  const ended = once(socket, "close").then(([code, reason]) => [code, String(reason)]);
  return { socket, said, ended, opened: once(socket, "open") };
}

describe("who may ask", () => {
  const logs = "/containerLogs/default/web/app";

  test("the API server", async () => {
    expect(await ask(logs, apiserver)).toEqual({ code: 200, text: "a line\n" });
    expect(await ask("/healthz", apiserver)).toEqual({ code: 200, text: "ok" });
  });

  test("nobody without a certificate, or with another CA's", async () => {
    const stranger = await startPodCluster();
    const other = await clientOf(stranger.ca, { commonName, organizations: [organization] });
    await stranger.stop();
    const ca = apiserver.ca;
    expect(await ask(logs, { ca })).toEqual({ code: 401, text: "Unauthorized" });
    expect(await ask(logs, { ...other, ca })).toEqual({ code: 401, text: "Unauthorized" });
    expect(await ask("/healthz", { ca })).toMatchObject({ code: 401 });
  });

  test.each([
    ["an administrator", "kubernetes-admin", ["system:masters"]],
    ["a node", "system:node:n1", ["system:nodes"]],
    ["the name without its group", commonName, []],
    ["the group without its name", "somebody", [organization]],
    ["the name in another group", commonName, ["system:masters"]],
  ])("not %s", async (_, name, organizations) => {
    const tls = await clientOf(cluster.ca, { commonName: name, organizations });
    for (const path of [logs, "/healthz", "/exec/default/web/app?command=id&output=1"])
      expect(await ask(path, tls)).toMatchObject({ code: 403 });
    const headers = { connection: "Upgrade", upgrade: "websocket" };
    expect(await ask("/exec/default/web/app?command=id&output=1", tls, { headers })).toMatchObject({
      code: 403,
    });
  });

  test("not with a certificate for servers, not even one of that name", async () => {
    const { certificate, key } = await cluster.ca.issue({ commonName, organizations: [organization] }, [
      HOST,
    ]);
    expect(await ask(logs, { cert: certificate, key, ca: apiserver.ca })).toMatchObject({ code: 401 });
  });
});

describe("what is refused", () => {
  const exec = "/exec/default/web/app?command=id&output=1";
  const upgrade = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13" };
  const key = { "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==" };

  test.each([
    ["a command without upgrade", exec, {}, 400, "Upgrade request required"],
    ["SPDY", exec, { headers: { ...upgrade, upgrade: "SPDY/3.1" } }, 400, "over WebSocket only"],
    ["no protocol", exec, { headers: { ...upgrade, ...key } }, 400, "unable to negotiate protocol"],
    [
      "an older protocol",
      exec,
      { headers: { ...upgrade, ...key, "sec-websocket-protocol": "v3.channel.k8s.io" } },
      400,
      "client supports [v3.channel.k8s.io], server accepts [v5.channel.k8s.io v4.channel.k8s.io]",
    ],
    [
      "no WebSocket key",
      exec,
      { headers: { ...upgrade, "sec-websocket-protocol": PROTOCOLS[0] } },
      400,
      "Sec-WebSocket-Key",
    ],
    ["an upgrade of a log", "/containerLogs/default/web/app", { headers: upgrade }, 400, "takes no upgrade"],
    ["a log that is posted", "/containerLogs/default/web/app", { method: "POST" }, 405, "Method Not Allowed"],
    ["a pod that is not there", "/containerLogs/default/nobody/app", {}, 404, 'pod "nobody" not found'],
    [
      "no previous instance",
      "/containerLogs/default/web/app?previous=true",
      {},
      400,
      "previous terminated container",
    ],
    ["any other path", "/pods", {}, 404, "404 page not found"],
    ["any other topic", "/podwire/secrets", {}, 404, "404 page not found"],
    ["a filter that is none", "/podwire/flows?source=here", {}, 400, "source: is no address or prefix"],
    ["an unknown filter", "/podwire/flows?colour=red", {}, 400, 'Unrecognized key: "colour"'],
    ["a limit that is none", "/podwire/flows?limit=-1", {}, 400, 'limit: "-1" must be a whole number'],
    ["an address that is none", "/podwire/records?address=a", {}, 400, "addresses.0"],
    ["a topic that is posted", "/podwire/status", { method: "POST" }, 405, "Method Not Allowed"],
  ])("%s", async (_, path, more, code, text) => {
    const answer = await ask(path, apiserver, more);
    expect(answer.code).toBe(code);
    expect(answer.text).toContain(text);
  });

  test.each([
    ["text", "hello", 1003, "messages must be binary"],
    ["an unknown channel", Buffer.from([9, 1]), 1002, "channel 9 is not for clients"],
    ["a bad window size", Buffer.from("\x04[]"), 1007, "a window size has Width and Height from 0 to 65535"],
    ["a message too long", Buffer.alloc((1 << 20) + 1), 1009, ""],
  ])("%s in a session, which ends with its command", async (_, message, code, reason) => {
    const { socket, opened, ended } = session(["sleep", "1000"]);
    await opened;
    await vi.waitFor(() => expect(cluster.access.running.size).toBe(1), WAIT);
    socket.send(message);
    expect(await ended).toEqual([code, reason]);
    await vi.waitFor(() => expect(cluster.access.running.size).toBe(0), WAIT);
  });
});

describe("what the agent tells of itself", () => {
  const tell = async (path: string) => {
    const { code, text } = await ask(`/podwire/${path}`, apiserver);
    expect(code).toBe(200);
    return JSON.parse(text);
  };

  test("status, counters, tables", async () => {
    expect(await tell("status")).toEqual({ node: "n1" });
    expect(await tell("counters")).toEqual({ received: 7 });
    const { image } = await tell("tables");
    const bytes = Buffer.from(image, "base64");
    expect(new Tables(new Uint8Array(bytes).buffer).vni).toBe(4096);
  });

  test("flows that match, and no more than asked for; raw records by address", async () => {
    for (let port = 1; port <= 5; port++)
      cluster.flows.insert(
        draft(6, {
          source: "10.1.0.1",
          destination: port > 3 ? "10.1.0.3" : "10.1.0.2",
          sourcePort: port,
          destinationPort: 80,
        }),
        0,
      );
    const { flows, more } = await tell("flows?protocol=6&destination=10.1.0.3");
    expect([flows.map(({ original }: FlowView) => original.sourcePort).sort(), more]).toEqual([
      [4, 5],
      false,
    ]);
    expect(await tell("flows?limit=2")).toMatchObject({ flows: [{}, {}], more: true });
    expect(await tell("flows?limit=5")).toMatchObject({ more: false });
    const raw = async (query: string) => {
      const { records, recordWords, truncated } = await tell(`records${query}`);
      expect(truncated).toBe(false);
      const words = new Int32Array(new Uint8Array(Buffer.from(records, "base64")).buffer);
      return Array.from(
        { length: words.length / recordWords },
        (_, i) => words[i * recordWords + FLOW_ORIGINAL + KEY_PORTS] >>> 16,
      ).sort();
    };
    expect(await raw("")).toEqual([1, 2, 3, 4, 5]);
    expect(await raw("?address=10.1.0.3&address=10.1.0.9")).toEqual([4, 5]);
    expect(await raw("?address=10.1.0.9")).toEqual([]);
  });
});

describe("a session", () => {
  test("in v5 ends stdin, and says how the command ended", async () => {
    const { socket, said, ended, opened } = session(["sh", "-c", "cat; echo no >&2; exit 4"]);
    await opened;
    expect(socket.protocol).toBe("v5.channel.k8s.io");
    socket.send(Buffer.from("\x00hello"));
    socket.send(Buffer.from([255, 0]));
    // What comes behind the end is nobody's.
    socket.send(Buffer.from("\x00more"));
    expect(await ended).toEqual([1000, ""]);
    expect(said.slice(0, 3)).toEqual(["", "hello", "no\n"]);
    expect(JSON.parse(said[3]!)).toMatchObject({
      reason: "NonZeroExitCode",
      details: { causes: [{ message: "4" }] },
    });
  });

  test("in v4 ends with its command", async () => {
    const { socket, said, ended, opened } = session(["head", "-c", "3"], undefined, [PROTOCOLS[1]]);
    await opened;
    socket.send(Buffer.from("\x00abc"));
    expect(await ended).toEqual([1000, ""]);
    expect([said[1], JSON.parse(said[3]!).status]).toEqual(["abc", "Success"]);
  });

  test("of a command that cannot start says so and ends", async () => {
    cluster.access.endContainer("default/web/app");
    const { said, ended } = session(["id"]);
    expect(await ended).toEqual([1000, ""]);
    cluster.access.containers.get("default/web/app")!.running = true;
    expect(JSON.parse(said[3]!)).toMatchObject({
      reason: "BadRequest",
      message: 'container not found ("app")',
    });
  });

  test("in which nothing moves is ended, pings or not", async () => {
    const { socket, said, ended } = session(["sleep", "1000"]);
    let pings = 0;
    socket.on("ping", () => {
      pings++;
    });
    expect(await ended).toEqual([1000, ""]);
    expect(JSON.parse(said[3]!)).toMatchObject({ reason: "Timeout", message: "nothing moved for 2 s" });
    expect(pings).toBeGreaterThan(0);
    await vi.waitFor(() => expect(cluster.access.running.size).toBe(0), WAIT);
  });
});

describe("its certificate", () => {
  test("is for the node's name and address, for servers only", async () => {
    const client = await nodeClient(cluster.server, NODE);
    const { certificate, key } = await servingCertificate(client, NODE, [HOST]);
    const parsed = new X509Certificate(certificate);
    expect(parsed.subjectAltName).toBe(`DNS:${NODE}, IP Address:${HOST}`);
    // As a client's it says nothing to the API server.
    const answer = await ask(
      "/api/v1/nodes",
      { cert: certificate, key, ca: apiserver.ca },
      { port: cluster.server.port },
    );
    expect(answer.code).toBe(401);
    const refused = servingCertificate(client, NODE, ["192.0.2.1"]);
    await expect(refused).rejects.toMatchObject({ code: 403 });
    client.close();
  });

  test("is for nodes", async () => {
    const admin = await clientOf(cluster.ca, {
      commonName: "kubernetes-admin",
      organizations: ["system:masters"],
    });
    const answer = await ask("/join/v1/serving", admin, { method: "POST", port: cluster.server.port });
    expect(answer.code).toBe(403);
  });

  test("is asked for until it comes, and the port until it is free; renewed in time", async () => {
    const clock = new FakeClock(Date.now());
    const client = await nodeClient(cluster.server, NODE);
    const taken = createServer().listen(0, HOST);
    await once(taken, "listening");
    const { port } = taken.address() as { port: number };
    let asked = 0;
    const podPort = startPodPort({
      address: HOST,
      port,
      access: new LocalPodAccess(),
      state: fakeNodeState(),
      log: SILENT,
      clock,
      tls: async () => {
        asked++;
        if (asked === 1) throw new Error("no API server yet");
        return servingCertificate(client, NODE, [HOST]);
      },
    });
    const serial = async () => {
      let found = "";
      await vi.waitFor(async () => {
        const sent = request({ host: HOST, port, path: "/healthz", agent: false, ...apiserver });
        const answered = once(sent, "response");
        sent.end();
        const [answer] = await answered;
        found = answer.socket.getPeerCertificate().serialNumber;
        answer.resume();
      }, WAIT);
      return found;
    };
    const pass = async (ms: number, until: () => void) =>
      vi.waitFor(async () => {
        await clock.advance(ms);
        until();
      }, WAIT);
    await pass(1000, () => expect(asked).toBe(2));
    taken.close();
    let open = false;
    void podPort.opened.then(() => {
      open = true;
    });
    await pass(1000, () => expect(open).toBe(true));
    const first = await serial();
    await pass(24 * 3600_000, () => expect(asked).toBe(3));
    // Two thirds of a year.
    expect(clock.now() / (24 * 3600_000)).toBeGreaterThan(242);
    await vi.waitFor(async () => expect(await serial()).not.toBe(first), WAIT);
    await podPort.close();
    client.close();
  });
});
