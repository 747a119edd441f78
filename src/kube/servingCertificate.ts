/**
 * How a node gets the certificate with which it serves pods' logs and commands. It asks with the client
 * certificate that joining gave it; the server takes the node's name from that, and signs only
 * addresses that are the node's. The key never leaves the node.
 *
 *   POST /join/v1/serving   {addresses, request} → {certificate, caCertificate}
 */
import { X509Certificate } from "node:crypto";
import { certificateRequest } from "./join.js";

/** PEM texts. */
export interface ServingTls {
  caCertificate: string;
  certificate: string;
  key: string;
}

/** What is needed of KubeClient. */
export interface RawApi {
  raw<T>(method: string, path: string, body?: unknown): Promise<T>;
}

/**
 * A certificate for a server at `addresses` (IP addresses of this node) and at the node's name. Rejects
 * with a KubeError: Forbidden where an address is not the node's.
 */
export async function servingCertificate(
  api: RawApi,
  node: string,
  addresses: readonly string[],
): Promise<ServingTls> {
  const { request, key } = await certificateRequest(node);
  const answer = await api.raw<{ certificate?: unknown; caCertificate?: unknown }>(
    "POST",
    "/join/v1/serving",
    { addresses, request },
  );
  const { certificate, caCertificate } = answer;
  if (
    typeof certificate !== "string" ||
    typeof caCertificate !== "string" ||
    !new X509Certificate(certificate).checkIssued(new X509Certificate(caCertificate))
  )
    throw new Error("the API server answered with no certificate of the cluster's CA");
  return { caCertificate, certificate, key };
}
