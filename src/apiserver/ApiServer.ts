/**
 * The embedded API server, put together: store, verbs, certificates, HTTPS. Data directory:
 * objects.lmdb, pki/ (CA, server's and administrator's certificates), tokens/, admin.kubeconfig.
 */
import { hostname } from "node:os";
import { join } from "node:path";
import type { KubeApi, KubeObject } from "../kube/KubeApi.js";
import { formatIpv4, networkOf, parseCidr } from "../model/ipv4.js";
import { APISERVER_CLIENT } from "../model/podPort.js";
import { JoinTokens } from "./auth/JoinTokens.js";
import { type BlockRule, nodeRestriction } from "./auth/nodeRestriction.js";
import { HttpServer } from "./http/HttpServer.js";
import { NodeClient } from "./http/NodeClient.js";
import { MIN_REQUEST_TIMEOUT } from "./http/watchStream.js";
import { CONTROLLER, LocalKube } from "./LocalKube.js";
import { ClusterCa, writePrivate } from "./pki/ClusterCa.js";
import { kubeconfig } from "./pki/kubeconfig.js";
import type { ResourceDefinition, SchemaCatalog } from "./resource.js";
import { Store } from "./storage/Store.js";
import type { Admission, Allocator } from "./verbs/Hooks.js";
import { storeName, Verbs } from "./verbs/Verbs.js";

export interface ApiServerOptions {
  dataDir: string;
  /** Address to listen on, and to be reached at. */
  address: string;
  /** 0: any free one. */
  port: number;
  /** "10.152.183.0/24" */
  serviceRange: string;
  definitions: readonly ResourceDefinition[];
  schemas: SchemaCatalog;
  allocators?: Allocator[];
  admissions?: Admission[];
  /** What a node may write in an IPAM block. Without a rule: everything. */
  blockRule?: BlockRule;
  /** Events kept for watchers. */
  historyLimit?: number;
  /** Seconds after which watches may be ended, as kube-apiserver's --min-request-timeout. Default 1800. */
  minRequestTimeout?: number;
}

const NAMESPACES = ["default", "kube-node-lease", "kube-public", "kube-system"];

export class ApiServer {
  private constructor(
    readonly port: number,
    /** For controllers in this process. */
    readonly kube: KubeApi,
    readonly caHash: string,
    /** Path of the administrator's kubeconfig. */
    readonly kubeconfigFile: string,
    private readonly store: Store,
    private readonly http: HttpServer,
    readonly tokens: JoinTokens,
  ) {}

  static async start(options: ApiServerOptions): Promise<ApiServer> {
    const { dataDir, address, definitions, schemas } = options;
    const historyLimit = options.historyLimit;
    const store = Store.open(dataDir, historyLimit === undefined ? {} : { historyLimit });
    try {
      const verbs = new Verbs({
        store,
        definitions,
        schemas,
        allocators: options.allocators ?? [],
        admissions: [nodeRestriction(options.blockRule ?? (() => undefined)), ...(options.admissions ?? [])],
      });
      await makeNamespaces(verbs);
      const ca = await ClusterCa.open(join(dataDir, "pki"));
      const names = serverNames(address, options.serviceRange);
      const credential = await ca.kept("apiserver", { commonName: "kube-apiserver" }, names);
      const { commonName, organization } = APISERVER_CLIENT;
      const client = await ca.kept("apiserver-kubelet-client", { commonName, organizations: [organization] });
      const tokens = new JoinTokens(dataDir);
      const http = new HttpServer({
        verbs,
        schemas,
        ca,
        tokens,
        credential,
        names,
        nodes: new NodeClient(ca.certificate, client),
        advertised: `${address}:${options.port}`,
        minRequestTimeout: options.minRequestTimeout ?? MIN_REQUEST_TIMEOUT,
      });
      const port = await http.listen(address, options.port);
      const kubeconfigFile = join(dataDir, "admin.kubeconfig");
      const admin = await ca.kept("admin", {
        commonName: "kubernetes-admin",
        organizations: ["system:masters"],
      });
      writePrivate(
        kubeconfigFile,
        kubeconfig({
          server: `https://${address.includes(":") ? `[${address}]` : address}:${port}`,
          caCertificate: ca.certificate,
          user: "kubernetes-admin",
          ...admin,
        }),
      );
      return new ApiServer(port, new LocalKube(verbs), ca.hash, kubeconfigFile, store, http, tokens);
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  /** A kind's objects as the next write would find them, durable or not. The store's own: not to be changed. */
  latest(group: string, plural: string): KubeObject[] {
    return this.store.latest(storeName({ group, plural })).map(({ object }) => object);
  }

  async stop(): Promise<void> {
    await this.http.close();
    await this.store.close();
  }
}

async function makeNamespaces(verbs: Verbs): Promise<void> {
  const definition = verbs.definition("", "namespaces");
  if (definition === undefined) return;
  for (const name of NAMESPACES)
    if (verbs.store.get("/namespaces", name) === undefined)
      await verbs.create(definition, undefined, { metadata: { name } }, CONTROLLER);
}

/** What clients may call the server. */
function serverNames(address: string, serviceRange: string): string[] {
  const range = parseCidr(serviceRange);
  if (range === null) throw new RangeError(`${serviceRange} is no IPv4 network`);
  const names = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    hostname(),
    "127.0.0.1",
    formatIpv4(networkOf(range).address + 1),
    address,
  ];
  return [...new Set(names)];
}
