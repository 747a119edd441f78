import { describe, expect, test } from "vitest";
import type { FlowView } from "../../../src/agent/flowReport.js";
import { line } from "../../../src/cli/conntrack.js";

const FLOW: FlowView = {
  protocol: "tcp",
  protocolNumber: 6,
  state: "ESTABLISHED",
  timeout: 86_399,
  age: 12,
  began: 1000,
  unreplied: false,
  original: {
    source: "192.168.2.10",
    destination: "192.168.2.30",
    sourcePort: 5000,
    destinationPort: 30080,
    tag: 0,
  },
  reply: {
    source: "10.1.79.65",
    destination: "192.168.2.10",
    sourcePort: 80,
    destinationPort: 5000,
    tag: 0x1a2b,
  },
  service: "default/nodeport-nginx-ds:80",
  ingress: "",
  flags: ["dnat"],
};

describe("a line in the manner of conntrack -L", () => {
  test("TCP, with the Service", () => {
    expect(line(FLOW, false)).toBe(
      "tcp      6 86399 ESTABLISHED src=192.168.2.10 dst=192.168.2.30 sport=5000 dport=30080 " +
        "src=10.1.79.65 dst=192.168.2.10 sport=80 dport=5000 service=default/nodeport-nginx-ds:80",
    );
    expect(line(FLOW, true)).toMatch(/ age=12 reply-tag=0x1a2b flags=dnat$/);
  });

  test("UDP, not answered, through another node", () => {
    const flow = {
      ...FLOW,
      protocol: "udp",
      protocolNumber: 17,
      state: "UNREPLIED",
      timeout: 29,
      unreplied: true,
    };
    expect(line({ ...flow, service: "", ingress: "192.168.2.31" }, false)).toBe(
      "udp      17 29 src=192.168.2.10 dst=192.168.2.30 sport=5000 dport=30080 [UNREPLIED] " +
        "src=10.1.79.65 dst=192.168.2.10 sport=80 dport=5000 ingress=192.168.2.31",
    );
  });

  test("ICMP echo: type, code and identifier", () => {
    const original = { ...FLOW.original, sourcePort: 77, destinationPort: 8 };
    const reply = { ...FLOW.reply, sourcePort: 8, destinationPort: 78 };
    const flow = {
      ...FLOW,
      protocol: "icmp",
      protocolNumber: 1,
      state: "REPLIED",
      original,
      reply,
      service: "",
    };
    expect(line(flow, false)).toBe(
      "icmp     1 86399 src=192.168.2.10 dst=192.168.2.30 type=8 code=0 id=77 src=10.1.79.65 dst=192.168.2.10 type=0 code=0 id=78",
    );
  });
});
