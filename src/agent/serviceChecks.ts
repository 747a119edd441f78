/**
 * Checks of a config file's Services against each other and against the rest of it. As in
 * configChecks: over the raw document, and what is no valid value is skipped. Pure. There may be
 * 10,000 Services and 100,000 backends, so that each is looked at once.
 */
import { containsAddress, formatCidr, formatIpv4, type Ipv4Prefix, overlaps } from "../model/ipv4.js";
import { MAX_BACKENDS } from "../tables/ServiceTable.js";
import { type FieldPath, fieldName } from "./ConfigError.js";
import {
  address,
  at,
  duplicates,
  type Finding,
  list,
  prefixes,
  reservedUse,
  type Site,
  type Sites,
  text,
} from "./configDocument.js";

const OWN_ADDRESS = "Give each service a cluster address of its own.";

/** Checks `services` and `serviceRange`; `sites` is what the rest of the document has. */
export function checkServices(raw: unknown, sites: Sites): Finding[] {
  const ranges = prefixes(at(raw, ["serviceRange"]), ["serviceRange"], "");
  const check = new ServiceChecks(
    raw,
    sites,
    ranges.map(({ value }) => value),
  );
  return [...checkRanges(ranges, sites), ...check.run()];
}

function checkRanges(ranges: Site<Ipv4Prefix>[], { pools, underlay }: Sites): Finding[] {
  const findings: Finding[] = [];
  for (const { path, value } of ranges) {
    const what = `service range ${formatCidr(value)}`;
    const pool = pools.find((each) => overlaps(each.value, value));
    if (pool !== undefined)
      findings.push({
        path,
        message: `${what} overlaps pool ${formatCidr(pool.value)}`,
        remedy: "Choose ranges without an address in common: one is pods', the other services'.",
      });
    const node = underlay.find((each) => containsAddress(value, each.value));
    if (node !== undefined)
      findings.push({
        path,
        message: `${what} contains the underlay address ${formatIpv4(node.value)} of ${node.owner}`,
        remedy: "Choose a range that does not overlap the LAN.",
      });
    if (reservedUse(value.address) !== null)
      findings.push({
        path,
        message: `${what} is for ${reservedUse(value.address)}`,
        remedy: "Choose a private range, e.g. 10.152.183.0/24.",
      });
  }
  return findings;
}

/** Kinds of a Service's addresses. */
const CLUSTER_IP = "clusterIP";

class ServiceChecks {
  private readonly findings: Finding[] = [];
  /** Addresses of nodes, by what they are. */
  private readonly taken = new Map<number, string>();
  /** Field that has an address as its ClusterIP, and one that has it with a protocol and port. */
  private readonly clusterIps = new Map<number, FieldPath>();
  private readonly frontends = new Map<string, FieldPath>();
  private readonly vxlanPort: unknown;

  constructor(
    private readonly raw: unknown,
    private readonly sites: Sites,
    private readonly ranges: Ipv4Prefix[],
  ) {
    for (const { value, owner } of sites.underlay) this.taken.set(value, `the underlay address of ${owner}`);
    this.vxlanPort = at(raw, ["underlay", "port"]);
  }

  run(): Finding[] {
    const names: Site<string>[] = [];
    const services = list(this.raw, "services");
    // First, so that whichever comes first in the file, the ClusterIP counts.
    services.forEach((service, i) => {
      const path = ["services", i, CLUSTER_IP];
      const clusterIp = address(at(service, [CLUSTER_IP]));
      if (clusterIp !== undefined) this.clusterIp(clusterIp, path);
    });
    services.forEach((service, i) => {
      const name = text(service, "name");
      if (name !== undefined) names.push({ path: ["services", i, "name"], value: name, owner: "" });
      this.service(service, i);
    });
    this.findings.push(...duplicates(names, "service name", "Give each service a name of its own."));
    return this.findings;
  }

  private say(path: FieldPath, message: string, remedy: string): void {
    this.findings.push({ path, message, remedy });
  }

  private clusterIp(value: number, path: FieldPath): void {
    const shown = formatIpv4(value);
    const earlier = this.clusterIps.get(value);
    if (earlier !== undefined)
      this.say(path, `cluster address ${shown} is taken already by ${fieldName(earlier)}`, OWN_ADDRESS);
    else this.clusterIps.set(value, path);
    this.virtualAddress(value, path);
    if (this.ranges.length > 0 && !this.ranges.some((range) => containsAddress(range, value)))
      this.say(
        path,
        `${shown} is outside the service range (${this.ranges.map(formatCidr).join(", ")})`,
        "Choose an address in it, or widen serviceRange: the node routes that range to the dataplane.",
      );
  }

  /** What holds for every address of a Service. */
  private virtualAddress(value: number, path: FieldPath): void {
    const shown = formatIpv4(value);
    const pool = this.sites.pools.find((each) => containsAddress(each.value, value));
    if (pool !== undefined)
      this.say(
        path,
        `${shown} is in the pod pool ${formatCidr(pool.value)}`,
        "Services have addresses outside of the pod pools.",
      );
    const taken = this.taken.get(value);
    if (taken !== undefined)
      this.say(
        path,
        `${shown} is ${taken}`,
        "Choose another one: who asks it would no longer reach the node.",
      );
    const use = reservedUse(value);
    if (use !== null) this.say(path, `${shown} is a ${use} address`, "Choose an ordinary address.");
  }

  private service(service: unknown, i: number): void {
    const path = ["services", i];
    const external: { value: number; path: FieldPath }[] = [];
    for (const field of ["externalIPs", "loadBalancerIPs"])
      list(service, field).forEach((each, n) => {
        const value = address(each);
        if (value === undefined) return;
        const place = [...path, field, n];
        external.push({ value, path: place });
        this.virtualAddress(value, place);
        const clusterIp = this.clusterIps.get(value);
        if (clusterIp !== undefined)
          this.say(
            place,
            `${formatIpv4(value)} is the cluster address of ${fieldName(clusterIp)}`,
            OWN_ADDRESS,
          );
      });
    const portNames = new Set<string>();
    const clusterPorts = new Set<string>();
    list(service, "ports").forEach((port, n) => {
      const place = [...path, "ports", n];
      const protocol = text(port, "protocol") ?? "TCP";
      const number = at(port, ["port"]);
      const name = `${text(port, "name") ?? ""}/${protocol}`;
      if (portNames.has(name))
        this.say(
          at(port, ["name"]) === undefined ? place : [...place, "name"],
          text(port, "name") === undefined
            ? `another ${protocol} port of this service has no name either`
            : `another ${protocol} port of this service is named ${text(port, "name")}`,
          "Give each port of one protocol a name of its own.",
        );
      portNames.add(name);
      if (clusterPorts.has(`${number}/${protocol}`))
        this.say([...place, "port"], `port ${number}/${protocol} is there twice`, "Remove one of them.");
      clusterPorts.add(`${number}/${protocol}`);
      for (const each of external)
        this.frontend(`${formatIpv4(each.value)}:${number}/${protocol}`, each.path);
      const nodePort = at(port, ["nodePort"]);
      if (nodePort === undefined) return;
      this.frontend(`node port ${nodePort}/${protocol}`, [...place, "nodePort"]);
      if (protocol === "UDP" && nodePort === (this.vxlanPort ?? 4789))
        this.say([...place, "nodePort"], `${nodePort} is the port of VXLAN`, "Choose another one.");
    });
    this.backends(list(service, "backends"), path);
  }

  private frontend(what: string, path: FieldPath): void {
    const earlier = this.frontends.get(what);
    if (earlier === undefined) this.frontends.set(what, path);
    else if (earlier.join() !== path.join())
      this.say(path, `${what} is taken already by ${fieldName(earlier)}`, "Choose another address or port.");
  }

  private backends(backends: unknown[], service: FieldPath): void {
    if (backends.length > MAX_BACKENDS)
      this.say(
        [...service, "backends"],
        `has more than ${MAX_BACKENDS} entries`,
        "Spread them over several services.",
      );
    const seen = new Set<string>();
    for (const [n, backend] of backends.entries()) {
      const value = address(at(backend, ["address"]));
      if (value === undefined) continue;
      const port = at(backend, ["port"]);
      const key = `${value}:${String(port)}`;
      const place = () => [...service, "backends", n, "address"];
      if (seen.has(key))
        this.say(place(), `backend ${formatIpv4(value)} is there twice`, "Remove one of them.");
      seen.add(key);
      const use = reservedUse(value);
      if (use !== null)
        this.say(place(), `${formatIpv4(value)} is a ${use} address`, "Name the pod's or server's address.");
      const clusterIp = this.clusterIps.get(value);
      if (clusterIp !== undefined)
        this.say(
          place(),
          `${formatIpv4(value)} is itself a service's address (${fieldName(clusterIp)})`,
          "Name that service's backends: a packet is translated once.",
        );
    }
  }
}
