/**
 * Kubeconfig files with certificates, a token or nothing to identify by, as `podwire join` and the
 * API server write them. Anything more (exec plugins, proxies, passwords, impersonation) is
 * @kubernetes/client-node's, which costs 75 MB of memory: each node would pay that.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import type { RequestOptions } from "node:https";
import { dirname, resolve } from "node:path";
import { parse, stringify } from "yaml";
import type { Credentials } from "./KubeClient.js";

interface Cluster {
  server?: string;
  "certificate-authority"?: string;
  "certificate-authority-data"?: string;
  "tls-server-name"?: string;
}

interface User {
  "client-certificate"?: string;
  "client-certificate-data"?: string;
  "client-key"?: string;
  "client-key-data"?: string;
  token?: string;
  tokenFile?: string;
}

interface Kubeconfig {
  "current-context"?: string;
  contexts?: { name: string; context?: { cluster?: string; user?: string } }[];
  clusters?: { name: string; cluster?: Cluster }[];
  users?: { name: string; user?: User }[];
}

const CLUSTER_KEYS = ["server", "certificate-authority", "certificate-authority-data", "tls-server-name"];
const USER_KEYS = [
  "client-certificate",
  "client-certificate-data",
  "client-key",
  "client-key-data",
  "token",
  "tokenFile",
];

/** Cluster and user of the current context. The file's own objects: a change in them is one in `config`. */
function current(file: string): { config: Kubeconfig | null; cluster: Cluster | undefined; user: User } {
  const config = parse(readFileSync(file, "utf8")) as Kubeconfig | null;
  const name = config?.["current-context"];
  const context = config?.contexts?.find((each) => each.name === name)?.context;
  const cluster = config?.clusters?.find((each) => each.name === context?.cluster)?.cluster;
  const user = config?.users?.find((each) => each.name === context?.user)?.user ?? {};
  return { config, cluster, user };
}

/** What a kubeconfig holds in itself to prove who its user is; PEM texts. */
export interface InlineCertificate {
  server: string;
  caCertificate: string;
  certificate: string;
  key: string;
}

/** The current context's certificate where it stands in the file itself, as `podwire join` writes it. */
export function inlineCertificate(file: string): InlineCertificate | null {
  const { cluster, user } = current(file);
  const data = [
    cluster?.["certificate-authority-data"],
    user["client-certificate-data"],
    user["client-key-data"],
  ];
  if (cluster?.server === undefined || data.includes(undefined)) return null;
  const [caCertificate, certificate, key] = data.map((text) => Buffer.from(text!, "base64").toString());
  return { server: cluster.server, caCertificate: caCertificate!, certificate: certificate!, key: key! };
}

/** Puts another certificate and key there; the file is replaced whole or not at all, for its owner only. */
export function replaceInlineCertificate(file: string, certificate: string, key: string): void {
  const { config, user } = current(file);
  user["client-certificate-data"] = Buffer.from(certificate).toString("base64");
  user["client-key-data"] = Buffer.from(key).toString("base64");
  const temporary = `${file}.${process.pid}.new`;
  rmSync(temporary, { force: true });
  writeFileSync(temporary, stringify(config, { lineWidth: 0 }), { mode: 0o600, flag: "wx" });
  renameSync(temporary, file);
}

/** The credentials of the current context; null where the file asks for more than this knows. */
export function plainCredentials(file: string): Credentials | null {
  const { cluster, user } = current(file);
  const knows = (value: object, keys: string[]) => Object.keys(value).every((key) => keys.includes(key));
  if (cluster?.server === undefined || !cluster.server.startsWith("https:")) return null;
  if (!knows(cluster, CLUSTER_KEYS) || !knows(user, USER_KEYS)) return null;
  const { server } = cluster;
  return {
    getCurrentCluster: () => ({ server }),
    // Read each time, like the files it names: they are renewed in place.
    applyToHTTPSOptions: async (options) => {
      const now = current(file);
      apply(options, dirname(file), now.cluster ?? cluster, now.user);
    },
  };
}

function apply(options: RequestOptions, directory: string, cluster: Cluster, user: User): void {
  const content = (data: string | undefined, file: string | undefined) =>
    data !== undefined
      ? Buffer.from(data, "base64")
      : file === undefined
        ? undefined
        : readFileSync(resolve(directory, file));
  const ca = content(cluster["certificate-authority-data"], cluster["certificate-authority"]);
  const cert = content(user["client-certificate-data"], user["client-certificate"]);
  const key = content(user["client-key-data"], user["client-key"]);
  const token = user.token ?? content(undefined, user.tokenFile)?.toString("utf8").trim();
  if (ca !== undefined) options.ca = ca;
  if (cert !== undefined) options.cert = cert;
  if (key !== undefined) options.key = key;
  if (cluster["tls-server-name"] !== undefined) options.servername = cluster["tls-server-name"];
  if (token !== undefined) options.headers = { authorization: `Bearer ${token}` };
}
