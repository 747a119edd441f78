/**
 * podwire as a router, as ping and curl see it; and the nodes themselves as ends.
 *
 *   node A: podwire                            node B: podwire
 *   ┌──────────────────┐   192.168.2.0/24      ┌──────────────────┐
 *   │ pods a1, a2 ─TAP─┤ eth0 ── br0 ── eth0 ──┤─TAP─ pods b1, b2  │
 *   └──────────────────┘                       └──────────────────┘
 *     tunnel address 10.1.235.192                10.1.79.64
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GATEWAY_MAC, podMac } from "../../src/desired/mac.js";
import type { TestAgent } from "../support/agent.js";
import { ethernet, IPV4, icmpPacket } from "../support/frames.js";
import { netnsUnavailable, TestNet, waitFor } from "../support/netns.js";
import { A, B, evenCounters, type Lan, makeLan, startNode } from "../support/overlay.js";
import { requirePrograms } from "../support/programs.js";
import { PAGE_BYTES, startNginx } from "../support/servers.js";
import { ping, pingOutput, python, sendFrames, startServers, transfer } from "../support/traffic.js";

const why = netnsUnavailable();
const skipped = why && ` (skipped: ${why})`;
const A1 = A.pods.a1!;
const A2 = A.pods.a2!;
const B1 = B.pods.b1!;
const OUTSIDE = "203.0.113.9";
/** TokenBucket of ICMP errors: at once, and per second. */
const ICMP_BURST = 50;
const ICMP_RATE = 1000;

describe.skipIf(why !== "")(`ICMP and the nodes themselves${skipped}`, () => {
  const net = new TestNet();
  let lan: Lan;
  let agentA: TestAgent;
  let a1: string;
  let b1: string;
  let nodeA: string;
  let nodeB: string;

  beforeAll(async () => {
    requirePrograms("curl", "nginx", "ping", "python3");
    lan = await makeLan(net);
    agentA = await startNode(net, lan, A, [B]);
    await startNode(net, lan, B, [A]);
    a1 = lan.pod.a1!;
    b1 = lan.pod.b1!;
    nodeA = lan.node[A.name]!;
    nodeB = lan.node[B.name]!;
    for (const ns of [a1, b1, nodeA]) await startNginx(net, ns);
  });
  afterAll(() => net.cleanup());

  describe("hops", () => {
    it.each([
      ["the first to a remote pod", B1, 1, A.tunnel],
      ["the second to a remote pod", B1, 2, B.tunnel],
      ["the first to a pod of this node", A2, 1, A.tunnel],
      ["the second to another node", B.tunnel, 1, A.tunnel],
    ])("%s", async (_, destination, ttl, router) => {
      const text = await pingOutput(net, a1, destination, ["-t", String(ttl)]);
      expect(text).toMatch(new RegExp(`^From ${router} icmp_seq=1 Time to live exceeded$`, "m"));
    });

    it.each([
      ["a remote pod is two hops away", B1, 3, 62],
      ["a pod of this node is one hop away", A2, 2, 63],
      ["the other node is one hop away", B.tunnel, 2, 63],
      ["the node is the next hop", A.tunnel, 1, 64],
    ])("%s", async (_, destination, ttl, left) => {
      const text = await pingOutput(net, a1, destination, ["-t", String(ttl)]);
      expect(text).toContain(`64 bytes from ${destination}: icmp_seq=1 ttl=${left} `);
    });
  });

  describe("destinations that do not exist", () => {
    it.each([
      ["an address of the node's block", "10.1.235.230", A.tunnel, "Host"],
      ["an address of another node's block", "10.1.79.100", B.tunnel, "Host"],
      ["an address of the pool without a block", "10.1.200.1", A.tunnel, "Net"],
      ["an address outside", OUTSIDE, A.tunnel, "Net"],
    ])("%s", async (_, destination, router, what) => {
      const text = await pingOutput(net, a1, destination, []);
      expect(text).toMatch(new RegExp(`^From ${router} icmp_seq=1 Destination ${what} Unreachable$`, "m"));
    });

    it("a connection to one fails at once, and says why", async () => {
      // Without the ICMP error it would take the two minutes of tcp_syn_retries.
      for (const [destination, words] of [
        ["10.1.235.230", "No route to host"],
        ["10.1.79.100", "No route to host"],
        [OUTSIDE, "Network is unreachable"],
      ] as const) {
        const args = ["-sS", "-m", "20", "-o", "/dev/null", "-w", "%{errormsg}", `http://${destination}/`];
        const { code, stdout, stderr } = await net.tryExec(a1, "curl", args);
        expect([code, `${stdout}${stderr}`]).toEqual([7, expect.stringContaining("Couldn't connect")]);
        const { stdout: text } = await net.tryExec(a1, python(), [
          "-c",
          `import os, socket; print(os.strerror(socket.socket().connect_ex(("${destination}", 80))))`,
        ]);
        expect(text.trim()).toBe(words);
      }
    });
  });

  describe("packets that are too long", () => {
    /** Raises both pods' MTU over the overlay's, which the agents set back at times. */
    async function raise(): Promise<void> {
      for (const ns of [a1, b1]) await net.exec(ns, "ip", ["link", "set", "eth0", "mtu", "2000"]);
    }

    it("fragmentation needed names the overlay's MTU", async () => {
      await waitFor(
        async () => {
          await net.exec(a1, "ip", ["route", "flush", "cache"]);
          await raise();
          const text = await pingOutput(net, a1, B1, ["-M", "do", "-s", "1473"]);
          return new RegExp(
            `^From ${A.tunnel} icmp_seq=1 Frag needed and DF set \\(mtu = 1450\\)$`,
            "m",
          ).test(text);
        },
        { what: "Frag needed" },
      );
    });

    it("without DF they arrive in fragments", async () => {
      await waitFor(
        async () => {
          await net.exec(a1, "ip", ["route", "flush", "cache"]);
          await raise();
          const before = (await agentA.request("counters")).other.fragments;
          await ping(net, a1, B1, [1800], ["-M", "dont"]);
          return (await agentA.request("counters")).other.fragments - before === 6;
        },
        { what: "fragments" },
      );
    });

    it("TCP learns the MTU from the errors about its 64 KiB frames", async () => {
      await startServers(net, b1);
      await waitFor(
        async () => {
          await net.exec(a1, "ip", ["route", "flush", "cache"]);
          await raise();
          const before = (await evenCounters(agentA)).dropped.fragmentationNeeded ?? 0;
          await transfer(net, a1, B1, "put", 3_000_000);
          return ((await evenCounters(agentA)).dropped.fragmentationNeeded ?? 0) > before;
        },
        { what: "a transfer that hits the MTU" },
      );
    });

    it("from the node, its kernel says so", async () => {
      const text = await pingOutput(net, nodeA, B1, ["-M", "do", "-s", "1423"]);
      expect(text).toContain("message too long, mtu=1450");
      await ping(net, nodeA, B1, [1422], ["-M", "do"]);
    });
  });

  it("makes no more errors than its budget allows", async () => {
    const frame = ethernet(
      GATEWAY_MAC,
      podMac(0x0a01ebd3),
      IPV4,
      icmpPacket({ source: A1, destination: B1, ttl: 1, type: 8 }, new Uint8Array(56)),
    );
    // Less than the TAP's queue holds.
    const count = 800;
    const before = await evenCounters(agentA);
    const start = performance.now();
    await sendFrames(net, a1, "eth0", new Array(count).fill(frame));
    const after = await waitFor(
      async () => {
        const now = await evenCounters(agentA);
        return now.dropped.ttlExceeded >= (before.dropped.ttlExceeded ?? 0) + count ? now : null;
      },
      { what: `${count} packets dropped` },
    );
    const seconds = (performance.now() - start) / 1000;
    const made = after.other.icmpErrors - before.other.icmpErrors;
    const limited = after.other.icmpLimited - before.other.icmpLimited;
    expect(made + limited).toBe(count);
    expect(made).toBeGreaterThan(0);
    expect(made).toBeLessThanOrEqual(ICMP_BURST + Math.ceil(ICMP_RATE * seconds));
  });

  describe("the nodes as ends", () => {
    it.each([
      ["a pod to its node's tunnel address", "a1", A.tunnel],
      ["a pod to its node's underlay address", "a1", A.address],
      ["a pod to another node's tunnel address", "a1", B.tunnel],
      ["a node to its own pod", A.name, A1],
      ["a node to a remote pod", A.name, B1],
      ["a node to another node's tunnel address", A.name, B.tunnel],
    ])("%s", async (_, from, destination) => {
      await ping(net, lan.pod[from] ?? lan.node[from]!, destination, [0, 56, 1400, 8000]);
    });

    it.each([
      ["a node asks its own pod", () => nodeA, A1],
      ["a node asks a remote pod", () => nodeB, A1],
      ["a pod asks its node by the tunnel address", () => a1, A.tunnel],
      ["a pod asks its node by the underlay address", () => a1, A.address],
      ["a pod asks another node", () => b1, A.tunnel],
      ["a pod asks a remote pod", () => a1, B1],
      ["a pod asks itself", () => a1, A1],
    ])("HTTP: %s", async (_, from, destination) => {
      const { stdout } = await net.exec(from(), "curl", ["-sSf", "-m", "20", `http://${destination}/page`]);
      expect(stdout).toHaveLength(PAGE_BYTES);
    });
  });
});
