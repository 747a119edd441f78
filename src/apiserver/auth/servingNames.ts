/**
 * Under which names a node may serve. All certificates of the cluster come from one CA, and clients know the
 * API server by its address: whoever could have any address certified could stand between them. Pure.
 */
import { isIP } from "node:net";
import type { Node } from "../../kube/types.js";
import { badRequest, forbidden } from "../errors.js";

const NODES = { group: "", plural: "nodes" };
const MOST_ADDRESSES = 16;

export interface ServingRequest {
  /** From the client certificate. */
  node: string;
  /** As the request has them. */
  addresses: unknown;
  /** Address that the request came from. */
  source: string;
  /** Names and addresses of the API server itself. */
  reserved: readonly string[];
  /** All Nodes. */
  nodes: readonly Node[];
}

/**
 * The node's name and the addresses, for a certificate. An address is the node's if the request comes from
 * it, or if its Node reports it, no other Node does, and it is none of the API server's. The API server's
 * names are for a node at one of its addresses only. Throws BadRequest and Forbidden.
 */
export function servingNames({ node, addresses, source, reserved, nodes }: ServingRequest): string[] {
  if (!isAddressList(addresses))
    throw badRequest(`addresses: must be 1 to ${MOST_ADDRESSES} of the node's IP addresses`);
  if (reserved.includes(node) && !reserved.includes(source))
    throw forbidden(NODES, node, "the API server goes by that name");
  for (const address of addresses) {
    const reporting = nodes.filter(({ status }) =>
      status?.addresses?.some((each) => each.address === address),
    );
    const reported = reporting.length === 1 && reporting[0]!.metadata.name === node;
    if (address !== source && (!reported || reserved.includes(address)))
      throw forbidden(NODES, node, `${address} is not known to be an address of this node`);
  }
  return [...new Set([node, ...addresses])];
}

function isAddressList(value: unknown): value is string[] {
  return (
    Array.isArray(value) &&
    value.length >= 1 &&
    value.length <= MOST_ADDRESSES &&
    value.every((each) => typeof each === "string" && isIP(each) !== 0)
  );
}
