/**
 * What the agent says of announcement: the worker's numbers become names, events go into the log and to
 * whoever makes Events of them, and `status` says who owns what, why and since when. Decides nothing.
 */
import type { LanInterface } from "../desired/lan.js";
import { formatMac } from "../desired/mac.js";
import { formatIpv4 } from "../model/ipv4.js";
import type { Log } from "../reconcile/Log.js";
import type { TableInput } from "../tables/TableInput.js";
import { NO_NODE, THIS_NODE } from "../tables/VipTable.js";
import * as bfd from "../wire/bfd.js";
import type { AnnouncementStatus, WorkerEvent } from "../worker/control.js";

/** What became of a load-balancer address. */
export type AddressReport =
  /** This node has become its owner, or is no longer. */
  | { type: "owner"; address: string; owned: boolean }
  /** Somebody else claims one that this node owns. */
  | {
      type: "conflict";
      address: string;
      /** Name of the node that does; null for a device that is none. */
      node: string | null;
      /** aa:bb:cc:dd:ee:ff. */
      mac: string;
      /** This node has yielded. */
      yielded: boolean;
    };

/** A conflict, as `status` keeps it. */
export type Conflict = Omit<Extract<AddressReport, { type: "conflict" }>, "type"> & { at: string };

/** An address as this node sees it. */
export interface AddressStatus {
  address: string;
  /** Name of the node that owns it, "" where none does. */
  owner: string;
  /** Since when, as this node knows. */
  since: string;
  /** This node answers for it: also while it waits until its successor is heard. */
  answers: boolean;
  /** The nodes that may own it: the first that is up does. */
  order: { node: string; up: boolean }[];
}

/** A node that is watched by BFD. */
export interface NeighborStatus {
  node: string;
  address: string;
  /** Names of the states and diagnostics as in RFC 5880 §4.1. */
  state: string;
  remoteState: string;
  diagnostic: string;
  remoteDiagnostic: string;
  /** It counts as dead: new connections get no endpoint on it. */
  down: boolean;
  /** Since when it is Up; "" while it is not. */
  upSince: string;
  /** Milliseconds between packets, and without one after which it is given up. */
  intervalMs: number;
  detectionMs: number;
}

/** What `announcement` on the status socket answers. */
export interface AnnouncementReportStatus {
  node: string;
  /** The LAN interface; null where there is none, or nothing is announced. */
  interface: LanInterface | null;
  carrier: boolean;
  /** This node is being stopped and owns nothing. */
  drained: boolean;
  /** The neighbors are known; before that this node owns nothing. */
  settled: boolean;
  addresses: AddressStatus[];
  neighbors: NeighborStatus[];
  /** The latest, oldest first. */
  conflicts: Conflict[];
}

/** Conflicts that are remembered. */
const REMEMBERED = 64;

/** Events of the worker that are about announcement. */
export type AnnouncementEvent = Extract<WorkerEvent, { type: "vipOwner" | "vipConflict" | "bfdSession" }>;

export interface AnnouncementReportOptions {
  node: string;
  log: Log;
  /** Name of the node with a VTEP index. */
  nodeName: (index: number) => string;
  onAddress?: ((report: AddressReport) => void) | undefined;
}

export class AnnouncementReport {
  private readonly conflicts: Conflict[] = [];

  constructor(private readonly options: AnnouncementReportOptions) {}

  /** Takes over what the worker reports. */
  take(event: AnnouncementEvent): void {
    if (event.type === "bfdSession") this.takeSession(event);
    else if (event.type === "vipOwner") this.takeOwner(event);
    else this.takeConflict(event);
  }

  /**
   * Status of now.
   *
   * @param tables what the worker goes by
   */
  status(
    worker: AnnouncementStatus,
    tables: TableInput,
    lan: LanInterface | null,
    now: Date,
  ): AnnouncementReportStatus {
    const before = (ms: number) => new Date(now.getTime() - ms).toISOString();
    const up = new Set(worker.sessions.filter(({ state }) => state === bfd.UP).map(({ peer }) => peer));
    const self = worker.carrier && worker.settled && !worker.drained;
    const orders = new Map(tables.announce.vips.map(({ address, order }) => [address, order]));
    const addresses = new Map(tables.vteps.map(({ index, address }) => [index, address]));
    return {
      node: this.options.node,
      interface: tables.announce.port < 0 ? null : lan,
      carrier: worker.carrier,
      drained: worker.drained,
      settled: worker.settled,
      addresses: worker.vips.map(({ address, owner, answers, forMs }) => ({
        address: formatIpv4(address),
        owner: this.name(owner),
        since: before(forMs),
        answers,
        order: (orders.get(address) ?? []).map((node) => ({
          node: this.name(node),
          up: node === THIS_NODE ? self : up.has(node),
        })),
      })),
      neighbors: worker.sessions.map((session) => ({
        node: this.name(session.peer),
        address: formatIpv4(addresses.get(session.peer) ?? 0),
        state: bfd.STATE_NAMES[session.state] ?? "",
        remoteState: bfd.STATE_NAMES[session.remoteState] ?? "",
        diagnostic: diagnosticName(session.diagnostic),
        remoteDiagnostic: diagnosticName(session.remoteDiagnostic),
        down: session.down,
        upSince: session.upForMs === 0 ? "" : before(session.upForMs),
        intervalMs: session.transmitUs / 1000,
        detectionMs: session.detectionUs / 1000,
      })),
      conflicts: this.conflicts,
    };
  }

  private takeSession({ peer, from, to, diagnostic }: Extract<AnnouncementEvent, { type: "bfdSession" }>) {
    const fields = {
      peer: this.name(peer),
      state: bfd.STATE_NAMES[to],
      diagnostic: diagnosticName(diagnostic),
    };
    // Init is a moment of coming up.
    if (to === bfd.UP) this.options.log.info(fields, "BFD: the node is up");
    else if (from === bfd.UP) this.options.log.warn(fields, "BFD: the node is down");
  }

  private takeOwner({ address, owner, atUs }: Extract<AnnouncementEvent, { type: "vipOwner" }>): void {
    const text = formatIpv4(address);
    const owned = owner === THIS_NODE;
    // This line comes later than the decision.
    const fields = { address: text, owner: this.name(owner), decidedUs: Math.round(atUs) };
    if (owned) this.options.log.info(fields, "announces the address");
    else this.options.log.info(fields, "no longer announces the address");
    this.options.onAddress?.({ type: "owner", address: text, owned });
  }

  private takeConflict(event: Extract<AnnouncementEvent, { type: "vipConflict" }>): void {
    const { claimant, yielded } = event;
    const address = formatIpv4(event.address);
    const mac = formatMac(event.mac);
    const node = claimant === NO_NODE ? null : this.name(claimant);
    const who = node === null ? `the device ${mac}` : `node ${node} (${mac})`;
    const outcome = yielded ? "this node yields" : "this node goes on announcing it";
    this.options.log.warn({ address, mac, node }, `${who} claims ${address}; ${outcome}`);
    this.conflicts.push({ at: new Date().toISOString(), address, node, mac, yielded });
    if (this.conflicts.length > REMEMBERED) this.conflicts.shift();
    this.options.onAddress?.({ type: "conflict", address, node, mac, yielded });
  }

  private name(number: number): string {
    if (number === THIS_NODE) return this.options.node;
    return number === NO_NODE ? "" : this.options.nodeName(number);
  }
}

function diagnosticName(number: number): string {
  return bfd.DIAG_NAMES[number] ?? String(number);
}
