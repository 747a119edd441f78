/** What `podwire announce status` prints: the agent's status of announcement for people. Pure. */
import type { NeighborStatus } from "./AnnouncementReport.js";
import type { AnnouncedAddressStatus, AnnounceStatus } from "./announceStatus.js";

/** Tables of addresses and neighbours. `now` is what ages count to. */
export function announcementText(status: AnnounceStatus, now: Date): string {
  const age = (since: string) => (since === "" ? "" : ageOf(now.getTime() - Date.parse(since)));
  const lines = [
    `node       ${status.node}`,
    `interface  ${status.interface === null ? "none" : `${status.interface.name} (${status.interface.mac})`}`,
    `state      ${stateOf(status)}`,
    "",
    ...table(
      ["ADDRESS", "POOL", "OWNER", "SINCE", "WHY", "SERVICES"],
      status.addresses.map((each) => [
        each.address,
        each.pool,
        each.owner || "-",
        each.owner === "" ? "-" : age(each.since),
        whyOwner(each, status),
        each.services.join(","),
      ]),
    ),
    "",
    ...table(
      ["NEIGHBOR", "ADDRESS", "BFD", "SINCE", "INTERVAL", "DETECTION"],
      status.neighbors.map((each) => [
        each.node,
        each.address,
        stateOfSession(each),
        age(each.upSince) || "-",
        `${each.intervalMs} ms`,
        each.detectionMs === 0 ? "-" : `${each.detectionMs} ms`,
      ]),
    ),
    ...conflictLines(status, age),
  ];
  return `${lines.join("\n")}\n`;
}

function stateOf({ interface: lan, carrier, drained, settled }: AnnounceStatus): string {
  if (lan === null) return "announces nothing";
  if (drained) return "withdrawn: the agent is being stopped";
  if (!carrier) return "withdrawn: the interface has no carrier";
  return settled ? "announcing" : "waiting until it has heard of its neighbors";
}

/** Why an address is owned by who owns it. */
export function whyOwner(address: AnnouncedAddressStatus, status: AnnounceStatus): string {
  const { owner, order, problem } = address;
  if (problem === "noEndpoints") return "no endpoint can serve";
  if (problem === "notAdvertised") return "no L2Advertisement takes it";
  if (problem === "noNode") return "selectors and the traffic policy leave no node";
  const sessions = new Map(status.neighbors.map((each) => [each.node, each]));
  const why = (node: string) => {
    const session = sessions.get(node);
    if (node === status.node) return `${node} ${stateOf(status)}`;
    return session === undefined ? `${node} is not watched` : `${node} is ${stateOfSession(session)}`;
  };
  if (owner === "")
    return order.length === 0 ? "no node may own it" : order.map(({ node }) => why(node)).join("; ");
  const place = order.findIndex(({ node }) => node === owner);
  if (place < 0) return "leaves it to nobody yet";
  const rank = ["1st", "2nd", "3rd"][place] ?? `${place + 1}th`;
  const before = order
    .slice(0, place)
    .map(({ node, up }) => (up ? `${node} has not claimed it yet` : why(node)));
  return [`${rank} of ${order.length}`, ...before].join("; ");
}

/** "Up", "withdrawn", or e.g. "Down (Control Detection Time Expired)". */
function stateOfSession({ state, diagnostic, remoteState }: NeighborStatus): string {
  if (state === "Up") return state;
  if (remoteState === "AdminDown") return "withdrawn";
  return /^no diagnostic$/i.test(diagnostic) ? state : `${state} (${diagnostic})`;
}

function conflictLines({ conflicts }: AnnounceStatus, age: (since: string) => string): string[] {
  if (conflicts.length === 0) return [];
  const rows = conflicts.map(({ at, address, node, mac, yielded }) => [
    age(at),
    address,
    node ?? "a foreign device",
    mac,
    yielded ? "yielded" : "went on",
  ]);
  return ["", ...table(["AGO", "CONFLICT OVER", "WITH", "MAC", "THIS NODE"], rows)];
}

const UNITS = [
  { text: "d", ms: 86_400_000 },
  { text: "h", ms: 3_600_000 },
  { text: "m", ms: 60_000 },
] as const;

/** "850ms", "12s", "3m", "5h", "2d". */
function ageOf(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))}ms`;
  const unit = UNITS.find((each) => ms >= 2 * each.ms);
  return unit === undefined ? `${Math.floor(ms / 1000)}s` : `${Math.floor(ms / unit.ms)}${unit.text}`;
}

/** Columns as wide as their widest cell, two blanks between. */
function table(head: string[], rows: string[][]): string[] {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  return [head, ...rows].map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join("  ")
      .trimEnd(),
  );
}
