/** podwire doctor in a namespace with real packet filters, sockets and routes. */
import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Finding } from "../../src/doctor/checks.js";
import { PODWIRE } from "../support/agent.js";
import { netnsUnavailable, TestNet } from "../support/netns.js";

const ADDRESS = "192.168.2.31";
const net = new TestNet();
let node = "";

/** By the name of the check. */
async function doctor(...options: string[]): Promise<{ code: number; of: (check: string) => Finding[] }> {
  const args = [PODWIRE, "doctor", "--address", ADDRESS, "-o", "json", ...options];
  const { code, stdout, stderr } = await net.tryExec(node, process.execPath, args);
  const findings = JSON.parse(stdout || `[{"check":"","message":${JSON.stringify(stderr)}}]`) as Finding[];
  return { code, of: (check) => findings.filter((each) => each.check === check) };
}

/** Rules as a program's restore command takes them. */
function restore(program: "iptables-restore" | "nft", text: string): void {
  const command = program === "nft" ? ["nft", "-f", "-"] : [program, "--noflush"];
  execFileSync("ip", ["netns", "exec", node, ...command], { input: text });
}

const installed = (program: string) => {
  try {
    execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
};

describe.skipIf(netnsUnavailable() !== "")("doctor", () => {
  beforeAll(async () => {
    node = await net.netns("node");
    const lan = await net.netns("lan");
    await net.link({ ns: node, name: "eth1", address: `${ADDRESS}/24` }, { ns: lan, name: "eth0" });
    await net.exec(node, "ip", ["link", "set", "lo", "up"]);
  });
  afterAll(() => net.cleanup());

  test("finds nothing wrong in a fresh namespace", async () => {
    const { code, of } = await doctor("--no-run-pods");
    expect(of("underlay")).toMatchObject([{ severity: "ok", message: `eth1 has ${ADDRESS}/24` }]);
    for (const check of ["tun", "mtu", "ports", "other networks", "routing"])
      expect(of(check), check).toMatchObject([{ severity: "ok" }]);
    expect(code).toBe(0);
  });

  test("tells a vxlan device's socket from a process's", async () => {
    await net.exec(node, "ip", ["link", "add", "flannel.1", "type", "vxlan", "id", "1", "dstport", "4789"]);
    await net.exec(node, "ip", ["link", "set", "flannel.1", "up"]);
    const { code, of } = await doctor();
    expect(of("ports")).toMatchObject([
      { severity: "error", message: expect.stringContaining("vxlan device flannel.1") },
    ]);
    expect(of("other networks")).toMatchObject([{ message: expect.stringContaining("devices of flannel") }]);
    expect(code).toBe(1);
    await net.exec(node, "ip", ["link", "del", "flannel.1"]);

    const listener =
      "const {createServer} = require('net'); const listen = (...at) => new Promise((done) => createServer().listen(...at, done));" +
      "listen(10256).then(() => listen(9475, '127.0.0.1')).then(() => console.log('listens'))";
    const held = net.spawn(node, process.execPath, ["-e", listener]);
    await expect.poll(() => held.stdout, { timeout: 10_000 }).toContain("listens");
    const by = ".* by .*createServer.* \\(process \\d+\\)";
    expect((await doctor()).of("ports")).toMatchObject([
      { severity: "error", message: expect.stringMatching(`tcp port 10256 ${by}`) },
      { severity: "warning", message: expect.stringMatching(`tcp port 9475 ${by}`) },
    ]);
    await held.stop();
  });

  test("finds routes in the pods' range, and two default routes of one metric", async () => {
    await net.exec(node, "ip", ["route", "add", "10.1.5.0/24", "dev", "eth1"]);
    await net.exec(node, "ip", ["link", "add", "eth0", "type", "bridge"]);
    await net.exec(node, "ip", ["addr", "add", "10.0.2.15/24", "dev", "eth0"]);
    await net.exec(node, "ip", ["link", "set", "eth0", "up"]);
    await net.exec(node, "ip", ["route", "add", "default", "via", "192.168.2.1"]);
    await net.exec(node, "ip", ["route", "append", "default", "via", "10.0.2.2"]);
    const { of } = await doctor();
    expect(of("other networks")).toMatchObject([
      { severity: "error", message: expect.stringContaining("10.1.5.0/24") },
    ]);
    expect(of("routing")).toMatchObject([
      { severity: "warning", message: expect.stringContaining("same metric") },
    ]);
    for (const route of ["10.1.5.0/24", "default", "default"])
      await net.exec(node, "ip", ["route", "del", route]);
    await net.exec(node, "ip", ["link", "del", "eth0"]);
  });

  describe.skipIf(!installed("iptables-restore"))("with iptables", () => {
    test("finds Docker's FORWARD DROP, and is content with what it advises", async () => {
      restore(
        "iptables-restore",
        "*filter\n:FORWARD DROP [0:0]\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\nCOMMIT\n",
      );
      const before = await doctor();
      const [finding] = before.of("forward");
      expect(finding).toMatchObject({
        severity: "error",
        message: expect.stringContaining("as Docker sets it"),
      });
      expect(before.code).toBe(1);
      await net.exec(node, "sh", ["-c", finding!.remedy[0]!]);
      expect((await doctor()).of("forward")).toMatchObject([{ severity: "ok" }]);
      restore("iptables-restore", "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n");
    });

    test("finds kube-proxy's rules, and the advice removes them", async () => {
      restore(
        "iptables-restore",
        "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A KUBE-SERVICES -d 10.152.183.1/32 -j KUBE-SVC-NPX46M4PTMTKRN6Y\nCOMMIT\n",
      );
      const [finding] = (await doctor()).of("kube-proxy");
      expect(finding).toMatchObject({
        severity: "error",
        message: expect.stringContaining("table nat, 2 chains"),
      });
      await net.exec(node, "sh", ["-c", finding!.remedy[1]!]);
      expect((await doctor()).of("kube-proxy")).toMatchObject([{ severity: "ok" }]);
    });
  });

  describe.skipIf(!installed("nft"))("with nftables", () => {
    test("finds policies that drop, and is content with what it advises", async () => {
      restore(
        "nft",
        `table inet strict {
  chain forward { type filter hook forward priority 0; policy drop; }
  chain input { type filter hook input priority 0; policy drop; tcp dport 22 accept; }
}
`,
      );
      const before = await doctor();
      const [forward] = before.of("forward");
      const [input] = before.of("input");
      expect(forward).toMatchObject({ severity: "error", message: expect.stringContaining("table strict") });
      expect(input).toMatchObject({ severity: "warning" });
      for (const command of [...forward!.remedy, input!.remedy[0]!])
        await net.exec(node, "sh", ["-c", command]);
      const after = await doctor();
      expect(after.of("forward")).toMatchObject([{ severity: "ok" }]);
      expect(after.of("input")).toMatchObject([{ severity: "ok" }]);
    });

    test("finds kube-proxy's table, and the advice removes it", async () => {
      restore("nft", "table ip kube-proxy {\n chain services { }\n}\ntable ip6 kube-proxy {\n}\n");
      const [finding] = (await doctor()).of("kube-proxy");
      expect(finding).toMatchObject({ severity: "error" });
      await net.exec(node, "sh", ["-c", finding!.remedy[1]!]);
      expect((await doctor()).of("kube-proxy")).toMatchObject([{ severity: "ok" }]);
    });

    test("the filter of the underlay that it suggests is one that it knows", async () => {
      const [advice] = (await doctor()).of("trust");
      expect(advice?.severity).toBe("advice");
      for (const command of advice!.remedy) await net.exec(node, "sh", ["-c", command]);
      expect((await doctor()).of("trust")).toMatchObject([{ severity: "ok" }]);
    });
  });
});
