/**
 * Runs pods on the built engine, for a user who has only a user namespace: what runtime-rootless.test
 * starts inside. Prints one line of JSON: what it saw.
 *
 *   node rootlessPods.mjs DIST DIRECTORY
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

const [dist, directory] = process.argv.slice(2);
const from = (file) => import(join(dist, file));
const { FakeKube } = await from("kube/FakeKube.js");
const { PODS } = await from("kube/resources.js");
const { DEFAULT_IMAGES } = await from("runtime/images.js");
const { PodManager } = await from("runtime/PodManager.js");
const { RuncEngine } = await from("runtime/RuncEngine.js");
const { RuntimeAccess } = await from("runtime/RuntimeAccess.js");

const DEADLINE_MS = 30_000;
const kube = new FakeKube();
const errors = [];
let engine;
let manager;
let access;

async function begin() {
  engine = new RuncEngine(directory);
  manager = new PodManager({
    api: kube,
    engine,
    node: "n1",
    nodeAddress: "192.0.2.1",
    netnsOf: ({ metadata }) => `/run/netns/${metadata.name}`,
    attached: async () => true,
    images: () => DEFAULT_IMAGES,
    imageFile: "/etc/podwire/images.yaml",
    resolvConf: () => "",
    onError: (error) => errors.push(String(error)),
  });
  access = new RuntimeAccess(engine, (namespace, name) => manager.pods.get(name, namespace));
  await manager.start();
}

async function until(what, condition) {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) {
      const statuses = kube.all(PODS).map(({ status }) => status);
      throw new Error(`${what}: not in time: ${JSON.stringify({ statuses, errors })}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function create(name, container, spec = {}) {
  const containers = [{ name: "c0", image: "busybox", ...container }];
  kube.put(PODS, {
    metadata: { name, namespace: "default" },
    spec: { nodeName: "n1", terminationGracePeriodSeconds: 1, ...spec, containers },
    status: { phase: "Pending", podIP: "192.0.2.10" },
  });
}
const get = (name) => kube.peek(PODS, name, "default");
const ready = (name) =>
  until(`${name} ready`, () =>
    get(name)?.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True"),
  );
const LOG = { follow: false, previous: false, timestamps: false };
async function text(stream) {
  let all = "";
  for await (const chunk of stream) all += chunk;
  return all;
}
async function exec(pod, ...command) {
  const options = { command, stdin: false, stdout: true, stderr: true, tty: false };
  const session = await access.exec({ namespace: "default", pod }, options, AbortSignal.timeout(DEADLINE_MS));
  const [stdout, stderr, { code }] = await Promise.all([
    text(session.stdout),
    text(session.stderr),
    session.ended,
  ]);
  return { stdout, stderr, code };
}
const log = async (pod) =>
  text(await access.log({ namespace: "default", pod }, LOG, AbortSignal.timeout(DEADLINE_MS)));

await begin();
create("shell", { command: ["sh", "-c", "echo hello; id -u; exec sleep 1000"] });
create("page", { image: "httpd" });
create(
  "other",
  { command: ["sh", "-c", "id -u; id -g"], securityContext: { runAsUser: 1234, runAsGroup: 2345 } },
  { restartPolicy: "Never" },
);
create("once", { command: ["sh", "-c", "exit 7"] }, { restartPolicy: "Never" });
for (const name of ["shell", "page"]) await ready(name);
await until("once failed", () => get("once").status.phase === "Failed");
const report = { exitCode: get("once").status.containerStatuses[0].state.terminated.exitCode };
await until("other's log", async () => get("other").status.phase === "Succeeded");
await until("log", async () => (await log("shell")).includes("0\n"));
report.log = await log("shell");
report.exec = await exec("shell", "sh", "-c", "echo out; echo err >&2; exit 3");
report.page = (
  await exec("page", "curl", "-s", "--retry", "5", "--retry-connrefused", "127.0.0.1:80")
).stdout;
report.other = await log("other");
report.seccomp = (await exec("shell", "grep", "Seccomp:", "/proc/self/status")).stdout;
report.escape = (await exec("shell", "sh", "-c", "unshare -m true || mount -t tmpfs x /mnt")).code;

const before = engine.sandbox(get("shell").metadata.uid).containers[0];
await manager.stop();
await begin();
await ready("shell");
report.survived =
  JSON.stringify(engine.sandbox(get("shell").metadata.uid).containers[0]) === JSON.stringify(before);
for (const name of ["shell", "page", "other", "once"]) await kube.delete(PODS, name, "default");
await until("gone", () => engine.sandboxes().length === 0 && kube.all(PODS).length === 0);
await manager.stop();
await engine.removeAll();
report.left = [existsSync(directory), ...readdirSync("/run/netns")];
report.errors = errors;
console.log(JSON.stringify(report));
process.exit(0);
