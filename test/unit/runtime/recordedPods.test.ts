import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { identify } from "../../../src/runtime/command.js";
import { recordedPods } from "../../../src/runtime/recordedPods.js";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "podwire-records-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const SANDBOX = { namespace: "default", node: "n1", netns: "/run/netns/x", hostname: "web", resolvConf: "" };

function write(path: string, content: object | string): void {
  const file = join(root, "pods", path);
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
}

test("nothing where there is nothing", () => {
  expect(recordedPods(join(root, "none"))).toEqual([]);
  mkdirSync(join(root, "pods", "begun"), { recursive: true });
  expect(recordedPods(root)).toEqual([]);
});

test("each pod with its address and the last instance of each container", () => {
  const me = identify(process.pid)!;
  write("u2/pod.json", { ...SANDBOX, uid: "u2", name: "web" });
  write("u2/hosts", "127.0.0.1\tlocalhost\n192.0.2.7\tweb\n");
  const record = { imageName: "nginx:1", process: me, end: null };
  for (const attempt of [2, 9, 10]) write(`u2/containers/main/${attempt}/record.json`, record);
  write("u2/containers/side/0/record.json", { ...record, process: { ...me, startTime: "1" } });
  write("u2/containers/done/0/record.json", { ...record, end: { exitCode: 0 } });
  write("u2/containers/new/0/record.json", { ...record, process: null });
  write("u1/pod.json", { ...SANDBOX, uid: "u1", name: "a", hostname: "a" });
  const [first, second] = recordedPods(root);
  expect(first).toMatchObject({ uid: "u1", name: "a", address: "", containers: [] });
  expect(second).toMatchObject({ uid: "u2", namespace: "default", node: "n1", address: "192.0.2.7" });
  expect(second!.containers.sort((a, b) => (a.name < b.name ? -1 : 1))).toEqual([
    { name: "done", image: "nginx:1", running: false, exitCode: 0, restarts: 0 },
    { name: "main", image: "nginx:1", running: true, exitCode: null, restarts: 10 },
    { name: "new", image: "nginx:1", running: false, exitCode: null, restarts: 0 },
    { name: "side", image: "nginx:1", running: false, exitCode: null, restarts: 0 },
  ]);
});
