/**
 * How a node gets its certificate: it fetches the cluster's CA and holds it against a hash that came
 * with the token (kubeadm's --discovery-token-ca-cert-hash), then sends a certificate request with
 * the token to a server whose certificate that CA signed. The key never leaves the node.
 *
 *   GET  /join/v1/ca    → {certificate}
 *   POST /join/v1/node    Authorization: Bearer ID.SECRET   {node, request} → {certificate, caCertificate}
 *   POST /join/v1/renew   with the node's certificate       {request} → {certificate, caCertificate}
 *
 * What follows with that certificate, for the node's pod port, is in servingCertificate.ts.
 */
import { createHash, timingSafeEqual, webcrypto, X509Certificate } from "node:crypto";
import { type RequestOptions, request as send } from "node:https";
import { KubeError, type StatusBody } from "./KubeError.js";

const TIMEOUT_MS = 15_000;
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
/** No answer of ours is longer. */
const MOST_BYTES = 1 << 20;

export interface JoinOptions {
  /** https://192.168.2.30:6443 */
  server: string;
  /** ID.SECRET */
  token: string;
  /** "sha256:" and the hash of the CA's public key (SubjectPublicKeyInfo) in hexadecimal. */
  caHash: string;
  node: string;
}

/** PEM texts. */
export interface JoinResult {
  caCertificate: string;
  certificate: string;
  key: string;
}

/** Joins. Rejects with a KubeError, or an Error that says what the CA's hash should have been. */
export async function join({ server, token, caHash, node }: JoinOptions): Promise<JoinResult> {
  const ca = await fetchCa(server, caHash);
  const { request, key } = await certificateRequest(node);
  const answer = await ask<{ certificate?: unknown }>(server, "/join/v1/node", {
    ca,
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ node, request }),
  });
  return { caCertificate: ca, certificate: issued(answer, ca, server), key };
}

/**
 * A new certificate, over a new key, for the node whose still good one is given. Rejects with a KubeError: 401
 * where the old one is not good any more, 404 where the server renews none (a real Kubernetes).
 */
export async function renew(now: JoinResult & { server: string }, node: string): Promise<JoinResult> {
  const { server, caCertificate: ca } = now;
  const { request, key } = await certificateRequest(node);
  const answer = await ask<{ certificate?: unknown }>(server, "/join/v1/renew", {
    ca,
    cert: now.certificate,
    key: now.key,
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ request }),
  });
  return { caCertificate: ca, certificate: issued(answer, ca, server), key };
}

/** The certificate of an answer. Throws where it is none, or not of the cluster's CA. */
function issued({ certificate }: { certificate?: unknown }, ca: string, server: string): string {
  if (
    typeof certificate !== "string" ||
    !new X509Certificate(certificate).checkIssued(new X509Certificate(ca))
  )
    throw new Error(`${server} answered with no certificate of the cluster's CA`);
  return certificate;
}

/** "sha256:…" of a certificate's public key. */
function publicKeyHash(certificate: string): string {
  const key = new X509Certificate(certificate).publicKey.export({ type: "spki", format: "der" });
  return `sha256:${createHash("sha256").update(key).digest("hex")}`;
}

/** Not yet verified by TLS: the hash is what makes it true. */
async function fetchCa(server: string, caHash: string): Promise<string> {
  if (!/^sha256:[0-9a-f]{64}$/i.test(caHash))
    throw new Error(`${caHash} is no CA hash: it is sha256: and 64 hexadecimal digits`);
  const { certificate } = await ask<{ certificate?: unknown }>(server, "/join/v1/ca", {
    rejectUnauthorized: false,
  });
  if (typeof certificate !== "string") throw new Error(`${server} does not answer as a podwire API server`);
  const found = publicKeyHash(certificate);
  if (!timingSafeEqual(Buffer.from(found), Buffer.from(caHash.toLowerCase())))
    throw new Error(
      `the cluster at ${server} has the CA ${found}, not ${caHash}: the hash is of another cluster, or somebody is in between`,
    );
  return certificate;
}

/** A new key, and a request (PKCS#10) for a certificate of `node` over it; both PEM. */
export async function certificateRequest(node: string): Promise<{ request: string; key: string }> {
  // First: x509's own parts look for it when they are loaded.
  await import("reflect-metadata");
  const x509 = await import("@peculiar/x509");
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  x509.cryptoProvider.set(webcrypto as never);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [{ O: ["system:nodes"] }, { CN: [`system:node:${node}`] }],
    keys: keys as never,
    signingAlgorithm: ALGORITHM,
  });
  const der = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { request: request.toString("pem"), key: pem("PRIVATE KEY", Buffer.from(der)) };
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
}

function ask<T>(server: string, path: string, options: RequestOptions & { body?: string }): Promise<T> {
  const { body, ...rest } = options;
  return new Promise((resolve, reject) => {
    const request = send(new URL(path, server), { ...rest, agent: false, timeout: TIMEOUT_MS }, (answer) => {
      const pieces: Buffer[] = [];
      let bytes = 0;
      answer.on("data", (piece: Buffer) => {
        bytes += piece.length;
        if (bytes > MOST_BYTES) answer.destroy(new Error("the answer is too long"));
        else pieces.push(piece);
      });
      answer.on("error", reject);
      answer.on("end", () => {
        const text = Buffer.concat(pieces).toString("utf8");
        const code = answer.statusCode ?? 500;
        try {
          const value = JSON.parse(text) as T & Partial<StatusBody>;
          if (code < 300) resolve(value);
          else reject(KubeError.ofStatus(value, code));
        } catch {
          reject(new Error(`${server} does not answer as a podwire API server (status ${code})`));
        }
      });
    });
    request.on("timeout", () => request.destroy(new Error("no answer in time")));
    request.on("error", (error) => reject(KubeError.unreachable(`${server}: ${error.message}`, error)));
    request.end(body);
  });
}
