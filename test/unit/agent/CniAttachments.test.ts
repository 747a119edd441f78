/** What a container runtime asks for by CNI: addresses, what is kept, and what comes in which order. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CniAttachments, type CniBackend } from "../../../src/agent/CniAttachments.js";
import type { CniAdd } from "../../../src/model/cni.js";

let directory: string;
/** What was asked of IPAM and of the agent, in order. */
let calls: string[];
let given: Map<string, string>;
let warned: string[];
/** While set, the agent cannot take anything over. */
let broken: Error | null;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "podwire-cni-"));
  [calls, given, warned, broken] = [[], new Map(), [], null];
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const file = () => join(directory, "cni.json");

function open(): CniAttachments {
  return new CniAttachments({
    file: file(),
    limit: 3,
    claimer: {
      assign: async (handle) => {
        calls.push(`assign ${handle}`);
        if (!given.has(handle)) given.set(handle, `10.1.79.${65 + given.size}`);
        return given.get(handle)!;
      },
      release: async (handle) => void calls.push(`release ${handle}`),
    },
    netnsIdentity: (path) => (path.startsWith("/run/netns/") ? path : null),
    log: { debug: () => {}, info: () => {}, warn: (_, text) => void warned.push(text), error: () => {} },
  });
}

function serve(attachments: CniAttachments): CniAttachments {
  const backend: CniBackend = {
    apply: async () => {
      if (broken !== null) throw broken;
      const pods = attachments.pods().map(({ name, netns, address }) => `${name} ${netns} ${address}`);
      calls.push(`apply ${pods.join(", ")}`);
    },
    state: (name) => ({ up: attachments.pods().some((pod) => pod.name === name), message: "down" }),
    mtu: () => 1450,
  };
  attachments.serve(backend);
  return attachments;
}

const request = (containerId: string, name = "web"): CniAdd => ({
  containerId,
  interface: "eth0",
  netns: `/run/netns/${containerId}`,
  pod: { namespace: "default", name, uid: `uid-${name}` },
});

describe("attachments", () => {
  test("an address first, then the interface; away first, then the address", async () => {
    const attachments = serve(open());
    expect(await attachments.add(request("a"))).toEqual({
      containerId: "a",
      interface: "eth0",
      netns: "/run/netns/a",
      address: "10.1.79.65",
      gateway: "169.254.1.1",
      mac: "02:70:0a:01:4f:41",
      mtu: 1450,
    });
    await attachments.check(request("a"));
    await attachments.del(request("a"));
    expect(calls).toEqual([
      "assign cni.a.eth0",
      "apply default/web /run/netns/a 10.1.79.65",
      "apply ",
      "release cni.a.eth0",
    ]);
    await expect(attachments.check(request("a"))).rejects.toThrow("has no eth0");
  });

  test("the next agent knows them, and gives no second address", async () => {
    await serve(open()).add(request("a"));
    const next = open();
    expect(next.pods()).toEqual([
      { name: "default/web", netns: "/run/netns/a", address: "10.1.79.65", interface: "eth0" },
    ]);
    await expect(next.add(request("a"))).rejects.toThrow("the agent is starting");
    expect(() => next.ready()).toThrow("the agent is starting");
    calls = [];
    await serve(next).add(request("a"));
    expect(calls).toEqual(["apply default/web /run/netns/a 10.1.79.65"]);
    await expect(next.add({ ...request("a"), netns: "/run/netns/b" })).rejects.toThrow("already");
  });

  test("of two sandboxes the newer is the pod's, whichever goes first", async () => {
    const attachments = serve(open());
    for (const id of ["a", "b"]) await attachments.add(request(id));
    expect(attachments.pods().map(({ netns }) => netns)).toEqual(["/run/netns/b"]);
    await attachments.del(request("a"));
    expect(attachments.pods().map(({ netns }) => netns)).toEqual(["/run/netns/b"]);
    await attachments.add(request("c"));
    await attachments.del(request("c"));
    expect(attachments.pods().map(({ netns }) => netns)).toEqual(["/run/netns/b"]);
  });

  test("an address is not freed before the dataplane has let it go", async () => {
    const attachments = serve(open());
    await attachments.add(request("a"));
    broken = new Error("the API server has not answered yet");
    await expect(attachments.del(request("a"))).rejects.toThrow("not answered yet");
    expect(calls.at(-1)).not.toContain("release");
    broken = null;
    calls = [];
    await attachments.del(request("a"));
    expect(calls).toEqual(["apply ", "release cni.a.eth0"]);
  });

  test("GC leaves what is named", async () => {
    const attachments = serve(open());
    for (const id of ["a", "b", "c"]) await attachments.add(request(id, id));
    await attachments.gc([{ containerId: "b", interface: "eth0" }]);
    expect(attachments.pods().map(({ name }) => name)).toEqual(["default/b"]);
    expect(calls.filter((call) => call.startsWith("release")).sort()).toEqual([
      "release cni.a.eth0",
      "release cni.c.eth0",
    ]);
  });

  test("a pod too many, a namespace that is none, a file that is damaged", async () => {
    const attachments = serve(open());
    for (const id of ["a", "b", "c"]) await attachments.add(request(id, id));
    await expect(attachments.add(request("d"))).rejects.toThrow("3 pods already");
    await expect(attachments.add({ ...request("e"), netns: "/proc/1" })).rejects.toThrow(
      "no network namespace",
    );
    expect([...given.keys()]).toEqual(["cni.a.eth0", "cni.b.eth0", "cni.c.eth0"]);
    writeFileSync(file(), "{");
    expect(open().pods()).toEqual([]);
    expect(warned).toEqual([expect.stringContaining("is damaged")]);
  });
});
