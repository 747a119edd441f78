import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ipamCommand } from "../../../src/cli/ipam.js";
import { Allocator } from "../../../src/ipam/Allocator.js";
import type { IPPool } from "../../../src/ipam/types.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { IPPOOLS, NODES } from "../../../src/kube/resources.js";
import type { Node } from "../../../src/kube/types.js";

let kube: FakeKube;
let agent: Allocator;
let directory: string;

beforeEach(async () => {
  kube = new FakeKube();
  await kube.create<IPPool>(IPPOOLS, { metadata: { name: "default" }, spec: { cidr: "10.1.0.0/26" } });
  await kube.create<Node>(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: "k8s-master" } });
  agent = new Allocator(kube, "k8s-master");
  await agent.ensureBlock();
  directory = await mkdtemp(join(tmpdir(), "podwire-ipam-"));
});

afterEach(async () => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
  await rm(directory, { recursive: true });
});

/** Runs the command; gives what it prints, and its exit status. */
async function run(...args: string[]): Promise<{ out: string; err: string; status: number }> {
  const out: string[] = [];
  const err: string[] = [];
  vi.spyOn(process.stdout, "write").mockImplementation((text) => out.push(String(text)) > 0);
  vi.spyOn(process.stderr, "write").mockImplementation((text) => err.push(String(text)) > 0);
  process.exitCode = undefined;
  await ipamCommand(async () => ({ kube, close() {} })).parseAsync(args, { from: "user" });
  vi.restoreAllMocks();
  const status = Number(process.exitCode ?? 0);
  process.exitCode = undefined;
  return { out: out.join(""), err: err.join(""), status };
}

test("show", async () => {
  await agent.assign("uid-1", { pod: "nginx", namespace: "default", uid: "uid-1" });
  expect((await run("show")).out).toMatch(/^IP Pool +10\.1\.0\.0\/26 +64 +2 \(3%\) +62 \(97%\)$/m);
  expect((await run("show", "--show-blocks")).out).toMatch(/^Block .* k8s-master +confirmed +0$/m);
  const { out } = await run("show", "--ip", "10.1.0.1");
  expect(out).toContain("IP 10.1.0.1 is in use\nAttributes:\n  handle: uid-1\n");
  expect(out).toContain("  pod: nginx\n");
  expect((await run("show", "--ip", "10.1.0.9")).out).toBe("IP 10.1.0.9 is not currently assigned\n");
  expect(JSON.parse((await run("show", "--json")).out)).toHaveLength(2);
  expect(await run("show", "--ip", "10.1.0")).toMatchObject({
    err: "10.1.0 is no IPv4 address\n",
    status: 1,
  });
});

test("check, and release from its report", async () => {
  expect(await run("check")).toMatchObject({ status: 0 });
  const address = await agent.assign("uid-1", { pod: "nginx", namespace: "default", uid: "uid-1" });
  const report = join(directory, "report.json");
  const { out, status } = await run("check", "-o", report);
  expect(out).toMatch(/^leak +leaked +10\.1\.0\.1 +pod default\/nginx is gone$/m);
  expect(status).toBe(1);
  expect((await run("release", "--from-report", report)).out).toBe(`${address}: released (uid-1)\n`);
  expect((await run("release", "--from-report", report)).out).toBe(`${address}: nothing to release\n`);
  expect(await run("check")).toMatchObject({ status: 0 });
});

test("release by address", async () => {
  const address = await agent.assign("uid-1");
  expect((await run("release", "--ip", address)).out).toBe(`${address}: released (uid-1)\n`);
  expect(await run("release")).toMatchObject({ err: "give either --ip or --from-report\n", status: 2 });
});

test("split", async () => {
  expect(await run("split", "2")).toMatchObject({ status: 2 });
  expect(await run("split", "2", "--cidr", "10.1.0.0/26")).toMatchObject({
    err: "10.1.0.0/26 has no 2 parts of at least a block (/26)\n",
    status: 1,
  });
  await kube.create<IPPool>(IPPOOLS, { metadata: { name: "big" }, spec: { cidr: "10.2.0.0/24" } });
  expect((await run("split", "2", "--cidr", "10.2.0.0/24")).out).toBe(
    "big-0  10.2.0.0/25\nbig-1  10.2.0.128/25\n",
  );
  expect(await run("split", "2", "--cidr", "10.9.0.0/24")).toMatchObject({ status: 1 });
});
