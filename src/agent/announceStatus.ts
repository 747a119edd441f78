/**
 * What the status socket answers about announcement: what the worker and the tables say, together with the
 * Services that have the addresses. Pure.
 */
import type { Services } from "../desired/services.js";
import type { AnnouncedAddress } from "../desired/vips.js";
import { formatIpv4, parseIpv4 } from "../model/ipv4.js";
import type { AddressStatus, AnnouncementReportStatus } from "./AnnouncementReport.js";

/** An address, who owns it, and what it is for. */
export interface AnnouncedAddressStatus extends AddressStatus {
  /** IPAddressPool that it is from; "" where that is not known. */
  pool: string;
  /** namespace/name of the Services that have it. */
  services: string[];
  /** Why no node may own it; null where one may. */
  problem: AnnouncedAddress["problem"];
}

/** The answer to "announcement". */
export interface AnnounceStatus extends Omit<AnnouncementReportStatus, "addresses"> {
  /** Every load-balancer address that Services show or the config names, ascending. */
  addresses: AnnouncedAddressStatus[];
}

/** What is said of an address beside who owns it. */
type AddressFacts = Pick<AnnouncedAddress, "address" | "pool" | "services" | "problem">;

/** The load-balancer addresses of Services, where nobody says more of them. */
export function announcedBy(services: Services): AddressFacts[] {
  return services.loadBalancerVips().map(({ address, pool, services: having }) => ({
    address: formatIpv4(address),
    pool,
    services: having.map(({ name }) => name),
    problem: null,
  }));
}

/** What Services say of the addresses, and the worker of those that may be announced. */
export function announceStatus(
  status: AnnouncementReportStatus,
  announced: readonly AddressFacts[],
): AnnounceStatus {
  const known = new Map(announced.map((each) => [each.address, each]));
  const owned = new Set(status.addresses.map(({ address }) => address));
  const nobodys = { owner: "", since: "", answers: false, order: [] };
  const addresses = [
    ...status.addresses.map((each) => {
      const { pool = "", services = [], problem = null } = known.get(each.address) ?? {};
      return { ...each, pool, services, problem };
    }),
    ...announced
      .filter(({ address }) => !owned.has(address))
      .map(({ address, pool, services, problem }) => ({ ...nobodys, address, pool, services, problem })),
  ];
  const number = ({ address }: { address: string }) => (parseIpv4(address) ?? 0) >>> 0;
  return { ...status, addresses: addresses.sort((a, b) => number(a) - number(b)) };
}
