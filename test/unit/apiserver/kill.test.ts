/** The real server, killed with SIGKILL while clients write: what it acknowledged is there afterwards. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { Agent, request } from "node:https";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { ClusterCa } from "../../../src/apiserver/pki/ClusterCa.js";
import { temporaryDirectory } from "../../support/apiserver.js";
import { freePort } from "../../support/ports.js";

const MAIN = fileURLToPath(new URL("../../../dist/cli/main.js", import.meta.url));
const MAPS = "/api/v1/namespaces/default/configmaps";
const ROUNDS = 3;
/** Acknowledged in a round before the server is killed. */
const WRITES = 40;

let child: ChildProcess | undefined;
afterEach(() => child?.kill("SIGKILL"));

async function start(dataDir: string, port: number): Promise<void> {
  const args = ["apiserver", "-a", "127.0.0.1", "-p", String(port), "-d", dataDir, "--no-controllers"];
  child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "ignore", "pipe"] });
  for await (const line of child.stderr!) if (String(line).includes("API server ready")) return;
  throw new Error("the server did not start");
}

test.skipIf(!existsSync(MAIN))("acknowledged writes survive kill -9 of the server", async () => {
  const directory = temporaryDirectory();
  const port = await freePort();
  const acknowledged: string[] = [];
  let revision = 0;
  for (let round = 0; round < ROUNDS; round++) {
    await start(directory.path, port);
    const ca = await ClusterCa.open(join(directory.path, "pki"));
    const { certificate, key } = await ca.issue({ commonName: "a", organizations: ["system:masters"] });
    const agent = new Agent({ keepAlive: true, ca: ca.certificate, cert: certificate, key });
    // biome-ignore lint/suspicious/noExplicitAny: whatever JSON came
    const ask = (path: string, body?: object): Promise<any> =>
      new Promise((resolve, reject) => {
        const sent = request(
          {
            host: "127.0.0.1",
            port,
            path,
            agent,
            method: body ? "POST" : "GET",
            headers: { "Content-Type": "application/json" },
          },
          (answer) => {
            let text = "";
            answer.setEncoding("utf8").on("data", (chunk: string) => {
              text += chunk;
            });
            answer
              .on("error", reject)
              .on("end", () => (answer.complete ? resolve(JSON.parse(text)) : reject(new Error("cut"))));
          },
        );
        sent.on("error", reject).end(body && JSON.stringify(body));
      });
    const list = await ask(MAPS);
    const names = new Set(list.items.map((each: { metadata: { name: string } }) => each.metadata.name));
    expect(acknowledged.filter((name) => !names.has(name))).toEqual([]);
    expect(Number(list.metadata.resourceVersion)).toBeGreaterThanOrEqual(revision);
    const server = child!;
    const last = acknowledged.length + WRITES;
    const writer = async (id: number) => {
      for (let i = 0; ; i++) {
        const name = `r${round}-w${id}-${i}`;
        const made = await ask(MAPS, { metadata: { name } });
        expect(made.metadata.name).toBe(name);
        acknowledged.push(name);
        revision = Math.max(revision, Number(made.metadata.resourceVersion));
        // Each time at another moment of the writes that are under way.
        if (acknowledged.length === last) setTimeout(() => server.kill("SIGKILL"), round);
      }
    };
    await Promise.allSettled([0, 1, 2, 3].map(writer));
    agent.destroy();
  }
  expect(acknowledged.length).toBeGreaterThanOrEqual(ROUNDS * WRITES);
  directory.remove();
});
