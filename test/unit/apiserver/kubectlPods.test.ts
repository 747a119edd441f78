/** kubectl itself: logs, exec, cp, through the API server and a node's pod port, on true processes. */
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { DEPLOYMENTS, NODES, PODS } from "../../../src/kube/resources.js";
import type { Deployment, Node, Pod } from "../../../src/kube/types.js";
import { PTY } from "../../support/LocalPodAccess.js";
import { nodeAt, type PodCluster, startPodCluster } from "../../support/podCluster.js";

const WAIT = { timeout: 20_000, interval: 50 };
const WEB = "default/web/app";

let cluster: PodCluster;

beforeAll(async () => {
  // Often enough that a client that is gone is noticed soon.
  cluster = await startPodCluster({ pingMs: 200, idleMs: 60_000 });
  await cluster.pod("web", ["app"], { labels: { app: "web" } });
  await cluster.pod("two", ["a", "b"], { labels: { app: "two" } });
  const now = Date.now();
  Object.assign(cluster.access.containers.get(WEB)!, {
    lines: [
      { at: now - 3600_000, text: "one" },
      { at: now - 1000, text: "two" },
      { at: now, text: "three" },
    ],
    previous: [{ at: now - 7200_000, text: "before" }],
  });
  cluster.access.say("default/two/a", "from a");
  cluster.access.say("default/two/b", "from b");
});
afterAll(() => cluster.stop());

function sumOf(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** What a stream says from now on. */
function collect(stream: Readable): { text: string } {
  const seen = { text: "" };
  stream.setEncoding("utf8").on("data", (piece: string) => {
    seen.text += piece;
  });
  return seen;
}

describe("kubectl logs", () => {
  test.each([
    ["all of it", [], "one\ntwo\nthree\n"],
    ["--tail", ["--tail=1"], "three\n"],
    ["--tail=0", ["--tail=0"], ""],
    ["--since", ["--since=60s"], "two\nthree\n"],
    ["--since-time", ["--since-time=2020-01-01T00:00:00Z"], "one\ntwo\nthree\n"],
    ["--limit-bytes", ["--limit-bytes=5"], "one\nt"],
    ["--previous", ["--previous"], "before\n"],
    ["-c", ["-c", "app", "--tail=1"], "three\n"],
  ])("%s", async (_, args, wanted) => {
    expect(await cluster.kubectl("logs", "web", ...args)).toEqual({ code: 0, stdout: wanted, stderr: "" });
  });

  test("--timestamps", async () => {
    const { stdout } = await cluster.kubectl("logs", "web", "--timestamps", "--tail=1");
    expect(stdout).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z three\n$/);
  });

  test("-l with --prefix and --all-containers", async () => {
    const { stdout } = await cluster.kubectl("logs", "-l", "app=two", "--prefix", "--all-containers");
    expect(stdout.trim().split("\n").sort()).toEqual(["[pod/two/a] from a", "[pod/two/b] from b"]);
  });

  test("of a deployment", async () => {
    await cluster.server.kube.create<Deployment>(DEPLOYMENTS, {
      metadata: { name: "web", namespace: "default" },
      spec: {
        selector: { matchLabels: { app: "web" } },
        template: {
          metadata: { labels: { app: "web" } },
          spec: { containers: [{ name: "app", image: "app" }] },
        },
      },
    });
    expect((await cluster.kubectl("logs", "deploy/web", "--tail=1")).stdout).toBe("three\n");
  });

  test("-f gives lines as they come, and ends with the container", async () => {
    await cluster.pod("follow", ["app"]);
    const key = "default/follow/app";
    const kubectl = cluster.start("logs", "-f", "follow");
    const ended = once(kubectl, "exit");
    const seen = collect(kubectl.stdout!);
    await vi.waitFor(() => expect(cluster.access.following(key)).toBe(1), WAIT);
    cluster.access.say(key, "first");
    await vi.waitFor(() => expect(seen.text).toBe("first\n"), WAIT);
    cluster.access.say(key, "second");
    await vi.waitFor(() => expect(seen.text).toBe("first\nsecond\n"), WAIT);
    cluster.access.endContainer(key);
    expect((await ended)[0]).toBe(0);
  });

  test("-f that is broken off is not followed any more on the node", async () => {
    await cluster.pod("broken-off", ["app"]);
    const key = "default/broken-off/app";
    const kubectl = cluster.start("logs", "-f", "broken-off");
    await vi.waitFor(() => expect(cluster.access.following(key)).toBe(1), WAIT);
    kubectl.kill("SIGKILL");
    await vi.waitFor(() => expect(cluster.access.following(key)).toBe(0), WAIT);
  });
});

describe("kubectl exec", () => {
  const sh = (script: string, ...options: string[]) =>
    cluster.kubectl("exec", ...options, "web", "--", "sh", "-c", script);

  test.each([0, 1, 3, 137])("passes exit code %i through, and both outputs", async (code) => {
    const outcome = await sh(`echo out; echo err >&2; exit ${code}`);
    expect(outcome).toMatchObject({ code, stdout: "out\n" });
    expect(outcome.stderr).toBe(code === 0 ? "err\n" : `err\ncommand terminated with exit code ${code}\n`);
  });

  test("says why a command cannot be run", async () => {
    expect(await cluster.kubectl("exec", "web", "--", "no-such-program")).toMatchObject({
      code: 1,
      stderr:
        'error: Internal error occurred: error executing command in container: exec: "no-such-program": executable file not found in $PATH\n',
    });
  });

  test.each([
    ["there", ["sha256sum"], (bytes: Buffer) => Buffer.from(`${sumOf(bytes)}  -\n`)],
    ["there and back", ["cat"], (bytes: Buffer) => bytes],
  ])("takes 10 MB %s, and the end of stdin", async (_, command, wanted) => {
    const bytes = randomBytes(10 << 20);
    const kubectl = cluster.start("exec", "-i", "web", "--", ...command);
    const ended = once(kubectl, "exit");
    const pieces: Buffer[] = [];
    kubectl.stdout!.on("data", (piece: Buffer) => pieces.push(piece));
    kubectl.stdin!.end(bytes);
    expect((await ended)[0]).toBe(0);
    expect(sumOf(Buffer.concat(pieces))).toBe(sumOf(wanted(bytes)));
  });

  test("throws away what a command does not read", async () => {
    const kubectl = cluster.start("exec", "-i", "web", "--", "sh", "-c", "exec <&-; sleep 0.3; echo done");
    const ended = once(kubectl, "exit");
    const seen = collect(kubectl.stdout!);
    kubectl.stdin!.on("error", () => {});
    kubectl.stdin!.end(Buffer.alloc(4 << 20));
    expect((await ended)[0]).toBe(0);
    expect(seen.text).toBe("done\n");
  });

  test("ends the command when kubectl is killed", async () => {
    const kubectl = cluster.start("exec", "web", "--", "sh", "-c", "echo up; exec sleep 1000");
    const seen = collect(kubectl.stdout!);
    await vi.waitFor(() => expect(seen.text).toBe("up\n"), WAIT);
    expect(cluster.access.running.size).toBe(1);
    kubectl.kill("SIGKILL");
    await vi.waitFor(() => expect(cluster.access.running.size).toBe(0), WAIT);
  });

  test("ends a command that takes no more input when kubectl is killed", async () => {
    const kubectl = cluster.start("exec", "-i", "web", "--", "sh", "-c", "echo up; exec sleep 1000");
    const seen = collect(kubectl.stdout!);
    kubectl.stdin!.on("error", () => {});
    kubectl.stdin!.write(Buffer.alloc(64 << 20));
    await vi.waitFor(() => expect(seen.text).toBe("up\n"), WAIT);
    kubectl.kill("SIGKILL");
    await vi.waitFor(() => expect(cluster.access.running.size).toBe(0), WAIT);
  });

  test("holds a command back whose output nobody takes", async () => {
    const kubectl = cluster.start("exec", "web", "--", "sh", "-c", "exec head -c 268435456 /dev/zero");
    // Nothing is read: the buffers in between fill up, and then nothing moves.
    kubectl.stdout!.pause();
    let taken = 0;
    await vi.waitFor(
      () => {
        const [child] = cluster.access.running;
        const before = taken;
        taken = (child?.stdout as Socket | undefined)?.bytesRead ?? 0;
        expect(taken > 0 && taken === before).toBe(true);
      },
      { timeout: 20_000, interval: 500 },
    );
    expect(taken).toBeLessThan(64 << 20);
    kubectl.kill("SIGKILL");
    await vi.waitFor(() => expect(cluster.access.running.size).toBe(0), WAIT);
  });

  test("-it has a terminal that follows the size of the user's", async () => {
    const args = [PTY, "100", "30", "kubectl", ...cluster.arguments, "exec", "-it", "web", "--", "sh"];
    const terminal = spawn("python3", args, { stdio: ["pipe", "pipe", "inherit", "pipe"] });
    const ended = once(terminal, "exit");
    const seen = collect(terminal.stdout!);
    const type = (line: string) => terminal.stdin!.write(`${line}\r`);
    try {
      // The size comes behind the session's beginning: asked for until it is there.
      type("until [ \"$(stty size)\" = '30 100' ]; do sleep 0.1; done; echo is-$((40+2))");
      await vi.waitFor(() => expect(seen.text).toContain("is-42"), WAIT);
      (terminal.stdio[3] as Writable).write("132 43\n");
      type("until [ \"$(stty size)\" = '43 132' ]; do sleep 0.1; done; echo is-$((40+3))");
      await vi.waitFor(() => expect(seen.text).toContain("is-43"), WAIT);
      type("exit 7");
      expect((await ended)[0]).toBe(7);
    } finally {
      terminal.kill("SIGKILL");
    }
  });

  test("twenty at once", async () => {
    const outcomes = await Promise.all(Array.from({ length: 20 }, (_, i) => sh(`echo ${i}; exit ${i}`)));
    expect(outcomes.map(({ code, stdout }) => [code, stdout])).toEqual(outcomes.map((_, i) => [i, `${i}\n`]));
  }, 120_000);

  test("kubectl cp, there and back", async () => {
    const { directory } = cluster;
    const bytes = randomBytes(300_000);
    writeFileSync(`${directory}/here`, bytes);
    mkdirSync(`${directory}/there`);
    const there = await cluster.kubectl("cp", `${directory}/here`, `default/web:${directory}/there/copy`);
    expect(there).toMatchObject({ code: 0 });
    expect(readFileSync(`${directory}/there/copy`).equals(bytes)).toBe(true);
    const back = await cluster.kubectl("cp", `default/web:${directory}/there/copy`, `${directory}/back`);
    expect(back).toMatchObject({ code: 0 });
    expect(readFileSync(`${directory}/back`).equals(bytes)).toBe(true);
  });
});

describe("what kubectl says where it cannot be", () => {
  const refused = async (...args: string[]) => {
    const { code, stderr } = await cluster.kubectl(...args);
    expect(code).toBe(1);
    // Without the lines about which container kubectl chose.
    return stderr.trim().split("\n").at(-1);
  };

  test("no such pod", async () => {
    const text = 'Error from server (NotFound): pods "nobody" not found';
    expect(await refused("logs", "nobody")).toMatch(
      /^(Error from server \(NotFound\)|error): .*pods "nobody" not found/,
    );
    expect(await refused("exec", "nobody", "--", "id")).toBe(text);
  });

  test("no such container", async () => {
    const text = "Error from server (BadRequest): container c is not valid for pod two";
    expect(await refused("exec", "two", "-c", "c", "--", "id")).toBe(text);
  });

  test("a container that runs no more", async () => {
    await cluster.pod("ended", ["app"]);
    cluster.access.endContainer("default/ended/app");
    expect(await refused("exec", "ended", "--", "id")).toBe('error: container not found ("app")');
  });

  test("a pod that its node does not know, and no previous instance", async () => {
    await cluster.pod("unknown", ["app"]);
    cluster.access.containers.delete("default/unknown/app");
    expect(await refused("logs", "unknown")).toBe(
      'Error from server (NotFound): pod "unknown" not found on this node',
    );
    expect(await refused("logs", "two", "-c", "a", "-p")).toBe(
      'Error from server (BadRequest): previous terminated container "a" in pod "two" not found',
    );
  });

  test("a pod without a node", async () => {
    await cluster.pod("nowhere", ["app"], { spec: { nodeName: "" } });
    expect(await refused("exec", "nowhere", "--", "id")).toBe(
      "Error from server (BadRequest): pod nowhere does not have a host assigned",
    );
    expect(await cluster.kubectl("logs", "nowhere")).toEqual({ code: 0, stdout: "", stderr: "" });
  });

  test("a container that waits", async () => {
    await cluster.pod("waiting", ["app"]);
    await cluster.server.kube.patch<Pod>(
      PODS,
      "waiting",
      "default",
      "merge",
      {
        status: { containerStatuses: [{ name: "app", state: { waiting: { reason: "ContainerCreating" } } }] },
      },
      "status",
    );
    expect(await refused("logs", "waiting")).toBe(
      'Error from server (BadRequest): container "app" in pod "waiting" is waiting to start: ContainerCreating',
    );
  });

  test("a node that does not answer", async () => {
    // A port that was free a moment ago.
    await cluster.server.kube.create<Node>(NODES, nodeAt("dead", "127.0.0.1", 1));
    await cluster.pod("lost", ["app"], { spec: { nodeName: "dead" } });
    const why = "dial tcp 127.0.0.1:1: connect: connection refused";
    expect(await refused("logs", "lost")).toBe(
      `Error from server: Get "https://127.0.0.1:1/containerLogs/default/lost/app": ${why}`,
    );
    expect(await refused("exec", "lost", "--", "id")).toMatch(new RegExp(`^Error from server: .*${why}$`));
  });

  test("a node in whose place another answers", async () => {
    await cluster.server.kube.create<Node>(NODES, nodeAt("n2", "127.0.0.1", cluster.port));
    await cluster.pod("taken", ["app"], { spec: { nodeName: "n2" } });
    expect(await refused("logs", "taken")).toContain(
      "tls: failed to verify certificate: certificate is for system:node:n1, not for system:node:n2",
    );
  });

  test("attach, port-forward, debug", async () => {
    await cluster.server.kube.patch<Pod>(
      PODS,
      "web",
      "default",
      "merge",
      { status: { phase: "Running" } },
      "status",
    );
    expect(await refused("attach", "web")).toContain("use kubectl exec, or kubectl logs -f");
    expect(await refused("port-forward", "web", "0:80")).toContain("port forwarding is not supported");
    expect(await refused("debug", "web", "--image=x")).toContain("ephemeral containers are not supported");
  });
});

test("stopping the API server ends the sessions", async () => {
  const other = await startPodCluster();
  try {
    await other.pod("web", ["app"]);
    const kubectl = other.start("exec", "web", "--", "sh", "-c", "echo up; exec sleep 1000");
    const seen = collect(kubectl.stdout!);
    const ended = once(kubectl, "exit");
    await vi.waitFor(() => expect(seen.text).toBe("up\n"), WAIT);
    await other.server.stop();
    expect((await ended)[0]).not.toBe(0);
    await vi.waitFor(() => expect(other.access.running.size).toBe(0), WAIT);
  } finally {
    await other.stop();
  }
});
