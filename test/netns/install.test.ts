/**
 * "Machines of your own" of README, command by command, on a master and a worker: what npm pack packs is
 * installed as npm does it, the worker joins by a token, becomes Ready, and uninstalling leaves nothing.
 * Not as there: systemd does not run, so that the units are started as they say; and the package's
 * dependencies are those of the checkout, since a test asks no registry.
 */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NODES } from "../../src/lab/walkthrough.js";
import { commandsOf, fences, ROOT, read, words } from "../support/documents.js";
import { machineLan, TestMachine } from "../support/machine.js";
import { netnsUnavailable, TestNet, type TestProcess, waitFor } from "../support/netns.js";

const [MASTER, WORKER] = NODES as [(typeof NODES)[number], (typeof NODES)[number]];
const INSTALLED = "/usr/local/lib/node_modules/podwire";
const ADMIN = "KUBECONFIG=/var/lib/podwire/apiserver/admin.kubeconfig";

const net = new TestNet();
let master: TestMachine;
let worker: TestMachine;
let tarball = "";
/** kubectl as the administrator; what it caches is no part of the machine. */
let kubectl: string[];

/** The block of README, and of docs/install.md: a line each. */
function lines(file: string): string[] {
  const block = fences(file).find(({ lines: text }) =>
    text.some((line) => line.startsWith("npm install -g")),
  );
  return commandsOf(block!).map(({ text }) => words(text).join(" "));
}

/** A command of README's on a machine: the only one that begins so. */
function shown(machine: TestMachine, beginning: string, replace: Record<string, string> = {}) {
  const [line, ...more] = lines("README.md").filter((each) => each.startsWith(beginning));
  expect([typeof line, more.length], beginning).toEqual(["string", 0]);
  return machine.run(...words(line!).map((word) => replace[word] ?? word));
}

/** A machine on the LAN with the package in place; `files` says then what is there. */
async function start({ name }: (typeof NODES)[number]): Promise<TestMachine> {
  const machine = await TestMachine.start(net, `${net.prefix}-${name}`, name);
  // As `npm install -g`: unpacked, its dependencies there, and its command in PATH.
  const install = [
    `mkdir -p ${INSTALLED} && tar -xzf ${tarball} --strip-components=1 -C ${INSTALLED}`,
    `ln -s ${ROOT}node_modules ${INSTALLED}/node_modules`,
    `mkdir -p ${INSTALLED}/prebuilds/${process.platform}-${process.arch}`,
    `cp ${ROOT}build/Release/podwire.node ${INSTALLED}/prebuilds/${process.platform}-${process.arch}/`,
    `ln -sf ${INSTALLED}/dist/cli/main.js /usr/local/bin/podwire && chmod 755 ${INSTALLED}/dist/cli/main.js`,
  ].join(" && ");
  await machine.runOrThrow("sh", "-c", install);
  return machine;
}

describe.skipIf(netnsUnavailable() !== "")("machines of your own", () => {
  beforeAll(async () => {
    const directory = net.directory();
    kubectl = ["env", ADMIN, `KUBECACHEDIR=${directory}`, "kubectl"];
    // Without its scripts, which build what is built already.
    const pack = ["pack", "--ignore-scripts", "--pack-destination", directory];
    const said = execFileSync("npm", pack, {
      cwd: ROOT,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
    tarball = join(directory, said.trim().split("\n").at(-1)!);
    await machineLan(net, [MASTER, WORKER]);
    [master, worker] = await Promise.all([start(MASTER), start(WORKER)]);
  });
  afterAll(() => net.cleanup());

  test("both documents show the same lines, and the package is named as npm names it", () => {
    const readme = lines("README.md");
    expect(readme[0]).toBe("npm pack");
    expect(lines("docs/install.md")).toEqual(readme.slice(1));
    expect(readme[1]).toBe("npm install -g podwire-*.tgz");
    expect(tarball).toMatch(/\/podwire-[\d.]+\.tgz$/);
    expect(existsSync(tarball)).toBe(true);
  });

  test("the package's command works", async () => {
    expect((await master.runOrThrow("podwire", "--help")).split("\n")[0]).toBe(
      "Usage: podwire [options] [command]",
    );
    expect((await master.runOrThrow("podwire", "--version")).trim()).toBe(
      JSON.parse(read("package.json")).version,
    );
  });

  test("from doctor to uninstall", async () => {
    const before = [await master.snapshot(), await worker.snapshot()];
    const doctor = await shown(master, "podwire doctor");
    expect(doctor.stdout + doctor.stderr).toContain(`eth1 has ${MASTER.address}/24`);

    const installed = await shown(master, "podwire install --role master");
    expect(installed, installed.stderr).toMatchObject({ code: 0 });
    const server = await master.startUnit("podwire-apiserver.service");
    const has = (unit: TestProcess) => ({ deadlineMs: 60_000, what: unit.stderr });
    await waitFor(
      async () => (await master.run(...kubectl, "get", "--raw", "/readyz")).code === 0,
      has(server),
    );
    await master.runOrThrow(...kubectl, "create", "-f", join(INSTALLED, "manifests/lab/pool.yaml"));

    const { stdout: said } = await shown(master, "podwire token create");
    const [token, hash] = said.trim().split(" ") as [string, string];
    const node = await shown(worker, "podwire install --role node", { TOKEN: token, HASH: hash });
    expect(node.code, node.stderr).toBe(0);
    expect(node.stdout).toContain(`${WORKER.name} has joined https://${MASTER.address}:6443`);
    const agent = await worker.startUnit("podwire-agent.service");
    await waitFor(
      async () => / Ready /.test(await master.runOrThrow(...kubectl, "get", "node", "--no-headers")),
      has(agent),
    );
    expect(await master.runOrThrow(...kubectl, "get", "node", "-o", "wide")).toMatch(
      new RegExp(`^${WORKER.name} +Ready .* ${WORKER.address} `, "m"),
    );
    const during = [await master.snapshot(), await worker.snapshot()];
    for (const i of [0, 1]) expect(during[i]!.files).not.toBe(before[i]!.files);
    expect(during[1]!.links).toContain("podwire0");

    // As systemctl stop would.
    await Promise.all([agent.stop(30_000), server.stop(30_000)]);
    for (const machine of [master, worker]) {
      const { code, stderr } = await shown(machine, "podwire uninstall");
      expect(code, stderr).toBe(0);
    }
    expect([await master.snapshot(), await worker.snapshot()]).toEqual(before);
  });
});
