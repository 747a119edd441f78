/** The tables that the dataplane works by, with names to what is in them (model/NodeTables). */
import type { Services } from "../desired/services.js";
import type { AgentConfig } from "../model/AgentConfig.js";
import { formatIpv4, parseIpv4 } from "../model/ipv4.js";
import { NODE_TABLES_VERSION, type NodeHost, type NodeTables } from "../model/NodeTables.js";
import type { Reconciler } from "../reconcile/Reconciler.js";
import type { ServicePublisher } from "../reconcile/ServicePublisher.js";
import type { ServiceImage } from "../tables/ServiceTable.js";
import { frontendsOf, snapshotServices } from "../tables/serviceSnapshot.js";
import type { AnnounceStatus } from "./announceStatus.js";

/** Who keeps the tables of a node. */
export interface TableSources {
  config: AgentConfig;
  reconciler: Pick<Reconciler, "tables" | "image" | "nodePortAddresses" | "ownAddresses">;
  publisher: Pick<ServicePublisher, "image">;
  services: Services;
  announcement: AnnounceStatus;
}

/** What the dataplane has now. Throws an Error before it has anything. */
export function nodeTables({
  config,
  reconciler,
  publisher,
  services,
  announcement,
}: TableSources): NodeTables {
  const input = reconciler.tables();
  const { image } = reconciler;
  if (input === null || image === null) throw new Error("the dataplane has no tables yet");
  const ports = new Map(input.ports.map(({ address, port }) => [address, port]));
  return {
    version: NODE_TABLES_VERSION,
    node: config.node,
    image: base64Of(image),
    services: publisher.image === null ? "" : base64Of(snapshotServices(publisher.image).buffer),
    pods: config.pods.flatMap(({ name, address, interface: link }) => {
      const port = ports.get(parseIpv4(address)!);
      return port === undefined ? [] : [{ name, address, port, interface: link }];
    }),
    vteps: config.vteps.map(({ node, address, tunnelAddress, mac, blocks }) => ({
      node,
      address,
      tunnelAddress,
      mac,
      blocks,
    })),
    liveness: livenessOf(announcement),
    servicePorts: publisher.image === null ? [] : servicePorts(publisher.image, services),
    host: hostOf(config, reconciler),
    announced: announcement.addresses.map(({ address, owner, answers, order, problem }) => ({
      address,
      owner,
      answers,
      order,
      problem: problem ?? "",
    })),
  };
}

/** Bytes as base64. */
export function base64Of(buffer: ArrayBufferLike): string {
  return Buffer.from(buffer).toString("base64");
}

/** What the worker elects by (worker/Ownership), in names. */
function livenessOf({ node, carrier, settled, drained, neighbors }: AnnounceStatus): NodeTables["liveness"] {
  const self = carrier && settled && !drained ? [node] : [];
  return {
    up: [...self, ...neighbors.filter(({ state }) => state === "Up").map((each) => each.node)],
    down: neighbors.filter(({ down }) => down).map((each) => each.node),
  };
}

function servicePorts(image: ServiceImage, services: Services): NodeTables["servicePorts"] {
  const ids = new Set(frontendsOf(image).map(({ service }) => service));
  return [...ids].flatMap((id) => {
    const info = services.info(id);
    if (info === undefined) return [];
    const { name, protocol, l4Port } = info.port;
    const ordered = info.endpoints.toSorted(
      (a, b) => (a.endpoint.address >>> 0) - (b.endpoint.address >>> 0) || a.l4Port - b.l4Port,
    );
    const endpoints = ordered.map(({ endpoint, l4Port: port }) => ({
      address: formatIpv4(endpoint.address),
      l4Port: port,
      node: endpoint.node,
    }));
    return [{ id, service: info.service, port: name, protocol, l4Port, endpoints }];
  });
}

function hostOf({ serviceHost }: AgentConfig, reconciler: TableSources["reconciler"]): NodeHost | null {
  if (serviceHost === null) return null;
  const { localhostNodePorts, nodePorts, egressPorts, egress, ranges, vips } = serviceHost;
  return {
    nodePortAddresses: reconciler.nodePortAddresses,
    localhostNodePorts,
    nodePorts,
    egressPorts,
    egress: egress === "masquerade",
    ranges,
    vips,
    addresses: reconciler.ownAddresses,
  };
}
