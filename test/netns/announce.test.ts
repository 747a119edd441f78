/**
 * Load-balancer addresses on a LAN: agents with a config file each, a host that is no node, and a
 * third party's view of it (ARP caches, tcpdump).
 *
 *                       192.168.2.0/24, address 192.168.2.36 and .37
 *   ┌── node A .30 ──┬────── br0 ──────┬── node B .31 ──┐
 *     pod a1 answers │                 │  pod b1 answers
 *                    host .40: asks, and looks into its ARP cache
 */

import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { hashNode, rendezvousOrder } from "../../src/announce/rendezvous.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { startCapture } from "../support/capture.js";
import { address } from "../support/frames.js";
import { netnsUnavailable, TestNet, waitFor } from "../support/netns.js";
import { A, B, HOST, type Lan, makeLan, type NodePlan, nodeConfig } from "../support/overlay.js";
import { requirePrograms } from "../support/programs.js";
import { python, startServer } from "../support/traffic.js";

const why = netnsUnavailable();
const skipped = why && ` (skipped: ${why})`;
const ARP = fileURLToPath(new URL("../support/arp.py", import.meta.url));
const NAMES = fileURLToPath(new URL("../support/names.py", import.meta.url));
/** One that A owns while both are well, and one that B does. */
const VIP_OF: Record<string, string> = Object.fromEntries(
  [A, B].map(({ name }) => [name, vipOwnedBy(name)] as const),
);
const VIPS = Object.values(VIP_OF);
const PORT = 8080;
/** A session is given up after a second: a busy machine may keep a thread waiting for 300 ms. */
const BFD = { intervalMs: 200, multiplier: 5 };
/** Every so many milliseconds somebody asks (support/arp.py); so many times in a BFD interval. */
const ASKED_MS = 10;
const ASKED_IN_INTERVAL = BFD.intervalMs / ASKED_MS;

function vipOwnedBy(node: string): string {
  for (let last = 36; ; last++) {
    const vip = `192.168.2.${last}`;
    if (
      rendezvousOrder(
        [A, B].map(({ name }) => hashNode(name)),
        address(vip),
      )[0]!.name === node
    )
      return vip;
  }
}

describe.skipIf(why !== "").each([1, 2] as const)(`announcement, %s threads${skipped}`, (threads) => {
  const net = new TestNet();
  let lan: Lan;
  const macs: Record<string, string> = {};
  const agents: Record<string, TestAgent> = {};
  const stateDirs: Record<string, string> = {};

  const config = (self: NodePlan, other: NodePlan, vips = VIPS) => {
    const base = nodeConfig(net, lan, self, [other], { threads }) as { vteps: object[] };
    return {
      ...base,
      vteps: base.vteps.map((vtep) => ({ ...vtep, lanMac: macs[other.name] })),
      stateDir: stateDirs[self.name],
      services: vips.map((vip, n) => ({
        name: `default/lb-${n}`,
        clusterIP: `10.152.183.${10 + n}`,
        loadBalancerIPs: [vip],
        ports: [{ port: PORT, targetPort: 80 }],
        // On the node that does not own the address: what comes crosses the overlay.
        backends: [{ address: vip === VIP_OF[A.name] ? B.pods.b1! : A.pods.a1! }],
      })),
      announce: { bfd: BFD },
    };
  };
  const start = async (self: NodePlan, other: NodePlan) => {
    const agent = startAgent(net, lan.node[self.name]!, config(self, other), {
      stateDir: stateDirs[self.name]!,
    });
    agents[self.name] = agent;
    await agent.ready();
    return agent;
  };
  const ask = async (vip: string) =>
    (await net.exec(lan.host, python(), [NAMES, "tcp", vip, String(PORT)])).stdout.trim();
  /** MAC that the host's ARP cache has for an address. */
  const cached = async (vip: string) => (await net.ipJson(lan.host, "neigh", "show", vip))[0]?.lladdr;
  /** Announcements of an address in a capture, as tshark reads them. */
  const announcements = async (file: string, vip: string) => {
    const fields = ["arp.opcode", "arp.src.hw_mac", "eth.src", "arp.isgratuitous"];
    const filter = `arp.src.proto_ipv4 == ${vip} && arp.dst.proto_ipv4 == ${vip}`;
    const args = ["-n", "-r", file, "-Y", filter, "-T", "fields", ...fields.flatMap((name) => ["-e", name])];
    const { stdout } = await net.exec("", "tshark", args);
    return stdout
      .trim()
      .split("\n")
      .map((line) => {
        const [opcode, sender, ethernet, gratuitous = ""] = line.split("\t");
        return { opcode, sender, ethernet, gratuitous: /1|true/i.test(gratuitous) };
      });
  };
  /** Somebody who asks for an address all the time. */
  const startAsking = async (vip: string) => {
    const process = net.spawn(lan.host, python(), [ARP, "ask", "eth0", HOST, vip]);
    await waitFor(() => process.stdout.includes("ready"), { what: "the first request" });
    const answers = () => process.stdout.trim().split("\n").slice(1);
    return {
      stop: () => process.stop(),
      /** Waits until a node has answered several times in a row; all answers so far. */
      answeredBy: (node: NodePlan) =>
        waitFor(
          () => {
            const all = answers();
            const last = all.slice(-20);
            return last.length === 20 && last.every((mac) => mac === macs[node.name]) ? all : null;
          },
          { what: `answers of ${node.name}`, deadlineMs: 30_000 },
        ),
    };
  };
  /** How often B has answered after A took its address back. */
  const answersAfterReturn = (answers: string[]) => {
    const returned = answers.indexOf(macs[A.name]!, answers.indexOf(macs[B.name]!));
    return answers.slice(returned).filter((mac) => mac === macs[B.name]).length;
  };
  /** What a node has decided about an address since it was started, by its log. */
  const decisions = (node: NodePlan, vip: string) =>
    agents[node.name]!.process.stderr.split("\n")
      .filter((line) => line.includes(`"address":"${vip}"`))
      .flatMap((line) => /(no longer )?announces the address/.exec(line)?.[0] ?? []);
  const owners = async (node: NodePlan): Promise<Record<string, string>> => {
    const { addresses } = await agents[node.name]!.request("announcement");
    return Object.fromEntries(
      addresses.map((each: { address: string; owner: string }) => [each.address, each.owner]),
    );
  };
  const settled = () =>
    waitFor(
      async () => {
        const seen = await Promise.all([A, B].map(owners));
        return seen.every((each) => [A, B].every(({ name }) => each[VIP_OF[name]!] === name));
      },
      { what: "each address at its owner", deadlineMs: 30_000 },
    );

  beforeAll(async () => {
    requirePrograms("python3", "tcpdump", "tshark");
    lan = await makeLan(net);
    for (const { name } of [A, B]) {
      stateDirs[name] = `${net.directory()}/state`;
      const [link] = await net.ipJson(lan.node[name]!, "link", "show", "eth0");
      macs[name] = link.address;
    }
    await Promise.all([start(A, B), start(B, A)]);
    for (const pod of ["a1", "b1"])
      await startServer(net, lan.pod[pod]!, python(), [NAMES, "serve", "80", pod], "ready");
    await settled();
  });
  afterAll(() => net.cleanup());
  afterEach(async () => {
    for (const { name } of [A, B]) if (agents[name]!.process.code !== null) return;
    await settled();
  });

  it("each address answers with its owner's MAC, and serves from a pod of the other node", async () => {
    expect(await ask(VIP_OF[A.name]!)).toBe("b1");
    expect(await ask(VIP_OF[B.name]!)).toBe("a1");
    for (const { name } of [A, B]) expect(await cached(VIP_OF[name]!)).toBe(macs[name]);
  });

  it("the nodes' kernels have none of these addresses, and do not answer for them", async () => {
    for (const { name } of [A, B]) {
      const addresses = await net.ipJson(lan.node[name]!, "-4", "address");
      const local = addresses.flatMap(({ addr_info }: { addr_info: { local: string }[] }) =>
        addr_info.map((each) => each.local),
      );
      for (const vip of VIPS) expect(local).not.toContain(vip);
    }
  });

  it("an address more is heard of and announced while the agents run, one less no longer", async () => {
    const more = "192.168.2.200";
    const asking = await startAsking(more);
    const change = (vips: string[]) => {
      agents[A.name]!.rewrite(config(A, B, vips));
      agents[B.name]!.rewrite(config(B, A, vips));
    };
    change([...VIPS, more]);
    const owner = await waitFor(async () => (await owners(A))[more], {
      what: "an owner",
      deadlineMs: 30_000,
    });
    await asking.answeredBy(owner === A.name ? A : B);
    change(VIPS);
    await waitFor(
      async () => {
        const seen = await Promise.all([A, B].map(owners));
        return seen.every((each) => each[more] === undefined);
      },
      { what: "no owner any more", deadlineMs: 30_000 },
    );
    await asking.stop();
  });

  it("a takeover is announced by a gratuitous request and a reply", async () => {
    const vip = VIP_OF[A.name]!;
    expect(await ask(vip)).toBe("b1");
    const capture = await startCapture(net, lan.host, "eth0");
    agents[A.name]!.process.kill("SIGKILL");
    await waitFor(async () => (await cached(vip)) === macs[B.name], { what: "B's MAC in the ARP cache" });
    expect(await ask(vip)).toBe("b1");
    expect((await owners(B))[vip]).toBe(B.name);
    const file = await capture.stop({ ns: lan.host, address: HOST }, B.address);
    const announced = await announcements(file, vip);
    for (const opcode of ["1", "2"])
      expect(announced).toContainEqual({
        opcode,
        sender: macs[B.name],
        ethernet: macs[B.name],
        gratuitous: true,
      });
    await start(A, B);
    await settled();
    await waitFor(async () => (await cached(vip)) === macs[A.name], { what: "A's MAC in the ARP cache" });
    expect(await ask(vip)).toBe("b1");
  });

  it("an owner that was stopped and goes on is never one of two for longer than an interval", async () => {
    const vip = VIP_OF[A.name]!;
    const asking = await startAsking(vip);
    await asking.answeredBy(A);
    const { process } = agents[A.name]!;
    process.kill("SIGSTOP");
    await asking.answeredBy(B);
    process.kill("SIGCONT");
    const answers = await asking.answeredBy(A);
    expect(answersAfterReturn(answers)).toBeLessThanOrEqual(ASKED_IN_INTERVAL);
    await asking.stop();
  });

  it("an owner that loses its carrier owns nothing, and all of it again when the link is back", async () => {
    const vip = VIP_OF[A.name]!;
    await net.exec(lan.lan, "ip", ["link", "set", lan.port[A.name]!, "down"]);
    await waitFor(async () => (await owners(B))[vip] === B.name, { what: "B as owner" });
    const status = await agents[A.name]!.request("announcement");
    expect(status.carrier).toBe(false);
    expect(status.addresses.map(({ answers }: { answers: boolean }) => answers)).toEqual([false, false]);
    expect(await ask(vip)).toBe("b1");
    await net.exec(lan.lan, "ip", ["link", "set", lan.port[A.name]!, "up"]);
    await settled();
    expect(await ask(vip)).toBe("b1");
    await waitFor(async () => (await cached(vip)) === macs[A.name], { what: "A's MAC in the ARP cache" });
  });

  it("an owner that is stopped hands over first, and takes over when it is started again", async () => {
    const vip = VIP_OF[A.name]!;
    const asking = await startAsking(vip);
    await asking.answeredBy(A);
    expect(await ask(vip)).toBe("b1");
    const before = decisions(B, vip).length;
    expect(await agents[A.name]!.stop()).toBe(0);
    // Not a matter of detection times: it was so before A ended.
    expect(await cached(vip)).toBe(macs[B.name]);
    expect(await ask(vip)).toBe("b1");
    await start(A, B);
    await settled();
    const answers = await asking.answeredBy(A);
    // Each took over once, and nobody flapped.
    expect(decisions(A, vip)).toEqual(["announces the address"]);
    expect(decisions(B, vip).slice(before)).toEqual([
      "announces the address",
      "no longer announces the address",
    ]);
    // What was asked before B heard of A it has answered too.
    expect(answersAfterReturn(answers)).toBeLessThanOrEqual(ASKED_IN_INTERVAL);
    await asking.stop();
  });

  it("a foreign device that claims an address is reported, and not fought", async () => {
    const vip = VIP_OF[B.name]!;
    const [link] = await net.ipJson(lan.host, "link", "show", "eth0");
    const { other } = await agents[B.name]!.request("counters");
    await net.exec(lan.host, python(), [ARP, "claim", "eth0", vip, "40"]);
    const { conflicts } = await agents[B.name]!.request("announcement");
    const ofStrangers = conflicts.filter(({ node }: { node: string | null }) => node === null);
    expect(ofStrangers).toEqual([
      { at: expect.any(String), address: vip, node: null, mac: link.address, yielded: false },
    ]);
    const after = (await agents[B.name]!.request("counters")).other;
    expect(after.lanConflicts - other.lanConflicts).toBeGreaterThanOrEqual(30);
    // One in ten seconds, and what is due anyway.
    expect(after.lanAnnouncements - other.lanAnnouncements).toBeLessThanOrEqual(6);
    expect((await owners(B))[vip]).toBe(B.name);
  });
});
