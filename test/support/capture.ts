/**
 * Captures by tcpdump, and tshark's opinion of them: a third party that knows the protocols and
 * nothing of us.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { type TestNet, type TestProcess, waitFor } from "./netns.js";
import { type Peer, sendDatagrams, TCP_PORT, UDP_PORT } from "./traffic.js";

/** In KiB; holds what these tests send even if tcpdump does not run meanwhile. */
const BUFFER = 64 * 1024;
/** Last of a capture: tcpdump writes what it saw in order. */
const LAST_WORDS = Buffer.from("the last packet of this capture");
/** UDP's discard service (RFC 863). */
const DISCARD = 9;

export class Capture {
  constructor(
    private readonly net: TestNet,
    readonly file: string,
    private readonly process: TestProcess,
  ) {}

  /**
   * Ends the capture behind everything that was sent so far: `from` sends a last datagram to `to`,
   * which must cross the device. Throws unless the capture holds every packet.
   */
  async stop(from: Peer, to: string): Promise<string> {
    await sendDatagrams(this.net, from, 0, to, DISCARD, [LAST_WORDS]);
    await waitFor(() => endsWith(this.file, LAST_WORDS) || this.process.code !== null, {
      what: "last words",
    });
    this.process.kill("SIGINT");
    const code = await this.process.exited;
    const { stderr } = this.process;
    if (code !== 0 || !/\n0 packets dropped by kernel/.test(stderr)) throw new Error(`tcpdump: ${stderr}`);
    return this.file;
  }
}

/** Whether `words` are among the last bytes of a file. */
function endsWith(file: string, words: Buffer): boolean {
  const fd = openSync(file, "r");
  try {
    const tail = Buffer.alloc(4096);
    const length = readSync(fd, tail, 0, tail.length, Math.max(0, fstatSync(fd).size - tail.length));
    return tail.subarray(0, length).includes(words);
  } finally {
    closeSync(fd);
  }
}

/** Starts a capture of everything that crosses a device. */
export async function startCapture(net: TestNet, ns: string, device: string): Promise<Capture> {
  const file = join(net.directory(), "capture.pcap");
  // -Z: it stays root, so that it may write into our directory.
  const args = ["-i", device, "-s", "0", "-B", String(BUFFER), "-n", "-U", "-Z", "root", "-w", file];
  const process = net.spawn(ns, "tcpdump", args);
  await waitFor(() => process.stderr.includes("listening on") || process.code !== null, { what: "tcpdump" });
  if (process.code !== null) throw new Error(`tcpdump: ${process.stderr}`);
  return new Capture(net, file, process);
}

/** A checksum as tshark sees it, from the outermost header inwards. */
export type ChecksumStatus = "bad" | "good" | "unverified" | "absent";
const STATUSES: ChecksumStatus[] = ["bad", "good", "unverified", "absent"];

/** A captured frame. Lists hold the outermost header's value first. */
export interface Frame {
  length: number;
  sources: string[];
  destinations: string[];
  vni: number | null;
  ip: ChecksumStatus[];
  udp: ChecksumStatus[];
  tcp: ChecksumStatus[];
  icmp: ChecksumStatus[];
  icmpTypes: number[];
  /** Protocols as tshark names them: eth:ethertype:ip:udp:vxlan:… */
  protocols: string;
  fragment: boolean;
  malformed: boolean;
  /** An expert note of severity "error". */
  error: boolean;
}

const FIELDS = [
  "frame.len",
  "ip.src",
  "ip.dst",
  "vxlan.vni",
  "ip.checksum.status",
  "udp.checksum.status",
  "tcp.checksum.status",
  "icmp.checksum.status",
  "icmp.type",
  "frame.protocols",
  "ip.flags.mf",
  "ip.frag_offset",
  "_ws.malformed",
  "_ws.short",
  "_ws.expert.severity",
];
/** PI_ERROR of Wireshark's epan/proto.h. */
const SEVERITY_ERROR = 0x00800000;

/** Reads a capture through tshark, which verifies every checksum. */
export async function dissect(net: TestNet, file: string): Promise<Frame[]> {
  const verify = ["ip", "udp", "tcp"].flatMap((name) => ["-o", `${name}.check_checksum:TRUE`]);
  // Random bytes are no protocol, whatever they look like.
  const data = ["-d", `tcp.port==${TCP_PORT},data`, "-d", `udp.port==${UDP_PORT},data`];
  const fields = FIELDS.flatMap((name) => ["-e", name]);
  const args = ["-n", "-r", file, ...verify, ...data, "-T", "fields", "-E", "occurrence=a", ...fields];
  const { stdout } = await net.exec("", "tshark", args);
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .map(frameOf);
}

function frameOf(line: string): Frame {
  const values = line.split("\t").map((text) => (text === "" ? [] : text.split(",")));
  const field = (name: string) => values[FIELDS.indexOf(name)] ?? [];
  const statuses = (name: string) => field(name).map((n) => STATUSES[Number(n)] ?? "unverified");
  const vni = field("vxlan.vni")[0];
  return {
    length: Number(field("frame.len")[0]),
    sources: field("ip.src"),
    destinations: field("ip.dst"),
    vni: vni === undefined ? null : Number(vni),
    ip: statuses("ip.checksum.status"),
    udp: statuses("udp.checksum.status"),
    tcp: statuses("tcp.checksum.status"),
    icmp: statuses("icmp.checksum.status"),
    icmpTypes: field("icmp.type").map(Number),
    protocols: field("frame.protocols").join(","),
    fragment: field("ip.flags.mf").includes("1") || field("ip.frag_offset").some((n) => n !== "0"),
    malformed: field("_ws.malformed").length > 0 || field("_ws.short").length > 0,
    error: field("_ws.expert.severity").some((n) => Number(n) >= SEVERITY_ERROR),
  };
}

/** What tshark finds wrong with a frame, "" for nothing. */
export function faultOf(frame: Frame): string {
  const faults = [
    ...(["ip", "udp", "tcp", "icmp"] as const).filter((name) => frame[name].includes("bad")),
    ...(frame.malformed ? ["malformed"] : []),
    ...(frame.error ? ["error"] : []),
  ];
  return faults.join(" ");
}
