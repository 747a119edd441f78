/** Pools and Services for the tests of vip/. */
import type { IPAddressPool, Namespace, Service } from "../../../src/kube/types.js";
import { METALLB_NAMESPACE } from "../../../src/model/metallb.js";

export function pool(
  name: string,
  addresses: string | string[],
  spec: Partial<IPAddressPool["spec"]> = {},
): IPAddressPool {
  return {
    metadata: { name, namespace: METALLB_NAMESPACE, uid: `uid-${name}` },
    spec: { addresses: [addresses].flat(), ...spec },
  };
}

export const namespace = (name: string, labels: Record<string, string> = {}): Namespace => ({
  metadata: { name, labels },
});

export interface ServiceFacts {
  namespace?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  /** "80", "53/UDP". */
  ports?: string[];
  /** What its status shows. */
  has?: string[];
  spec?: Partial<NonNullable<Service["spec"]>>;
}

export function service(name: string, facts: ServiceFacts = {}): Service {
  const ports = (facts.ports ?? ["80"]).map((text) => {
    const [port, protocol = "TCP"] = text.split("/");
    return {
      name: `p${port}-${protocol.toLowerCase()}`,
      port: Number(port),
      protocol,
      targetPort: Number(port),
    };
  });
  return {
    metadata: {
      name,
      namespace: facts.namespace ?? "default",
      uid: `uid-${name}`,
      ...(facts.labels && { labels: facts.labels }),
      ...(facts.annotations && { annotations: facts.annotations }),
    },
    spec: {
      type: "LoadBalancer",
      clusterIP: "10.152.183.10",
      clusterIPs: ["10.152.183.10"],
      externalTrafficPolicy: "Cluster",
      ports,
      ...facts.spec,
    },
    status: { loadBalancer: facts.has ? { ingress: facts.has.map((ip) => ({ ip })) } : {} },
  } as Service;
}
