/**
 * The Services of a config file, in the shape of the API's objects: then all that follows is the
 * same as with an API. Pure. A backend that names no node is on the one in whose block it lies.
 */
import type { AgentConfig, ServiceConfig } from "../model/AgentConfig.js";
import { containsAddress, type Ipv4Prefix, parseCidr, parseIpv4 } from "../model/ipv4.js";
import type { EndpointSliceObject, ServiceObject } from "./serviceObjects.js";
import type { Services } from "./services.js";

/** Feeds the Services of one config after another. */
export class StaticServices {
  /** Names of the slices of each Service that is there. */
  private readonly slices = new Map<string, string[]>();

  constructor(private readonly services: Services) {}

  /** Takes over a config (validated): its pod pools, and its Services in the place of those of before. */
  set(config: AgentConfig): void {
    const { services } = this;
    services.setPools(config.podPool.map((pool) => parseCidr(pool)!));
    const nodeOf = ownerOf(config);
    const gone = new Map(this.slices);
    for (const each of config.services) {
      const { service, slices } = staticObjects(each, nodeOf);
      services.setService(service);
      for (const slice of slices) services.setSlice(slice);
      const names = slices.map(({ metadata }) => metadata.name!);
      this.removeSlices(
        each.name,
        (gone.get(each.name) ?? []).filter((name) => !names.includes(name)),
      );
      gone.delete(each.name);
      this.slices.set(each.name, names);
    }
    for (const [name, slices] of gone) {
      services.removeService(...split(name));
      this.removeSlices(name, slices);
      this.slices.delete(name);
    }
  }

  private removeSlices(service: string, slices: string[]): void {
    for (const name of slices) this.services.removeSlice(split(service)[0], name);
  }
}

/** A Service and its slices: one for all backends that have the same port. */
export function staticObjects(
  config: ServiceConfig,
  nodeOf: (address: string) => string,
): { service: ServiceObject; slices: EndpointSliceObject[] } {
  const [namespace, name] = split(config.name);
  const { clusterIP, externalIPs = [], loadBalancerIPs = [], sessionAffinitySeconds } = config;
  const ports = config.ports.map(({ name: portName = "", protocol = "TCP", ...port }) => ({
    name: portName,
    protocol,
    ...port,
  }));
  const nodePorts = ports.some(({ nodePort }) => nodePort !== undefined);
  const service: ServiceObject = {
    metadata: { namespace, name },
    spec: {
      type: loadBalancerIPs.length > 0 ? "LoadBalancer" : nodePorts ? "NodePort" : "ClusterIP",
      clusterIP,
      ports: ports.map(({ name: portName, protocol, port, nodePort = 0 }) => ({
        name: portName,
        protocol,
        port,
        nodePort,
      })),
      externalIPs,
      ...(sessionAffinitySeconds === undefined
        ? {}
        : {
            sessionAffinity: "ClientIP",
            sessionAffinityConfig: { clientIP: { timeoutSeconds: sessionAffinitySeconds } },
          }),
      internalTrafficPolicy: config.internalTrafficPolicy ?? "Cluster",
      externalTrafficPolicy: config.externalTrafficPolicy ?? "Cluster",
    },
    status: { loadBalancer: { ingress: loadBalancerIPs.map((ip) => ({ ip })) } },
  };
  const slices = new Map<number, EndpointSliceObject>();
  for (const { address, port = 0, node, ready = true } of config.backends) {
    let slice = slices.get(port);
    if (slice === undefined) {
      slice = {
        metadata: {
          namespace,
          // No Service has a slash in its name.
          name: port === 0 ? name : `${name}/${port}`,
          labels: { "kubernetes.io/service-name": name },
        },
        addressType: "IPv4",
        ports: ports.map(({ name: portName, protocol, port: own, targetPort = own }) => ({
          name: portName,
          protocol,
          port: port === 0 ? targetPort : port,
        })),
        endpoints: [],
      };
      slices.set(port, slice);
    }
    slice.endpoints!.push({
      addresses: [address],
      nodeName: node ?? nodeOf(address),
      conditions: { ready, serving: ready, terminating: false },
    });
  }
  return { service, slices: [...slices.values()] };
}

/** Finds the node in whose block an address lies, "" for none. */
function ownerOf({ node, blocks, vteps }: AgentConfig): (address: string) => string {
  const owned: { prefix: Ipv4Prefix; node: string }[] = [{ node, blocks }, ...vteps].flatMap((each) =>
    each.blocks.map((block) => ({ prefix: parseCidr(block)!, node: each.node })),
  );
  return (address) => {
    const value = parseIpv4(address)!;
    return owned.find(({ prefix }) => containsAddress(prefix, value))?.node ?? "";
  };
}

function split(name: string): [string, string] {
  const slash = name.indexOf("/");
  return [name.slice(0, slash), name.slice(slash + 1)];
}
