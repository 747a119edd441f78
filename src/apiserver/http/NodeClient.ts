/**
 * Requests of the API server to nodes' pod ports, under its own client certificate. A node's certificate must
 * be the cluster CA's, for the address that was dialled and for the node that was meant: another
 * node cannot answer in its place. Failures are worded as Go words them, which is how users of Kubernetes know
 * them.
 */
import type { IncomingMessage } from "node:http";
import { request as send } from "node:https";
import { isIPv6 } from "node:net";
import type { Duplex } from "node:stream";
import { checkServerIdentity } from "node:tls";
import { KubeError } from "../../kube/KubeError.js";
import type { Node } from "../../kube/types.js";
import { POD_PORT } from "../../model/podPort.js";
import type { Credential } from "../pki/ClusterCa.js";

/** Until the answer begins. */
const ANSWER_MS = 15_000;
const KEEP_ALIVE_MS = 15_000;

export interface NodeRequest {
  method: string;
  /** Path and query. */
  path: string;
  headers?: Record<string, string>;
}

export interface NodeAnswer {
  answer: IncomingMessage;
  /** Where the node has switched protocols: the connection, and what it said on it already. */
  upgraded?: { socket: Duplex; head: Buffer };
}

export class NodeClient {
  constructor(
    private readonly caCertificate: string,
    private readonly credential: Credential,
  ) {}

  /**
   * Sends a request to a node; aborting `signal` ends it at any time. Rejects with a KubeError of status 500 where
   * no answer comes.
   */
  open(node: Node, { method, path, headers }: NodeRequest, signal: AbortSignal): Promise<NodeAnswer> {
    const { host, port } = addressOf(node);
    const name = node.metadata.name!;
    return new Promise((resolve, reject) => {
      const request = send({
        host,
        port,
        path,
        method,
        headers,
        agent: false,
        signal,
        ca: this.caCertificate,
        cert: this.credential.certificate,
        key: this.credential.key,
        minVersion: "TLSv1.2",
        checkServerIdentity: (asked, certificate) =>
          checkServerIdentity(asked, certificate) ?? otherNode(name, certificate.subject.CN),
      });
      const timer = setTimeout(
        () => request.destroy(Object.assign(new Error("i/o timeout"), { code: "ETIMEDOUT" })),
        ANSWER_MS,
      );
      const settle = (answer: NodeAnswer) => {
        clearTimeout(timer);
        answer.answer.socket.setKeepAlive(true, KEEP_ALIVE_MS);
        resolve(answer);
      };
      request.on("response", (answer) => settle({ answer }));
      request.on("upgrade", (answer, socket, head) => settle({ answer, upgraded: { socket, head } }));
      request.on("error", (error) => {
        clearTimeout(timer);
        const url = `https://${isIPv6(host) ? `[${host}]` : host}:${port}${path}`;
        const verb = method[0]! + method.slice(1).toLowerCase();
        reject(new KubeError(500, "", `${verb} "${url}": ${textOf(error, host, port)}`));
      });
      request.end();
    });
  }
}

function otherNode(node: string, commonName: string | string[] | undefined): Error | undefined {
  return commonName === `system:node:${node}`
    ? undefined
    : new Error(`certificate is for ${String(commonName)}, not for system:node:${node}`);
}

function addressOf({ metadata, status }: Node): { host: string; port: number } {
  const known = status?.addresses ?? [];
  const host = known.find(({ type }) => type === "InternalIP")?.address;
  if (host === undefined)
    throw new KubeError(
      500,
      "",
      `node ${metadata.name}: no preferred addresses found; known addresses: [${known.map((each) => `{${each.type} ${each.address}}`).join(" ")}]`,
    );
  return { host, port: status?.daemonEndpoints?.kubeletEndpoint?.Port ?? POD_PORT };
}

/** System errors in Go's words. */
const ERRNO_TEXTS: Record<string, string> = {
  ECONNREFUSED: "connect: connection refused",
  EHOSTUNREACH: "connect: no route to host",
  ENETUNREACH: "connect: network is unreachable",
  ETIMEDOUT: "i/o timeout",
};

function textOf(error: NodeJS.ErrnoException, host: string, port: number): string {
  const dialling = ERRNO_TEXTS[error.code ?? ""];
  if (dialling !== undefined) return `dial tcp ${isIPv6(host) ? `[${host}]` : host}:${port}: ${dialling}`;
  if (error.code === "ECONNRESET") return "read: connection reset by peer";
  if (error.code === "EPIPE") return "write: broken pipe";
  // What is left is about certificates.
  return `tls: failed to verify certificate: ${error.message}`;
}
