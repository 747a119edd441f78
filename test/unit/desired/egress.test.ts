/** Source addresses of egress, held against what `ip route get` says of the same tables. */
import { describe, expect, it } from "vitest";
import { type EgressAddress, type EgressRoute, egressTable } from "../../../src/desired/egress.js";
import { formatIpv4, parseCidr, parseIpv4 } from "../../../src/model/ipv4.js";

const ETH0 = 2;
const ETH1 = 3;
const PODWIRE0 = 9;
const own = new Set([PODWIRE0]);

const route = (cidr: string, link: number, more: { via?: string; src?: string; metric?: number } = {}) =>
  ({
    destination: parseCidr(cidr === "default" ? "0.0.0.0/0" : cidr)!,
    link,
    gateway: more.via === undefined ? null : parseIpv4(more.via)!,
    source: more.src === undefined ? null : parseIpv4(more.src)!,
    metric: more.metric ?? 0,
  }) satisfies EgressRoute;

const at = (link: number, cidr: string, more: Partial<EgressAddress> = {}): EgressAddress => ({
  link,
  ...parseCidr(cidr)!,
  secondary: false,
  scope: 0,
  ...more,
});

/** "prefix source", in the order of the table. */
function table(routes: EgressRoute[], addresses: EgressAddress[]): string[] {
  return egressTable(routes, addresses, own).map(
    ({ address, length, source }) =>
      `${formatIpv4(address)}/${length} ${source === 0 ? "none" : formatIpv4(source)}`,
  );
}

const LO = at(1, "127.0.0.1/8", { scope: 254 });

describe("egress table", () => {
  it("a VirtualBox VM: the NAT adapter's address by default, the LAN's on the LAN", () => {
    const routes = [
      route("default", ETH0, { via: "10.0.2.2", src: "10.0.2.15", metric: 100 }),
      route("10.0.2.0/24", ETH0, { src: "10.0.2.15" }),
      route("192.168.2.0/24", ETH1, { src: "192.168.2.30" }),
      route("10.1.0.0/16", PODWIRE0, { via: "169.254.1.1", src: "10.1.235.192" }),
    ];
    const addresses = [LO, at(ETH0, "10.0.2.15/24"), at(ETH1, "192.168.2.30/24")];
    expect(table(routes, addresses)).toEqual([
      "0.0.0.0/0 10.0.2.15",
      "10.1.0.0/16 none",
      "192.168.2.0/24 192.168.2.30",
    ]);
  });

  it.each<[string, EgressRoute, EgressAddress[], string]>([
    [
      "prefsrc before all",
      route("default", ETH0, { via: "192.0.2.1", src: "198.51.100.7" }),
      [at(ETH0, "192.0.2.30/24")],
      "198.51.100.7",
    ],
    [
      "the address in the gateway's subnet",
      route("default", ETH0, { via: "198.51.100.1" }),
      [at(ETH0, "192.0.2.30/24"), at(ETH0, "198.51.100.30/24")],
      "198.51.100.30",
    ],
    [
      "the first where no subnet has the gateway",
      route("default", ETH0, { via: "203.0.113.1" }),
      [at(ETH0, "192.0.2.30/24"), at(ETH0, "198.51.100.30/24")],
      "192.0.2.30",
    ],
    [
      "no secondary one",
      route("default", ETH0, { via: "192.0.2.1" }),
      [at(ETH0, "192.0.2.31/24", { secondary: true }), at(ETH0, "192.0.2.30/24")],
      "192.0.2.30",
    ],
    [
      "none of scope link towards a gateway",
      route("default", ETH0, { via: "192.0.2.1" }),
      [at(ETH0, "192.0.2.29/24", { scope: 253 }), at(ETH0, "192.0.2.30/24")],
      "192.0.2.30",
    ],
    [
      "another link's where the output link has none",
      route("default", ETH0, { via: "192.0.2.1" }),
      [LO, at(ETH1, "198.51.100.30/24")],
      "198.51.100.30",
    ],
  ])("%s", (_, one, addresses, source) => {
    expect(table([one], addresses)).toEqual([`0.0.0.0/0 ${source}`]);
  });

  it("the lowest metric of one prefix", () => {
    const routes = [
      route("default", ETH0, { via: "192.0.2.1", metric: 200 }),
      route("default", ETH1, { via: "198.51.100.1", metric: 100 }),
    ];
    expect(table(routes, [at(ETH0, "192.0.2.30/24"), at(ETH1, "198.51.100.30/24")])).toEqual([
      "0.0.0.0/0 198.51.100.30",
    ]);
  });

  it("what leads nowhere is cut out of what is around it", () => {
    const routes = [route("default", ETH0, { via: "192.0.2.1" }), route("203.0.113.0/24", 0)];
    expect(table(routes, [at(ETH0, "192.0.2.30/24")])).toEqual([
      "0.0.0.0/0 192.0.2.30",
      "203.0.113.0/24 none",
    ]);
  });

  it("thousands of routes by one gateway are one entry", () => {
    const routes = [route("default", ETH0, { via: "192.0.2.1" })];
    for (let n = 0; n < 5000; n++)
      routes.push(route(`20.${n >> 8}.${n & 255}.0/24`, ETH0, { via: "192.0.2.1" }));
    expect(table(routes, [at(ETH0, "192.0.2.30/24")])).toEqual(["0.0.0.0/0 192.0.2.30"]);
  });

  it("without a default route only what is known", () => {
    expect(table([route("192.0.2.0/24", ETH0)], [LO, at(ETH0, "192.0.2.30/24")])).toEqual([
      "192.0.2.0/24 192.0.2.30",
    ]);
    expect(table([], [LO])).toEqual([]);
  });
});
